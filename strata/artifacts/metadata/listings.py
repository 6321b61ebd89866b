"""Statements of the listings: a page is read in an index, and begins where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from strata.artifacts.database.keys import among
from strata.artifacts.database.schema import artifact_inputs, artifacts, names
from strata.artifacts.metadata.records import (
    ArtifactRecord,
    ArtifactState,
    Cursor,
    NamedVersion,
    Stats,
    VersionSummary,
)
from strata.artifacts.metadata.rows import artifact_record

ARTIFACT_URI: Final = "strata://artifact/"
"""Beginning of the URI of an input that is a result."""

LONGEST_URI: Final = 256
"""Maximum characters of such a URI; a longer one names no result, since ids have at most 64."""

_SUMMARY: Final = (
    artifacts.c.artifact_id,
    artifacts.c.version,
    artifacts.c.state,
    artifacts.c.created_at,
    artifacts.c.row_count,
    artifacts.c.byte_size,
    artifacts.c.input_versions,
)
_NAME: Final = (names.c.name, names.c.updated_at, names.c.artifact_id, names.c.version, names.c.owner)
_SAME_VERSION: Final = sa.and_(
    names.c.tenant == artifacts.c.tenant,
    names.c.artifact_id == artifacts.c.artifact_id,
    names.c.version == artifacts.c.version,
)
_NULLABLE: Final = frozenset({"row_count", "byte_size"})
_LAST_CHARACTER: Final = chr(0x10FFFF)
_SURROGATES: Final = range(0xD800, 0xE000)


def listed(
    *columns: Any, tenant: str, state: str | None, name_prefix: str | None, since: float | None
) -> sa.Select[Any]:
    """Return a query of columns of the artifacts that a listing chooses."""
    query = sa.select(*columns).select_from(artifacts).where(artifacts.c.tenant == tenant)
    if state is not None:
        query = query.where(artifacts.c.state == state)
    if since is not None:
        query = query.where(artifacts.c.created_at >= since)
    if name_prefix is not None:
        # Joined as a table: SQLite looks each of its rows up; a condition it would test on all artifacts.
        distinct = sa.select(names.c.artifact_id, names.c.version).distinct()
        named = distinct.where(*_named(tenant, name_prefix)).subquery()
        same = sa.and_(named.c.artifact_id == artifacts.c.artifact_id, named.c.version == artifacts.c.version)
        query = query.join(named, same)
    return query


def ordered(sort: str, order: str) -> list[sa.UnaryExpression[Any]]:
    """Return the order of a listing: by a column, ties by id and version."""
    return [_directed(column, order) for column in _keys(sort)]


def summaries(
    connection: sa.Connection, *, sort: str, order: str, after: Cursor | None, limit: int, **chosen: Any
) -> tuple[VersionSummary, ...]:
    """Return up to ``limit`` summaries behind the place ``after``; ``chosen`` as in :func:`listed`."""
    found: list[VersionSummary] = []
    query = listed(*_SUMMARY, **chosen).order_by(*ordered(sort, order))
    for part in _parts_after(sort, order, after):
        found += map(_summary, connection.execute(query.where(*part).limit(limit - len(found))))
        if len(found) == limit:
            break
    return tuple(found)


def stats_of(connection: sa.Connection, tenant: str) -> Stats:
    """Return the counts of a tenant's artifacts, from an index."""
    size = sa.func.coalesce(sa.func.sum(artifacts.c.byte_size), 0)
    query = sa.select(artifacts.c.state, sa.func.count(), size).where(artifacts.c.tenant == tenant)
    rows = connection.execute(query.group_by(artifacts.c.state)).all()
    counts = {state: count for state, count, _ in rows}
    ready = sum(total for state, _, total in rows if state == ArtifactState.READY.value)
    return Stats(sum(counts.values()), ready, counts)


def artifacts_of(
    connection: sa.Connection, tenant: str, versions: Sequence[tuple[str, int]]
) -> tuple[ArtifactRecord, ...]:
    """Return the versions (id, number) that exist, in the given order."""
    wanted = among((artifacts.c.artifact_id, artifacts.c.version), versions)
    query = sa.select(artifacts).where(artifacts.c.tenant == tenant, wanted)
    found = {(row.artifact_id, row.version): artifact_record(row) for row in connection.execute(query)}
    return tuple(found[key] for key in versions if key in found)


def summaries_among(
    connection: sa.Connection, tenant: str, versions: Sequence[tuple[str, int]]
) -> tuple[VersionSummary, ...]:
    """Return the summaries of the versions (id, number) that exist, in any order."""
    wanted = among((artifacts.c.artifact_id, artifacts.c.version), versions)
    query = sa.select(*_SUMMARY).where(artifacts.c.tenant == tenant, wanted)
    return tuple(map(_summary, connection.execute(query)))


def ready_version(connection: sa.Connection, tenant: str, artifact_id: str, version: int) -> bool:
    """Whether there is a ready version; it stays ready until the end of a transaction that writes."""
    mine = (artifacts.c.tenant == tenant, artifacts.c.artifact_id == artifact_id)
    ready = (artifacts.c.version == version, artifacts.c.state == ArtifactState.READY.value)
    query = sa.select(artifacts.c.version).where(*mine, *ready).with_for_update()
    return connection.execute(query).first() is not None


