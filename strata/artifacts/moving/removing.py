"""Remove everything that a store has of one tenant: rows and bytes.

What is removed is found by the tenant's id alone, so a removal that is killed at any instruction is finished
by the next one. Rows go before the bytes that they tell of; only a notebook's rows go after its bytes, since
they alone know where those are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import attrs
import sqlalchemy as sa

from strata.artifacts.database.keys import among
from strata.artifacts.database.schema import artifacts, audit, notebooks, schema
from strata.artifacts.metadata.naming import note
from strata.artifacts.metadata.records import Act
from strata.artifacts.moving.copying import Side

ROWS = 200
"""Rows removed in one transaction."""

ACTION = "tenant.remove"
REQUEST_ID = "tenants-remove"
"""What the audit record of a removal has in place of a request's id."""


@attrs.frozen(kw_only=True)
class Removal:
    """What was removed, or would be.

    Attributes:
        rows: Rows by table, without tables that had none.
        blobs: Blobs: of results, and of runs of notebooks.
        nbytes: Bytes of these blobs.
    """

    rows: dict[str, int]
    blobs: int = 0
    nbytes: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether the store had nothing of the tenant."""
        return not (self.rows or self.blobs)


def kept_of(side: Side) -> Removal:
    """Return what the database has of a tenant, and what it tells of bytes; changes nothing. Blocking."""
    rows = {}
    with side.store.reading() as connection:
        for table in _tables():
            mine = sa.select(sa.func.count()).select_from(table).where(table.c.tenant == side.tenant)
            if count := connection.scalar(mine):
                rows[table.name] = count
        told = (artifacts.c.tenant == side.tenant, artifacts.c.content_sha256.is_not(None))
        of = sa.select(artifacts.c.content_sha256, artifacts.c.byte_size).where(*told).distinct()
        sizes = [row.byte_size or 0 for row in connection.execute(of)]
    return Removal(rows=rows, blobs=len(sizes), nbytes=sum(sizes))


def remove_tenant(side: Side, *, principal: str, notebook_prefix: Callable[[str, str], str]) -> Removal:
    """Remove all of a tenant; returns what this call removed. Blocking.

    Args:
        side: The tenant in its store.
        principal: Who removes it, for the audit, whose record belongs to no tenant.
        notebook_prefix: Returns the prefix of the blobs of a tenant's notebook, by its name.

    Raises:
        RefusalError: If a store does not answer; the next call goes on.
        OSError: If a file cannot be removed; the next call goes on.
    """
    tenant, rows = side.tenant, Counter[str]()
    blobs = nbytes = 0
    with side.store.reading() as connection:
        named = list(connection.scalars(sa.select(notebooks.c.name).where(notebooks.c.tenant == tenant)))
    for name in named:
        emptied = side.blobs.empty(notebook_prefix(tenant, name))
        blobs, nbytes = blobs + emptied.blobs, nbytes + emptied.nbytes
    for table in _tables():
        if table is not audit:
            rows[table.name] += _remove_rows(side, table)
    emptied = side.blobs.empty(side.prefix)
    blobs, nbytes = blobs + emptied.blobs, nbytes + emptied.nbytes
    rows[audit.name] += _remove_rows(side, audit)
    found = Removal(rows={name: count for name, count in rows.items() if count}, blobs=blobs, nbytes=nbytes)
    if not found.is_nothing:
        told = json.dumps({"tenant": tenant, **attrs.asdict(found)})
        act = Act(
            tenant=None,
            principal=principal,
            principal_tenant="",
            action=ACTION,
            request_id=REQUEST_ID,
            old=told,
        )
        with side.store.writing(None) as connection:
            note(connection, act, side.store.now())
    return found


def _tables() -> list[sa.Table]:
    """Return the tables with rows of tenants."""
    return [table for table in schema.sorted_tables if "tenant" in table.c]


def _remove_rows(side: Side, table: sa.Table) -> int:
    primary = list(table.primary_key.columns)
    keys = [column for column in primary if column.name != "tenant"] or primary
    some = sa.select(*keys).where(table.c.tenant == side.tenant).limit(ROWS)
    removed = 0
    while True:
        with side.store.writing(side.tenant) as connection:
            found = [tuple(row) for row in connection.execute(some)]
            if found:
                wanted = (table.c.tenant == side.tenant, among(keys, found))
                connection.execute(table.delete().where(*wanted))
        removed += len(found)
        if len(found) < ROWS:
            return removed
