"""A store of notebooks in memory, which keeps the contract of the real ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping

import attrs

from strata.artifacts import Act
from strata.notebooks.model.notebook import Access
from strata.notebooks.session.lease import HeldByOther, Lease, Sightings, may_write, take_lease
from strata.notebooks.store import contract
from strata.notebooks.store import runs as runs_contract
from strata.notebooks.store import schedules as schedules_contract
from strata.notebooks.store import workers as workers_contract
from strata.notebooks.store.contract import (
    Draft,
    NotebookRecord,
    ResultRow,
    RevisionRecord,
    RevisionSummary,
    changed_since,
)
from strata.notebooks.store.leases import MOVED, Adoption, EventsRow, held_elsewhere
from strata.notebooks.store.runs import RUNNING, RunRecord
from strata.notebooks.store.schedules import ScheduleRecord
from strata.notebooks.store.workers import WorkerState, WorkerSwitch, WorkerSwitches
from strata.outcomes import Refused

MARKS = itertools.count(1)


class MemoryNotebookStore:
    """See :class:`~strata.notebooks.store.contract.NotebookStore`; ``acts`` are the lines of the audit."""

    def __init__(
        self, now: Callable[[], float], owner: str = "s1", seconds: float = 10.0, *, alone: bool = True
    ) -> None:
        self.now = now
        self.acts: list[Act] = []
        self.leases = MemoryLeases(self, owner, seconds, alone=alone)
        self.runs = MemoryRuns(self)
        self.schedules = MemorySchedules(self)
        self.workers = MemoryWorkers(self)
        self._notebooks: dict[tuple[str, str], NotebookRecord] = {}
        self._revisions: dict[tuple[str, str], dict[int, RevisionRecord]] = {}
        self._results: dict[tuple[str, str], list[ResultRow]] = {}

    def beside(self, owner: str) -> MemoryNotebookStore:
        """Return the store as another server has it."""
        other = MemoryNotebookStore(self.now, owner, self.leases.seconds, alone=self.leases.alone)
        shared = ("acts", "runs", "schedules", "workers", "_notebooks", "_revisions", "_results")
        for name in shared:
            setattr(other, name, getattr(self, name))
        for name in ("rows", "running", "kept"):
            setattr(other.leases, name, getattr(self.leases, name))
        return other

    def create(
        self, tenant: str, name: str, access: Access, draft: Draft, act: Act
    ) -> NotebookRecord | Refused:
        at = self.now()
        if (tenant, name) in self._notebooks:
            return contract.NAME_TAKEN
        if sum(owner == tenant for owner, _ in self._notebooks) >= contract.MAX_NOTEBOOKS:
            return contract.TOO_MANY_NOTEBOOKS
        if self._kept(tenant) + draft.nbytes > contract.MAX_TENANT_BYTES:
            return contract.NO_SPACE
        made = NotebookRecord(
            name=name, title=draft.title, owner=draft.author, access=access, revision=1, created_at=at, updated_at=at
        )  # fmt: skip
        self._notebooks[tenant, name] = made
        self._add(tenant, name, 1, draft, at)
        self.acts.append(act)
        return made

    def add_revision(
        self, tenant: str, name: str, base: int, draft: Draft, act: Act, *, epoch: int | None = None
    ) -> NotebookRecord | Refused:
        at = self.now()
        found = self._notebooks.get((tenant, name))
        if found is None:
            return contract.NOTEBOOK_NOT_FOUND
        refused = self.leases.fence(tenant, name, epoch)
        if refused is not None:
            return refused
        if found.revision != base:
            return changed_since(found.revision)
        if self._kept(tenant) + draft.nbytes > contract.MAX_TENANT_BYTES:
            return contract.NO_SPACE
        changed = attrs.evolve(found, title=draft.title, revision=base + 1, updated_at=at)
        self._notebooks[tenant, name] = changed
        self._add(tenant, name, base + 1, draft, at)
        self.acts.append(act)
        return changed

    def delete(self, tenant: str, name: str, base: int | None, act: Act) -> Refused | None:
        found = self._notebooks.get((tenant, name))
        if found is None:
            return contract.NOTEBOOK_NOT_FOUND
        refused = self.leases.fence(tenant, name, None)
        if refused is not None:
            return refused
        if base is not None and found.revision != base:
            return changed_since(found.revision)
        self.now()
        del self._notebooks[tenant, name], self._revisions[tenant, name]
        self._results.pop((tenant, name), None)
        for kept in (self.leases.rows, self.leases.running, self.leases.kept):
            kept.pop((tenant, name), None)
        for rows in (self.runs.rows, self.schedules.rows):
            for key in [key for key in rows if key[:2] == (tenant, name)]:
                del rows[key]
        self.acts.append(act)
        return None

    def get(self, tenant: str, name: str) -> NotebookRecord | None:
        return self._notebooks.get((tenant, name))

    def get_revision(self, tenant: str, name: str, revision: int) -> RevisionRecord | None:
        return self._revisions.get((tenant, name), {}).get(revision)

    def list_notebooks(self, tenant: str, *, after: str, limit: int) -> tuple[NotebookRecord, ...]:
        names = sorted(name for owner, name in self._notebooks if owner == tenant and name > after)
        return tuple(self._notebooks[tenant, name] for name in names[:limit])

    def list_revisions(
        self, tenant: str, name: str, *, before: int | None, limit: int
    ) -> tuple[RevisionSummary, ...]:
        found = self._revisions.get((tenant, name), {})
        numbers = sorted((one for one in found if before is None or one < before), reverse=True)
        keys = ("revision", "author", "at", "nbytes")
        return tuple(
            RevisionSummary(**{key: getattr(found[one], key) for key in keys}) for one in numbers[:limit]
        )

    def add_result(
        self,
        tenant: str,
        name: str,
        row: ResultRow,
        cells: Collection[str],
        *,
        epoch: int | None = None,
        ended: bool = False,
    ) -> tuple[str, ...] | Refused:
        if (tenant, name) not in self._notebooks:
            return contract.NOTEBOOK_NOT_FOUND
        refused = self.leases.fence(tenant, name, epoch)
        if refused is not None:
            return refused
        if ended:
            self.leases.running[tenant, name] = ""
        total = sum(
            one.byte_size for (owner, _), rows in self._results.items() if owner == tenant for one in rows
        )
        if total + row.byte_size > contract.MAX_RESULT_BYTES:
            return contract.NO_RESULT_SPACE
        before = self._results.get((tenant, name), [])
        rows = [one for one in before if one.cell in {*cells, row.cell}]
        own = [one for one in rows if one.cell == row.cell][contract.MAX_RESULTS - 1 :]
        rows = [one for one in rows if not any(one is old for old in own)]
        self._results[tenant, name] = rows = [attrs.evolve(row, at=self.now()), *rows]
        left = {one.sha256 for one in rows}
        return tuple(sorted({one.sha256 for one in before if one.sha256} - left))

    def list_results(self, tenant: str, name: str) -> tuple[ResultRow, ...]:
        return tuple(self._results.get((tenant, name), ()))

    def _kept(self, tenant: str) -> int:
        return sum(
            one.nbytes
            for (owner, _), kept in self._revisions.items()
            if owner == tenant
            for one in kept.values()
        )

    def _add(self, tenant: str, name: str, revision: int, draft: Draft, at: float) -> None:
        kept = self._revisions.setdefault((tenant, name), {})
        kept[revision] = RevisionRecord(
            revision=revision, author=draft.author, at=at, nbytes=draft.nbytes, content=draft.content,
            analysis=draft.analysis,
        )  # fmt: skip
        while len(kept) > 1 and (
            len(kept) > contract.MAX_REVISIONS
            or sum(one.nbytes for one in kept.values()) > contract.MAX_HISTORY_BYTES
        ):
            del kept[min(kept)]


class MemoryLeases:
    """See :class:`~strata.notebooks.store.leases.SessionLeases`."""

    def __init__(self, store: MemoryNotebookStore, owner: str, seconds: float, *, alone: bool) -> None:
        self.store = store
        self.owner = owner
        self.seconds = seconds
        self.alone = alone
        self.sightings = Sightings(seconds)
        self.rows: dict[tuple[str, str], Lease] = {}  # ``until`` is the mark of a renewal; 0: given up
        self.running: dict[tuple[str, str], str] = {}
        self.kept: dict[tuple[str, str], tuple[EventsRow, ...]] = {}

    def take(self, tenant: str, name: str) -> Adoption | Refused:
        if self.store.get(tenant, name) is None:
            return contract.NOTEBOOK_NOT_FOUND
        now, found = self.store.now(), self.rows.get((tenant, name))
        seen = None if found is None else attrs.evolve(found, until=now + self._left(tenant, name, found))
        taken = take_lease(seen, self.owner, now, self.seconds)
        if isinstance(taken, HeldByOther):
            return held_elsewhere(taken.seconds)
        self.rows[tenant, name] = attrs.evolve(taken, until=self._mark())
        return Adoption(taken.epoch, self.running.get((tenant, name), ""))

    def renew(self, tenant: str, epochs: Mapping[str, int]) -> frozenset[str]:
        kept = {
            name
            for name, epoch in epochs.items()
            if self.owns(tenant, name, epoch) and self.rows[tenant, name].until
        }
        for name in kept:
            self.rows[tenant, name] = attrs.evolve(self.rows[tenant, name], until=self._mark())
        return frozenset(kept)

    def give_up(self, tenant: str, name: str, epoch: int) -> None:
        if self.owns(tenant, name, epoch):
            self.rows[tenant, name] = attrs.evolve(self.rows[tenant, name], until=0.0)
            self.kept.pop((tenant, name), None)

    def leave(self) -> None:
        for key, lease in [*self.rows.items()]:
            if self.owns(*key, lease.epoch):
                self.rows[key] = attrs.evolve(lease, until=0.0)

    def note_running(self, tenant: str, name: str, epoch: int, running: str) -> Refused | None:
        refused = self.fence(tenant, name, epoch)
        if refused is None:
            self.running[tenant, name] = running
        return refused

    def add_events(self, tenant: str, name: str, row: EventsRow, after: int, gone: int) -> Refused | None:
        refused = self.fence(tenant, name, row.epoch)
        if refused is None:
            left = (one for one in self.events(tenant, name) if gone < one.seq <= after)
            self.kept[tenant, name] = (*left, row)
        return refused

    def events(self, tenant: str, name: str) -> tuple[EventsRow, ...]:
        return self.kept.get((tenant, name), ())

    def owns(self, tenant: str, name: str, epoch: int) -> bool:
        lease = self.rows.get((tenant, name))
        return lease is not None and lease.owner == self.owner and may_write(lease, epoch)

    def fence(self, tenant: str, name: str, epoch: int | None) -> Refused | None:
        if epoch is not None:
            return None if self.owns(tenant, name, epoch) else MOVED
        lease = self.rows.get((tenant, name))
        left = 0.0 if lease is None else self._left(tenant, name, lease)
        return held_elsewhere(left) if left > 0 else None

    def _left(self, tenant: str, name: str, lease: Lease) -> float:
        if self.alone or lease.owner == self.owner or not lease.until:
            return 0.0
        looked = self.store.now()
        mark = (lease.owner, lease.epoch, lease.until)
        return max(0.0, self.sightings.until(tenant, name, mark, looked) - looked)

    def _mark(self) -> float:
        return float(next(MARKS))


class MemoryRuns:
    """See :class:`~strata.notebooks.store.runs.RunStore`."""

    def __init__(self, store: MemoryNotebookStore) -> None:
        self.store = store
        self.now = store.now
        self.rows: dict[tuple[str, str, str], RunRecord] = {}

    def add(self, tenant: str, name: str, run: RunRecord, act: Act) -> Refused | None:
        if self.store.get(tenant, name) is None:
            return contract.NOTEBOOK_NOT_FOUND
        self.rows[tenant, name, run.run] = run
        kept = self.list_runs(tenant, name, before=None, limit=10**6)
        for old in kept[runs_contract.MAX_RUNS :]:
            if old.state != RUNNING:
                del self.rows[tenant, name, old.run]
        self.store.acts.append(act)
        return None

    def change(self, tenant: str, name: str, run: RunRecord) -> None:
        found = self.rows.get((tenant, name, run.run))
        if found is not None and found.state == RUNNING:
            self.rows[tenant, name, run.run] = run

    def get(self, tenant: str, name: str, run: str) -> RunRecord | None:
        return self.rows.get((tenant, name, run))

    def list_runs(self, tenant: str, name: str, *, before: str | None, limit: int) -> tuple[RunRecord, ...]:
        found = [run for key, run in self.rows.items() if key[:2] == (tenant, name)]
        found = [run for run in found if before is None or run.run < before]
        return tuple(sorted(found, key=lambda run: run.run, reverse=True)[:limit])


class MemorySchedules:
    """See :class:`~strata.notebooks.store.schedules.ScheduleStore`."""

    def __init__(self, store: MemoryNotebookStore) -> None:
        self.store = store
        self.now = store.now
        self.rows: dict[tuple[str, str, str], ScheduleRecord] = {}

    def add(self, record: ScheduleRecord, act: Act) -> Refused | None:
        if self.store.get(record.tenant, record.name) is None:
            return contract.NOTEBOOK_NOT_FOUND
        of_tenant = [key for key in self.rows if key[0] == record.tenant]
        of_notebook = [key for key in of_tenant if key[1] == record.name]
        full = len(of_tenant) >= schedules_contract.MAX_OF_TENANT
        if full or len(of_notebook) >= schedules_contract.MAX_SCHEDULES:
            return schedules_contract.TOO_MANY_SCHEDULES
        self.rows[record.tenant, record.name, record.schedule] = record
        self.store.acts.append(act)
        return None

    def list_schedules(self, tenant: str, name: str) -> tuple[ScheduleRecord, ...]:
        found = [one for key, one in self.rows.items() if key[:2] == (tenant, name)]
        return tuple(sorted(found, key=lambda one: (one.made_at, one.schedule)))

    def delete(self, tenant: str, name: str, schedule: str, act: Act) -> Refused | None:
        if self.rows.pop((tenant, name, schedule), None) is None:
            return schedules_contract.SCHEDULE_NOT_FOUND
        self.store.acts.append(act)
        return None

    def due(self, now: float, limit: int, each: int) -> tuple[ScheduleRecord, ...]:
        turns: dict[str, int] = {}
        ranked = []
        overdue = [one for one in self.rows.values() if one.next_at is not None and one.next_at <= now]
        for one in sorted(overdue, key=lambda one: (one.next_at, one.name, one.schedule)):
            turns[one.tenant] = turns.get(one.tenant, 0) + 1
            if turns[one.tenant] <= each:
                ranked.append((turns[one.tenant], one.next_at, one.tenant, one))
        return tuple(one for *_, one in sorted(ranked, key=lambda ranks: ranks[:3])[:limit])

    def move(self, record: ScheduleRecord, to: ScheduleRecord, act: Act | None = None) -> bool:
        key = (record.tenant, record.name, record.schedule)
        found = self.rows.get(key)
        if found is None or found.next_at != record.next_at:
            return False
        changed = {"next_at": to.next_at, "options": to.options, "message": to.message[:512]}
        self.rows[key] = attrs.evolve(found, **changed)
        if act is not None:
            self.store.acts.append(act)
        return True


class MemoryWorkers:
    """See :class:`~strata.notebooks.store.workers.WorkerStore`."""

    def __init__(self, store: MemoryNotebookStore) -> None:
        self.store = store
        self.states: dict[str, WorkerSwitch] = {}
        self.allowances: dict[tuple[str, str], int] = {}

    def load(self) -> WorkerSwitches:
        return WorkerSwitches(dict(self.states), dict(self.allowances))

    def switch(self, worker: str, state: WorkerState, act: Act) -> None:
        self.states[worker] = WorkerSwitch(state=state, changed_at=self.store.now(), changed_by=act.principal)
        self.store.acts.append(act)

    def allow(self, worker: str, tenant: str, places: int | None, act: Act) -> Refused | None:
        if places is None:
            self.allowances.pop((worker, tenant), None)
        else:
            others = self.allowances.keys() - {(worker, tenant)}
            if len(others) >= workers_contract.MAX_ALLOWANCES:
                return workers_contract.TOO_MANY_ALLOWANCES
            self.allowances[worker, tenant] = places
        self.store.acts.append(act)
        return None
