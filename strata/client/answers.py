"""The server's answers as values; fields a newer server adds are ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
import msgspec

from strata.client.errors import BadAnswerError

T = TypeVar("T")

# Lone surrogates are no text: nothing that came over the wire holds them, and no path can.
_ARTIFACT_URI = re.compile(r"strata://artifact/(?P<id>[^/@?#\ud800-\udfff]+)@v=(?P<version>[1-9][0-9]*)")
_NAME_URI = re.compile(r"strata://name/(?P<name>[^@?#\ud800-\udfff]+)")


@attrs.frozen
class Materialized:
    """Where a result is, or will be.

    Attributes:
        hit: It was there already.
        artifact_uri: ``strata://artifact/<id>@v=<n>``.
        state: ``ready``, ``building`` or ``pending``.
        build_id: What to wait for, in artifact mode.
        stream_id: The running stream, in stream mode.
        stream_url: Path of the bytes, when they can be read by now.
    """

    hit: bool
    artifact_uri: str
    state: str
    build_id: str | None = None
    stream_id: str | None = None
    stream_url: str | None = None


@attrs.frozen
class Build:
    """A build; times are ISO 8601, progress runs from 0.0 to 1.0."""

    build_id: str
    state: str
    artifact_uri: str | None = None
    artifact_id: str | None = None
    version: int | None = None
    executor_ref: str | None = None
    progress: float | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    error_message: str | None = None
    error_code: str | None = None


@attrs.frozen
class Artifact:
    """One version of a result; ``transform_spec`` and ``input_versions`` are JSON, as text."""

    artifact_id: str
    version: int
    state: str
    arrow_schema: str | None = None
    row_count: int | None = None
    byte_size: int | None = None
    created_at: str | None = None
    content_sha256: str | None = None
    provenance_hash: str | None = None
    transform_spec: str | None = None
    input_versions: str | None = None

    @property
    def uri(self) -> str:
        """Return its URI."""
        return f"strata://artifact/{self.artifact_id}@v={self.version}"


@attrs.frozen
class ArtifactPage:
    """Some of the tenant's artifacts, and how many there are in all, where the server counts."""

    artifacts: tuple[Artifact, ...]
    total_count: int | None = None


@attrs.frozen
class ChangedInput:
    """An input that has moved on since a result was built."""

    input_uri: str
    old_version: str | None = None
    new_version: str | None = None


@attrs.frozen
class Explanation:
    """What a materialize request would do now."""

    would_hit: bool
    would_build: bool
    artifact_uri: str | None = None
    is_stale: bool = False
    stale_reason: str | None = None
    changed_inputs: tuple[ChangedInput, ...] = ()
    resolved_input_versions: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Name:
    """What a name stands for."""

    artifact_uri: str


@attrs.frozen
class CacheStats:
    """Counters of the tenant's cache."""

    hits: int = 0
    misses: int = 0
    segments: int = 0
    size_bytes: int = 0


@attrs.frozen
class Check:
    """Whether something would be answered, and if not, with which status and why."""

    what: str
    allowed: bool
    status: int | None = None
    error: str | None = None
    detail: str | None = None


@attrs.frozen
class Me:
    """Who the server takes the caller for.

    Attributes:
        principal: Who.
        tenant: In which tenant.
        scopes: What the proxy states besides.
        state: Of the tenant: ``running``, ``absent`` …
        limits: The tenant's limits by name: ``value``, ``source`` …
        checks: What would be answered, and what would not, and why.
    """

    principal: str
    tenant: str
    scopes: tuple[str, ...] = ()
    state: str | None = None
    limits: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    checks: tuple[Check, ...] = ()

    @property
    def refused(self) -> tuple[Check, ...]:
        """Return what would be refused."""
        return tuple(check for check in self.checks if not check.allowed)


@attrs.frozen
class Status:
    """One word."""

    status: str


def parse_answer(kind: type[T], body: bytes) -> T:
    """Return an answer's body as ``kind``.

    Raises:
        BadAnswerError: If it is not what the wire contract says.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswerError(f"The answer is not a {kind.__name__}: {error}") from None


def artifact_path(uri: str) -> str | None:
    """Return the path that describes an artifact's version; ``None`` for what is no such URI."""
    match = _ARTIFACT_URI.fullmatch(uri)
    return match and f"/v1/artifacts/{quote(match['id'], safe='')}/v/{match['version']}"


def name_path(uri: str) -> str | None:
    """Return the path that resolves ``strata://name/<name>``; ``None`` for what is no such URI."""
    match = _NAME_URI.fullmatch(uri)
    return match and f"/v1/names/{quote(match['name'])}"  # a name's own slashes are part of the path