def named_versions(
    connection: sa.Connection, tenant: str, *, prefix: str, after: str, limit: int | None
) -> tuple[NamedVersion, ...]:
    """Return up to ``limit`` names with a prefix above ``after``, in order, each with its version."""
    query = (
        sa.select(*_NAME, *_SUMMARY[2:])
        .select_from(names.outerjoin(artifacts, _SAME_VERSION))
        .where(*_named(tenant, prefix), names.c.name > after)
        .order_by(names.c.name)
        .limit(limit)
    )
    return tuple(
        NamedVersion(
            row.name,
            row.artifact_id,
            row.version,
            row.updated_at,
            None if row.state is None else _summary(row),
            owner=row.owner,
        )
        for row in connection.execute(query)
    )


def plain_names(
    connection: sa.Connection, tenant: str, *, prefix: str, after: str, limit: int | None
) -> tuple[NamedVersion, ...]:
    """Return up to ``limit`` names with a prefix above ``after``, in order, without their versions."""
    query = (
        sa.select(*_NAME)
        .select_from(names.join(artifacts, _SAME_VERSION))
        .where(*_named(tenant, prefix), names.c.name > after)
        .order_by(names.c.name)
        .limit(limit)
    )
    return tuple(
        NamedVersion(name, artifact_id, version, updated_at, owner=owner)
        for name, updated_at, artifact_id, version, owner in connection.execute(query)
    )


def dependents(
    connection: sa.Connection, tenant: str, uri: str, *, after: Cursor | None, limit: int
) -> tuple[VersionSummary, ...]:
    """Return up to ``limit`` versions made of the result ``uri``, the oldest first, behind a place."""
    keys = (artifact_inputs.c.created_at, artifact_inputs.c.artifact_id, artifact_inputs.c.version)
    same = sa.and_(
        artifact_inputs.c.tenant == artifacts.c.tenant,
        artifact_inputs.c.artifact_id == artifacts.c.artifact_id,
        artifact_inputs.c.version == artifacts.c.version,
    )
    query = (
        sa.select(*_SUMMARY)
        .select_from(artifact_inputs.join(artifacts, same))
        .where(artifact_inputs.c.tenant == tenant, artifact_inputs.c.uri == uri)
        .order_by(*keys)
        .limit(limit)
    )
    if after is not None:
        query = query.where(sa.tuple_(*keys) > sa.tuple_(after.value, after.artifact_id, after.version))
    return tuple(map(_summary, connection.execute(query)))


def note_inputs(
    connection: sa.Connection, version: dict[str, Any], input_versions: Sequence[tuple[str, str]]
) -> None:
    """Note the inputs of a new version that are results themselves; none costs nothing.

    Args:
        connection: A transaction that writes.
        version: Tenant, id, number and time of the version.
        input_versions: Its inputs.
    """
    own = {key: version[key] for key in ("tenant", "artifact_id", "version", "created_at")}
    rows = [{**own, "uri": uri} for uri in dict(input_versions) if is_artifact(uri)]
    if rows:
        connection.execute(artifact_inputs.insert(), rows)


def is_artifact(uri: str) -> bool:
    """Test whether an input's URI names a result."""
    return uri.startswith(ARTIFACT_URI) and len(uri) <= LONGEST_URI


def _directed(column: sa.Column[Any], order: str) -> sa.UnaryExpression[Any]:
    """Return the order of a column; an unknown value sorts below all others, as it does in SQLite anyway."""
    if order == "desc":
        return column.desc().nulls_last() if column.name in _NULLABLE else column.desc()
    return column.asc().nulls_first() if column.name in _NULLABLE else column.asc()


def _keys(sort: str) -> list[sa.Column[Any]]:
    keys = [artifacts.c[sort], artifacts.c.artifact_id, artifacts.c.version]
    return keys[1:] if sort == "artifact_id" else keys


def _parts_after(sort: str, order: str, after: Cursor | None) -> Iterator[tuple[sa.ColumnElement[bool], ...]]:
    """Yield the conditions of the two parts of a listing behind a place: unknown values and known ones.

    Apart, since a comparison with an unknown value is never true, and an index cannot be entered by "or".
    """
    if after is None:
        yield ()
        return
    column, keys = artifacts.c[sort], _keys(sort)
    rest, place = sa.tuple_(*_keys("artifact_id")), sa.tuple_(after.artifact_id, after.version)
    down = order == "desc"
    if after.value is None:
        yield column.is_(None), rest < place if down else rest > place
        if not down:
            yield (column.is_not(None),)
        return
    if sort != "artifact_id":
        rest, place = sa.tuple_(*keys), sa.tuple_(after.value, after.artifact_id, after.version)
    yield (rest < place if down else rest > place,)
    if down and sort in _NULLABLE:
        yield (column.is_(None),)


def _named(tenant: str, prefix: str) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on names with a prefix: a range of the index, in the order of code points.

    LIKE knows no case in SQLite, and its wildcards are characters of names.
    """
    wanted = [names.c.tenant == tenant]
    if prefix:
        wanted.append(names.c.name >= prefix)
    above = _above_prefix(prefix)
    if above is not None:
        wanted.append(names.c.name < above)
    return wanted


def _above_prefix(prefix: str) -> str | None:
    """Return the least text above all texts with a prefix; ``None`` if there is none."""
    kept = prefix.rstrip(_LAST_CHARACTER)
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def _summary(row: Any) -> VersionSummary:
    return VersionSummary(
        artifact_id=row.artifact_id,
        version=row.version,
        state=ArtifactState(row.state),
        created_at=row.created_at,
        row_count=row.row_count,
        byte_size=row.byte_size,
        input_versions=row.input_versions,
    )
