"""Nothing ends more than itself: an error of the system or a bug ends the request that met it, and no stream."""

import errno
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
import structlog
import trio
from os_faults import READLINK
from reading_here import read_here
from service_kit import ARROW, Running, Warehouse, fetch, numbers, scan

from strata.artifacts import BlobReader
from strata.cache import CacheShard
from strata.outcomes import RefusalError
from strata.tenants import messages as m
from strata.tenants.builds import scan_pipeline
from strata.tenants.lifecycle.actor import HANDLERS
from strata.tenants.messages import Pending
from strata.work.pool import HUNG


def raising(error: Exception) -> Any:
    def call(*_: object, **__: object) -> Any:
        raise error

    return call


async def rest(chunks: AsyncIterator[bytes], first: bytes) -> pa.Table:
    parts = [first, *[part async for part in chunks]]
    return pa.ipc.open_stream(b"".join(parts)).read_all()


async def settled(server: Running) -> None:
    """Wait until the tenant's builds are committed and cached."""
    with trio.fail_after(30):
        while not server.service.registry.find("team-a").idle:  # noqa: ASYNC110  # the end of a build sets no event
            await trio.sleep(0.002)


@pytest.fixture
def gated(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let row groups after the first be read only when the gate is open."""
    opened, real = threading.Event(), scan_pipeline.read_slice

    def read(group: Any, *many: int) -> Any:
        if group.task.index:
            assert opened.wait(30)
        return real(group, *many)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", read)
    warehouse.create(numbers(40_000), **{"write.parquet.row-group-limit": "5000"})
    return opened


async def test_a_blob_that_cannot_be_read_is_refused_as_often_as_it_is_asked_for(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten reads with EIO are ten refusals; the actor goes on with its builds, and serves the blob when it can."""
    warehouse.create(numbers(50_000))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        await settled(server)
        hit = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        actor = server.service.registry.find("team-a").actor
        with monkeypatch.context() as patched:
            patched.setattr(BlobReader, "read", raising(OSError(errno.EIO, os.strerror(errno.EIO))))
            for _ in range(10):
                answer = await client.get(hit["stream_url"])
                assert (503, "blob_unreadable") == (answer.status_code, answer.json()["error"])
                assert int(answer.headers["Retry-After"]) >= 1
            other = scan(warehouse.uri(), params={"columns": ["id"]})
            assert 200 == (await client.post("/v1/materialize", json=other)).status_code
        assert 200 == (await client.get(hit["stream_url"])).status_code
        found = server.service.registry.find("team-a")
        assert (actor, 0) == (found.actor, found.metrics.restarts)
        assert 10 <= found.metrics.refusals["blob_unreadable"]


async def test_a_stream_without_a_descriptor_is_refused_and_another_goes_on(
    server: Running, warehouse: Warehouse, gated: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE at a reader's descriptor of a growing result is that reader's; the build and its first reader go on."""
    real = os.dup

    def dup(descriptor: int) -> int:
        if READLINK(f"/proc/self/fd/{descriptor}").endswith(".part"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(descriptor)

    async with server.client() as client:
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        async with client.stream("GET", url) as flow:
            chunks = flow.aiter_raw()
            first = await anext(chunks)
            [build] = server.service.registry.find("team-a").actor.opened_materializer.running.values()
            with monkeypatch.context() as patched:
                patched.setattr(os, "dup", dup)
                refused = await client.get(url)
            assert (503, "no_resources") == (refused.status_code, refused.json()["error"])
            assert 1 == build.readers
            gated.set()
            assert 40_000 == (await rest(chunks, first)).num_rows
        assert 0 == server.service.registry.metrics_of("team-a").restarts


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("a bug"), (500, "internal")),
        (ExceptionGroup("of a nursery", [KeyError("a bug")]), (500, "internal")),
        (OSError(errno.EIO, "x"), (503, "storage_error")),
        (OSError(errno.ENOSPC, "x"), (503, "storage_unavailable")),
        (OSError(errno.ENFILE, "x"), (503, "no_resources")),
        (ExceptionGroup("of a nursery", [OSError(errno.EACCES, "x")]), (503, "storage_error")),
        (TimeoutError(), (504, "storage_timeout")),
    ],
)
async def test_a_question_that_raises_is_answered_and_ends_no_stream_of_its_tenant(
    server: Running,
    gated: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    told: tuple[int, str],
) -> None:
    """The answer has the reason and no word of the exception; the tenant's stream under way loses no row."""

    status, _ = told

    async def finish() -> object:
        raise error

    monkeypatch.setitem(HANDLERS, m.ListNames, lambda _actor, _question: Pending(finish))
    monkeypatch.setitem(HANDLERS, m.GetName, raising(error))
    async with server.client() as client:
        url = (await client.post("/v1/materialize", json=scan("wh:db.events"))).json()["stream_url"]
        async with client.stream("GET", url) as flow:
            chunks = flow.aiter_raw()
            first = await anext(chunks)
            for path in ("/v1/names", "/v1/names/n"):
                with structlog.testing.capture_logs() as logged:
                    answer = await client.get(path)
                assert told == (answer.status_code, answer.json()["error"]), path
                assert "bug" not in answer.text
                assert (503 == status) == ("Retry-After" in answer.headers)
                said = [line["event"] for line in logged if line["event"] != "request"]
                assert ["question crashed" if status == 500 else "system error"] == said
            gated.set()
            assert 40_000 == (await rest(chunks, first)).num_rows
        found = server.service.registry.find("team-a")
        assert (0, 1) == (found.metrics.restarts, found.metrics.questions["ListNames", error_kind(status)])


def error_kind(status: int) -> str:
    return {500: "failed", 503: "unavailable", 504: "timed_out"}[status]


async def test_a_refused_quantum_of_caching_is_no_bug(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache's disk hangs, a line says so, without a traceback and not as an error."""
    warehouse.create(numbers(100))
    monkeypatch.setattr(CacheShard, "adopt", raising(RefusalError(HUNG)))
    async with server.client() as client:
        with structlog.testing.capture_logs() as logged:
            assert 100 == (await fetch(client, scan(warehouse.uri()))).num_rows
            with trio.fail_after(60):
                while not any("cache could not" in line["event"] for line in logged):  # noqa: ASYNC110  # no event
                    await trio.sleep(0.002)
        told = [line for line in logged if line["log_level"] in ("warning", "error")]
        assert [("warning", "storage_unavailable")] == [(line["log_level"], line["error"]) for line in told]
        assert 200 == (await client.get("/v1/names")).status_code


async def test_a_bug_in_caching_costs_segments_and_no_actor(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is complete and stays; the tenant's actor goes on, and the log says what happened."""
    warehouse.create(numbers(100))
    monkeypatch.setattr(CacheShard, "install", raising(ValueError("a bug")))
    async with server.client() as client:
        with structlog.testing.capture_logs() as logged:
            assert 100 == (await fetch(client, scan(warehouse.uri()))).num_rows
            with trio.fail_after(20):
                while not any("caching crashed" == line["event"] for line in logged):  # noqa: ASYNC110  # no event
                    await trio.sleep(0.002)
            assert 200 == (await client.get("/v1/names")).status_code
        assert ["caching crashed"] == [line["event"] for line in logged if line["log_level"] == "error"]
        hit = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW})
        assert 100 == pa.ipc.open_stream(hit.content).read_all().num_rows
        assert 0 == server.service.registry.metrics_of("team-a").restarts
