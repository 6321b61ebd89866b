"""Store of notebooks in the metadata database: SQLite, or PostgreSQL."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import attrs
import sqlalchemy as sa

from strata.artifacts import Act
from strata.artifacts.database.connections import Transactions
from strata.artifacts.database.schema import (
    audit,
    notebook_events,
    notebook_leases,
    notebook_results,
    notebook_revisions,
    notebook_runs,
    notebook_schedules,
    notebooks,
)
from strata.notebooks.model.notebook import Access
from strata.notebooks.session.lease import LEASE_SECONDS, Sightings
from strata.notebooks.store.contract import (
    MAX_HISTORY_BYTES,
    MAX_NOTEBOOKS,
    MAX_RESULT_BYTES,
    MAX_RESULTS,
    MAX_REVISIONS,
    MAX_TENANT_BYTES,
    NAME_TAKEN,
    NO_RESULT_SPACE,
    NO_SPACE,
    NOTEBOOK_NOT_FOUND,
    TOO_MANY_NOTEBOOKS,
    Draft,
    NotebookRecord,
    ResultRow,
    RevisionRecord,
    RevisionSummary,
    changed_since,
)
from strata.notebooks.store.sql_leases import SqlSessionLeases, note
from strata.notebooks.store.sql_runs import SqlRunStore
from strata.notebooks.store.sql_schedules import SqlScheduleStore
from strata.notebooks.store.sql_workers import SqlWorkerStore
from strata.outcomes import Refused

MAX_REVISION = 2**31 - 1
"""Largest number a column of revisions holds; the database refuses to compare with a larger one."""

_SUMMARY = (
    notebook_revisions.c.revision,
    notebook_revisions.c.author,
    notebook_revisions.c.at,
    notebook_revisions.c.nbytes,
)


@attrs.frozen(eq=False)
class SqlNotebookStore:
    """Notebooks in a metadata database; see :class:`~strata.notebooks.store.contract.NotebookStore`.

    Attributes:
        transactions: The database's transactions.
        now: Wall clock, in seconds since the epoch.
        owner: Id of this server, which owns sessions.
        lease_seconds: Seconds that the lease of a session lasts.
        alone: Whether this process has the database alone.
        monotonic: This server's monotonic clock, by which leases of others are over.
        dead: Servers whose own lease is over, with their marks; ``None``: servers have none.
    """

    transactions: Transactions
    now: Callable[[], float]
    owner: str = attrs.field(factory=lambda: secrets.token_hex(16))
    lease_seconds: float = LEASE_SECONDS
    alone: bool = True
    monotonic: Callable[[], float] = time.monotonic
    dead: Callable[[], Mapping[str, float]] | None = None
    _sightings: Sightings = attrs.field(
        default=attrs.Factory(lambda self: Sightings(self.lease_seconds), takes_self=True), init=False
    )

    @property
    def leases(self) -> SqlSessionLeases:
        """Leases of the notebooks' sessions, in the same database."""
        return SqlSessionLeases(
            self.transactions,
            self.now,
            self.owner,
            self.lease_seconds,
            self.alone,
            self._sightings,
            self.monotonic,
            self.dead,
        )

    @property
    def runs(self) -> SqlRunStore:
        """Runs of whole notebooks, in the same database."""
        return SqlRunStore(self.transactions, self.now)

    @property
    def schedules(self) -> SqlScheduleStore:
        """Schedules of notebooks, in the same database."""
        return SqlScheduleStore(self.transactions, self.now)

    @property
    def workers(self) -> SqlWorkerStore:
        """Switches of workers, in the same database."""
        return SqlWorkerStore(self.transactions, self.now)

    def create(
        self, tenant: str, name: str, access: Access, draft: Draft, act: Act
    ) -> NotebookRecord | Refused:
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        at = self.now()
        with self.transactions.writing(tenant) as connection:
            if self._found(connection, tenant, name, lock=False) is not None:
                return NAME_TAKEN
            count = sa.select(sa.func.count()).where(notebooks.c.tenant == tenant)
            if (connection.scalar(count) or 0) >= MAX_NOTEBOOKS:
                return TOO_MANY_NOTEBOOKS
            if not self._fits(connection, tenant, draft.nbytes):
                return NO_SPACE
            record = NotebookRecord(
                name=name,
                title=draft.title,
                owner=draft.author,
                access=access,
                revision=1,
                created_at=at,
                updated_at=at,
            )
            row = attrs.asdict(record) | {"access": access.value, "tenant": tenant, "nbytes": draft.nbytes}
            connection.execute(notebooks.insert().values(row))
            self._add(connection, (tenant, name, 1), draft, at)
            self._note(connection, act, at)
        return record

    def add_revision(
        self, tenant: str, name: str, base: int, draft: Draft, act: Act, *, epoch: int | None = None
    ) -> NotebookRecord | Refused:
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        at = self.now()
        with self.transactions.writing(tenant) as connection:
            found = self._found(connection, tenant, name, lock=True)
            if found is None:
                return NOTEBOOK_NOT_FOUND
            refused = self.leases.fence(connection, tenant, name, epoch)
            if refused is not None:
                return refused
            if found.revision != base:
                return changed_since(found.revision)
            if not self._fits(connection, tenant, draft.nbytes):
                return NO_SPACE
            self._add(connection, (tenant, name, base + 1), draft, at)
            kept = self._trim(connection, tenant, name)
            changed = {"title": draft.title, "revision": base + 1, "updated_at": at, "nbytes": kept}
            connection.execute(notebooks.update().where(_notebook(tenant, name)).values(changed))
            self._note(connection, act, at)
        return attrs.evolve(_record(found), title=draft.title, revision=base + 1, updated_at=at)

    def delete(self, tenant: str, name: str, base: int | None, act: Act) -> Refused | None:
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        with self.transactions.writing(tenant) as connection:
            found = self._found(connection, tenant, name, lock=True)
            if found is None:
                return NOTEBOOK_NOT_FOUND
            refused = self.leases.fence(connection, tenant, name, None)
            if refused is not None:
                return refused
            if base is not None and found.revision != base:
                return changed_since(found.revision)
            connection.execute(notebook_revisions.delete().where(_revisions(tenant, name)))
            connection.execute(notebook_results.delete().where(_results(tenant, name)))
            for table in (notebook_runs, notebook_schedules, notebook_leases, notebook_events):
                connection.execute(table.delete().where(table.c.tenant == tenant, table.c.name == name))
            connection.execute(notebooks.delete().where(_notebook(tenant, name)))
            self._note(connection, act, self.now())
        return None

    def get(self, tenant: str, name: str) -> NotebookRecord | None:
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        with self.transactions.reading() as connection:
            found = self._found(connection, tenant, name, lock=False)
        return None if found is None else _record(found)

    def get_revision(self, tenant: str, name: str, revision: int) -> RevisionRecord | None:
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        if revision > MAX_REVISION:
            return None
        query = sa.select(*_SUMMARY, notebook_revisions.c.content, notebook_revisions.c.analysis).where(
            _revisions(tenant, name), notebook_revisions.c.revision == revision
        )
        with self.transactions.reading() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else RevisionRecord(**found)

    def list_notebooks(self, tenant: str, *, after: str, limit: int) -> tuple[NotebookRecord, ...]:
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        query = (
            sa.select(notebooks)
            .where(notebooks.c.tenant == tenant, notebooks.c.name > after)
            .order_by(notebooks.c.name)
            .limit(limit)
        )
        with self.transactions.reading() as connection:
            return tuple(map(_record, connection.execute(query)))

    def list_revisions(
        self, tenant: str, name: str, *, before: int | None, limit: int
    ) -> tuple[RevisionSummary, ...]:
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        number = notebook_revisions.c.revision
        query = sa.select(*_SUMMARY).where(_revisions(tenant, name)).order_by(number.desc()).limit(limit)
        if before is not None:
            query = query.where(number < min(before, MAX_REVISION))
        with self.transactions.reading() as connection:
            return tuple(RevisionSummary(**row) for row in connection.execute(query).mappings())

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
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        table = notebook_results
        with self.transactions.writing(tenant) as connection:
            if self._found(connection, tenant, name, lock=True) is None:
                return NOTEBOOK_NOT_FOUND
            refused = self.leases.fence(connection, tenant, name, epoch)
            if refused is not None:
                return refused
            if ended:
                note(connection, tenant, name, "")
            kept = sa.select(sa.func.coalesce(sa.func.sum(table.c.byte_size), 0))
            total = connection.scalar(kept.where(table.c.tenant == tenant)) or 0
            if int(total) + row.byte_size > MAX_RESULT_BYTES:
                return NO_RESULT_SPACE
            query = sa.select(table.c.cell, table.c.seq, table.c.sha256).where(_results(tenant, name))
            found = connection.execute(query.order_by(table.c.seq.desc())).all()
            known = {one.cell for one in found}
            seqs = [one.seq for one in found if one.cell == row.cell]
            gone = _results(tenant, name) & table.c.cell.in_(known - {*cells, row.cell})
            connection.execute(table.delete().where(gone))
            for seq in seqs[MAX_RESULTS - 1 :]:
                one = _results(tenant, name) & (table.c.cell == row.cell) & (table.c.seq == seq)
                connection.execute(table.delete().where(one))
            values = attrs.asdict(row) | {"tenant": tenant, "name": name, "at": self.now()}
            values["seq"] = max((one.seq for one in found), default=0) + 1
            connection.execute(table.insert().values(values))
            left = set(connection.scalars(sa.select(table.c.sha256).where(_results(tenant, name))))
        return tuple(sorted({one.sha256 for one in found if one.sha256} - left))

    def list_results(self, tenant: str, name: str) -> tuple[ResultRow, ...]:
        """See :class:`~strata.notebooks.store.contract.NotebookStore`."""
        columns = [notebook_results.c[one.name] for one in attrs.fields(ResultRow)]
        query = sa.select(*columns).where(_results(tenant, name)).order_by(notebook_results.c.seq.desc())
        with self.transactions.reading() as connection:
            return tuple(ResultRow(**row) for row in connection.execute(query).mappings())

    @staticmethod
    def _found(connection: sa.Connection, tenant: str, name: str, *, lock: bool) -> sa.Row[Any] | None:
        """Return the row of a notebook; ``lock`` keeps other transactions from changing it until the end."""
        query = sa.select(notebooks).where(_notebook(tenant, name))
        return connection.execute(query.with_for_update() if lock else query).first()

    @staticmethod
    def _fits(connection: sa.Connection, tenant: str, more: int) -> bool:
        kept = sa.select(sa.func.coalesce(sa.func.sum(notebooks.c.nbytes), 0))
        total = connection.scalar(kept.where(notebooks.c.tenant == tenant))
        return int(total or 0) + more <= MAX_TENANT_BYTES

    @staticmethod
    def _add(connection: sa.Connection, key: tuple[str, str, int], draft: Draft, at: float) -> None:
        row = dict(zip(("tenant", "name", "revision"), key, strict=True)) | {
            "author": draft.author,
            "at": at,
            "nbytes": draft.nbytes,
            "content": draft.content,
            "analysis": draft.analysis,
        }
        connection.execute(notebook_revisions.insert().values(row))

    @staticmethod
    def _trim(connection: sa.Connection, tenant: str, name: str) -> int:
        """Delete the oldest revisions beyond the bounds; returns the bytes of those that stay."""
        number = notebook_revisions.c.revision
        query = sa.select(number, notebook_revisions.c.nbytes).where(_revisions(tenant, name))
        kept = 0
        for place, (revision, nbytes) in enumerate(connection.execute(query.order_by(number.desc())).all()):
            if place and (place == MAX_REVISIONS or kept + nbytes > MAX_HISTORY_BYTES):
                gone = notebook_revisions.delete().where(_revisions(tenant, name), number <= revision)
                connection.execute(gone)
                break
            kept += nbytes
        return kept

    @staticmethod
    def _note(connection: sa.Connection, act: Act, at: float) -> None:
        connection.execute(audit.insert().values(at=at, **attrs.asdict(act)))


def _notebook(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(notebooks.c.tenant == tenant, notebooks.c.name == name)


def _revisions(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(notebook_revisions.c.tenant == tenant, notebook_revisions.c.name == name)


def _results(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(notebook_results.c.tenant == tenant, notebook_results.c.name == name)


def _record(row: sa.Row[Any]) -> NotebookRecord:
    return NotebookRecord(
        name=row.name,
        title=row.title,
        owner=row.owner,
        access=Access(row.access),
        revision=row.revision,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
