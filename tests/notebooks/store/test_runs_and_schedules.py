"""Runs, schedules and workers' switches, on SQLite, on PostgreSQL and on the twin in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import sqlalchemy as sa
from memory_notebooks import MemoryNotebookStore
from postgres_kit import new_store

from strata.artifacts import Act, SqlMetadataStore
from strata.artifacts.database.schema import audit
from strata.notebooks.model.notebook import Access
from strata.notebooks.store import runs, schedules, sql_runs, sql_schedules, sql_workers, workers
from strata.notebooks.store.contract import NOTEBOOK_NOT_FOUND, Draft, NotebookStore
from strata.notebooks.store.runs import RUNNING, RunRecord
from strata.notebooks.store.schedules import SCHEDULE_NOT_FOUND, TOO_MANY_SCHEDULES, ScheduleRecord
from strata.notebooks.store.sql_store import SqlNotebookStore
from strata.notebooks.store.workers import TOO_MANY_ALLOWANCES, WorkerState, WorkerSwitch


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotebookStore]:
    clock = itertools.count(1000)

    def now() -> float:
        return float(next(clock))

    if request.param == "memory":
        yield MemoryNotebookStore(now)
        return
    if request.param == "sqlite":
        metadata = SqlMetadataStore(tmp_path / "metadata.db", now)
    else:
        metadata = new_store(request.getfixturevalue("postgresql"), now)
    yield SqlNotebookStore(metadata.transactions, now)
    metadata.close()


def act(action: str = "a", tenant: str = "t") -> Act:
    return Act(tenant=tenant, principal="ana", principal_tenant=tenant, action=action, request_id="r")


def audited(store: NotebookStore) -> list[str]:
    """Return the actions in the audit, the oldest first."""
    if isinstance(store, MemoryNotebookStore):
        return [one.action for one in store.acts]
    with store.transactions.reading() as connection:
        return list(connection.scalars(sa.select(audit.c.action).order_by(audit.c.id)))


def create(store: NotebookStore, name: str = "n", tenant: str = "t") -> None:
    draft = Draft(title="N", author="ana", content="{}", analysis="{}")
    store.create(tenant, name, Access.TENANT, draft, act(tenant=tenant))


def run(number: int, state: str = "ok", **more: object) -> RunRecord:
    record = RunRecord(
        run=f"r{number:03}", author="ana", schedule="", revision=1, state=state, began_at=float(number), ended_at=None,
        alive_until=9.0, record="{}",
    )  # fmt: skip
    return attrs.evolve(record, **more)


def listed(store: NotebookStore, name: str = "n", tenant: str = "t", **bounds: object) -> list[str]:
    found = store.runs.list_runs(tenant, name, **({"before": None, "limit": 99} | bounds))
    return [one.run for one in found]


def test_runs_are_listed_kept_and_bounded(store: NotebookStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest come first; the oldest that have ended go, those under way never; others have their own."""
    for module in (runs, sql_runs):
        monkeypatch.setattr(module, "MAX_RUNS", 3)
    assert NOTEBOOK_NOT_FOUND == store.runs.add("t", "n", run(1), act())
    create(store)
    create(store, tenant="u")
    assert None is store.runs.add("u", "n", run(1), act(tenant="u"))
    store.runs.add("t", "n", run(1, RUNNING), act())
    for number in range(2, 6):
        store.runs.add("t", "n", run(number), act())
    assert ["r005", "r004", "r003", "r001"] == listed(store)
    assert ["r003"] == listed(store, before="r004", limit=1)
    assert ["r001"] == listed(store, tenant="u")
    assert None is store.runs.get("t", "n", "r002")
    store.delete("t", "n", None, act())
    create(store)
    assert [] == listed(store)


def test_a_run_that_has_ended_stays_as_it_is(store: NotebookStore) -> None:
    """A late note of a server that lost a run changes nothing, nor does it bring back one that is gone."""
    create(store)
    store.runs.add("t", "n", run(1, RUNNING), act())
    store.runs.change("t", "n", run(1, RUNNING, alive_until=50.0, record='{"a": "\\u0000"}'))
    assert 50.0 == store.runs.get("t", "n", "r001").alive_until
    store.runs.change("t", "n", run(1, "failed", ended_at=7.0))
    store.runs.change("t", "n", run(1, RUNNING))
    store.runs.change("t", "n", run(2, "ok"))
    assert run(1, "failed", ended_at=7.0) == store.runs.get("t", "n", "r001")
    assert ["r001"] == listed(store)


def planned(name: str, next_at: float | None, tenant: str = "t", notebook: str = "n") -> ScheduleRecord:
    return ScheduleRecord(
        tenant=tenant, name=notebook, schedule=name, owner="ana", scopes="notebook:*", cron="* * * * *", zone="UTC",
        options="{}", next_at=next_at, message="", made_at=1.0,
    )  # fmt: skip


