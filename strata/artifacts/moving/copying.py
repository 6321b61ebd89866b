"""Copy a tenant's finished results, with names, aliases, tags and pins, into a tenant of another store.

A result is copied bytes first, checked by their hash, then its row with all that hangs on it in one
transaction. So a copy that is killed at any instruction leaves whole results only, and the next one copies
what is missing. Ids, numbers and therefore URIs stay; a result that the target has with other bytes stays as
it is and is told.

A copied result keeps the identity that its own store gave it, under that store's secret: no request to build
something in the target is ever answered with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import sqlalchemy as sa

from strata.artifacts.blobs.store import BlobReader, BlobStore
from strata.artifacts.database.schema import aliases, artifacts, names, pins, tags
from strata.artifacts.metadata.listings import note_inputs
from strata.artifacts.metadata.naming import PUT, SET_ALIAS, note, put_name, state, upsert
from strata.artifacts.metadata.records import Act, ArtifactState, NameOrder
from strata.artifacts.metadata.sql_store import SqlMetadataStore
from strata.artifacts.metadata.usage import charge, text_bytes
from strata.artifacts.provenance import tenant_prefix
from strata.outcomes import RefusalError, Refused

PAGE = 200
"""Results whose rows are read in one call of the source."""

PIECE_BYTES = 4 * 1024 * 1024
"""Bytes that are read, hashed and written at a time."""

REQUEST_ID = "migrate-to-service"
"""What the audit records of a copy have in place of a request's id."""

_READY = ArtifactState.READY.value


@attrs.frozen(eq=False)
class Side:
    """A tenant in a store.

    Attributes:
        store: Store of the results' metadata.
        blobs: Store of their bytes.
        tenant: The tenant.
    """

    store: SqlMetadataStore
    blobs: BlobStore
    tenant: str

    @property
    def prefix(self) -> str:
        """The tenant's directory in the blob store."""
        return tenant_prefix(self.tenant)


@attrs.define(kw_only=True)
class Copied:
    """What a copy has done so far.

    Attributes:
        total: Finished results of the source.
        copied: Results that were copied.
        present: Results that the target had already, with the same bytes.
        nbytes: Bytes of the copied results.
        names: Names that point at their result now.
        aliases: Aliases that do.
        problems: What was not copied and why, one sentence each.
    """

    total: int = 0
    copied: int = 0
    present: int = 0
    nbytes: int = 0
    names: int = 0
    aliases: int = 0
    problems: list[str] = attrs.field(factory=list)

    @property
    def done(self) -> int:
        """Results that were looked at."""
        return self.copied + self.present + len(self.problems)


