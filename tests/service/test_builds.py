"""Builds: shared, independent of their readers, bounded, and stored completely or not at all."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
import trio
from reading_here import read_here
from service_kit import (
    ARROW,
    Running,
    Warehouse,
    environment,
    fetch,
    identity,
    numbers,
    process,
    running,
    scan,
)

from strata.artifacts.metadata.sql_store import SqlMetadataStore
from strata.config import Settings
from strata.tenants.builds import runner, scan_pipeline
from strata.tenants.shared.byte_stream import ByteStream


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let row groups after the first be read only when the gate is open."""
    opened, real = threading.Event(), scan_pipeline.read_slice

    def gated(group, *many):
        if group.task.index or group.plan.files.index(group.task.file):
            assert opened.wait(30)
        return real(group, *many)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", gated)
    return opened


def in_row_groups(warehouse: Warehouse, rows: int = 40_000) -> None:
    warehouse.create(numbers(rows), **{"write.parquet.row-group-limit": str(rows // 8)})


def bulk(server: Running, tenant: str = "team-a"):
    [found] = [t for t in server.service.registry.tenants() if t.id == tenant]
    return {tier.value: slots for tier, slots in found.actor.builder.slots.items()}


async def test_the_first_rows_arrive_before_the_rest_is_read(
    server: Running, warehouse: Warehouse, gate
) -> None:
    """The first rows arrive while later row groups are not yet read."""
    in_row_groups(warehouse)
    async with (
        server.client() as client,
        client.stream(
            "POST", "/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW}
        ) as flow,
    ):
        chunks = flow.aiter_raw()
        parts = [await anext(chunks)]
        assert not gate.is_set()
        gate.set()
        parts += [part async for part in chunks]
    assert 40_000 == pa.ipc.open_stream(b"".join(parts)).read_all().num_rows


async def test_row_groups_in_slices_are_the_same_rows_and_one_segment_each(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices give the same rows, filtered or not, cold or cached, and one cached segment per row group."""
    in_row_groups(warehouse)
    monkeypatch.setattr(scan_pipeline, "SLICE_BYTES", 10_000)
    monkeypatch.setattr(scan_pipeline, "FIRST_SLICE_BYTES", 3_000)
    taken: list[int] = []
    real = scan_pipeline.read_slice

    def counted(group, *many):
        before = group.passed
        found = real(group, *many)
        taken.append(group.passed - before)
        return found

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", counted)
    few = {"filters": [{"column": "id", "op": ">=", "value": 7}]}
    async with server.client() as client:
        for params, cold, at_least in ((few, True, 7), ({}, True, 0), ({"columns": ["name"]}, False, 0)):
            found = await fetch(client, scan(warehouse.uri(), params=params))
            assert list(range(at_least, 40_000)) == [
                int(name.rpartition("-")[2]) for name in found.column("name").to_pylist()
            ]
            assert (40_000 if cold and params else 0) == sum(taken), "the second and third are cached"
            if taken:
                assert max(taken) < 5_000
                assert len(taken) > 40
            taken.clear()
            [tenant] = server.service.registry.tenants()
            shard = tenant.actor.shard
            with trio.fail_after(10):
                while shard.stats().segments < 8:
                    await trio.lowlevel.checkpoint()
            assert 8 == shard.stats().segments


async def test_a_row_group_that_is_read_alone_has_all_cores(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no other work wants them: its slices are decoded one after the other."""
    warehouse.create(numbers(40_000))
    asked: list[bool] = []
    real = scan_pipeline.read_slice

    def noted(group, *rest):
        asked.append(group.threads)
        return real(group, *rest)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", noted)
    async with server.client() as client:
        assert 40_000 == (await fetch(client, scan(warehouse.uri()))).num_rows
    assert any(asked)


async def test_a_disconnect_frees_the_slot_at_once_and_the_build_ends_ready(
    server: Running, warehouse: Warehouse, gate
) -> None:
    """A slow or disconnected reader does not fail the artifact."""
    in_row_groups(warehouse)
    async with server.client() as client:
        async with client.stream(
            "POST", "/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW}
        ) as flow:
            await anext(flow.aiter_raw())
            assert 1 == sum(slots.used for slots in bulk(server).values())
        with trio.fail_after(10):
            while sum(slots.used for slots in bulk(server).values()):
                await trio.lowlevel.checkpoint()
        assert not gate.is_set(), "the build is not over yet"
        gate.set()
        found = await fetch(client, scan(warehouse.uri()))
        assert 40_000 == found.num_rows
        assert (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]
        stats = (await client.get("/v1/artifacts/stats")).json()
        assert {"ready": 1} == stats["by_state"]


async def test_a_hundred_equal_requests_are_one_build(server: Running, warehouse: Warehouse, gate) -> None:
    """Equal requests of any principal share one build, by provenance."""
    in_row_groups(warehouse)
    answers: list[int] = []

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW})
        answers.append(pa.ipc.open_stream(answer.content).read_all().num_rows)

    async with server.client() as client, trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask, client)
        await trio.testing.wait_all_tasks_blocked(0.05)
        gate.set()
    async with server.client() as client:
        assert 1 == (await client.get("/v1/artifacts/stats")).json()["total_artifacts"]
    assert [40_000] * 100 == answers


async def test_a_result_over_the_limit_is_413_measured_on_its_arrow_bytes(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The limit counts the result's Arrow bytes instead of an estimate."""
    highly_compressible = pa.table({"s": pa.array(["x" * 100] * 100_000)})
    warehouse.create(highly_compressible)
    size = 100_000 * 100
    async with running(attrs.evolve(settings, max_response_bytes=size)) as server, server.client() as client:
        for headers in ({}, {"Accept": ARROW}):
            answer = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers=headers)
            if answer.status_code == 200:  # asked for a stream: the failure shows when it is opened
                answer = await client.get(answer.json()["stream_url"])
            assert (413, "response_too_large") == (answer.status_code, answer.json()["error"])
        few = scan(warehouse.uri("db.events"), params={"filters": [{"column": "s", "op": "=", "value": "y"}]})
        assert 0 == (await fetch(client, few)).num_rows
    async with (
        running(attrs.evolve(settings, max_response_bytes=size * 2)) as server,
        server.client() as client,
    ):
        assert 100_000 == (await fetch(client, scan(warehouse.uri()))).num_rows


@pytest.mark.parametrize("head_start", [0.0, 60.0])
async def test_a_missing_data_file_is_an_error_that_names_no_path(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, head_start: float
) -> None:
    """The build is recorded as failed, at any order of footer and record, and the error has no path."""
    monkeypatch.setattr(scan_pipeline, "HEAD_START_SECONDS", head_start)
    table = warehouse.create(numbers(10))
    [task] = table.scan().plan_files()
    Path(task.file.file_path.removeprefix("file://")).unlink()
    async with server.client() as client:
        started = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        answer = await client.get(started["stream_url"])
        assert 500 == answer.status_code
        assert str(warehouse.path) not in answer.text
        build = (await client.get(f"/v1/builds/{started['build_id']}")).json()
        assert ("failed", 0) == (build["state"], bool(build["error_message"]) - 1)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_build_is_noted_when_its_first_rows_are_being_decoded_or_take_too_long(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, *, slow: bool
) -> None:
    """A build is recorded during its first decoding, or after a moment if its store does not answer."""
    warehouse.create(numbers(10))
    noted, seen = threading.Event(), []
    expand, read, begin = scan_pipeline.expand_file, scan_pipeline.read_slice, SqlMetadataStore.begin_build

    def expanded(plan, file):
        assert noted.wait(30) or not slow
        found = expand(plan, file)
        seen.append("footer")
        return found

    def reading(group, *many):
        seen.append("rows")
        return read(group, *many)

    def begun(self, *args, **kwargs):
        seen.append("noted")
        found = begin(self, *args, **kwargs)
        noted.set()
        return found

    if not slow:
        noted.set()
    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "expand_file", expanded)
    monkeypatch.setattr(scan_pipeline, "read_slice", reading)
    monkeypatch.setattr(SqlMetadataStore, "begin_build", begun)
    monkeypatch.setattr(scan_pipeline, "HEAD_START_SECONDS", 0.0 if slow else 60.0)
    async with server.client() as client:
        assert 10 == (await fetch(client, scan(warehouse.uri()))).num_rows
    assert (["noted", "footer", "rows"] if slow else ["footer", "rows", "noted"]) == seen


