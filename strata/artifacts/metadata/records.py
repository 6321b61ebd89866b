"""What the metadata store knows, as frozen values. Times are seconds since the epoch."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping

import attrs


class ArtifactState(enum.Enum):
    """The life of an artifact's version, and of the build that makes it."""

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
    """One version of an artifact; the facts of its blob are None until it is ready.

    Attributes:
        artifact_id: Id, one for all versions.
        version: From 1.
        state: Where it is in its life.
        provenance_hash: What it is the result of.
        query_hash: The same without versions.
        transform_spec: Canonical transform, as JSON.
        input_versions: JSON object of versions by URI, in the caller's order.
        created_at: When its build was noted.
        arrow_schema: The schema as readable text.
        row_count: Rows.
        byte_size: Bytes of the Arrow stream.
        content_sha256: Hex digest of those bytes.
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
    """One build: the making of one version of an artifact."""

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
    """A name and the version it points at."""

    name: str
    artifact_id: str
    version: int
    updated_at: float


@attrs.frozen(kw_only=True)
class Act:
    """What somebody does by the admin API.

    Attributes:
        tenant: Of which tenant; None of the process.
        principal: Who.
        principal_tenant: In which tenant that was said to be.
        action: A word, such as ``limits.change``.
        old: What was before, as JSON.
        new: What is from then on, as JSON.
        request_id: By which request.
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
    """An act that was noted: in which place, from 1, and when."""

    id: int
    at: float
    act: Act


@attrs.frozen
class Page:
    """Part of a listing, and how long the whole is."""

    artifacts: tuple[ArtifactRecord, ...]
    total: int


@attrs.frozen
class Stats:
    """A tenant's artifacts, counted; bytes are those of ready ones."""

    total_artifacts: int
    total_bytes: int
    by_state: Mapping[str, int]
