"""Baseline: a bare Quart-Trio application on Hypercorn that answers GET / with one file's bytes.

Run as a script: ``bare_quart.py FILE``. Prints the port it listens on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart_trio import QuartTrio


async def main(data: bytes) -> None:
    """Serve until killed."""
    app = QuartTrio(__name__)

    @app.get("/")
    async def small() -> tuple[bytes, dict[str, str]]:
        return data, {"Content-Type": "application/vnd.apache.arrow.stream"}

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    async with trio.open_nursery() as nursery:
        urls: Any = await nursery.start(serve, app, config)
        print(urls[0].rsplit(":", 1)[1], flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]).read_bytes())
