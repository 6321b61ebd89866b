"""The contract of a metadata store: artifacts, builds and names of every tenant.

Calls block and may come from any thread. Each names its tenant: no id means anything without one. What a call
wrote is durable when it returns. A store that does not answer raises :class:`~strata.outcomes.RefusalError`
with :data:`STORE_DOWN`.

A version and its build go ``building`` → ``ready`` or ``failed`` together, once; the one step after that is
:meth:`MetadataStore.fail_version`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from strata.artifacts.blobs.store import BlobFacts
from strata.artifacts.metadata.records import (
    Act,
    ArtifactRecord,
    ArtifactState,
    AuditRecord,
    BuildRecord,
    NameRecord,
    Page,
    Stats,
)
from strata.outcomes import Reason, Refused

SORTS = ("created_at", "row_count", "byte_size", "artifact_id")
ORDERS = ("asc", "desc")
MAX_INTEGER = 2**63 - 1

INTERRUPTED = ("interrupted", "The server stopped before the build ended.")
"""Code and message of builds that a dead process left behind."""

LOST = "The stored result was lost; it is built anew when it is asked for."
"""Message of builds whose result was there once."""

NOT_RUNNING = Refused(
    Reason.UNAVAILABLE, "The build is not running any more.", code="not_running", retry_after=1
)

STORE_DOWN = Refused(
    Reason.UNAVAILABLE, "The store of metadata does not answer.", code="metadata_store_down", retry_after=5
)


def artifact_id_of(provenance_hash: str) -> str:
    """Return the id of the artifact with this provenance; the hash knows the tenant."""
    return provenance_hash[:32]


def check_listing(
    *, limit: int, offset: int, state: str | None, since: float | None, sort: str, order: str
) -> Refused | None:
    """Return why a listing cannot be asked for like this, or None; nothing is ignored or corrected."""
    states = [known.value for known in ArtifactState]
    if not 1 <= limit <= MAX_INTEGER:
        return _bad("limit", "must be at least 1.")
    if not 0 <= offset <= MAX_INTEGER:
        return _bad("offset", "must be at least 0.")
    if since is not None and not math.isfinite(since):
        return _bad("since", "must be a moment in time.")
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
    """What every metadata store promises."""

    def probe(self) -> bool:
        """Whether the store answers."""

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
        """Note a build of the next version of the artifact with this provenance, in state ``building``.

        The artifact's id follows from its provenance, the version is allocated atomically: two builds of one
        artifact never share a version. ``name`` is pointed at the version when it becomes ready.

        Idempotent: the same ``build_id`` gives the build it gave before, and while a build of this provenance
        is running, that one is returned (its ``build_id`` is not the caller's) unless ``refresh`` asks for a
        version of its own.
        """

    def finish_build(
        self, tenant: str, build_id: str, *, facts: BlobFacts, row_count: int, arrow_schema: str
    ) -> ArtifactRecord | Refused:
        """Make a running build's version ready; refused if the build is not running any more."""

    def fail_build(self, tenant: str, build_id: str, *, code: str, message: str) -> None:
        """Make a running build failed; does nothing to one that has ended."""

    def find_ready(self, tenant: str, provenance_hash: str) -> ArtifactRecord | None:
        """Return the newest ready version with this provenance."""

    def find_latest_by_query(self, tenant: str, query_hash: str) -> ArtifactRecord | None:
        """Return the latest ready artifact of this question, whatever its inputs' versions."""

    def get_artifact(self, tenant: str, artifact_id: str, version: int) -> ArtifactRecord | None:
        """Return one version."""

    def get_build(self, tenant: str, build_id: str) -> BuildRecord | None:
        """Return one build."""

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
        """Return a page; refuses what :func:`check_listing` refuses.

        ``name_prefix`` keeps the versions that a name beginning so, case and all, points at. Ties of ``sort``
        are ordered by id and version; what is not known yet counts as less than anything.
        """

    def stats(self, tenant: str) -> Stats:
        """Count the tenant's artifacts."""

    def set_name(self, tenant: str, name: str, artifact_id: str, version: int) -> NameRecord:
        """Point a name at a version."""

    def get_name(self, tenant: str, name: str) -> NameRecord | None:
        """Return what a name points at."""

    def list_names(self, tenant: str) -> tuple[NameRecord, ...]:
        """Return all names, in their order."""

    def fail_version(self, tenant: str, artifact_id: str, version: int, *, code: str) -> None:
        """Take a ready version back whose bytes are not to be had; it is never served again.

        Does nothing to a version in any other state.
        """

    def list_tenants(self, *, after: str, limit: int) -> tuple[str, ...]:
        """Return the next ``limit`` tenants that have had results, in the order of their ids."""

    def add_audit(self, act: Act) -> AuditRecord:
        """Note what somebody does; nothing ever changes or removes it."""

    def list_audit(self, *, tenant: str | None, before: int | None, limit: int) -> tuple[AuditRecord, ...]:
        """Return what was done, the latest first: to one tenant, or to all and to the process.

        ``before`` keeps what is in an earlier place.
        """

    def sweep_interrupted(self) -> int:
        """Fail every build a dead process left behind; returns how many. Call before the first build."""

    def close(self) -> None:
        """Let go of connections."""
