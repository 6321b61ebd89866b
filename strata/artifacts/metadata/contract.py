"""Contract of a metadata store: artifacts, builds and names of every tenant.

Calls block and are thread-safe. Each names its tenant, since ids are unique within a tenant only. A write is
durable when the call returns, except the beginning of a build (see :mod:`.sql_store`). A store that does not
answer raises :class:`~strata.outcomes.RefusalError` with :data:`~strata.artifacts.STORE_DOWN`.

A version and its build go ``building`` → ``ready`` or ``failed`` together, once; the only later step is
:meth:`MetadataStore.fail_version`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Protocol

from strata.artifacts.blobs.store import BlobFacts
from strata.artifacts.metadata.records import (
    Act,
    ArtifactRecord,
    ArtifactState,
    AuditRecord,
    BuildRecord,
    Cursor,
    NamedVersion,
    NameOrder,
    NameRecord,
    Page,
    Stats,
    VersionSummary,
)
from strata.outcomes import Reason, Refused

SORTS = ("created_at", "row_count", "byte_size", "artifact_id")
ORDERS = ("asc", "desc")
MAX_INTEGER = 2**63 - 1

MAX_VERSIONS = 1_000
"""Maximum versions of one call of :meth:`MetadataStore.get_artifacts`."""

INTERRUPTED = ("interrupted", "The server stopped before the build ended.")
"""Error code and message of builds that a stopped process left unfinished."""

LOST = "The stored result was lost; it is built again with the next request."
"""Error message of builds whose result existed but was lost."""

NOT_RUNNING = Refused(
    Reason.UNAVAILABLE, "The build is no longer running.", code="not_running", retry_after=1
)


def artifact_id_of(provenance_hash: str) -> str:
    """Return the artifact id for a provenance hash, which covers the tenant."""
    return provenance_hash[:32]


def check_listing(
    *, limit: int, offset: int, state: str | None, since: float | None, sort: str, order: str
) -> Refused | None:
    """Validate the parameters of a listing; nothing is ignored or corrected.

    Returns:
        A refusal (BAD_REQUEST, naming the query parameter), or ``None`` if all are valid.
    """
    states = [known.value for known in ArtifactState]
    if not 1 <= limit <= MAX_INTEGER:
        return _bad("limit", "must be at least 1.")
    if not 0 <= offset <= MAX_INTEGER:
        return _bad("offset", "must be at least 0.")
    if since is not None and not math.isfinite(since):
        return _bad("since", "must be a date and time.")
    if state is not None and state not in states:
        return _bad("state", f"must be one of {', '.join(states)}.")
    if sort not in SORTS:
        return _bad("sort", f"must be one of {', '.join(SORTS)}.")
    if order not in ORDERS:
        return _bad("order", f"must be one of {', '.join(ORDERS)}.")
    return None


def _bad(key: str, message: str) -> Refused:
    return Refused(Reason.BAD_REQUEST, f"{key} {message}", code="bad_parameter", loc=("query", key))


class MetadataStore(Protocol):
    """Contract of every metadata store."""

    @property
    def secret(self) -> bytes:
        """32 random bytes, created once with the store and shared by all servers on it; never logged."""

    def probe(self) -> bool:
        """Test whether the store answers."""

    def begin_build(
        self,
        tenant: str,
        *,
        build_id: str,
        provenance_hash: str,
        query_hash: str,
        transform_spec: str,
        input_versions: Sequence[tuple[str, str]],
        executor_ref: str,
        name: str | None,
        refresh: bool = False,
    ) -> BuildRecord:
        """Begin a build of the artifact's next version, in state ``building``.

        The artifact's id follows from its provenance; the version is allocated atomically, so two builds of
        one artifact never share a version. ``name`` is noted with the build, and not set.

        Idempotent: the same ``build_id`` returns the same build. While another build of this provenance is
        running, that one is returned (with its own ``build_id``), unless ``refresh`` asks for a new version.
        """

    def finish_build(
        self,
        tenant: str,
        build_id: str,
        *,
        facts: BlobFacts,
        row_count: int,
        arrow_schema: str,
        names: Collection[NameOrder] = (),
        act: Act | None = None,
    ) -> ArtifactRecord | Refused:
        """Make a running build's version ready and point ``names`` at it, in one transaction.

        The audit records of the names, and ``act`` with the version, belong to the transaction.
        A name that another principal has taken meanwhile stays where it is. Returns :data:`NOT_RUNNING` if
        the build is not running.
        """

    def fail_build(self, tenant: str, build_id: str, *, code: str, message: str) -> None:
        """Make a running build failed; no effect on a build that has ended."""

    def find_ready(self, tenant: str, provenance_hash: str) -> ArtifactRecord | None:
        """Return the newest ready version with this provenance, or ``None``."""

    def find_latest_by_query(self, tenant: str, query_hash: str) -> ArtifactRecord | None:
        """Return the most recently created ready artifact of this query, or ``None``; any input versions."""

    def get_artifact(self, tenant: str, artifact_id: str, version: int) -> ArtifactRecord | None:
        """Return one version, or ``None``."""

    def get_build(self, tenant: str, build_id: str) -> BuildRecord | None:
        """Return one build, or ``None``."""

    def list_artifacts(
        self,
        tenant: str,
        *,
        limit: int,
        offset: int,
        state: str | None = None,
        name_prefix: str | None = None,
        since: float | None = None,
        sort: str = "created_at",
        order: str = "desc",
    ) -> Page | Refused:
        """Return a page of versions; returns the refusals of :func:`check_listing`.

        ``name_prefix`` keeps versions that a name with this prefix (case-sensitive) points at, ``since``
        those created at or after it (seconds since the epoch). Ties of ``sort`` are ordered by id and
        version; a value that is not known yet sorts below all others. A page of more than
        :data:`~strata.artifacts.metadata.records.PAGE_BYTES` ends before its limit.
        """

    def list_summaries(
        self,
        tenant: str,
        *,
        limit: int,
        after: Cursor | None = None,
        state: str | None = None,
        name_prefix: str | None = None,
        since: float | None = None,
        sort: str = "created_at",
        order: str = "desc",
    ) -> tuple[VersionSummary, ...]:
        """Return up to ``limit`` summaries in the order of :meth:`list_artifacts`, behind a place in it.

        The caller has checked the parameters (:func:`check_listing`). Without ``name_prefix``, the work is
        that of the summaries returned, wherever the place is.
        """

    def get_artifacts(self, tenant: str, versions: Sequence[tuple[str, int]]) -> tuple[ArtifactRecord, ...]:
        """Return the versions (id, number) that exist, in the given order; at most :data:`MAX_VERSIONS`."""

    def list_dependents(
        self, tenant: str, uri: str, *, after: Cursor | None, limit: int
    ) -> tuple[VersionSummary, ...]:
        """Return up to ``limit`` versions made of the result ``uri``, the oldest first, behind a place.

        A place is that of a listing sorted by ``created_at``.
        """

    def stats(self, tenant: str) -> Stats:
        """Return the counts of the tenant's artifacts."""

    def get_name(self, tenant: str, name: str) -> NameRecord | None:
        """Return the version a name points at, or ``None``."""

    def list_names(
        self,
        tenant: str,
        *,
        prefix: str = "",
        after: str = "",
        limit: int | None = None,
        targets: bool = True,
    ) -> tuple[NamedVersion, ...]:
        """Return names of the tenant in the order of code points, each with the version it points at.

        Args:
            tenant: The tenant.
            prefix: The beginning of all names returned.
            after: The names returned are above this one.
            limit: Maximum names; ``None``: all.
            targets: Whether each has its version; else ``target`` is None, and a name without a version is
                left out. That takes a sixth of the time.
        """

    def fail_version(self, tenant: str, artifact_id: str, version: int, *, code: str) -> None:
        """Make a ready version failed because its bytes are lost; it is never served again.

        No effect on a version in another state.
        """

    def list_tenants(self, *, after: str, limit: int) -> tuple[str, ...]:
        """Return up to ``limit`` ids of tenants with artifacts, in order, the first above ``after``."""

    def add_audit(self, act: Act) -> AuditRecord:
        """Append an act to the audit log; records are never changed or removed."""

    def list_audit(self, *, tenant: str | None, before: int | None, limit: int) -> tuple[AuditRecord, ...]:
        """Return audit records, latest first: of one tenant, or of all and the process (``None``).

        ``before`` keeps records with a smaller id. The records end before ``limit`` where they take
        :data:`~strata.artifacts.metadata.records.PAGE_BYTES`; there is at least one if any is left.
        """

    def sweep_interrupted(self) -> int:
        """Fail the unfinished builds of a dead process; returns their number. Call before the first build."""

    def close(self) -> None:
        """Close the connections."""
