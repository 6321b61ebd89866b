"""The questions to a tenant's actor and its answers: frozen values without behaviour.

An answer is the value named in the question's docstring or a :class:`~strata.outcomes.Refused`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from strata import acl
from strata.artifacts import ArtifactRecord, BuildRecord, Cursor, NameRecord
from strata.auth import Principal
from strata.cache import CacheStats
from strata.tenants.discovery_messages import DiscoveryQuestion
from strata.tenants.limits.model import TenantLimits
from strata.tenants.notebooks.messages import NotebookQuestion
from strata.tenants.registry_messages import RegistryQuestion
from strata.tenants.shared.byte_stream import ByteStream


class Mode(enum.Enum):
    """How the caller receives the result (``mode`` of a materialize request)."""

    STREAM = "stream"
    ARTIFACT = "artifact"


@attrs.frozen
class Transformation:
    """A transform and its inputs: the identity of a result before the inputs' versions are known.

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
    """Find a result or build it. Answer: :class:`Materialized`. ``request_id`` is for the audit."""

    principal: Principal
    what: Transformation
    mode: Mode = Mode.STREAM
    name: str | None = None
    refresh: bool = False
    request_id: str = ""


@attrs.frozen
class Materialized:
    """A result that is ready (``hit``) or being built.

    Attributes:
        artifact_id: Id of the artifact.
        version: Its version, from 1.
        hit: Whether it is ready.
        build_id: Id of the running build; None for a hit.
        stream_id: Id of the stream to read it by; None for a hit and in artifact mode.
    """

    artifact_id: str
    version: int
    hit: bool
    build_id: str | None = None
    stream_id: str | None = None


@attrs.frozen
class OpenStream:
    """Read a result by its stream, while it is built or afterwards. Answer: :class:`Opened`."""

    principal: Principal
    stream_id: str


@attrs.frozen
class OpenArtifact:
    """Read a finished result, or with ``signed`` get its object's address. Answer: :class:`Opened`."""

    principal: Principal
    artifact_id: str
    version: int
    signed: bool = False


@attrs.frozen
class Opened:
    """The bytes of a result: an Arrow IPC stream.

    Attributes:
        stream: The bytes; the receiver closes it.
        artifact_id: Id of the artifact.
        version: Its version.
        rows: Rows in the whole stream, when known.
        sha256: Hex digest of the whole stream, when known.
        inputs: Versions of its inputs by URI, for the access audit.
    """

    stream: ByteStream
    artifact_id: str
    version: int
    rows: int | None = None
    sha256: str | None = None
    inputs: Mapping[str, str] | None = None


@attrs.frozen
class GetArtifact:
    """Describe an artifact, ``finished`` only or any. Answer: :class:`~strata.artifacts.ArtifactRecord`."""

    principal: Principal
    artifact_id: str
    version: int
    finished: bool = False


@attrs.frozen
class GetBuild:
    """Describe a build. Answer: :class:`BuildStatus`."""

    principal: Principal
    build_id: str


@attrs.frozen
class BuildStatus:
    """A build's record and its progress from 0.0 to 1.0, where known."""

    record: BuildRecord
    progress: float | None


@attrs.frozen
class Explain:
    """Predict what :class:`Materialize` would do, and change nothing. Answer: :class:`Explanation`."""

    principal: Principal
    what: Transformation
    name: str | None = None


@attrs.frozen
class ChangedInput:
    """An input whose version differs from the one in a result."""

    uri: str
    old_version: str | None
    new_version: str | None


@attrs.frozen
class Explanation:
    """What a materialize request would find.

    Attributes:
        artifact: The ready result it would hit, or the stale one it would replace.
        would_hit: Whether the result is ready.
        versions: Resolved input versions by URI, in the caller's order.
        changed: The inputs that make an older result stale; empty when no older one is known.
    """

    artifact: ArtifactRecord | None
    would_hit: bool
    versions: Mapping[str, str]
    changed: tuple[ChangedInput, ...]


@attrs.frozen
class ListArtifacts:
    """List a page of the tenant's artifacts. Answer: :class:`~strata.artifacts.Page`."""

    principal: Principal
    limit: int
    offset: int
    state: str | None = None
    name_prefix: str | None = None
    since: float | None = None
    sort: str = "created_at"
    order: str = "desc"
    after: Cursor | None = None  # the last one of the page before; `total` is that of the first page
    total: int = 0


@attrs.frozen
class ArtifactStats:
    """Count the tenant's artifacts and bytes by state. Answer: :class:`~strata.artifacts.Stats`."""

    principal: Principal


@attrs.frozen
class GetName:
    """Resolve a name. Answer: :class:`~strata.artifacts.NameRecord`."""

    principal: Principal
    name: str


@attrs.frozen
class ListNames:
    """List up to ``limit`` names, in order. Answer: a tuple of :class:`~strata.artifacts.NameRecord`."""

    principal: Principal
    after: str = ""
    limit: int | None = None