@attrs.frozen(kw_only=True, eq=False)
class Copy:
    """A copy of one tenant's results into another store. Its calls block.

    Attributes:
        source: What is copied; nothing may write to it meanwhile.
        target: Where it goes.
        principal: Whom names, aliases and pins belong to in the target, and who copied, for the audit.
        name_prefix: Put before each name.
        progress: Called after each result.
    """

    source: Side
    target: Side
    principal: str
    name_prefix: str = ""
    progress: Callable[[Copied], object] = lambda _copied: None

    def run(self) -> Copied:
        """Copy what the target does not have; returns what was done.

        Raises:
            RefusalError: If a store does not answer. What was copied stays, and is not copied again.
            OSError: If a file of a store cannot be read or written. What was copied stays.
        """
        copied = Copied()
        mine = (artifacts.c.tenant == self.source.tenant, artifacts.c.state == _READY)
        with self.source.store.reading() as connection:
            counted = sa.select(sa.func.count()).select_from(artifacts).where(*mine)
            copied.total = connection.scalar(counted) or 0
        for row in self._rows(artifacts, ("artifact_id", "version"), *mine):
            self._result(row, copied)
            self.progress(copied)
        for row in self._rows(names, ("name",), names.c.tenant == self.source.tenant):
            self._name(row, copied)
        for row in self._rows(aliases, ("name", "alias"), aliases.c.tenant == self.source.tenant):
            self._alias(row, copied)
        return copied

    def _rows(
        self, table: sa.Table, keys: Sequence[str], *wanted: sa.ColumnElement[bool]
    ) -> Iterator[sa.Row[Any]]:
        """Yield the wanted rows of the source in the order of their keys, read in pages."""
        columns = [table.c[key] for key in keys]
        query = sa.select(table).where(*wanted).order_by(*columns).limit(PAGE)
        last: list[Any] | None = None
        while True:
            following = query if last is None else query.where(sa.tuple_(*columns) > sa.tuple_(*last))
            with self.source.store.reading() as connection:
                page = connection.execute(following).all()
            yield from page
            if len(page) < PAGE:
                return
            last = [getattr(page[-1], key) for key in keys]

    def _result(self, row: sa.Row[Any], copied: Copied) -> None:
        uri = f"{row.artifact_id}@v={row.version}"
        key = (artifacts.c.artifact_id == row.artifact_id, artifacts.c.version == row.version)
        with self.target.store.reading() as connection:
            query = sa.select(artifacts).where(artifacts.c.tenant == self.target.tenant, *key)
            there = connection.execute(query).first()
        if there is not None and (there.state, there.content_sha256) != (_READY, row.content_sha256):
            copied.problems.append(f"{uri}: the target has another result of this id, which stays.")
            return
        if there is None or not _is_whole(self.target, row.content_sha256, row.byte_size):
            problem = self._bytes(row)
            if problem is not None:
                copied.problems.append(f"{uri}: {problem}")
                return
            copied.nbytes += row.byte_size
        if there is not None:
            copied.present += 1
            return
        self._add(row)
        copied.copied += 1

    def _bytes(self, row: sa.Row[Any]) -> str | None:
        """Copy the bytes of a result; returns why that is not possible, if so."""
        reader = self.source.blobs.open_reader(self.source.prefix, row.content_sha256, row.byte_size)
        if isinstance(reader, Refused):
            return reader.detail
        try:
            writer = self.target.blobs.begin(self.target.prefix)
            try:
                for piece in _pieces(reader):
                    writer.append([piece])
                while writer.hash_more(PIECE_BYTES):
                    pass
                if writer.sha256 != row.content_sha256:
                    return "its bytes in the source are damaged: they do not have their hash."
                writer.commit()
            finally:
                writer.abort()
        finally:
            os.close(reader.fd)
        return None

    def _add(self, row: sa.Row[Any]) -> None:
        """Add a result's row with its inputs, tags, pins and audit record, in one transaction."""
        tenant, now = self.target.tenant, self.target.store.now()
        version = {"artifact_id": row.artifact_id, "version": row.version}
        with self.source.store.reading() as connection:
            labels = {
                table: [
                    dict(found._mapping) | {"tenant": tenant}  # noqa: SLF001  # SQLAlchemy's public name
                    for found in connection.execute(sa.select(table).where(*_same(table, row)))
                ]
                for table in (tags, pins)
            }
        for pin in labels[pins]:
            pin["pinned_by"] = self.principal
        values = dict(row._mapping) | {"tenant": tenant, "used_at": now}  # noqa: SLF001  # as above
        with self.target.store.writing(tenant) as connection:
            connection.execute(artifacts.insert(), values)
            texts = text_bytes(row.transform_spec, row.input_versions, row.arrow_schema)
            charge(connection, tenant, row.byte_size + texts, 1)
            note_inputs(connection, values, list(json.loads(row.input_versions).items()))
            for table, rows in labels.items():
                if rows:
                    connection.execute(table.insert(), rows)
            note(connection, attrs.evolve(self._act(PUT), new=state(**version)), now)

    def _name(self, row: sa.Row[Any], copied: Copied) -> None:
        tenant, name = self.target.tenant, self.name_prefix + row.name
        order = NameOrder(name=name, act=self._act("name.set"))
        with self.target.store.writing(tenant) as connection:
            if not _is_ready(connection, tenant, row):
                copied.problems.append(f"name {name}: its result was not copied.")
                return
            mine = (names.c.tenant == tenant, names.c.name == name)
            there = connection.execute(sa.select(names).where(*mine)).first()
            if there is not None and _target(there) != _target(row):
                copied.problems.append(f"name {name}: it points at another result in the target, and stays.")
                return
            if there is None:
                put = put_name(connection, tenant, order, _target(row), self.target.store.now())
                if isinstance(put, Refused):
                    copied.problems.append(f"name {name}: {put.detail}")
                    return
                connection.execute(names.update().where(*mine).values(updated_at=row.updated_at))
        copied.names += 1

    def _alias(self, row: sa.Row[Any], copied: Copied) -> None:
        tenant, name, now = self.target.tenant, self.name_prefix + row.name, self.target.store.now()
        with self.target.store.writing(tenant) as connection:
            if not _is_ready(connection, tenant, row):
                copied.problems.append(f"alias {name}@{row.alias}: its result was not copied.")
                return
            mine = (aliases.c.tenant == tenant, aliases.c.name == name, aliases.c.alias == row.alias)
            there = connection.execute(sa.select(aliases).where(*mine)).first()
            if there is not None and _target(there) != _target(row):
                copied.problems.append(
                    f"alias {name}@{row.alias}: it points at another result in the target, and stays."
                )
                return
            if there is None:
                values = {
                    "tenant": tenant, "name": name, "alias": row.alias, "artifact_id": row.artifact_id,
                    "version": row.version, "updated_at": row.updated_at, "owner": self.principal,
                }  # fmt: skip
                upsert(connection, aliases, values)
                told = state(name=name, alias=row.alias, artifact_id=row.artifact_id, version=row.version)
                note(connection, attrs.evolve(self._act(SET_ALIAS), new=told), now)
        copied.aliases += 1

    def _act(self, action: str) -> Act:
        return Act(
            tenant=self.target.tenant,
            principal=self.principal,
            principal_tenant=self.target.tenant,
            action=action,
            request_id=REQUEST_ID,
        )


def _is_whole(side: Side, sha256: str, size: int) -> bool:
    """Test whether a store has a blob with the bytes of its hash.

    Raises:
        RefusalError: If that is not known now.
    """
    reader = side.blobs.open_reader(side.prefix, sha256, size)
    if isinstance(reader, Refused):
        if reader.retry_after is not None:
            raise RefusalError(reader)
        return False
    found = hashlib.sha256()
    try:
        for piece in _pieces(reader):
            found.update(piece)
    finally:
        os.close(reader.fd)
    return found.hexdigest() == sha256


def _pieces(reader: BlobReader) -> Iterator[bytes]:
    start = 0
    while start < reader.size and (piece := reader.read(start, PIECE_BYTES)):
        start += len(piece)
        yield piece


def _same(table: sa.Table, row: sa.Row[Any]) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(table.c[key] == getattr(row, key) for key in ("tenant", "artifact_id", "version"))


def _target(row: sa.Row[Any]) -> tuple[str, int]:
    return row.artifact_id, row.version


def _is_ready(connection: sa.Connection, tenant: str, row: sa.Row[Any]) -> bool:
    """Test whether the version that a name or alias points at is ready in the target."""
    mine = {"tenant": tenant, "artifact_id": row.artifact_id, "version": row.version, "state": _READY}
    query = sa.select(artifacts.c.version).where(*(artifacts.c[key] == value for key, value in mine.items()))
    return connection.execute(query).first() is not None
