"""Finished work leaves no reference cycles: collecting them would block the loop, and keep rows until then."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
from service_kit import Running, Warehouse, fetch, numbers, running, scan
from structlog.testing import capture_logs

from strata.config import Settings

TIMES = 5

Ask = Callable[[Running, str], Awaitable[None]]


@asynccontextmanager
async def left_over() -> AsyncIterator[Counter[str]]:
    """Count Strata's objects that were unreachable in cycles when the block ended, by type."""
    gc.collect()
    gc.disable()
    found: Counter[str] = Counter()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        types = map(type, gc.garbage)
        found.update(kind.__qualname__ for kind in types if kind.__module__.startswith("strata."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


async def a_result(server: Running, uri: str) -> None:
    """Build a result, fetch it, and request it again."""
    async with server.client() as client:
        for _ in range(2):
            assert 20 == (await fetch(client, scan(uri, params={"columns": ["id"]}))).num_rows


async def refused(server: Running, uri: str) -> None:
    """Send requests without an identity, and for missing results."""
    async with httpx.AsyncClient(base_url=server.url) as nobody:
        assert 401 == (await nobody.post("/v1/materialize", json=scan(uri))).status_code
    async with server.client() as client:
        assert 404 == (await client.get("/v1/streams/none")).status_code


async def too_large(server: Running, uri: str) -> None:
    """Run a build that fails because its result is too large."""
    await fails(server, uri.replace("events", "large"), 413)


async def broken(server: Running, uri: str) -> None:
    """Run a build that fails because a file is missing."""
    await fails(server, uri.replace("events", "broken"), 500)


async def fails(server: Running, uri: str, status: int) -> None:
    async with server.client() as client:
        answer = await client.post("/v1/materialize", json=scan(uri))
        if answer.status_code == 200:  # it had not failed yet
            answer = await client.get(answer.json()["stream_url"])
        assert status == answer.status_code


@pytest.mark.parametrize("ask", [a_result, refused, too_large, broken])
async def test_nothing_of_ours_waits_for_the_collector(
    settings: Settings, warehouse: Warehouse, ask: Ask
) -> None:
    """No request, connection or failed build leaves a cycle.

    Each request's inbox was in a cycle with its stream, each connection with its protocol. The traceback of a
    failed build's cancellation kept the build, with its rows in flight.
    """
    warehouse.create(numbers(20))
    warehouse.create(pa.table({"s": pa.array(["x" * 100] * 100_000)}), "db.large")
    table = warehouse.create(numbers(10), "db.broken")
    [task] = table.scan().plan_files()
    Path(task.file.file_path.removeprefix("file://")).unlink()
    large = attrs.evolve(settings, max_response_bytes=8_000_000)
    with capture_logs():  # what shows tracebacks in tests makes cycles of its own
        await nothing_waits(large, warehouse.uri(), ask)


async def nothing_waits(settings: Settings, uri: str, ask: Ask) -> None:
    async with running(settings) as server:
        await ask(server, uri)  # what comes once
        async with left_over() as found:
            for _ in range(TIMES):
                await ask(server, uri)
            async with server.client() as client:  # everything before it has come to its end
                await client.get("/health")
    assert not {kind: count for kind, count in found.items() if count >= TIMES}


async def test_what_waits_for_the_collector_is_found() -> None:
    """A cycle is found, so the test above can fail."""

    class Own:
        __module__ = "strata.own"

    async with left_over() as found:
        for _ in range(TIMES):
            own = Own()
            own.itself = own
        del own
    assert {Own.__qualname__: TIMES} == found


def test_a_server_that_listens_looks_for_garbage_seldom_and_not_in_what_it_imported() -> None:
    """Collection starts when the server listens, runs seldom, and skips imported objects."""
    code = (
        "import gc; from strata.cli.main import _announce; gc.disable(); _announce([]);"
        "print(gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count() > 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "True 5000 True\n" == done.stdout
