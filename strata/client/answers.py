"""The server's answers as values; unknown fields of a newer server are ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
import msgspec

from strata.client.display.html import Shown, table_html
from strata.client.errors import BadAnswerError

T = TypeVar("T")

# Lone surrogates are excluded: they are not valid text and cannot be sent as a path.
_ARTIFACT_URI = re.compile(r"strata://artifact/(?P<id>[^/@?#\ud800-\udfff]+)@v=(?P<version>[1-9][0-9]*)")
_NAME_URI = re.compile(r"strata://name/(?P<name>[^@?#\ud800-\udfff]+)")


@attrs.frozen
class Materialized(Shown):
    """Location of a result that is ready or being built.

    Attributes:
        hit: Whether the result existed already.
        artifact_uri: ``strata://artifact/<id>@v=<n>``.
        state: ``ready``, ``building`` or ``pending``.
        build_id: Build to wait for, in artifact mode.
        stream_id: Id of the stream, in stream mode.
        stream_url: Path of the bytes, if they can be read now.
    """

    hit: bool
    artifact_uri: str
    state: str
    build_id: str | None = None
    stream_id: str | None = None
    stream_url: str | None = None


@attrs.frozen
class Build(Shown):
    """State of a build; times are ISO 8601, progress is from 0.0 to 1.0."""

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
class Artifact(Shown):
    """Metadata of one artifact version; ``transform_spec`` and ``input_versions`` are JSON texts."""

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
        """URI of the version."""
        return f"strata://artifact/{self.artifact_id}@v={self.version}"


@attrs.frozen
class Receipt(Shown):
    """What a whole result is, as the server recorded it; ``policy_hash`` is null if all cells were read."""

    rows: int
    bytes: int
    sha256: str
    artifact_uri: str | None = None
    policy_hash: str | None = None
    inputs: tuple[Mapping[str, str | None], ...] = ()


@attrs.frozen
class ArtifactPage:
    """Part of the tenant's artifacts, and the number of all, if the server counts."""

    artifacts: tuple[Artifact, ...]
    total_count: int | None = None


@attrs.frozen
class ChangedInput:
    """An input that has a new version since a result was built."""

    input_uri: str
    old_version: str | None = None
    new_version: str | None = None


@attrs.frozen
class Explanation(Shown):
    """What a materialize request would do now.

    Attributes:
        would_hit: Whether a result exists.
        would_build: Whether a build would begin.
        artifact_uri: The existing result, current or stale.
        is_stale: Whether that result is of older input versions.
        stale_reason: Why it is stale.
        changed_inputs: Inputs with a new version.
        resolved_input_versions: Current versions by input URI.
    """

    would_hit: bool
    would_build: bool
    artifact_uri: str | None = None
    is_stale: bool = False
    stale_reason: str | None = None
    changed_inputs: tuple[ChangedInput, ...] = ()
    resolved_input_versions: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Node:
    """A result or a table of a lineage; ``type``: ``artifact``, ``table``, or ``redacted`` (not readable)."""

    uri: str
    type: str
    artifact_id: str | None = None
    version: int | None = None
    transform_ref: str | None = None
    created_at: str | None = None


@attrs.frozen
class Edge:
    """From an input to what was made of it."""

    from_uri: str
    to_uri: str
    input_version: str | None = None


@attrs.frozen
class Lineage:
    """What a result was made of.

    Attributes:
        artifact_uri: The result.
        nodes: The result, its inputs, theirs and so on, as far as the caller may read them.
        edges: Which was made of which.
        depth: Steps from the result to the furthest input.
        direct_inputs: URIs of the result's own inputs.
        truncated: Whether there is more than the answer holds.
    """

    artifact_uri: str
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    depth: int = 0
    direct_inputs: tuple[str, ...] = ()
    truncated: bool = False

    def _repr_html_(self) -> str:
        rows = [(edge.from_uri, edge.input_version, edge.to_uri) for edge in self.edges]
        return table_html(("input", "version", "result"), rows, self.artifact_uri)


@attrs.frozen
class Dependents:
    """What was made of a result, as far as the caller may read it."""

    artifact_uri: str
    dependents: tuple[Node, ...] = ()
    total_count: int = 0

    def _repr_html_(self) -> str:
        rows = [(node.uri, node.transform_ref, node.created_at) for node in self.dependents]
        return table_html(("made of it", "transform", "since"), rows, self.artifact_uri)


@attrs.frozen
class NameStatus(Shown):
    """What a name points at, and whether its inputs have changed since; then ``stale_reason`` says which."""

    name: str
    artifact_uri: str
    state: str
    is_stale: bool = False
    stale_reason: str | None = None
    updated_at: str | None = None
    input_versions: Mapping[str, str] = attrs.field(factory=dict)
    changed_inputs: tuple[ChangedInput, ...] = ()


@attrs.frozen
class Cancelled(Shown):
    """Whether a build was ended: not if it is over, or others asked for it, too; ``state``: the build's."""

    build_id: str
    cancelled: bool
    state: str


@attrs.frozen
class Deleted(Shown):
    """A version of a result that was removed, and the bytes of it."""

    artifact_uri: str
    byte_size: int | None = None


@attrs.frozen
class Name:
    """The artifact that a name points at."""

    artifact_uri: str


@attrs.frozen
class Accesses:
    """A page of the access audit; ``next`` is the ``before`` of the page behind it."""

    entries: list[Any]
    next: int | None = None


@attrs.frozen
class CacheStats(Shown):
    """Counters of the tenant's cache."""

    hits: int = 0
    misses: int = 0
    segments: int = 0
    size_bytes: int = 0


@attrs.frozen
class Check:
    """Whether a kind of request would be allowed; if not, its HTTP status and the reason."""

    what: str
    allowed: bool
    status: int | None = None
    error: str | None = None
    detail: str | None = None


@attrs.frozen
class Me:
    """The caller as the server identifies it.

    Attributes:
        principal: Id of the user.
        tenant: The tenant.
        scopes: Scopes that the proxy states.
        state: State of the tenant: ``running``, ``absent`` …
        limits: The tenant's limits by name: ``value``, ``source`` …
        checks: Kinds of requests, with whether each would be allowed.
    """

    principal: str
    tenant: str
    scopes: tuple[str, ...] = ()
    state: str | None = None
    limits: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    checks: tuple[Check, ...] = ()

    @property
    def refused(self) -> tuple[Check, ...]:
        """Checks that would be refused."""
        return tuple(check for check in self.checks if not check.allowed)


@attrs.frozen
class Status:
    """An answer that consists of one word."""

    status: str


def parse_answer(kind: type[T], body: bytes) -> T:
    """Parse an answer's body as ``kind``.

    Raises:
        BadAnswerError: If the body does not match the wire contract.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswerError(f"The answer is not a {kind.__name__}: {error}") from None


def artifact_path(uri: str) -> str | None:
    """Return the path of an artifact URI's metadata; ``None`` if the text is no artifact URI."""
    match = _ARTIFACT_URI.fullmatch(uri)
    return match and f"/v1/artifacts/{quote(match['id'], safe='')}/v/{match['version']}"


def name_path(uri: str) -> str | None:
    """Return the path that resolves ``strata://name/<name>``; ``None`` if the text is no such URI."""
    match = _NAME_URI.fullmatch(uri)
    return match and f"/v1/names/{quote(match['name'])}"  # slashes in a name are part of the path
