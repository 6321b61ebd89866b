"""Records of the metadata store, as frozen values. Times are seconds since the epoch."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterable, Mapping
from typing import TypeVar

import attrs

PAGE_BYTES = 4 * 1024 * 1024
"""Bytes of memory of the records of one page; a page that would take more ends before its limit."""

_RECORD_BYTES = 1024
"""Memory of a record besides its texts: ids, hashes, numbers, and its place in a cache."""

Weighed = TypeVar("Weighed", "ArtifactRecord", "AuditRecord")
"""A record that knows the bytes it takes."""


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

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the record."""
        texts = (self.transform_spec, self.input_versions, self.arrow_schema)
        return _RECORD_BYTES + sum(map(sys.getsizeof, texts))

    def without_texts(self) -> ArtifactRecord:
        """Return the record without transform and schema, whose length depends on the request."""
        return attrs.evolve(self, transform_spec="", arrow_schema=None)


@attrs.frozen
class Cursor:
    """A place in a listing: that of one version.

    Attributes:
        value: The version's value of the column that the listing is sorted by.
        artifact_id: The version's artifact.
        version: Number of the version.
    """

    value: str | float | None
    artifact_id: str
    version: int


@attrs.frozen(kw_only=True)
class VersionSummary(_Derived):
    """What a listing decides on of one version; all attributes are those of :class:`ArtifactRecord`."""

    artifact_id: str
    version: int
    state: ArtifactState
    created_at: float
    row_count: int | None
    byte_size: int | None

    def cursor(self, sort: str) -> Cursor:
        """Return the place of this version in a listing sorted by ``sort``."""
        return Cursor(getattr(self, sort), self.artifact_id, self.version)


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
        server_id: The server that runs it, where several share the database.
        progress: The part that it had done when that server last told the others; None: it has not.
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
    server_id: str | None = None
    progress: float | None = None


@attrs.frozen
class NameRecord:
    """A name and the version it points at, since ``updated_at``; ``owner`` is ``None`` if unknown."""

    name: str
    artifact_id: str
    version: int
    updated_at: float
    owner: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class NamedVersion(NameRecord):
    """A name with the version it points at; ``target`` is ``None`` if there is no such version."""

    target: VersionSummary | None = None


@attrs.frozen(kw_only=True)
class Act:
    """An action of a principal, for the audit log.

    Attributes:
        tenant: The tenant acted on; ``None``: the process.
        principal: Id of the acting principal.
        principal_tenant: The tenant stated for that principal.
        action: Name of the action, such as ``limits.change``.
        old: Value before, as JSON.
        new: Value after, as JSON.
        request_id: Id of the request.
        name: The name acted on, if there is one.
        artifact_id: The artifact acted on, if there is one.
    """

    tenant: str | None
    principal: str
    principal_tenant: str
    action: str
    request_id: str
    old: str | None = None
    new: str | None = None
    name: str | None = None
    artifact_id: str | None = None


@attrs.frozen(kw_only=True)
class NameOrder:
    """A name that a principal has point at a version.

    Attributes:
        name: The name.
        act: Who does it; its principal becomes the name's owner. The store adds what changes.
        others: Whether a name of another principal may be moved.
    """

    name: str
    act: Act
    others: bool = False


@attrs.frozen
class AuditRecord:
    """An act in the audit log, with its id (ascending, from 1) and time."""

    id: int
    at: float
    act: Act

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the record."""
        return _RECORD_BYTES + sum(map(sys.getsizeof, attrs.astuple(self.act)))


def within_page(records: Iterable[Weighed]) -> tuple[Weighed, ...]:
    """Return the first records that take :data:`PAGE_BYTES` together, at least one; no more are read."""
    page: list[Weighed] = []
    size = 0
    for record in records:
        size += record.nbytes
        if page and size > PAGE_BYTES:
            break
        page.append(record)
    return tuple(page)


@attrs.frozen
class Page:
    """Part of a listing, and the number of artifacts in all pages.

    Attributes:
        artifacts: The artifacts of this page.
        total: Number of artifacts in all pages.
        last: The place of this page's last artifact if there are further ones; ``None`` at the end, and where
            it was not asked for.
    """

    artifacts: tuple[ArtifactRecord, ...]
    total: int
    last: Cursor | None = None


@attrs.frozen
class Stats:
    """Counts of a tenant's versions, in total and by state; ``total_bytes`` counts ready ones."""

    total_artifacts: int
    total_bytes: int
    by_state: Mapping[str, int]