def test_schedules_are_listed_bounded_and_deleted(
    store: NotebookStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook and a tenant have exactly so many; each belongs to its notebook, and goes with it."""
    for module in (schedules, sql_schedules):
        monkeypatch.setattr(module, "MAX_SCHEDULES", 2)
        monkeypatch.setattr(module, "MAX_OF_TENANT", 3)
    add = store.schedules.add
    assert NOTEBOOK_NOT_FOUND == add(planned("a", 1.0), act())
    for name in ("n", "m"):
        create(store, name)
    create(store, tenant="u")
    assert [None, None, TOO_MANY_SCHEDULES] == [add(planned(one, 1.0), act()) for one in "bac"]
    more = [add(planned(one, 1.0, notebook="m"), act()) for one in "ab"]
    assert [None, TOO_MANY_SCHEDULES] == more
    assert None is add(planned("a", 1.0, "u"), act(tenant="u"))
    assert ["a", "b"] == [one.schedule for one in store.schedules.list_schedules("t", "n")]
    assert SCHEDULE_NOT_FOUND == store.schedules.delete("u", "n", "b", act())
    assert None is store.schedules.delete("t", "n", "b", act())
    assert [planned("a", 1.0)] == list(store.schedules.list_schedules("t", "n"))
    store.delete("t", "n", None, act())
    assert ["m", "n"] == sorted(one.name for one in store.schedules.due(9.0, 9, 9))


def test_tenants_have_turns_of_what_is_due(store: NotebookStore) -> None:
    """A tenant with many overdue schedules delays no other one's; each has a bound, the longest overdue first."""
    for tenant in "tuv":
        create(store, tenant=tenant)
    for number in range(6):
        store.schedules.add(planned(f"t{number}", float(number)), act())
    store.schedules.add(planned("u0", 7.0, "u"), act())
    store.schedules.add(planned("u1", 6.0, "u"), act())
    store.schedules.add(planned("v0", 8.0, "v"), act())
    store.schedules.add(planned("v1", 8.5, "v"), act())
    store.schedules.add(planned("v2", None, "v"), act())

    def due(now: float, limit: int, each: int) -> list[str]:
        return [one.schedule for one in store.schedules.due(now, limit, each)]

    assert ["t0", "u1", "v0", "t1", "u0", "t2"] == due(8.0, 9, 3)
    assert ["t0", "u1", "v0"] == due(9.0, 3, 3)
    assert ["t0", "u1", "v0"] == due(9.0, 9, 1)
    assert ["t0"] == due(0.0, 9, 9)


def test_of_two_servers_one_moves_a_schedule(store: NotebookStore) -> None:
    """The second finds another time, also where the schedule has stopped; a long message is cut."""
    create(store)
    record = planned("a", 5.0)
    store.schedules.add(record, act())
    later = attrs.evolve(record, next_at=9.0, message="m" * 600, options='{"attempt": 1}')
    before = audited(store)
    assert [True, False] == [store.schedules.move(record, later, act("stop")) for _ in range(2)]
    assert [*before, "stop"] == audited(store)
    (found,) = store.schedules.list_schedules("t", "n")
    assert (9.0, "m" * 512, '{"attempt": 1}') == (found.next_at, found.message, found.options)
    stopped = attrs.evolve(found, next_at=None)
    assert [True, False] == [store.schedules.move(found, stopped) for _ in range(2)]
    assert store.schedules.move(stopped, found)
    assert not store.schedules.move(planned("b", 5.0), later)


def test_switches_and_allowances(store: NotebookStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last switch counts; allowances are by worker and tenant, and bounded over all of them."""
    for module in (workers, sql_workers):
        monkeypatch.setattr(module, "MAX_ALLOWANCES", 2)
    assert ({}, {}) == (store.workers.load().states, store.workers.load().allowances)
    store.workers.switch("w", WorkerState.DISABLED, act())
    store.workers.switch("w", WorkerState.DRAINING, act())
    switched = WorkerSwitch(state=WorkerState.DRAINING, changed_at=1001.0, changed_by="ana")
    assert {"w": switched} == store.workers.load().states
    assert [None, None] == [store.workers.allow("w", tenant, 1, act()) for tenant in "tu"]
    assert TOO_MANY_ALLOWANCES == store.workers.allow("x", "t", 1, act())
    assert None is store.workers.allow("w", "t", 0, act())
    assert {("w", "t"): 0, ("w", "u"): 1} == store.workers.load().allowances
    assert None is store.workers.allow("w", "t", None, act())
    assert {("w", "u"): 1} == store.workers.load().allowances
