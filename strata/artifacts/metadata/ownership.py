"""Builds of servers that share the database: whether a build's server lives, and the end of a dead one's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from strata.artifacts.database.schema import artifacts, builds, removed_versions, servers
from strata.artifacts.metadata.contract import INTERRUPTED
from strata.artifacts.metadata.naming import upsert
from strata.artifacts.metadata.records import ArtifactState

DATABASE_NOW = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float(53))
"""The database's time, in seconds since the epoch: servers' clocks need not agree."""


def lease(dead: Mapping[str, float]) -> sa.ColumnElement[bool]:
    """Return the condition that a row of a server is a lease that is not over.

    Args:
        dead: The servers that were found without one, each with the mark of its latest renewal. One that has
            renewed its lease since then, as after it was frozen, has one again.
    """
    return sa.tuple_(servers.c.server_id, servers.c.seen_at).not_in([*dead.items()])


def living(dead: Mapping[str, float]) -> sa.ColumnElement[bool]:
    """Return the condition that the server of a build has a lease; ``dead`` as in :func:`lease`."""
    return sa.exists().where(servers.c.server_id == builds.c.server_id, lease(dead))


def lives(connection: sa.Connection, server_id: str | None, dead: Mapping[str, float]) -> bool:
    """Whether a server has a lease; ``None``: one of a version without leases, which has none."""
    if server_id is None:
        return False
    query = sa.select(servers.c.server_id).where(servers.c.server_id == server_id, lease(dead))
    return connection.execute(query).first() is not None


def interrupt(connection: sa.Connection, build: sa.Row[Any], at: float) -> None:
    """Fail a running build of a server that is gone, in the tenant's transaction."""
    code, message = INTERRUPTED
    failed = ArtifactState.FAILED.value
    ended = {"state": failed, "completed_at": at, "error_code": code, "error_message": message}
    mine = (builds.c.tenant == build.tenant, builds.c.build_id == build.build_id)
    connection.execute(builds.update().where(*mine).values(ended))
    version = (artifacts.c.artifact_id == build.artifact_id, artifacts.c.version == build.version)
    connection.execute(
        artifacts.update().where(artifacts.c.tenant == build.tenant, *version).values(state=failed)
    )
    give_up_bytes(connection, build, at)


def give_up_bytes(connection: sa.Connection, build: sa.Row[Any], at: float) -> None:
    """Have the bytes removed that a failed build may have committed; they may be another version's, too."""
    if build.content_sha256 is None:
        return
    key = {"tenant": build.tenant, "artifact_id": build.artifact_id, "version": build.version}
    gone = {"removed_at": at, "byte_size": 0, "content_sha256": build.content_sha256}
    upsert(connection, removed_versions, key | gone)
