"""What a tenant's actor can be asked, and what it answers: frozen values, no behaviour.

Every question carries the principal who asks. An answer is the value named in the question's docstring or a
:class:`~strata.outcomes.Refused`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from strata import acl
from strata.artifacts import ArtifactRecord, BuildRecord, NameRecord
from strata.auth import Principal
from strata.cache import CacheStats
from strata.tenants.limits.model import TenantLimits
from strata.tenants.shared.byte_stream import ByteStream


class Mode(enum.Enum):
    """How the caller wants the result (``mode`` of a materialize request)."""

    STREAM = "stream"
    ARTIFACT = "artifact"


@attrs.frozen
class Transformation:
    """What to compute, of what: the identity of a result before its inputs' versions are known.

    Attributes:
        inputs: Table URIs in the caller's order, as sent.
        executor: The transform reference, such as ``scan@v1``.
        params: The transform's parameters, as sent.
    """

    inputs: tuple[str, ...]
    executor: str
    params: Mapping[str, Any]


@attrs.frozen
class Materialize:
    """Build the result, or find it. Answer: :class:`Materialized`."""

    principal: Principal
    what: Transformation
    mode: Mode = Mode.STREAM
    name: str | None = None
    refresh: bool = False


@attrs.frozen
class Materialized:
    """A result that is there (``hit``) or on its way.

    Attributes:
        artifact_id: Id of the artifact.
        version: Its version, from 1.
        hit: It was ready when asked for.
        build_id: The running build, unless hit.
        stream_id: Name of the stream to read it by; only in stream mode and unless hit.
    """

    artifact_id: str
    version: int
    hit: bool
    build_id: str | None = None
    stream_id: str | None = None


@attrs.frozen
class OpenStream:
    """Read a result while it is built. Answer: :class:`Opened`."""

    principal: Principal
    stream_id: str


@attrs.frozen
class OpenArtifact:
    """Read a finished result. Answer: :class:`Opened`."""

    principal: Principal
    artifact_id: str
    version: int


@attrs.frozen
class Opened:
    """Bytes to send: an Arrow IPC stream.

    Attributes:
        stream: Where the bytes come from; the receiver closes it.
        artifact_id: Whose bytes they are.
        version: The same.
        rows: Rows in the whole stream, when known.
        sha256: Hex digest of the whole stream, when known.
    """

    stream: ByteStream
    artifact_id: str
    version: int
    rows: int | None = None
    sha256: str | None = None


@attrs.frozen
class GetArtifact:
    """Describe an artifact. Answer: :class:`~strata.artifacts.ArtifactRecord`."""

    principal: Principal
    artifact_id: str
    version: int


@attrs.frozen
class GetBuild:
    """Describe a build. Answer: :class:`BuildStatus`."""

    principal: Principal
    build_id: str


@attrs.frozen
class BuildStatus:
    """A build's record and, while it runs, how far it is (0.0 to 1.0)."""

    record: BuildRecord
    progress: float | None


@attrs.frozen
class Explain:
    """Say what :class:`Materialize` would do, and do nothing. Answer: :class:`Explanation`."""

    principal: Principal
    what: Transformation
    name: str | None = None


@attrs.frozen
class ChangedInput:
    """An input whose version differs from the one a result was built on."""

    uri: str
    old_version: str | None
    new_version: str | None


@attrs.frozen
class Explanation:
    """What a materialize request would find.

    Attributes:
        artifact: The ready result it would hit, or the stale one it would replace.
        would_hit: The result is there.
        versions: Resolved input versions by URI, in the caller's order.
        changed: Why an older result no longer serves; empty when nothing older is known.
    """

    artifact: ArtifactRecord | None
    would_hit: bool
    versions: Mapping[str, str]
    changed: tuple[ChangedInput, ...]


@attrs.frozen
class ListArtifacts:
    """A page of the tenant's artifacts. Answer: :class:`~strata.artifacts.Page`."""

    principal: Principal
    limit: int
    offset: int
    state: str | None = None
    name_prefix: str | None = None
    since: float | None = None
    sort: str = "created_at"
    order: str = "desc"


@attrs.frozen
class ArtifactStats:
    """Counts and bytes by state. Answer: :class:`~strata.artifacts.Stats`."""

    principal: Principal


@attrs.frozen
class GetName:
    """Resolve a name. Answer: :class:`~strata.artifacts.NameRecord`."""

    principal: Principal
    name: str


@attrs.frozen
class ListNames:
    """All names of the tenant. Answer: a tuple of :class:`~strata.artifacts.NameRecord`."""

    principal: Principal


@attrs.frozen
class ClearCache:
    """Drop every cached segment of the tenant. Answer: :class:`Cleared`."""

    principal: Principal


@attrs.frozen
class Cleared:
    """The cache is empty."""


@attrs.frozen
class DescribeCache:
    """Counters of the tenant's cache shard. Answer: ``strata.cache.CacheStats``."""

    principal: Principal


@attrs.frozen
class GetLineage:
    """Follow the inputs of an artifact. Answer: :class:`Lineage`."""

    principal: Principal
    artifact_id: str
    version: int
    max_depth: int


