"""Manifests parsed in readers are those parsed here, whatever happens to the readers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestFile

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers import ReaderManifests, ReaderPool
from strata.readers.manifests import LISTINGS
from strata.readers.messages import DECIMAL, UUID_BYTES, NoMemory, _partition_value
from strata.readers.processes import Reader
from strata.tables import Catalogs, LoadedTable
from strata.tables.files.locations import LiteralFileIO
from strata.tables.plan.manifest_source import HERE, ManifestSource

LATE = Refused(Reason.TIMED_OUT, "Planning took longer than 60 seconds.", code="plan_timeout")
MANIFESTS = 5


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    own = ReaderPool(2)
    yield own
    own.close()


def source(pool: ReaderPool, seconds: float = 60) -> ReaderManifests:
    return ReaderManifests(seconds, LATE, pool)


@pytest.fixture
def table(tmp_path: Path) -> LoadedTable:
    """A table with partition values of all types, each manifest with three files, and statistics."""
    catalog = SqlCatalog("strata", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("db")
    rows = pa.table(
        {
            "double": pa.array([1 / 3, None, -1e300 / 7]),
            "decimal": pa.array([Decimal("-1.50"), None, Decimal("99999999.99")], pa.decimal128(10, 2)),
            "day": pa.array([date(1969, 1, 1), None, date(2026, 1, 1)]),
            "moment": pa.array([datetime(1969, 1, 1), None, datetime(2026, 1, 1)], pa.timestamp("us")),  # noqa: DTZ001
            "text": pa.array(["ä", None, "z" * 30]),
            "flag": pa.array([True, None, False]),
            "whole": pa.array([-(2**63), None, 2**63 - 1]),
        }
    )
    made = catalog.create_table("db.t", rows.schema)
    with made.update_spec() as change:
        for name in rows.column_names:
            change.add_identity(name)
    for _ in range(MANIFESTS):
        made.append(rows)
    return loaded(tmp_path)


def loaded(directory: Path) -> LoadedTable:
    catalogs = Catalogs(warehouses={"wh": directory}, catalogs={}, any_file_warehouse=False)
    reference = catalogs.resolve("wh:db.t")
    assert not isinstance(reference, Refused)
    found = catalogs.load(reference)
    assert not isinstance(found, Refused)
    return found


def listed(table: LoadedTable, where: ManifestSource) -> list[ManifestFile]:
    snapshot = table.metadata.current_snapshot()
    assert snapshot is not None
    return [one for part in where.manifests(table, snapshot.manifest_list) for one in part]


def known(one: ManifestFile) -> tuple[object, ...]:
    parts = [tuple(part._data[:4]) for part in one.partitions or ()]
    return (
        one.manifest_path, one.manifest_length, one.partition_spec_id, one.content, one.sequence_number, parts
    )  # fmt: skip


def entries(
    table: LoadedTable, manifests: list[ManifestFile], where: ManifestSource, *, metrics: bool = True
) -> list[str]:
    """Return the entries as text, in which NaN equals NaN and types are seen."""
    found = []
    for part in where.entries(table, manifests, metrics=metrics):
        for entry in part.entries:
            assert entry is not None
            each = attrs.asdict(entry)
            if entry.metrics is not None:
                each["metrics"] = {
                    name: {key: found[key] for key in found} for name, found in each["metrics"].items()
                }
            found.append(f"{part.manifest} {each!r}")
    return found


@pytest.mark.parametrize("metrics", [True, False])
def test_manifests_are_those_parsed_here(table: LoadedTable, pool: ReaderPool, *, metrics: bool) -> None:
    """Every partition value of every type and every bound is the same, doubles to the last bit."""
    manifests = listed(table, HERE)
    assert MANIFESTS == len(manifests)
    assert [known(one) for one in manifests] == [known(one) for one in listed(table, source(pool))]
    here = entries(table, manifests, HERE, metrics=metrics)
    assert 3 * MANIFESTS == len(here)
    assert repr(1 / 3) in here[0] + here[1] + here[2]
    assert here == entries(table, manifests, source(pool), metrics=metrics)
    assert here == entries(table, [*manifests, manifests[0]], source(pool), metrics=metrics)[: len(here)]


def test_small_manifests_cost_one_request_together(table: LoadedTable, pool: ReaderPool, monkeypatch) -> None:
    """As many as a request has descriptors for."""
    manifests, calls, real = listed(table, HERE), [], Reader.call

    def call(reader: Reader, *args: Any):
        calls.append(args)
        return real(reader, *args)

    monkeypatch.setattr(Reader, "call", call)
    entries(table, manifests, source(pool))
    assert 1 == len(calls)


def test_a_long_manifest_comes_in_parts_and_goes_on_in_another_reader(
    table: LoadedTable, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry comes once, whenever a reader dies, and a listing is closed when it is abandoned."""
    manifests = listed(table, HERE)
    parts = attrs.evolve(source(pool), part=2)
    here = entries(table, manifests, HERE)
    for stage in range(8):
        calls, real = 0, Reader.call

        def call(reader: Reader, *args: Any, real=real, stage=stage):
            nonlocal calls
            calls += 1
            if calls == stage + 1:
                os.kill(reader.process, signal.SIGKILL if stage % 2 else signal.SIGSEGV)
            return real(reader, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Reader, "call", call)
            found = entries(table, manifests, parts)
        assert here == found
    assert 0 == sum(reader.load for reader in pool._readers)


