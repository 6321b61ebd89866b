"""Contract of the part of a metadata database that several servers agree by.

Each server has a row with a lease, which it renews while it lives. A build belongs to a server: when the
lease of that server is over, the first server that notices fails the build. The build's id is its fencing
token: the end of a build that is no longer running is refused, however late a frozen server tells it.

Bytes are shared by hash. A server notes the hash of a build before it commits the bytes, and claims the bytes
of a removed version before it deletes them; each sees the other's note, since both are made under the lock of
the tenant. So no server deletes bytes that another one commits.

Calls block and are thread-safe. They raise :class:`~strata.outcomes.RefusalError` if the database does not
answer.
"""

from __future__ import annotations

import enum
from typing import Final, Protocol

import attrs

from strata.artifacts.metadata.records import BuildRecord
from strata.artifacts.retention.contract import Removed
from strata.outcomes import Refused

BEATS: Final = 5
"""Renewals of a lease in the time that it lasts: all but one may fail."""


REPORTS: Final = 10
"""Reports of a server's usage that are kept for the others; who reads later than that misses some."""


@attrs.frozen(kw_only=True)
class ServerFacts:
    """What a server tells the others of itself.

    Attributes:
        name: Host and port, for the operator.
        version: Version of Strata.
        config_version: Digest of its settings, without secrets.
        policy_version: Digest of its access rules; None: it has none.
        state: ``ready`` or ``draining``.
    """

    name: str
    version: str
    config_version: str
    policy_version: str | None
    state: str


@attrs.frozen(kw_only=True)
class ServerRecord(ServerFacts):
    """A server with a lease.

    Attributes:
        server_id: Id of the process.
        started_at: When it began, in seconds since the epoch.
        seen_at: When it last renewed its lease.
    """

    server_id: str
    started_at: float
    seen_at: float


class Claim(enum.Enum):
    """Whether the bytes of a removed version may be deleted."""

    TAKEN = "taken"
    NEEDED = "needed"
    BUSY = "busy"


class ServerStore(Protocol):
    """Contract of what servers agree by; see the module."""

    @property
    def server_id(self) -> str:
        """Id of this process."""

    @property
    def lease_seconds(self) -> float:
        """Seconds for which a lease lasts without being renewed."""

    @property
    def fresh(self) -> bool:
        """Whether this server's lease holds for at least half of its time, without a call of the database."""

    @property
    def lapsed(self) -> bool:
        """Whether this server's lease is over, without a call of the database."""

    def beat(self, facts: ServerFacts) -> None:
        """Renew this server's lease."""

    def leave(self) -> None:
        """End this server's lease, and fail the builds that it has not ended."""

    def servers(self) -> tuple[ServerRecord, ...]:
        """Return the servers with a lease, the oldest first."""

    def end_dead(self) -> int:
        """Fail the builds of servers without a lease; returns their number."""

    def running_elsewhere(self, tenant: str, artifact_id: str) -> BuildRecord | None:
        """Return the artifact's running build on another server with a lease, or ``None``."""

    def note_progress(self, tenant: str, build_id: str, done: float) -> None:
        """Tell the other servers which part of a build of this server is done, while it runs."""

    def note_bytes(self, tenant: str, build_id: str, sha256: str) -> bool | Refused:
        """Note that a build of this server is about to commit bytes.

        Returns false while another server deletes equal bytes: the call is repeated. Returns a refusal if the
        build is no longer running, or not this server's.
        """

    def claim(self, removed: Removed) -> Claim:
        """Claim the bytes of a removed version, to delete them.

        ``NEEDED``: a ready version has equal bytes. ``BUSY``: another server deletes or commits equal bytes;
        the removed version stays pending.
        """

    def exchange_usage(self, report: str | None) -> tuple[str, ...]:
        """Tell the other servers what tenants used of their rates; returns what they told since the last.

        Called by one thread at a time. Nothing is kept where no other server has a lease, and of each server
        the latest :data:`REPORTS` only. The first call returns nothing, for it would be what was used before
        this server began.

        Args:
            report: The text for the others; None: nothing was used.
        """

    def removed_lately(self) -> tuple[tuple[str, str, int], ...]:
        """Return the versions (tenant, id, number) that were removed within some leases, by any server."""
