"""Reader processes: what a death, a late answer, a wrong answer and a lack of memory cost, and to whom."""

from __future__ import annotations

import errno
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from structlog.testing import capture_logs

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers import ReaderPool, ReaderRowGroup, expand_in_reader, row_groups, steps
from strata.readers.messages import Failed, NoMemory, Part, PlanOf, SliceRead, answer_bytes, answer_of
from strata.readers.pool import LEAST_BYTES
from strata.readers.processes import Reader, _check
from strata.readers.shared_memory import SLOT_BYTES, SLOTS, OwnMemoryError, Slots, adopted, own_memory
from strata.tables import Catalogs, ScanPlan, parse_scan_params, plan_files, resolve_scan
from strata.tables.plan.model import segment_schema
from strata.tables.read.ipc import Encoded, decoded

SECONDS = 60.0
ROWS = 3072


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    own = ReaderPool(2)
    yield own
    own.close()


def planned(directory: Path, *, width: int = 8, count: int = ROWS) -> ScanPlan:
    """Return the plan of a new table of one file, with texts of some bytes."""
    catalog = SqlCatalog("strata", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}")
    catalog.create_namespace("db")
    texts = [f"{at:>{width}}" for at in range(count)]
    rows = pa.table({"id": pa.array(range(count)), "text": pa.array(texts)})
    catalog.create_table("db.t", rows.schema, properties={"write.parquet.page-row-limit": "300"}).append(rows)
    catalogs = Catalogs(warehouses={"wh": directory}, catalogs={}, any_file_warehouse=False)
    reference = catalogs.resolve("wh:db.t")
    assert not isinstance(reference, Refused)
    table = catalogs.load(reference)
    assert not isinstance(table, Refused)
    params = parse_scan_params({})
    assert not isinstance(params, Refused)
    scan = resolve_scan(table, params)
    assert not isinstance(scan, Refused)
    made = plan_files(scan)
    assert not isinstance(made, Refused)
    return made


@pytest.fixture
def plan(tmp_path: Path) -> ScanPlan:
    return planned(tmp_path)


def row_group(
    plan: ScanPlan, pool: ReaderPool, *, rows: int = 1024, seconds: float = SECONDS
) -> ReaderRowGroup:
    tasks = expand_in_reader(plan, plan.files[0], SECONDS, pool)
    assert not isinstance(tasks, Refused)
    [task] = tasks
    return ReaderRowGroup(plan, task, batch_rows=ROWS, slice_rows=rows, seconds=seconds, pool=pool)


def ids(plan: ScanPlan, encoded: Encoded) -> list[int]:
    schema = segment_schema(plan, plan.segment_fields)
    return [value for batch in decoded(encoded, schema) for value in batch.column(0).to_pylist()]


def next_ids(plan: ScanPlan, group: ReaderRowGroup) -> list[int]:
    found = group.read(None)
    assert found is not None
    return ids(plan, found.segment)


def readers_of(pool: ReaderPool) -> list[Reader]:
    return [reader for reader in pool._readers if reader.alive]


def kill(reader: Reader, *, wait: bool = False) -> None:
    """Kill a reader; ``wait``: until it has ended, so that the next step takes it for one that ended idle."""
    os.kill(reader.process, signal.SIGKILL)
    while wait and not reader.has_ended():
        os.sched_yield()


def test_a_killed_reader_costs_its_step_only(plan: ScanPlan, pool: ReaderPool) -> None:
    """The row group goes on in another reader where it was, and so do others that the dead one had open."""
    group, other = row_group(plan, pool), row_group(plan, pool)
    assert list(range(1024)) == next_ids(plan, group) == next_ids(plan, other)
    died = pool.ends.total()
    for reader in readers_of(pool):
        kill(reader, wait=True)
    assert list(range(1024, 2048)) == next_ids(plan, group)
    assert list(range(1024, 2048)) == next_ids(plan, other)
    assert list(range(2048, ROWS)) == next_ids(plan, other)
    assert (True, False) == (other.done, group.done)
    assert 1 <= pool.ends.total() - died <= 2, "one end a step at most"
    assert {"SIGKILL", "idle"} >= set(pool.ends)
    group.close()
    assert 0 == sum(reader.load for reader in readers_of(pool))


def test_slices_that_are_read_together_are_the_same_rows(plan: ScanPlan, pool: ReaderPool) -> None:
    """Also where a reader dies in between: another one goes on behind all of them."""
    group = row_group(plan, pool, rows=256)
    assert list(range(256)) == next_ids(plan, group)
    found = group.read(None, 3)
    assert found is not None
    assert (768, list(range(256, 1024))) == (found.scanned, ids(plan, found.segment))
    for reader in readers_of(pool):
        kill(reader, wait=True)
    found = group.read(None, 100)
    assert found is not None
    assert (list(range(1024, ROWS)), True) == (ids(plan, found.segment), group.done)
    assert 0 == sum(reader.load for reader in readers_of(pool))