async def test_a_build_with_nothing_to_decode_is_noted_at_once(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build is recorded at once if its rows are cached, it has none, or its first file is unreadable."""
    monkeypatch.setattr(scan_pipeline, "HEAD_START_SECONDS", 60.0)
    told: list[object] = []
    begin = runner._BuildRun._open_blob

    async def begun(attempt, head, ready):
        return await begin(attempt, head, lambda: told.append(ready()))

    monkeypatch.setattr(runner._BuildRun, "_open_blob", begun)
    warehouse.create(numbers(10))
    body = scan(warehouse.uri())
    async with server.client() as client:
        for again in (False, True):
            assert 10 == (await fetch(client, body | {"refresh": again})).num_rows
        warehouse.create(numbers(0), "db.empty")
        assert 0 == (await fetch(client, scan(warehouse.uri("db.empty")))).num_rows
        [task] = warehouse.create(numbers(10), "db.broken").scan().plan_files()
        Path(task.file.file_path.removeprefix("file://")).unlink()
        broken = scan(warehouse.uri("db.broken"))
        assert (
            500 == (await client.post("/v1/materialize", json=broken, headers={"Accept": ARROW})).status_code
        )
    assert [True] * 4 == told


async def test_a_lost_blob_is_an_error_once_and_then_built_anew(
    server: Running, settings: Settings, warehouse: Warehouse
) -> None:
    """After the blobs were deleted, a result is an error once, never short, and then built again."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        [blob] = settings.artifact_root.glob("blobs/*/*/*.arrow")
        blob.unlink()
        lost = await client.get(url)
        assert (500, "blob_missing") == (lost.status_code, lost.json()["error"])
        assert 404 == (await client.get(url)).status_code
        again = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        assert not again["hit"]
        assert 10 == pa.ipc.open_stream((await client.get(again["stream_url"])).content).read_all().num_rows


async def test_no_build_is_begun_beyond_max_concurrent_scans(
    settings: Settings, warehouse: Warehouse, gate
) -> None:
    """Further builds get 429 with Retry-After and the limit's name, until one ends."""
    in_row_groups(warehouse)
    async with running(attrs.evolve(settings, max_concurrent_scans=1)) as server, server.client() as client:
        first = (await client.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"))).json()
        body = scan(warehouse.uri(), params={"columns": ["id"]})
        refused = await client.post("/v1/materialize", json=body)
        assert (429, "max_concurrent_scans") == (refused.status_code, refused.json()["error"])
        assert int(refused.headers["retry-after"]) >= 1
        assert 'max_concurrent_scans";q=1' in refused.headers["ratelimit-policy"]
        gate.set()
        while (await client.get(f"/v1/builds/{first['build_id']}")).json()["state"] == "building":
            pass
        assert 200 == (await client.post("/v1/materialize", json=body)).status_code


async def test_a_full_tier_refuses_after_its_queue_timeout(
    settings: Settings, warehouse: Warehouse, gate
) -> None:
    """A full interactive tier refuses after `interactive_queue_timeout_seconds`; bulk scans still run."""
    in_row_groups(warehouse)
    changed = attrs.evolve(settings, interactive_slots=1, interactive_queue_timeout_seconds=0.05)
    async with running(changed) as server, server.client() as client:
        await client.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"))
        refused = await client.post("/v1/materialize", json=scan(warehouse.uri(), params={"columns": ["id"]}))
        assert (429, "interactive_slots") == (refused.status_code, refused.json()["error"])
        gate.set()


async def test_a_dropped_and_recreated_table_never_serves_the_old_rows(
    server: Running, warehouse: Warehouse
) -> None:
    """A new table with the same name and location never gets the results of the old one."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        assert 10 == (await fetch(client, scan(warehouse.uri()))).num_rows
        warehouse.catalog.drop_table("db.events")
        warehouse.create(numbers(3, start=100))
        assert [100, 101, 102] == (await fetch(client, scan(warehouse.uri())))["id"].to_pylist()


async def test_no_columns_and_all_columns_are_two_results(server: Running, warehouse: Warehouse) -> None:
    """A scan of no columns and one of all columns have different identities."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        none = await fetch(client, scan(warehouse.uri(), params={"columns": []}))
        every = await fetch(client, scan(warehouse.uri()))
    assert ((10, 0), (10, 3)) == (none.shape, every.shape)


@pytest.mark.nightly
def test_kill_9_loses_no_ready_artifact_and_serves_no_partial_one(
    tmp_path: Path, settings: Settings, warehouse: Warehouse
) -> None:
    """After each of eight kills, at a moment that moves through the build, ready results are complete."""
    in_row_groups(warehouse, 400_000)
    promised: dict[str, int] = {}
    for round_ in range(8):
        with process(tmp_path, **environment(settings)) as server:  # noqa: SIM117  # the one needs the other
            with httpx.Client(base_url=server.url, headers=identity(), timeout=30) as client:
                for uri, rows in promised.items():
                    stored = client.get(uri)
                    assert 200 == stored.status_code, f"round {round_} lost {uri}"
                    assert rows == pa.ipc.open_stream(stored.content).read_all().num_rows
                states = client.get("/v1/artifacts/stats").json()["by_state"]
                assert not states.get("building"), "a build outlived its process"
                body = scan(
                    warehouse.uri(), params={"filters": [{"column": "id", "op": ">=", "value": round_}]}
                )
                if round_ % 2:
                    # Killed while it builds, later and later.
                    with client.stream(
                        "POST", "/v1/materialize", json=body, headers={"Accept": ARROW}
                    ) as flow:
                        chunks = flow.iter_raw(65536)
                        for _ in range(round_ * 24):
                            if next(chunks, None) is None:
                                break
                        os.kill(server.popen.pid, signal.SIGKILL)
                        server.popen.wait()
                else:
                    client.post("/v1/materialize", json=body, headers={"Accept": ARROW}).read()
                    hit = client.post("/v1/materialize", json=body).json()
                    assert hit["hit"]
                    promised[hit["stream_url"]] = 400_000 - round_
                    os.kill(server.popen.pid, signal.SIGKILL)
                    server.popen.wait()
    leftovers = list(settings.artifact_root.rglob("*.part"))
    assert len(leftovers) <= 1, "each start sweeps what the last one left"


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("reader", ["fast", "stalled"])
def test_streaming_a_gigabyte_adds_at_most_64_megabytes(
    tmp_path: Path, settings: Settings, warehouse: Warehouse, reader: str
) -> None:
    """Streaming a gigabyte adds at most 64 MB to the process."""
    rows = 62_500
    part = numbers(rows).drop_columns(["name"])
    wide = pa.table({f"c{i}": part["value"] for i in range(8)} | {"id": part["id"]})
    table = warehouse.create(wide)
    for _ in range(31):
        table.append(pa.concat_tables([wide] * 8))
    warehouse.create(pa.concat_tables([wide] * 8), "db.one_row_group")
    more = {"STRATA_MAX_RESPONSE_BYTES": str(2**31), "STRATA_LOG_LEVEL": "WARNING"}
    with process(tmp_path, **environment(settings), **more) as server:  # noqa: SIM117  # the one needs the other
        with httpx.Client(base_url=server.url, headers=identity(), timeout=120) as client:
            for column in ("c0", "c1"):  # warm: imports, thread pools, allocator
                warm = scan(warehouse.uri(), params={"columns": ["id", column]})
                client.post("/v1/materialize", json=warm, headers={"Accept": ARROW}).read()
            warm = scan(warehouse.uri("db.one_row_group"))
            client.post("/v1/materialize", json=warm, headers={"Accept": ARROW}).read()
            before = most = server.rss()
            size = 0
            with client.stream(
                "POST", "/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW}
            ) as flow:
                chunks = flow.iter_raw(1024 * 1024)
                if reader == "stalled":
                    size += len(next(chunks))
                    build = flow.headers["x-strata-artifact-uri"]
                    with httpx.Client(base_url=server.url, headers=identity(), timeout=120) as other:
                        state = "building"
                        while state == "building":  # it goes on without its reader
                            state = other.get(_info(build)).json()["state"]
                            most = max(most, server.rss())
                        assert "ready" == state
                for chunk in chunks:
                    size += len(chunk)
                    if size % (16 * 1024 * 1024) < len(chunk):
                        most = max(most, server.rss())
    assert size > 1_000_000_000
    assert most - before <= 64 * 1024 * 1024, f"{(most - before) / 2**20:.0f} MiB more"


def _info(uri: str) -> str:
    artifact_id, _, version = uri.removeprefix("strata://artifact/").partition("@v=")
    return f"/v1/artifacts/{artifact_id}/v/{version}"


async def test_a_build_whose_clean_up_fails_still_tells_its_readers(
    server: Running, warehouse: Warehouse, gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers get an error, and do not wait forever, when the store fails during clean-up."""
    in_row_groups(warehouse)

    def down(*_args: object, **_kwargs: object) -> None:
        raise OSError("the store is down")

    monkeypatch.setattr(type(server.service.registry.resources.metadata), "fail_build", down)
    monkeypatch.setattr(type(server.service.registry.resources.metadata), "finish_build", down)
    async with server.client() as client:
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        async with client.stream("GET", url) as flow:
            chunks = flow.aiter_raw()
            size = len(await anext(chunks))
            gate.set()
            with trio.fail_after(20):
                size += sum([len(part) async for part in chunks])
        assert size > 0


async def test_head_reads_nothing(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEAD of a gigabyte reads none of its bytes."""
    warehouse.create(numbers(20_000))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        read: list[int] = []
        real = ByteStream.chunk

        async def counted(self: ByteStream) -> bytes | None:
            part = await real(self)
            read.append(len(part or b""))
            return part

        monkeypatch.setattr(ByteStream, "chunk", counted)
        head = await client.head(url)
    assert int(head.headers["content-length"]) > 500_000
    assert 0 == sum(read)


async def test_fewer_rows_than_planned_are_an_error_and_never_a_shorter_result(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build with fewer rows than planned fails instead of storing a shorter result."""
    in_row_groups(warehouse)
    real = scan_pipeline.read_slice

    def losing(group, *many):
        return real(group, *many)[1:] if group.task.index == 5 else real(group, *many)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", losing)
    async with server.client() as client:
        started = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        with contextlib.suppress(httpx.RemoteProtocolError):  # cut, if its first rows had left by then
            assert 500 == (await client.get(started["stream_url"])).status_code
        build = (await client.get(f"/v1/builds/{started['build_id']}")).json()
        assert ("failed", "row_count_mismatch") == (build["state"], build["error_code"])
        read_here(monkeypatch)
        monkeypatch.setattr(scan_pipeline, "read_slice", real)
        assert 40_000 == (await fetch(client, scan(warehouse.uri()))).num_rows