def test_a_manifest_at_which_two_readers_die_is_refused_by_name(
    table: LoadedTable, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many that were asked for together, the one; it is remembered, and ends no further reader."""
    manifests, real = listed(table, HERE), Reader.call
    deadly = manifests[2].manifest_path
    died = pool.ends.total()

    def call(reader: Reader, request: Any, *args: Any):
        opening = getattr(request.body, "opening", None)
        if opening is not None and deadly in opening.locations:
            os.kill(reader.process, signal.SIGSEGV)
        return real(reader, request, *args)

    monkeypatch.setattr(Reader, "call", call)
    for _ in range(2):
        with pytest.raises(RefusalError, match=deadly.rpartition("/")[2]) as raised:
            entries(table, manifests, source(pool))
        assert Reason.DATA_UNREADABLE is raised.value.refused.reason
        assert 3 == pool.ends.total() - died
    others = [one for one in manifests if one.manifest_path != deadly]
    assert entries(table, others, HERE) == entries(table, others, source(pool))


@pytest.mark.parametrize("damage", ["cut", "missing", "changed", "outside"])
def test_a_damaged_manifest_is_refused_by_name(table: LoadedTable, pool: ReaderPool, damage: str) -> None:
    """With the same words as here, and no reader dies."""
    manifests, died = listed(table, HERE), pool.ends.total()
    path = Path(manifests[1].manifest_path.removeprefix("file://"))
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-20])
    elif damage == "changed":
        path.write_bytes(whole[: len(whole) // 2] + bytes(50) + whole[len(whole) // 2 + 50 :])
    elif damage == "missing":
        path.unlink()
    else:
        path.unlink()
        path.symlink_to("/etc/hostname")
    refusals = []
    for where in (HERE, source(pool)):
        with pytest.raises(RefusalError, match=path.name) as raised:
            entries(table, manifests, where)
        refusals.append(raised.value.refused)
    assert refusals[0] == refusals[1]
    assert died == pool.ends.total()


def test_a_manifest_list_that_is_damaged_is_refused_by_name(table: LoadedTable, pool: ReaderPool) -> None:
    """As a manifest is."""
    snapshot = table.metadata.current_snapshot()
    assert snapshot is not None
    path = Path(snapshot.manifest_list.removeprefix("file://"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RefusalError, match=f"manifest list {path.name}"):
        listed(table, source(pool))


def test_manifests_without_memory_are_tried_alone(table: LoadedTable, pool: ReaderPool, monkeypatch) -> None:
    """One that does not fit alone is refused, and the refusal says why."""
    manifests, real = listed(table, HERE), Reader.call

    def call(reader: Reader, request: Any, *args: Any):
        opening = getattr(request.body, "opening", None)
        if opening is not None and (
            len(opening.locations) > 1 or manifests[3].manifest_path in opening.locations
        ):
            return NoMemory("none"), None
        return real(reader, request, *args)

    monkeypatch.setattr(Reader, "call", call)
    few = manifests[:3]
    assert entries(table, few, HERE) == entries(table, few, source(pool))
    with pytest.raises(RefusalError, match="memory_budget_bytes") as raised:
        entries(table, manifests, source(pool))
    assert Reason.TOO_LARGE is raised.value.refused.reason


def test_a_manifest_that_is_not_read_in_time_is_refused(
    table: LoadedTable, pool: ReaderPool, monkeypatch
) -> None:
    """With the planning's own refusal; the reader is ended."""
    manifests, real = listed(table, HERE), Reader.call

    def call(reader: Reader, *args: Any):
        os.kill(reader.process, signal.SIGSTOP)
        return real(reader, *args)

    monkeypatch.setattr(Reader, "call", call)
    with pytest.raises(RefusalError) as raised:
        entries(table, manifests, source(pool, 0.2))
    assert LATE == raised.value.refused


def test_an_abandoned_listing_is_closed(table: LoadedTable, pool: ReaderPool) -> None:
    """Its reader keeps neither its file nor its memory."""
    [manifest, *_] = listed(table, HERE)
    reading = attrs.evolve(source(pool), part=1).entries(table, [manifest], metrics=False)
    assert 0 == next(reading).manifest
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert [] == [reader for reader in pool._readers if reader.listings or reader.opened]
    first = attrs.evolve(source(pool), part=1)
    several = [first.entries(table, [manifest], metrics=False) for _ in range(30)]
    for _ in range(3):
        assert [0] * 30 == [next(one).manifest for one in several], "those that were closed begin again"
    assert max(len(reader.listings) for reader in pool._readers) <= LISTINGS


def test_a_file_that_is_not_local_is_fetched_by_the_server(
    table: LoadedTable, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader has no network: it gets the bytes."""
    manifests = listed(table, HERE)
    here = entries(table, manifests, HERE)
    far = attrs.evolve(table, io=LiteralFileIO())
    opened: list[str] = []
    real = PyArrowFileIO.new_input

    def new_input(io: PyArrowFileIO, location: str):
        opened.append(location)
        return real(io, location)

    monkeypatch.setattr(PyArrowFileIO, "new_input", new_input)
    assert here == entries(far, manifests, source(pool))
    assert [one.manifest_path for one in manifests] == opened
    Path(manifests[0].manifest_path.removeprefix("file://")).unlink()
    with pytest.raises(RefusalError, match=manifests[0].manifest_path.rpartition("/")[2]):
        entries(far, manifests, source(pool))


def test_a_value_of_no_type_is_no_answer() -> None:
    """A reader that a file has taken over gets no number into the server that takes for ever."""
    assert Decimal("-1.50") == _partition_value(DECIMAL, memoryview(b"-1.50"))
    assert UUID(int=1) == _partition_value(UUID_BYTES, memoryview(UUID(int=1).bytes))
    wrong = {b"1E+999999": DECIMAL, b"NaN": DECIMAL, b"x": DECIMAL, b"": 9, b"1": UUID_BYTES}
    for data, code in wrong.items():
        with pytest.raises(ValueError, match=r"decimal|type|bytes"):
            _partition_value(code, memoryview(data))


def test_the_fork_server_warms_up_listings() -> None:
    """Without a thread, which a forked process would not have; a failure would only make the first listing slow."""
    code = "from strata.readers.child.warm_up import warm_up_listings as w; w(); import threading; print(threading.active_count())"
    assert "1" == subprocess.check_output([sys.executable, "-c", code], text=True).strip()
