"""Measure cells of notebooks on a warm executor: click to result, reuse, a large value.

Scenes:

- ``click``: ``y = x + 1`` is run again and again, each time computed: from the request for the run until the
  member has the session with the result.
- ``reuse``: the same without ``force``: the result of the equal run is taken.
- ``large``: a cell makes a table of ``--bytes`` bytes and the next one reads it: the most memory that the
  server grows by.

Each run is one request for it, one that waits for its events, and one that reads the session.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import figures
import servers
import wire
from transforms import watching

MS = 1e-3
MB = 1e6
AIM_CLICK_MS = 100.0
AIM_REUSE_MS = 20.0
AIM_GROWTH_MB = 64.0
WARM = 5
"""Runs before the first that counts."""

WORKER = """
[[tool.strata.notebook_workers]]
name = "sidecar"
url = "{url}"
max_concurrent = 4
memory_bytes = 8589934592
output_bytes = 4294967296
"""

OPTIONS = ("--cells", "4", "--memory-bytes", str(8 << 30), "--max-input-bytes", str(8 << 30))


@attrs.frozen
class Notebook:
    """A notebook on a server.

    Attributes:
        connection: A connection to it.
        path: Path of its session.
    """

    connection: wire.Connection
    path: str

    def run(self, cell: str, *, force: bool = False) -> float:
        """Run a cell, and return the seconds until the session with its result is read.

        Raises:
            wire.WireError: If the cell does not end well.
        """
        after = self._get("")["seq"]
        began = time.perf_counter()
        answer = self.connection.post(f"{self.path}/run", {"cells": [cell], "force": force})
        if answer.status != 202:
            raise wire.WireError(f"run: {answer.status} {answer.body[:300]!r}")
        while True:
            found = self._get(f"/events?after={after}&wait=20")
            after = found["seq"]
            ended = [
                one["payload"]
                for one in found["events"]
                if one["type"] == "ended" and one["payload"]["cell"] == cell
            ]
            if ended:
                break
        session = self._get("")
        seconds = time.perf_counter() - began
        result = next(one["result"] for one in session["cells"] if one["id"] == cell)
        if ended[-1]["how"] != ("ok" if force else "reused") or result["outcome"] != "ok":
            raise wire.WireError(f"the cell {cell} ended otherwise: {ended[-1]}")
        return seconds

    def value(self, cell: str, name: str) -> bytes:
        """Return the bytes of a small value."""
        return self.connection.get(f"{self.path}/output?cell={cell}&value={name}", keep=True).body

    def _get(self, rest: str) -> Any:
        answer = self.connection.get(f"{self.path}{rest}", keep=True)
        if answer.status != 200:
            raise wire.WireError(f"{rest or 'session'}: {answer.status} {answer.body[:300]!r}")
        return answer.json()


@contextmanager
def sidecar(base: Path) -> Iterator[tuple[servers.Target, wire.Connection]]:
    """Run a server whose cells run on an executor beside it; yields it and a connection."""
    base.mkdir()
    warehouse = base / "warehouse"
    warehouse.mkdir()
    with ExitStack() as stack:
        executor = stack.enter_context(servers.executor(base / "executor", *OPTIONS))
        more = WORKER.format(url=executor.url)
        target = stack.enter_context(servers.strata(base / "server", warehouse, more=more))
        yield target, stack.enter_context(target.connect())


def notebook(connection: wire.Connection, *sources: str) -> Notebook:
    """Create a notebook with cells ``c0``, ``c1`` and so on."""
    cells = [{"id": f"c{place}", "source": source} for place, source in enumerate(sources)]
    answer = connection.post("/v1/notebooks", {"title": "Bench", "cells": cells})
    if answer.status != 201:
        raise wire.WireError(f"the notebook: {answer.status} {answer.body[:300]!r}")
    return Notebook(connection, f"/v1/notebooks/{answer.json()['name']}/session")


def clicks(connection: wire.Connection, count: int, *, force: bool) -> list[float]:
    """Return the milliseconds of runs of ``y = x + 1``, each computed (``force``) or reused."""
    found = notebook(connection, "x = 1", "y = x + 1")
    found.run("c0", force=True)
    for _ in range(WARM):
        found.run("c1", force=True)
    taken = [found.run("c1", force=force) / MS for _ in range(count)]
    if found.value("c1", "y") != b"2":
        raise wire.WireError("y is not 2")
    return taken


def click(connection: wire.Connection, count: int) -> figures.Figure:
    """Measure from the click to the result of a cell that is computed."""
    median = statistics.median(clicks(connection, count, force=True))
    return figures.Figure("click to result, computed", "100 ms", "ms", [median], [AIM_CLICK_MS], 1.0, "≤")


def reuse(connection: wire.Connection, count: int) -> figures.Figure:
    """Measure from the click to the result of a cell whose equal run is taken."""
    median = statistics.median(clicks(connection, count, force=False))
    return figures.Figure("click to result, reused", "20 ms", "ms", [median], [AIM_REUSE_MS], 1.0, "≤")


def large(target: servers.Target, connection: wire.Connection, size: int) -> figures.Figure:
    """Measure the memory of a server from whose cells one hands a large table to the next."""
    made = (
        "import numpy as np\nimport pyarrow as pa\n"
        f"t = pa.table({{'n': np.arange({size // 8}, dtype='int64')}})"
    )
    clicks(connection, 1, force=True)
    found = notebook(connection, made, "last = t['n'][-1].as_py()")
    with watching(server=target.pid or 0) as watched:
        made_in = found.run("c0", force=True)
        read_in = found.run("c1", force=True)
    if int(found.value("c1", "last")) != size // 8 - 1:
        raise wire.WireError("the table is another one")
    print(f"made and kept in {made_in:.1f} s, handed over and read in {read_in:.1f} s", file=sys.stderr)
    grown = max((watched.most["server"] - watched.first["server"]) / MB, 0.1)
    label = f"growth of the server, {size / MB:.0f} MB from cell to cell"
    return figures.Figure(label, "64 MB", "MB", [grown], [AIM_GROWTH_MB], 1.0, "≤")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run scenes and print their figures; returns 0."""
    options = _parser().parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="strata-bench-", dir=options.directory) as directory,
        sidecar(Path(directory) / "sidecar") as (target, connection),
    ):
        scenes: dict[str, Callable[[], figures.Figure]] = {
            "click": lambda: click(connection, options.clicks),
            "reuse": lambda: reuse(connection, options.clicks),
            "large": lambda: large(target, connection, options.bytes),
        }
        results = [scenes[name]() for name in options.scene or scenes]
    if options.json:
        print(json.dumps({"figures": [one.as_json() for one in results]}, indent=2))
    else:
        print(figures.table(results))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scene", action="append", choices=["click", "reuse", "large"])
    parser.add_argument("--clicks", type=int, default=50, help="runs of the scenes click and reuse")
    parser.add_argument(
        "--bytes", type=int, default=1_000_000_000, help="bytes of the table of the scene large"
    )
    parser.add_argument("--directory", help="where the files are")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
