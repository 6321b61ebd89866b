"""Store of workers' switches and tenants' allowances in the metadata database."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import sqlalchemy as sa

from strata.artifacts import Act
from strata.artifacts.database.connections import Transactions
from strata.artifacts.database.schema import audit, notebook_allowances, notebook_workers
from strata.artifacts.metadata.naming import upsert
from strata.notebooks.store.workers import (
    MAX_ALLOWANCES,
    TOO_MANY_ALLOWANCES,
    WorkerState,
    WorkerSwitch,
    WorkerSwitches,
)
from strata.outcomes import Refused


@attrs.frozen(eq=False)
class SqlWorkerStore:
    """Switches in a metadata database; see :class:`~strata.notebooks.store.workers.WorkerStore`.

    Attributes:
        transactions: The database's transactions.
        now: Wall clock, in seconds since the epoch.
    """

    transactions: Transactions
    now: Callable[[], float]

    def load(self) -> WorkerSwitches:
        """See :class:`~strata.notebooks.store.workers.WorkerStore`."""
        with self.transactions.reading() as connection:
            states = connection.execute(sa.select(notebook_workers)).all()
            allowances = connection.execute(sa.select(notebook_allowances)).all()
        return WorkerSwitches(
            {
                row.worker: WorkerSwitch(
                    state=WorkerState(row.state), changed_at=row.changed_at, changed_by=row.changed_by
                )
                for row in states
            },
            {(row.worker, row.tenant): row.places for row in allowances},
        )

    def switch(self, worker: str, state: WorkerState, act: Act) -> None:
        """See :class:`~strata.notebooks.store.workers.WorkerStore`."""
        at = self.now()
        values = {"worker": worker, "state": state.value, "changed_at": at, "changed_by": act.principal}
        with self.transactions.writing(act.principal_tenant) as connection:
            upsert(connection, notebook_workers, values)
            connection.execute(audit.insert().values(at=at, **attrs.asdict(act)))

    def allow(self, worker: str, tenant: str, places: int | None, act: Act) -> Refused | None:
        """See :class:`~strata.notebooks.store.workers.WorkerStore`."""
        table = notebook_allowances
        same = sa.and_(table.c.worker == worker, table.c.tenant == tenant)
        with self.transactions.writing(tenant) as connection:
            if places is None:
                connection.execute(table.delete().where(same))
            else:
                others = sa.select(sa.func.count()).select_from(table).where(sa.not_(same))
                if (connection.scalar(others) or 0) >= MAX_ALLOWANCES:
                    return TOO_MANY_ALLOWANCES
                upsert(connection, table, {"worker": worker, "tenant": tenant, "places": places})
            connection.execute(audit.insert().values(at=self.now(), **attrs.asdict(act)))
        return None