def test_a_file_at_which_two_readers_die_is_refused_for_a_while(
    plan: ScanPlan, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names the file; it is remembered by the file, so that it ends no more readers."""
    group, real, calls = row_group(plan, pool), Reader.call, 0

    def dying(reader: Reader, *args, **kwargs):
        nonlocal calls
        calls += 1
        kill(reader)
        return real(reader, *args, **kwargs)

    monkeypatch.setattr(Reader, "call", dying)
    for _ in range(2):
        with pytest.raises(RefusalError) as raised:
            group.read(None)
        assert Reason.DATA_UNREADABLE is raised.value.refused.reason
        assert plan.files[0].path.rpartition("/")[2] in raised.value.refused.detail
    assert steps.ATTEMPTS == calls
    again = expand_in_reader(plan, plan.files[0], SECONDS, pool)
    assert isinstance(again, Refused)
    assert steps.ATTEMPTS == calls
    group.close()
    assert 0 == sum(reader.load for reader in readers_of(pool))


def test_a_reader_that_does_not_answer_is_ended(plan: ScanPlan, pool: ReaderPool) -> None:
    """A hung disk costs a reader and the request, not the server's thread."""
    group = row_group(plan, pool, seconds=0.2)
    assert list(range(1024)) == next_ids(plan, group)
    held = group._reader
    assert held is not None
    os.kill(held.process, signal.SIGSTOP)
    with pytest.raises(RefusalError, match="fetch_timeout_seconds") as raised:
        group.read(None)
    assert Reason.TIMED_OUT is raised.value.refused.reason
    assert not held.alive
    assert "SIGKILL" == held.fork_server.status(held.process)
    group.close()
    group = row_group(plan, pool)
    assert list(range(1024)) == next_ids(plan, group)
    group.close()


def test_rows_stay_as_long_as_they_are_used(plan: ScanPlan) -> None:
    """With all slots in use further slices get memory of their own; a slot is free when its rows are gone."""
    pool = ReaderPool(1)
    try:
        group = row_group(plan, pool, rows=336)
        found = [group.read(None) for _ in range(9)]
        [reader] = readers_of(pool)
        assert 0 == len(reader.slots._free)
        for number, slice_ in enumerate(found):
            assert slice_ is not None
            assert list(range(number * 336, number * 336 + 336)) == ids(plan, slice_.segment)
        del slice_
        found.clear()
        assert SLOTS == len(reader.slots._free)
    finally:
        pool.close()


def test_a_slice_larger_than_a_slot_is_whole(tmp_path: Path, pool: ReaderPool) -> None:
    """The reader makes memory for it."""
    plan = planned(tmp_path, width=4000)
    group = row_group(plan, pool, rows=ROWS)
    found = group.read(None)
    assert found is not None
    assert found.segment.nbytes > SLOT_BYTES
    assert list(range(ROWS)) == ids(plan, found.segment)


def test_a_reader_without_memory_reads_smaller_slices(tmp_path: Path) -> None:
    """What does not fit the reader's memory is read in pieces; the rows are all there."""
    count = 9000
    plan = planned(tmp_path, width=10_000, count=count)
    pool = ReaderPool(1)
    pool.limit(LEAST_BYTES)
    try:
        group, found, steps = row_group(plan, pool, rows=count), [], 0
        while not group.done:
            found += next_ids(plan, group)
            steps += 1
        assert list(range(count)) == found
        assert steps > 1
        assert 0 == pool.ends.total()
    finally:
        pool.close()


@pytest.mark.parametrize("size", [64, 100, 1000, 1024, 3000, 2999])
def test_rows_stay_whole_when_memory_ends_in_the_middle(
    plan: ScanPlan, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Whenever a reader lacks memory, the next slice begins where the last one ended, or the file is refused."""
    real = Reader.call
    for failing in ((), (0,), (1,), (2,), (0, 1), (0, 3), (1, 2), (1, 4), (2, 3, 4)):
        group, found, calls = row_group(plan, pool, rows=size), [], itertools.count()

        def call(reader: Reader, request, *args, calls=calls, failing=failing):
            answer = real(reader, request, *args)
            return (NoMemory("none"), None) if next(calls) in failing else answer

        with monkeypatch.context() as patch:
            patch.setattr(Reader, "call", call)
            refused = False
            while not (group.done or refused):
                try:
                    found += next_ids(plan, group)
                except RefusalError as refusal:
                    refused = refusal.refused.reason is Reason.TOO_LARGE
        assert list(range(len(found) if refused else ROWS)) == found
        assert failing or not refused
        group.close()


def test_rows_that_cannot_be_read_in_smaller_pieces_are_refused(tmp_path: Path) -> None:
    """A page of the file that is larger than the reader's memory is no damage, and ends no reader."""
    plan = planned(tmp_path, width=400_000, count=300)
    pool = ReaderPool(1)
    pool.limit(LEAST_BYTES)
    try:
        with pytest.raises(RefusalError, match="memory") as raised:
            row_group(plan, pool, rows=336).read(None)
        assert Reason.TOO_LARGE is raised.value.refused.reason
        assert 0 == pool.ends.total()
    finally:
        pool.close()


def test_a_reader_has_no_secret_and_none_of_the_servers_files(plan: ScanPlan, monkeypatch, tmp_path) -> None:
    """Its environment has four variables, its descriptors are the link, and nothing and /dev/null."""
    monkeypatch.setenv("STRATA_PROXY_TOKEN", "opensesame")
    secret = (tmp_path / "secret").open("w")
    pool = ReaderPool(1)
    try:
        row_group(plan, pool).close()
        [reader] = readers_of(pool)
        environment = Path(f"/proc/{reader.process}/environ").read_bytes()
        assert {b"LC_ALL", b"PYTHONPATH", b"ARROW_DEFAULT_MEMORY_POOL", b"MALLOC_ARENA_MAX"} == {
            one.partition(b"=")[0] for one in environment.split(b"\0") if one
        }
        files = [str(one.readlink()) for one in Path(f"/proc/{reader.process}/fd").iterdir()]
        assert [] == [one for one in files if str(tmp_path) in one]
    finally:
        secret.close()
        pool.close()


def test_a_row_group_that_is_closed_while_it_is_read_is_closed_in_its_reader(
    plan: ScanPlan, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader keeps neither its file nor its memory; no other request waits for it."""
    group, real = row_group(plan, pool), Reader.call
    load = sum(reader.load for reader in readers_of(pool))

    def call(reader: Reader, *args, **kwargs):
        found = real(reader, *args, **kwargs)
        group.close()
        return found

    monkeypatch.setattr(Reader, "call", call)
    assert list(range(1024)) == next_ids(plan, group)
    assert [] == [reader for reader in readers_of(pool) if group._number in reader.opened]
    assert load == sum(reader.load for reader in readers_of(pool))
    assert group.read(None) is None


def test_readers_end_with_the_pool(plan: ScanPlan) -> None:
    """No process stays."""
    pool = ReaderPool(1)
    row_group(plan, pool).close()
    [reader] = readers_of(pool)
    pool.close()
    assert not Path(f"/proc/{reader.process}/exe").exists()


def test_other_files_than_those_of_the_step_are_not_opened(plan: ScanPlan, pool: ReaderPool) -> None:
    """A reader that a file has taken over gets no other file."""
    step = row_groups.step_of(plan, [plan.files[0]], SECONDS, pool)
    descriptor, _ = step.open(plan.files[0].path)
    os.close(descriptor)
    for other in ("/etc/hostname", plan.files[0].path.replace("/data/", "/metadata/../data/")):
        with pytest.raises(PermissionError):
            step.open(other)


def answer(segment: Part, kept: Part | None) -> SliceRead:
    return SliceRead(passed=1, done=False, segment=segment, kept=kept, crc32=0, own=False)


@pytest.mark.parametrize(
    "part", [Part(-1, 8, 1), Part(0, SLOT_BYTES + 1, 1), Part(SLOT_BYTES, 8, 1), Part(8, -4, 1)]
)
def test_places_outside_of_the_memory_are_not_believed(part: Part) -> None:
    """The server reads no byte outside of the slot, whatever a reader says."""
    for segment, kept in ((part, None), (Part(0, 8, 1), part)):
        with pytest.raises(ValueError, match="outside"):
            _check(answer(segment, kept), None)
    _check(answer(Part(0, SLOT_BYTES, 1), None), None)


def test_what_is_no_answer_is_an_error() -> None:
    """Neither other types nor unknown tags are accepted."""
    assert Failed("a", "b") == answer_of(answer_bytes(Failed("a", "b")))
    for wrong in (b"", b"\xc1", msgspec.msgpack.encode({"type": "slice"}), msgspec.msgpack.encode([1])):
        with pytest.raises(msgspec.MsgspecError):
            answer_of(wrong)


def test_memory_that_could_shrink_is_not_mapped() -> None:
    """Pages that are taken away while the server reads them would end it."""
    descriptor, memory = own_memory(100)
    memory[:3] = b"abc"
    assert b"abc" == adopted(descriptor)[:3].to_pybytes()
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(loose, 100)
    with pytest.raises(OwnMemoryError):
        adopted(loose)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(loose)


def test_slots_cannot_be_shrunk_by_a_reader() -> None:
    """Their seals forbid it."""
    slots = Slots()
    with pytest.raises(PermissionError):
        os.ftruncate(slots.descriptor, 4096)
    slots.handed()


def test_a_pool_that_cannot_start_a_process_refuses(plan: ScanPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """That says nothing about the file: 503."""
    monkeypatch.setattr("strata.readers.pool.ForkServer", _no_process)
    found = expand_in_reader(plan, plan.files[0], SECONDS, ReaderPool(1))
    assert isinstance(found, Refused)
    assert (Reason.UNAVAILABLE, 5) == (found.reason, found.retry_after)


def test_a_system_without_what_readers_need_reads_in_the_server(plan: ScanPlan, monkeypatch) -> None:
    """A container may deny the calls: that is said once, and files are read as before there were readers."""

    def denied() -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("strata.readers.processes.Slots", denied)
    pool = ReaderPool(1)
    with capture_logs() as logged:
        assert isinstance(expand_in_reader(plan, plan.files[0], SECONDS, pool), Refused)
        pool.prepare()
    assert not pool.available
    assert ["no reader processes here: files are read in the server"] == [line["event"] for line in logged]
    pool.close()


@pytest.mark.parametrize(
    "place", ["strata.readers.processes.Slots", "strata.readers.processes.ForkServer._ask"]
)
def test_a_reader_that_cannot_be_forked_costs_no_other_reader(
    plan: ScanPlan, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Without a descriptor or a process for one more, those that are there go on, and so does their fork server."""
    group = row_group(plan, pool)
    assert list(range(1024)) == next_ids(plan, group)
    before, server = readers_of(pool), pool._server

    def none(*_arguments: object) -> dict[str, int]:
        if place.endswith("Slots"):
            raise OSError(errno.EMFILE, "Too many open files")
        return {"errno": errno.EAGAIN}

    monkeypatch.setattr(place, none)
    with pytest.raises(OSError, match=r"Too many open files|unavailable"):
        pool._fork()
    assert (before, server) == (readers_of(pool), pool._server)
    assert pool.available
    assert list(range(1024, 2048)) == next_ids(plan, group)
    group.close()


def test_a_fork_server_that_has_ended_is_replaced(plan: ScanPlan) -> None:
    """Its readers end with it, and those of the next one read on."""
    pool = ReaderPool(1)
    try:
        group = row_group(plan, pool)
        assert list(range(1024)) == next_ids(plan, group)
        ended = pool._server
        assert ended is not None
        ended._process.kill()
        ended._process.wait()
        assert list(range(1024, 2048)) == next_ids(plan, group)
        assert ended is not pool._server
    finally:
        pool.close()


def test_readers_beyond_the_usual_number_end_when_they_are_idle(plan: ScanPlan) -> None:
    """They were forked while others were busy."""
    pool = ReaderPool(1)
    try:
        first = pool.lease()
        second = pool.lease(alone=True)
        assert first is not second
        pool.release(second)
        assert [first] == readers_of(pool)
        pool.release(first)
        assert [first] == readers_of(pool)
        group = row_group(plan, pool)
        assert list(range(1024)) == next_ids(plan, group)
    finally:
        pool.close()


def test_a_row_group_that_is_closed_before_it_has_a_reader_gives_it_back(
    plan: ScanPlan, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that reads it was about to take one."""
    group, real = row_group(plan, pool), pool.lease
    load = sum(reader.load for reader in readers_of(pool))

    def lease(*, alone: bool = False) -> Reader:
        group.close()
        return real(alone=alone)

    monkeypatch.setattr(pool, "lease", lease)
    group.read(None)
    assert load == sum(reader.load for reader in readers_of(pool))
    assert [] == [reader for reader in readers_of(pool) if group._number in reader.opened]


def _no_process() -> None:
    raise OSError(errno.EAGAIN, "no process")


def test_a_reader_that_fails_does_not_end(plan: ScanPlan, pool: ReaderPool, monkeypatch) -> None:
    """A bug in a reader ends the request, with its place for the log."""
    group = row_group(plan, pool)
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "plan_of", lambda *_: PlanOf(10**9, None))
        with pytest.raises(RuntimeError, match=r"KeyError at .*reader\.py"):
            group.read(None)
    assert list(range(1024)) == next_ids(plan, group)
    group.close()
