"""Store of schedules of notebooks in the metadata database."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import sqlalchemy as sa

from strata.artifacts import Act
from strata.artifacts.database.connections import Transactions
from strata.artifacts.database.schema import audit, notebook_schedules, notebooks
from strata.notebooks.store.contract import NOTEBOOK_NOT_FOUND
from strata.notebooks.store.schedules import (
    MAX_OF_TENANT,
    MAX_SCHEDULES,
    SCHEDULE_NOT_FOUND,
    TOO_MANY_SCHEDULES,
    ScheduleRecord,
)
from strata.outcomes import Refused

_TABLE = notebook_schedules
_COLUMNS = [_TABLE.c[one.name] for one in attrs.fields(ScheduleRecord)]


@attrs.frozen(eq=False)
class SqlScheduleStore:
    """Schedules in a metadata database; see :class:`~strata.notebooks.store.schedules.ScheduleStore`.

    Attributes:
        transactions: The database's transactions.
        now: Wall clock, in seconds since the epoch.
    """

    transactions: Transactions
    now: Callable[[], float]

    def add(self, record: ScheduleRecord, act: Act) -> Refused | None:
        """See :class:`~strata.notebooks.store.schedules.ScheduleStore`."""
        of_tenant = _TABLE.c.tenant == record.tenant
        count = sa.select(sa.func.count()).select_from(_TABLE)
        with self.transactions.writing(record.tenant) as connection:
            query = sa.select(notebooks.c.name).where(
                notebooks.c.tenant == record.tenant, notebooks.c.name == record.name
            )
            if connection.execute(query.with_for_update()).first() is None:
                return NOTEBOOK_NOT_FOUND
            of_notebook = sa.and_(of_tenant, _TABLE.c.name == record.name)
            if (connection.scalar(count.where(of_notebook)) or 0) >= MAX_SCHEDULES:
                return TOO_MANY_SCHEDULES
            if (connection.scalar(count.where(of_tenant)) or 0) >= MAX_OF_TENANT:
                return TOO_MANY_SCHEDULES
            connection.execute(_TABLE.insert().values(attrs.asdict(record)))
            connection.execute(audit.insert().values(at=self.now(), **attrs.asdict(act)))
        return None

    def list_schedules(self, tenant: str, name: str) -> tuple[ScheduleRecord, ...]:
        """See :class:`~strata.notebooks.store.schedules.ScheduleStore`."""
        query = sa.select(*_COLUMNS).where(_TABLE.c.tenant == tenant, _TABLE.c.name == name)
        with self.transactions.reading() as connection:
            rows = connection.execute(query.order_by(_TABLE.c.made_at, _TABLE.c.schedule)).mappings()
            return tuple(ScheduleRecord(**row) for row in rows)

    def delete(self, tenant: str, name: str, schedule: str, act: Act) -> Refused | None:
        """See :class:`~strata.notebooks.store.schedules.ScheduleStore`."""
        with self.transactions.writing(tenant) as connection:
            done = connection.execute(_TABLE.delete().where(_same(tenant, name, schedule)))
            if not done.rowcount:
                return SCHEDULE_NOT_FOUND
            connection.execute(audit.insert().values(at=self.now(), **attrs.asdict(act)))
        return None

    def due(self, now: float, limit: int, each: int) -> tuple[ScheduleRecord, ...]:
        """See :class:`~strata.notebooks.store.schedules.ScheduleStore`."""
        order = (_TABLE.c.next_at, _TABLE.c.name, _TABLE.c.schedule)
        turn = sa.func.row_number().over(partition_by=_TABLE.c.tenant, order_by=order).label("turn")
        overdue = sa.select(*_COLUMNS, turn).where(_TABLE.c.next_at <= now).subquery()
        columns = [overdue.c[one.name] for one in _COLUMNS]
        query = sa.select(*columns).where(overdue.c.turn <= each)
        query = query.order_by(overdue.c.turn, overdue.c.next_at, overdue.c.tenant).limit(limit)
        with self.transactions.reading() as connection:
            return tuple(ScheduleRecord(**row) for row in connection.execute(query).mappings())

    def move(self, record: ScheduleRecord, to: ScheduleRecord, act: Act | None = None) -> bool:
        """See :class:`~strata.notebooks.store.schedules.ScheduleStore`."""
        here = _TABLE.c.next_at.is_(None) if record.next_at is None else _TABLE.c.next_at == record.next_at
        same = sa.and_(_same(record.tenant, record.name, record.schedule), here)
        values = {"next_at": to.next_at, "options": to.options, "message": to.message[:512]}
        with self.transactions.writing(record.tenant) as connection:
            moved = bool(connection.execute(_TABLE.update().where(same).values(values)).rowcount)
            if moved and act is not None:
                connection.execute(audit.insert().values(at=self.now(), **attrs.asdict(act)))
        return moved


def _same(tenant: str, name: str, schedule: str) -> sa.ColumnElement[bool]:
    return sa.and_(_TABLE.c.tenant == tenant, _TABLE.c.name == name, _TABLE.c.schedule == schedule)