@attrs.frozen
class ClearCache:
    """Drop every cached segment of the tenant. Answer: :class:`Cleared`."""

    principal: Principal


@attrs.frozen
class Cleared:
    """The cache is empty."""


@attrs.frozen
class DescribeCache:
    """Return the counters of the tenant's cache shard. Answer: ``strata.cache.CacheStats``."""

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
    """A result or an input, in a lineage.

    Attributes:
        uri: Its URI; ``redacted:<n>`` if the caller may not see it.
        type: ``artifact``, ``table`` or ``redacted``.
        artifact_id: An artifact's id; None for a table and redacted, as all that follows.
        version: The artifact's version.
        transform_ref: The transform that made it.
        created_at: Seconds since the epoch.
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
        target: The result's URI.
        version: The input's version; None if the caller may not see it.
    """

    source: str
    target: str
    version: str | None


@attrs.frozen
class Lineage:
    """The inputs of a result, direct and indirect.

    Attributes:
        root: The result.
        nodes: The result and its inputs.
        edges: Which of them is an input of which.
        depth: Steps to the farthest input.
        direct: URIs of the direct inputs.
        truncated: Whether inputs were left out, for an answer's size is bounded.
    """

    root: ArtifactRecord
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    depth: int
    direct: tuple[str, ...]
    truncated: bool


@attrs.frozen
class GetDependents:
    """Find the results that have an artifact among their inputs. Answer: :class:`Dependents`."""

    principal: Principal
    artifact_id: str
    version: int


@attrs.frozen
class Dependents:
    """The dependents of a result that the caller may read.

    Attributes:
        root: The result.
        dependents: Its dependents, the oldest first.
        total: How many there are.
    """

    root: ArtifactRecord
    dependents: tuple[Node, ...]
    total: int


@attrs.frozen
class GetNameStatus:
    """Check whether a named result is stale. Answer: :class:`NameStatus`."""

    principal: Principal
    name: str


@attrs.frozen
class NameStatus:
    """A named result and its inputs that have another version now."""

    name: NameRecord
    artifact: ArtifactRecord
    changed: tuple[ChangedInput, ...]


@attrs.frozen
class Warm:
    """Columns of a table to read into the cache.

    Attributes:
        uri: The table's URI.
        columns: The columns; None: all that the caller may read.
    """

    uri: str
    columns: tuple[str, ...] | None


@attrs.frozen
class WarmCache:
    """Read columns of tables into the cache; of none if one is refused. Answer: :class:`Warmed`."""

    principal: Principal
    parts: tuple[Warm, ...]


@attrs.frozen
class Warmed:
    """The row groups in the cache now, for each :class:`Warm` in order.

    Attributes:
        segments: Row groups of the table.
        found: How many of them were cached before.
        cached: How many are cached now; fewer where the budget is too small.
    """

    segments: tuple[int, ...]
    found: tuple[int, ...]
    cached: tuple[int, ...]


@attrs.frozen
class ExplainAccess:
    """Explain a decision of the access rules. Answer: :class:`AccessExplained`."""

    principal: Principal
    request: acl.Request


@attrs.frozen
class AccessExplained:
    """The explanation of a decision.

    Attributes:
        explanation: The grounds; None: there are no rules, and everything is permitted.
    """

    explanation: acl.Explanation | None


@attrs.frozen
class ReloadRules:
    """Read the rules' file again. Answer: that of :meth:`~strata.config.rules_file.RulesFile.reload`."""

    principal: Principal


@attrs.frozen
class UpdateLimits:
    """Replace the tenant's limits at once, without a restart. Answer: the limits."""

    limits: TenantLimits


@attrs.frozen
class FitCache:
    """Shrink the cache to its present allowance. Answer: None."""


@attrs.frozen
class Describe:
    """Describe the tenant's present state. Answer: :class:`Description`."""


@attrs.frozen
class SlotUse:
    """The slots of one tier; ``used`` exceeds ``total`` while a lowered limit drains."""

    tier: str
    total: int
    used: int
    waiting: int


@attrs.frozen
class InFlight:
    """A running build: its id once it is admitted, its progress from 0.0 to 1.0, and its principals."""

    build_id: str | None
    progress: float
    principals: tuple[str, ...] = ()


@attrs.frozen
class Description:
    """The present state of a tenant.

    Attributes:
        limits: The limits.
        slots: The slots by tier.
        in_flight: The running builds.
        questions: Questions being answered.
        streams: Streams that wait for their readers.
        cache: Counters of the cache shard.
    """

    limits: TenantLimits
    slots: tuple[SlotUse, ...]
    in_flight: tuple[InFlight, ...]
    questions: int
    streams: int
    cache: CacheStats


@attrs.frozen(eq=False)
class Pending:
    """The rest of a question's work, which waits for a thread, a build or a store.

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
    | DiscoveryQuestion
    | RegistryQuestion
    | NotebookQuestion
)
