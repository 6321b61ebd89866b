"""The contract of a metadata store: artifacts, builds and names of every tenant.

Calls block and may come from any thread. Each names its tenant: no id means anything without one. What a call
wrote is durable when it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from strata.artifacts.blobs import BlobFacts
from strata.artifacts.records import ArtifactRecord, BuildRecord, NameRecord, Page, Stats
from strata.outcomes import Reason, Refused

SORTS = ("created_at", "row_count", "byte_size", "artifact_id")
ORDERS = ("asc", "desc")

NOT_RUNNING = Refused(
    Reason.UNAVAILABLE, "The build is not running any more.", code="not_running", retry_after=1
)


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
    ) -> BuildRecord:
        """Note a build of the next version of the artifact with this provenance, in state ``building``.

        The artifact's id follows from its provenance, the version is allocated atomically: two builds of one
        artifact never share a version. ``name`` is pointed at the version when it becomes ready.
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
        """Return a page; refuses an unknown state, sort or order."""

    def stats(self, tenant: str) -> Stats:
        """Count the tenant's artifacts."""

    def set_name(self, tenant: str, name: str, artifact_id: str, version: int) -> NameRecord:
        """Point a name at a version."""

    def get_name(self, tenant: str, name: str) -> NameRecord | None:
        """Return what a name points at."""

    def list_names(self, tenant: str) -> tuple[NameRecord, ...]:
        """Return all names, in their order."""

    def fail_version(self, tenant: str, artifact_id: str, version: int, *, code: str) -> None:
        """Take a ready version back whose bytes are not to be had; it is never served again."""

    def sweep_interrupted(self) -> int:
        """Fail every build a dead process left behind; returns how many. Call before the first build."""

    def close(self) -> None:
        """Let go of connections."""
