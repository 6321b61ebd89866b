"""Servers that share a PostgreSQL database, and the leases by which they agree."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

import attrs
import sqlalchemy as sa

from strata.artifacts.database.schema import artifacts, builds, removed_versions, servers, usage_reports
from strata.artifacts.metadata.contract import NOT_RUNNING
from strata.artifacts.metadata.naming import upsert
from strata.artifacts.metadata.ownership import DATABASE_NOW, interrupt, lease, lives, living
from strata.artifacts.metadata.records import ArtifactState, BuildRecord
from strata.artifacts.metadata.rows import build_record
from strata.artifacts.metadata.sql_store import SqlMetadataStore
from strata.artifacts.retention.contract import Removed
from strata.artifacts.servers.contract import BEATS, REPORTS, Claim, ServerFacts, ServerRecord
from strata.artifacts.servers.lease_watch import LeaseWatch
from strata.outcomes import Refused

LONG_DEAD: Final = 3600.0
"""Seconds without a renewal after which a dead server's row is removed."""

MOST_FORGOTTEN: Final = 1000
"""Removed versions that are told to the other servers at a time."""

_BUILDING: Final = ArtifactState.BUILDING.value
_UNFINISHED: Final = (ArtifactState.PENDING.value, _BUILDING)


class DatabaseClock:
    """The database's time, estimated between two calls: the servers' own clocks need not agree."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def set(self, now: float) -> None:
        """Note what the database's clock shows at this moment."""
        self._ahead = now - time.monotonic()

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.monotonic() + self._ahead


def servers_of(store: SqlMetadataStore, dead: Mapping[str, float] | None = None) -> tuple[ServerRecord, ...]:
    """Return the servers with a lease on a store's database, on PostgreSQL, the oldest first.

    Args:
        store: The store.
        dead: The servers whose lease is over, with their marks; None, where no server watches: those whose
            lease is over by the database's clock.
    """
    columns = [servers.c[one.name] for one in attrs.fields(ServerRecord)]
    held = servers.c.expires_at > DATABASE_NOW if dead is None else lease(dead)
    query = sa.select(*columns).where(held).order_by(servers.c.started_at, servers.c.server_id)
    with store.reading() as connection:
        return tuple(ServerRecord(**row) for row in connection.execute(query).mappings())


