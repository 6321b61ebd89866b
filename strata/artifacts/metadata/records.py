"""Records of the metadata store, as frozen values. Times are seconds since the epoch."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping

import attrs


class ArtifactState(enum.Enum):
    """State of an artifact's version and of the build that makes it."""

    PENDING = "pending"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


@attrs.frozen
class _Derived:
    input_versions: str

    @property
    def inputs(self) -> Mapping[str, str]:
        """Versions by input URI."""
        pairs: dict[str, str] = json.loads(self.input_versions)
        return pairs


@attrs.frozen(kw_only=True)
class ArtifactRecord(_Derived):
    """One version of an artifact; the attributes with default ``None`` are set when it is ready.

    Attributes:
        artifact_id: Id, the same for all versions.
        version: Number of the version, from 1.
        state: State of the version.
        provenance_hash: Hash of tenant, transform and input versions.
        query_hash: Hash of tenant, transform and inputs without versions.
        transform_spec: Canonical transform, as JSON.
        input_versions: JSON object of versions by URI, in the caller's order.
        created_at: Time its build began.
        arrow_schema: The schema as readable text.
        row_count: Rows.
        byte_size: Bytes of the Arrow stream.
        content_sha256: Hex SHA-256 of the Arrow stream.
    """

    artifact_id: str
    version: int
    state: ArtifactState
    provenance_hash: str
    query_hash: str
    transform_spec: str
    created_at: float
    arrow_schema: str | None = None
    row_count: int | None = None
    byte_size: int | None = None
    content_sha256: str | None = None


@attrs.frozen(kw_only=True)
class BuildRecord(_Derived):
    """One build: the making of one version of an artifact.

    Attributes:
        build_id: Id of the build.
        artifact_id: Id of the artifact.
        version: Number of the version.
        state: State of the build.
        executor_ref: Executor of the build, such as ``scan@v1``.
        created_at: Time the build was requested.
        started_at: Time it began to run.
        completed_at: Time it ended.
        error_message: Why it failed, for the user.
        error_code: Why it failed, machine-readable.
    """

    build_id: str
    artifact_id: str
    version: int
    state: ArtifactState
    executor_ref: str
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    error_message: str | None = None
    error_code: str | None = None


@attrs.frozen
class NameRecord:
    """A name and the version it points at, since ``updated_at``."""

    name: str
    artifact_id: str
    version: int
    updated_at: float


@attrs.frozen(kw_only=True)
class Act:
    """An action through the admin API, for the audit log.

    Attributes:
        tenant: The tenant acted on; ``None``: the process.
        principal: Id of the acting principal.
        principal_tenant: The tenant stated for that principal.
        action: Name of the action, such as ``limits.change``.
        old: Value before, as JSON.
        new: Value after, as JSON.
        request_id: Id of the request.
    """

    tenant: str | None
    principal: str
    principal_tenant: str
    action: str
    request_id: str
    old: str | None = None
    new: str | None = None


@attrs.frozen
class AuditRecord:
    """An act in the audit log, with its id (ascending, from 1) and time."""

    id: int
    at: float
    act: Act


@attrs.frozen
class Page:
    """Part of a listing, and the number of artifacts in all pages."""

    artifacts: tuple[ArtifactRecord, ...]
    total: int


@attrs.frozen
class Stats:
    """Counts of a tenant's versions, in total and by state; ``total_bytes`` counts ready ones."""

    total_artifacts: int
    total_bytes: int
    by_state: Mapping[str, int]
