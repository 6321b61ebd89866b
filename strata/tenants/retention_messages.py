"""The questions about builds and the end of results, and answers; see :mod:`strata.tenants.messages`."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from strata.auth import Principal


@attrs.frozen
class RemoveArtifact:
    """Remove a version of a result. Answer: :class:`ArtifactRemoved`.

    Attributes:
        principal: The caller, who may write results.
        artifact_id: Id of the artifact.
        version: Number of the version.
        request_id: Id of the request, for the audit.
    """

    principal: Principal
    artifact_id: str
    version: int
    request_id: str


@attrs.frozen
class ArtifactRemoved:
    """A version was removed; ``byte_size`` is that of its result."""

    artifact_id: str
    version: int
    byte_size: int


@attrs.frozen
class CollectArtifacts:
    """Remove the tenant's results that may go. Answer: :class:`ArtifactsCollected`.

    Attributes:
        principal: The caller, an administrator of the tenant's results.
        request_id: Id of the request, for the audit.
        dry_run: Only say what would be removed.
        max_idle: Seconds after which an unused result goes; None: the tenant's limit.
        max_bytes: Bytes to which unused results are reduced; None: the tenant's limit.
        min_idle: Seconds for which every result stays after its last use; None: the tenant's limit.
    """

    principal: Principal
    request_id: str
    dry_run: bool = False
    max_idle: float | None = None
    max_bytes: int | None = None
    min_idle: float | None = None


@attrs.frozen
class ArtifactsCollected:
    """What was removed, or would be.

    Attributes:
        results: Number of results.
        nbytes: Bytes of them and of their texts.
        stored_bytes: Bytes that the tenant keeps afterwards.
    """

    results: int
    nbytes: int
    stored_bytes: int


@attrs.frozen
class WhyKept:
    """Say why a result is kept, and when it may go. Answer: :class:`Retained`."""

    principal: Principal
    artifact_id: str
    version: int


@attrs.frozen
class Retained:
    """Why a result is kept.

    Attributes:
        used_at: Its last use, in seconds since the epoch; None: unknown.
        names: Names that point at it, those the caller may see.
        dependents: URIs of results that were made of it, those the caller may see.
        building: Whether it is being built.
        in_use: Whether it is being read now.
        aliases: Aliases that point at it, as (name, alias), those the caller may see.
        pins: Reasons for which it is pinned.
        pending: Whether a change of a protected alias waits to point at it.
        hidden: Whether something holds it that the caller may not see.
        may_go_at: When it may be removed at the earliest, if space is needed; None: while it is held, never.
        goes_at: When it is removed in any case, unless it is used; None: never.
    """

    used_at: float | None
    names: tuple[str, ...]
    dependents: tuple[str, ...]
    building: bool
    in_use: bool
    hidden: bool
    may_go_at: float | None
    goes_at: float | None
    aliases: tuple[tuple[str, str], ...] = ()
    pins: tuple[str, ...] = ()
    pending: bool = False


@attrs.frozen
class CancelBuild:
    """End a build for a caller that asked for it. Answer: :class:`BuildCancelled`."""

    principal: Principal
    build_id: str


@attrs.frozen
class BuildCancelled:
    """Whether a build was ended; ``state`` is the build's afterwards."""

    build_id: str
    cancelled: bool
    state: str


@attrs.frozen
class WorkFilter:
    """Chooses builds or streams.

    Attributes:
        ids: Their ids; None: all.
        principal: One of the principals that asked for a build, or the owner of a stream; None: any.
        state: Their state; None: any.
    """

    ids: frozenset[str] | None = None
    principal: str | None = None
    state: str | None = None

    def chooses(self, ids: Iterable[str | None], principals: Iterable[str], state: str) -> bool:
        """Whether one with any of these ids, these principals and this state is chosen."""
        return (
            (self.ids is None or not self.ids.isdisjoint(one for one in ids if one is not None))
            and (self.principal is None or self.principal in principals)
            and (self.state is None or self.state == state)
        )


@attrs.frozen
class ListBuilds:
    """List builds under way, for administrators. Answer: :class:`BuildsListed`.

    Attributes:
        chosen: Which of them.
        after: The ``place`` behind which the page begins; empty: the first page.
        limit: Most builds to return, at least 1.
    """

    chosen: WorkFilter
    after: str
    limit: int


@attrs.frozen
class BuildLine:
    """A build under way.

    Attributes:
        place: Its place in the order of all builds.
        build_id: Its id; None before it is admitted.
        artifact: Id and version of the result; None before it is admitted.
        state: ``waiting`` (for a slot or memory), ``building``, ``committing``, or ``elsewhere``: another
            server builds it.
        waits_for: The limit that it waits for; None if it waits for none.
        principals: Those that asked for it, the first one first.
        tables: Each table that it reads: its resource, the snapshot, the rule that decided on the first
            caller, and whether that allows the read.
        tables_cut: Whether there are further tables.
        rows_done: Rows read so far, before filters.
        rows_planned: Rows to read; 0 if that is not known.
        nbytes: Bytes written so far.
        progress: The part that is done, from 0.0 to 1.0.
        readers: Streams open on it.
    """

    place: str
    build_id: str | None
    artifact: tuple[str, int] | None
    state: str
    waits_for: str | None
    principals: tuple[str, ...]
    tables: tuple[tuple[str, str | None, str, bool], ...]
    tables_cut: bool
    rows_done: int
    rows_planned: int
    nbytes: int
    progress: float
    readers: int


@attrs.frozen
class BuildsListed:
    """A page of builds, and whether further ones follow."""

    builds: tuple[BuildLine, ...]
    more: bool


@attrs.frozen
class ListStreams:
    """List the streams that are remembered, for administrators. Answer: :class:`StreamsListed`.

    Attributes:
        chosen: Which of them.
        after: The stream id behind which the page begins; empty: the first page.
        limit: Most streams to return, at least 1.
    """

    chosen: WorkFilter
    after: str
    limit: int


@attrs.frozen
class StreamLine:
    """A stream.

    Attributes:
        stream_id: Its id.
        owner: The principal that may read it.
        state: ``unread``, ``being read`` or ``read``.
        artifact: Id and version of its result; None before its build is admitted.
        seconds: Seconds until it is forgotten.
    """

    stream_id: str
    owner: str
    state: str
    artifact: tuple[str, int] | None
    seconds: float


@attrs.frozen
class StreamsListed:
    """A page of streams, and whether further ones follow."""

    streams: tuple[StreamLine, ...]
    more: bool


@attrs.frozen
class StopBuilds:
    """End builds for an administrator, and wait for their end. Answer: :class:`BuildsStopped`."""

    chosen: WorkFilter


@attrs.frozen
class BuildsStopped:
    """How many builds were chosen, and how many of them were ended; others are whole, or run elsewhere."""

    chosen: int
    stopped: int


WorkQuestion = ListBuilds | ListStreams | StopBuilds

RetentionQuestion = RemoveArtifact | CollectArtifacts | WhyKept | CancelBuild | WorkQuestion
