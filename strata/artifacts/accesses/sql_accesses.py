"""Accesses in a SQL database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import attrs
import sqlalchemy as sa

from strata.artifacts.accesses.contract import Access, AccessRecord, TableAccess
from strata.artifacts.database.schema import accesses
from strata.artifacts.metadata.sql_store import SqlMetadataStore

ROW_BYTES: Final = 128
"""Bytes that a row takes besides its texts, as far as the retention by bytes counts them."""

CUT: Final = {"cut": True}
"""Behind the tables of a record, where more of them were left out."""

REMOVED_AT_ONCE: Final = 5000
"""Rows removed in one transaction."""


class SqlAccesses:
    """Accesses in the database of a metadata store; see :class:`.contract.AccessStore`.

    Args:
        store: The store.
    """

    def __init__(self, store: SqlMetadataStore) -> None:
        self._store = store
        self.now = store.now

    def add(self, accesses_: Sequence[Access]) -> None:
        """See :class:`.contract.AccessStore`."""
        rows = [_row(one) for one in accesses_]
        with self._store.writing(None) as connection:
            connection.execute(accesses.insert(), rows)

    def page(
        self,
        tenant: str,
        *,
        before: int | None,
        limit: int,
        principal: str | None = None,
        artifact_id: str | None = None,
    ) -> tuple[AccessRecord, ...]:
        """See :class:`.contract.AccessStore`."""
        query = sa.select(accesses).where(accesses.c.tenant == tenant).order_by(accesses.c.id.desc())
        if before is not None:
            query = query.where(accesses.c.id < before)
        if principal is not None:
            query = query.where(accesses.c.principal == principal)
        if artifact_id is not None:
            query = query.where(accesses.c.artifact_id == artifact_id)
        with self._store.reading() as connection:
            return tuple(_record(row) for row in connection.execute(query.limit(limit)).mappings())

    def tenants(self) -> tuple[str, ...]:
        """See :class:`.contract.AccessStore`."""
        found: list[str] = []
        with self._store.reading() as connection:
            while True:  # one index look-up for each tenant, however many accesses it has
                following = sa.select(sa.func.min(accesses.c.tenant))
                if found:
                    following = following.where(accesses.c.tenant > found[-1])
                tenant = connection.scalar(following)
                if tenant is None:
                    return tuple(found)
                found.append(tenant)

    def trim(self, tenant: str, *, since: float, nbytes: int) -> int:
        """See :class:`.contract.AccessStore`."""
        mine = accesses.c.tenant == tenant
        with self._store.reading() as connection:
            last = (
                connection.scalar(sa.select(sa.func.max(accesses.c.id)).where(mine, accesses.c.at < since))
                or 0
            )
            if nbytes:
                total = sa.func.sum(accesses.c.byte_size).over(order_by=accesses.c.id.desc()).label("total")
                sums = sa.select(accesses.c.id, total).where(mine, accesses.c.id > last).subquery()
                over = sa.select(sa.func.max(sums.c.id)).where(sums.c.total > nbytes)
                last = connection.scalar(over) or last
        removed = 0
        while True:
            with self._store.writing(tenant) as connection:
                some = sa.select(accesses.c.id).where(mine, accesses.c.id <= last).limit(REMOVED_AT_ONCE)
                done = connection.execute(accesses.delete().where(accesses.c.id.in_(some.scalar_subquery())))
            removed += done.rowcount
            if done.rowcount < REMOVED_AT_ONCE:
                return removed


def _row(access: Access) -> dict[str, Any]:
    found: list[dict[str, Any]] = [attrs.asdict(one) for one in access.tables]
    if access.cut:
        found.append(CUT)
    tables = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    values = attrs.asdict(access, recurse=False, filter=lambda field, _: field.name not in ("tables", "cut"))
    texts = [tables, *(value for value in values.values() if isinstance(value, str))]
    return values | {"tables": tables, "byte_size": ROW_BYTES + sum(len(text.encode()) for text in texts)}


def _record(row: sa.RowMapping) -> AccessRecord:
    values = dict(row)
    del values["byte_size"]
    found = json.loads(values.pop("tables"))
    tables = tuple(TableAccess(**one) for one in found if one != CUT)
    return AccessRecord(values.pop("id"), Access(**values, tables=tables, cut=CUT in found))