@attrs.frozen
class Node:
    """Something that results are made of, or a result.

    Attributes:
        uri: Its URI; ``redacted:<n>`` for what the caller may not see.
        type: ``artifact``, ``table`` or ``redacted``.
        artifact_id: Of an artifact; likewise the rest.
        version: Its version.
        transform_ref: What made it.
        created_at: When.
    """

    uri: str
    type: str
    artifact_id: str | None = None
    version: int | None = None
    transform_ref: str | None = None
    created_at: float | None = None


@attrs.frozen
class Edge:
    """An input of a result.

    Attributes:
        source: The input's URI.
        target: The result's.
        version: The input's version; None if the caller may not see it.
    """

    source: str
    target: str
    version: str | None


@attrs.frozen
class Lineage:
    """What a result was made of.

    Attributes:
        root: The result.
        nodes: It, and everything found on the way.
        edges: How they hang together.
        depth: Steps to the farthest of them.
        direct: Its own inputs.
        truncated: Whether there is more than an answer holds.
    """

    root: ArtifactRecord
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    depth: int
    direct: tuple[str, ...]
    truncated: bool


@attrs.frozen
class GetDependents:
    """Find what was made of an artifact. Answer: :class:`Dependents`."""

    principal: Principal
    artifact_id: str
    version: int


@attrs.frozen
class Dependents:
    """What was made of a result, as far as the caller may read it.

    Attributes:
        root: The result.
        dependents: What was made of it, the oldest first.
        total: How many there are.
    """

    root: ArtifactRecord
    dependents: tuple[Node, ...]
    total: int


@attrs.frozen
class GetNameStatus:
    """Say whether a named result is stale. Answer: :class:`NameStatus`."""

    principal: Principal
    name: str


@attrs.frozen
class NameStatus:
    """A named result and the inputs that have moved on since."""

    name: NameRecord
    artifact: ArtifactRecord
    changed: tuple[ChangedInput, ...]


@attrs.frozen
class Warm:
    """A part of a table that should be in the cache.

    Attributes:
        uri: The table.
        columns: Of it; None: all that the caller may read.
    """

    uri: str
    columns: tuple[str, ...] | None


@attrs.frozen
class WarmCache:
    """Read parts of tables into the cache; of none if one is refused. Answer: :class:`Warmed`."""

    principal: Principal
    parts: tuple[Warm, ...]


@attrs.frozen
class Warmed:
    """What is in the cache now, by part.

    Attributes:
        segments: Row groups there are to it.
        found: How many of them were in the cache before.
        cached: How many are in it now; fewer where its budget is too small.
    """

    segments: tuple[int, ...]
    found: tuple[int, ...]
    cached: tuple[int, ...]


@attrs.frozen
class ExplainAccess:
    """Say why the rules decide as they do. Answer: :class:`AccessExplained`."""

    principal: Principal
    request: acl.Request


@attrs.frozen
class AccessExplained:
    """Why.

    Attributes:
        explanation: What the rules say; None: there are none, and everything is permitted.
    """

    explanation: acl.Explanation | None


@attrs.frozen
class ReloadRules:
    """Read the rules' own file again.

    Answer: what :meth:`~strata.config.rules_file.RulesFile.reload` returns.
    """

    principal: Principal


@attrs.frozen
class UpdateLimits:
    """Take new limits, at once and without a restart. Answer: the limits."""

    limits: TenantLimits


@attrs.frozen
class FitCache:
    """Shrink the cache to what it may have by now. Answer: None."""


@attrs.frozen
class Describe:
    """Say how the tenant does. Answer: :class:`Description`."""


@attrs.frozen
class SlotUse:
    """The slots of one tier; more may be in use than there are, while lowered ones drain."""

    tier: str
    total: int
    used: int
    waiting: int


@attrs.frozen
class InFlight:
    """A running build: its id, once it is admitted, how far it is, from 0.0 to 1.0, and who asked for it."""

    build_id: str | None
    progress: float
    principals: tuple[str, ...] = ()


@attrs.frozen
class Description:
    """How a tenant does at this moment.

    Attributes:
        limits: What it may use.
        slots: Its slots by tier.
        in_flight: Its running builds.
        questions: How many questions are being answered.
        streams: How many streams wait for their reader.
        cache: Its cache shard's counters.
    """

    limits: TenantLimits
    slots: tuple[SlotUse, ...]
    in_flight: tuple[InFlight, ...]
    questions: int
    streams: int
    cache: CacheStats


@attrs.frozen(eq=False)
class Pending:
    """The rest of a question's work: what has to wait for a thread, a build or a store.

    Attributes:
        finish: Does the rest and returns the answer; first checks what may have changed since.
    """

    finish: Callable[[], Awaitable[Any]]


Question = (
    Materialize
    | OpenStream
    | OpenArtifact
    | GetArtifact
    | GetBuild
    | Explain
    | ListArtifacts
    | ArtifactStats
    | GetName
    | ListNames
    | ClearCache
    | DescribeCache
    | GetLineage
    | GetDependents
    | GetNameStatus
    | WarmCache
    | ExplainAccess
    | ReloadRules
    | UpdateLimits
    | FitCache
    | Describe
)