class SqlServers:
    """Servers that share the database of a metadata store; see :class:`.contract.ServerStore`.

    Args:
        store: The store, on PostgreSQL; its builds belong to this server from now on.
        lease_seconds: Seconds for which a lease lasts.
        clock: The clock of the store.
        monotonic: This server's monotonic clock, by which leases are over.
    """

    def __init__(
        self,
        store: SqlMetadataStore,
        lease_seconds: float,
        clock: DatabaseClock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server_id = store.server_id = secrets.token_hex(16)
        self.lease_seconds = lease_seconds
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._watch = LeaseWatch(lease_seconds, monotonic)
        store.dead_servers = self._dead
        self._fresh_until = 0.0
        self._started_at: float | None = None
        self._told = 0  # number of this server's latest report of usage
        self._read: dict[str, int] | None = None  # numbers of the latest reports that were read, by server

    @property
    def fresh(self) -> bool:
        """See :class:`.contract.ServerStore`."""
        return self._monotonic() < self._fresh_until

    @property
    def lapsed(self) -> bool:
        """See :class:`.contract.ServerStore`."""
        return self._monotonic() > self._fresh_until + self.lease_seconds / 2

    def _dead(self, seconds: float | None = None) -> Mapping[str, float]:
        """Return the other servers that this one has seen no renewal of for as long as a lease lasts."""
        return {one: mark for one, mark in self._watch.dead(seconds).items() if one != self.server_id}

    def beat(self, facts: ServerFacts) -> None:
        """See :class:`.contract.ServerStore`."""
        began = self._monotonic()
        with self._store.database.apart() as connection:
            now = connection.scalar(sa.select(DATABASE_NOW))
            assert now is not None
            self._clock.set(now)
            started = self._started_at = self._started_at or now
            times = {"started_at": started, "seen_at": now, "expires_at": now + self.lease_seconds}
            upsert(connection, servers, {"server_id": self.server_id, **attrs.asdict(facts), **times})
            marks = connection.execute(sa.select(servers.c.server_id, servers.c.seen_at)).all()
        self._watch.see({row.server_id: row.seen_at for row in marks}, began)
        self._fresh_until = began + self.lease_seconds / 2

    def leave(self) -> None:
        """See :class:`.contract.ServerStore`."""
        self._fresh_until = 0.0
        with self._store.writing(None) as connection:
            connection.execute(servers.delete().where(servers.c.server_id == self.server_id))
        self.end_dead()

    def servers(self) -> tuple[ServerRecord, ...]:
        """See :class:`.contract.ServerStore`."""
        return servers_of(self._store, self._dead())

    def end_dead(self) -> int:
        """See :class:`.contract.ServerStore`; one transaction for each tenant."""
        dead = sa.and_(builds.c.state.in_(_UNFINISHED), ~living(self._dead()))
        gone = self._dead(LONG_DEAD)
        with self._store.database.apart() as connection:
            if gone:
                connection.execute(servers.delete().where(~lease(gone)))
            known = sa.exists().where(servers.c.server_id == usage_reports.c.server_id)
            connection.execute(usage_reports.delete().where(~known))
            tenants = list(connection.scalars(sa.select(builds.c.tenant).where(dead).distinct()))
        ended = 0
        for tenant in tenants:
            with self._store.writing(tenant) as connection:
                for build in connection.execute(
                    sa.select(builds).where(dead, builds.c.tenant == tenant)
                ).all():
                    interrupt(connection, build, self._store.now())
                    ended += 1
        return ended

    def running_elsewhere(self, tenant: str, artifact_id: str) -> BuildRecord | None:
        """See :class:`.contract.ServerStore`."""
        query = (
            sa.select(builds)
            .where(
                builds.c.tenant == tenant,
                builds.c.artifact_id == artifact_id,
                builds.c.state.in_(_UNFINISHED),
                builds.c.server_id != self.server_id,
                living(self._dead()),
            )
            .order_by(builds.c.version.desc())
            .limit(1)
        )
        with self._store.reading() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else build_record(found)

    def note_progress(self, tenant: str, build_id: str, done: float) -> None:
        """See :class:`.contract.ServerStore`."""
        with self._store.writing(tenant, unsynced=True) as connection:
            connection.execute(builds.update().where(self._mine(tenant, build_id)).values(progress=done))

    def note_bytes(self, tenant: str, build_id: str, sha256: str) -> bool | Refused:
        """See :class:`.contract.ServerStore`; the claim of a server without a lease is void."""
        same = sa.and_(removed_versions.c.tenant == tenant, removed_versions.c.content_sha256 == sha256)
        claimed = sa.select(removed_versions.c.claimed_by).where(
            same, removed_versions.c.claimed_by.is_not(None)
        )
        mine = self._mine(tenant, build_id)
        with self._store.writing(tenant, unsynced=True) as connection:
            for claimer in set(connection.scalars(claimed)) - {self.server_id}:
                if lives(connection, claimer, self._dead()):
                    return False
            noted = connection.execute(builds.update().where(mine).values(content_sha256=sha256)).rowcount
            if not noted:
                return NOT_RUNNING
            # The bytes are this build's now: if it fails, they are pending under its own version.
            void = {"content_sha256": None, "claimed_by": None}
            connection.execute(
                removed_versions.update().where(same, removed_versions.c.claimed_by.is_not(None)).values(void)
            )
        return True

    def _mine(self, tenant: str, build_id: str) -> sa.ColumnElement[bool]:
        """Return the condition that a row is a running build of this server."""
        return sa.and_(
            builds.c.tenant == tenant,
            builds.c.build_id == build_id,
            builds.c.state == _BUILDING,
            builds.c.server_id == self.server_id,
        )

    def claim(self, removed: Removed) -> Claim:
        """See :class:`.contract.ServerStore`."""
        tenant, sha256 = removed.tenant, removed.content_sha256
        same = sa.and_(removed_versions.c.tenant == tenant, removed_versions.c.content_sha256 == sha256)
        mine = sa.and_(
            same,
            removed_versions.c.artifact_id == removed.artifact_id,
            removed_versions.c.version == removed.version,
        )
        ready = sa.and_(artifacts.c.tenant == tenant, artifacts.c.content_sha256 == sha256)
        needed = (
            sa.select(sa.literal(1)).where(ready, artifacts.c.state == ArtifactState.READY.value).limit(1)
        )
        coming = sa.and_(builds.c.tenant == tenant, builds.c.state == _BUILDING)
        committing = sa.select(sa.literal(1)).where(coming, builds.c.content_sha256 == sha256).limit(1)
        with self._store.writing(removed.tenant) as connection:
            claimers = set(connection.scalars(sa.select(removed_versions.c.claimed_by).where(same)))
            if not claimers:
                return Claim.NEEDED  # another server has dealt with it
            if any(lives(connection, one, self._dead()) for one in claimers - {None, self.server_id}):
                return Claim.BUSY
            if connection.scalar(needed) is not None:
                return Claim.NEEDED
            if connection.scalar(committing) is not None:
                return Claim.BUSY
            taken = connection.execute(
                removed_versions.update().where(mine).values(claimed_by=self.server_id)
            )
        return Claim.TAKEN if taken.rowcount else Claim.NEEDED

    def exchange_usage(self, report: str | None) -> tuple[str, ...]:
        """See :class:`.contract.ServerStore`."""
        table, me = usage_reports, usage_reports.c.server_id == self.server_id
        seen = self._read or {}
        other = sa.exists().where(servers.c.server_id != self.server_id, lease(self._dead()))
        with self._store.database.apart() as connection:
            if not connection.scalar(sa.select(other)):
                self._read = {}
                return ()
            if report is not None:
                self._told += 1
                told = {"server_id": self.server_id, "number": self._told, "report": report}
                connection.execute(table.insert().values(told))
                connection.execute(table.delete().where(me, table.c.number <= self._told - REPORTS))
            latest = sa.select(table.c.server_id, sa.func.max(table.c.number)).where(~me)
            numbers = {row[0]: row[1] for row in connection.execute(latest.group_by(table.c.server_id))}
            new = [
                sa.and_(
                    table.c.server_id == server,
                    table.c.number > seen.get(server, 0),
                    table.c.number <= number,
                )
                for server, number in numbers.items()
                if self._read is not None and number > seen.get(server, 0)
            ]
            reports = connection.scalars(sa.select(table.c.report).where(sa.or_(*new))).all() if new else ()
        self._read = numbers
        return tuple(reports)

    def removed_lately(self) -> tuple[tuple[str, str, int], ...]:
        """See :class:`.contract.ServerStore`; times are those of the database."""
        table = removed_versions
        since = DATABASE_NOW - self.lease_seconds * (1 + 2 / BEATS)
        query = sa.select(table.c.tenant, table.c.artifact_id, table.c.version).where(
            table.c.removed_at > since
        )
        with self._store.database.apart() as connection:
            rows = connection.execute(query.order_by(table.c.removed_at.desc()).limit(MOST_FORGOTTEN)).all()
        return tuple((row.tenant, row.artifact_id, row.version) for row in rows)
