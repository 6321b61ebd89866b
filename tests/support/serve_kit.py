"""The serving loop on a free loopback port, for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from strata.http.serving.connection import ClientTimeouts
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(
    app, *, grace: float = 30, stall_seconds: float = 60, bind: Bind | None = None, **more
) -> AsyncIterator[tuple[int, trio.Event]]:
    """Run a server on a free port until the block ends or the yielded event is set."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(*, task_status) -> None:
            await serve(
                app,
                [bind or Bind()],
                stop=stop.wait,
                grace=grace,
                timeouts=ClientTimeouts(stall=stall_seconds),
                **more,
                task_status=task_status,
            )

        urls = await nursery.start(run)
        yield int(urls[0].rsplit(":", 1)[1]) if bind is None else 0, stop
        stop.set()
