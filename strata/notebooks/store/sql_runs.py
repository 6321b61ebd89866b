"""Store of runs of whole notebooks in the metadata database."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import sqlalchemy as sa

from strata.artifacts import Act
from strata.artifacts.database.connections import Transactions
from strata.artifacts.database.schema import audit, notebook_runs, notebooks
from strata.notebooks.store.contract import NOTEBOOK_NOT_FOUND
from strata.notebooks.store.runs import MAX_RUNS, RUNNING, RunRecord
from strata.outcomes import Refused

_COLUMNS = [notebook_runs.c[one.name] for one in attrs.fields(RunRecord)]


@attrs.frozen(eq=False)
class SqlRunStore:
    """Runs in a metadata database; see :class:`~strata.notebooks.store.runs.RunStore`.

    Attributes:
        transactions: The database's transactions.
        now: Wall clock, in seconds since the epoch.
    """

    transactions: Transactions
    now: Callable[[], float]

    def add(self, tenant: str, name: str, run: RunRecord, act: Act) -> Refused | None:
        """See :class:`~strata.notebooks.store.runs.RunStore`."""
        of_notebook = _of(tenant, name)
        with self.transactions.writing(tenant) as connection:
            query = sa.select(notebooks.c.name).where(notebooks.c.tenant == tenant, notebooks.c.name == name)
            if connection.execute(query.with_for_update()).first() is None:
                return NOTEBOOK_NOT_FOUND
            connection.execute(
                notebook_runs.insert().values(attrs.asdict(run) | {"tenant": tenant, "name": name})
            )
            kept = sa.select(notebook_runs.c.run, notebook_runs.c.state).where(of_notebook)
            found = connection.execute(kept.order_by(notebook_runs.c.run.desc())).all()
            gone = [one.run for one in found[MAX_RUNS:] if one.state != RUNNING]
            if gone:
                connection.execute(notebook_runs.delete().where(of_notebook, notebook_runs.c.run.in_(gone)))
            connection.execute(audit.insert().values(at=self.now(), **attrs.asdict(act)))
        return None

    def change(self, tenant: str, name: str, run: RunRecord) -> None:
        """See :class:`~strata.notebooks.store.runs.RunStore`."""
        same = sa.and_(_of(tenant, name), notebook_runs.c.run == run.run, notebook_runs.c.state == RUNNING)
        with self.transactions.writing(tenant) as connection:
            connection.execute(notebook_runs.update().where(same).values(attrs.asdict(run)))

    def get(self, tenant: str, name: str, run: str) -> RunRecord | None:
        """See :class:`~strata.notebooks.store.runs.RunStore`."""
        query = sa.select(*_COLUMNS).where(_of(tenant, name), notebook_runs.c.run == run)
        with self.transactions.reading() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else RunRecord(**found)

    def list_runs(self, tenant: str, name: str, *, before: str | None, limit: int) -> tuple[RunRecord, ...]:
        """See :class:`~strata.notebooks.store.runs.RunStore`."""
        query = sa.select(*_COLUMNS).where(_of(tenant, name))
        if before is not None:
            query = query.where(notebook_runs.c.run < before)
        query = query.order_by(notebook_runs.c.run.desc()).limit(limit)
        with self.transactions.reading() as connection:
            return tuple(RunRecord(**row) for row in connection.execute(query).mappings())


def _of(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(notebook_runs.c.tenant == tenant, notebook_runs.c.name == name)
