"""A running build: owned by the actor, followed by any number of requests."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping

import attrs
import structlog
import trio

from strata.artifacts import ArtifactRecord, BlobWriter, BuildRecord, NameOrder
from strata.auth import Principal
from strata.outcomes import Limit, Reason, RefusalError, Refused
from strata.tenants.limits.slots import Lease
from strata.tenants.shared.byte_stream import Tail
from strata.tenants.shared.left_streams import LeftStream
from strata.tenants.stats.build_log import BuildLog
from strata.tenants.stats.unended_builds import UnendedBuilds

logger = structlog.get_logger(__name__)

ABANDONED = Refused(
    Reason.UNAVAILABLE,
    "The build was cancelled: no request waited for it.",
    code="abandoned",
    retry_after=1,
)
INTERRUPTED = Refused(Reason.UNAVAILABLE, "The build was interrupted.", code="interrupted", retry_after=1)
REVOKED = Refused(
    Reason.NOT_FOUND, "The access rules no longer permit reading this result.", code="rights_changed"
)
CANCELLED = Refused(Reason.CONFLICT, "The build was cancelled by its callers.", code="cancelled")
STOPPED = Refused(Reason.CONFLICT, "An administrator has ended the build.", code="stopped")
CRASHED = Refused(Reason.FAILED, "The build failed; the server's log has the cause.", code="internal")


def discarding(unended: UnendedBuilds, tenant: str) -> Callable[[tuple[BlobWriter, int, BuildRecord]], None]:
    """Return what closes the files of a build that was begun too late; its record is failed afterwards."""

    def discard(begun: tuple[BlobWriter, int, BuildRecord]) -> None:
        writer, descriptor, record = begun
        os.close(descriptor)
        writer.abort()
        unended.add(tenant, record.build_id, ABANDONED)

    return discard


class BuiltElsewhereError(RefusalError):
    """Another server began to build the same result first.

    Args:
        record: Its build.
    """

    def __init__(self, record: BuildRecord) -> None:
        detail = "Another server builds this result."
        super().__init__(Refused(Reason.UNAVAILABLE, detail, retry_after=1))
        self.record = record


@attrs.frozen
class Written:
    """What was written of a result.

    Attributes:
        size: Bytes of the blob.
        rows: Rows.
        schema: The Arrow schema, as text.
    """

    size: int
    rows: int
    schema: str


@attrs.define(eq=False)
class Stream:
    """A promised stream of a build.

    Attributes:
        owner: Id of the principal that may read it.
        build: Its build.
        expires: When it is forgotten, on Trio's clock.
    """

    owner: str
    build: Build
    expires: float

    def left(self) -> LeftStream | None:
        """Return what is remembered of the stream without its build; None before the build has a record."""
        record = self.build.record
        if record is None:
            return None
        return LeftStream(self.owner, record.artifact_id, record.version, self.expires)


def too_many_streams(
    streams: Mapping[str, Stream | LeftStream], principal: str, most: int, places_left: int
) -> Refused | None:
    """Refuse one more stream for a principal.

    Args:
        streams: The tenant's streams that wait for their reader.
        principal: Id of the principal.
        most: Most streams of a tenant.
        places_left: A principal may have at most this many times the streams that are still free.
    """
    total = len(streams)
    enough = places_left * (most - total)
    if total < enough:
        return None
    mine = [stream for stream in streams.values() if stream.owner == principal]
    if total < most and (not mine or len(mine) < enough):
        return None
    whose = f"This tenant has {total}" if total >= most else f"You have {len(mine)}"
    waiting = streams.values() if total >= most else mine
    seconds = max(1, math.ceil(min(stream.expires for stream in waiting) - trio.current_time()))
    detail = (
        f"{whose} streams whose time is not over (stream_state_ttl_seconds), of {most}; "
        f"ask for the same stream less often, or wait {seconds} seconds."
    )
    return Refused(Reason.BUSY, detail, "streams", seconds, limit=Limit("streams", most, seconds))


COMMITTED_SOON = 4 << 20
"""Largest result in bytes whose commit is waited for: milliseconds, unless the disk is busy."""


@attrs.frozen
class Hashed:
    """A result whose bytes are all in its file, while they are committed.

    Attributes:
        size: Bytes of the result.
        sha256: Hex SHA-256 of them.
        rows: Its rows.
    """

    size: int
    sha256: str
    rows: int


@attrs.define(eq=False)
class Build:
    """One build, from the first request for it to its end.

    Requests wait for ``admitted``; readers wait for ``readable``, which is set with it unless another server
    runs the build, and follow ``tail``; ``done`` is set when the outcome is final, and
    ``settled`` when the cache has what it will have of it.

    Attributes:
        key: The provenance hash it is single-flight for.
        inputs: (URI, version) pairs it is built from.
        scope: Cancelling it ends the build.
        wanted: Requests that wait for admission; when the last one leaves before it, so does the build.
        readers: Streams open on it.
        record: Its row in the metadata store, once admitted.
        tail: Its growing blob, once admitted.
        principals: The principals that want it, the first one first; the slot turn of any of them serves.
        callers: The same with their scopes, whose rights decide whether it goes on when the rules change.
        left: The principals that cancelled it; with the last of all it ends.
        revoked: Whether it was cancelled because none of them may read its result any more.
        ended: Whether an administrator has ended it.
        lease: The slot it holds or waits for; released at the end, or when its last reader leaves.
        memory: Its reservation of the process's memory, held or waited for; released at its very end.
        told: Its progress as another server that runs it has told; 0 until it does.
        rows_done: Rows read so far, before filters.
        rows_planned: Rows to read by the plan; 0 if that is not to be told: the progress is 0 until the end.
        exact_rows: Rows of the result, where the plan knows.
        names: Names to point at the result, of requests that joined; None once it is being made ready.
        log: What its transform prints.
        written: Its whole result, which can be read before it is committed; None before that.
        outcome: The finished artifact, or why there is none.
    """

    key: str
    inputs: tuple[tuple[str, str], ...]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    wanted: int = 0
    readers: int = 0
    record: BuildRecord | None = None
    tail: Tail | None = None
    principals: list[str] = attrs.field(factory=list)
    callers: set[Principal] = attrs.field(factory=set)
    left: set[str] = attrs.field(factory=set)
    revoked: bool = False
    ended: bool = False
    lease: Lease | None = None
    memory: Lease | None = None
    told: float = 0.0
    rows_done: int = 0
    rows_planned: int = 0
    exact_rows: int | None = None
    log: BuildLog = attrs.field(factory=BuildLog)
    names: dict[str, NameOrder] | None = attrs.field(factory=dict)
    written: Hashed | None = None
    outcome: ArtifactRecord | Refused | None = None
    hashed: trio.Event = attrs.field(factory=trio.Event)
    readable: trio.Event = attrs.field(factory=trio.Event)
    admitted: trio.Event = attrs.field(factory=trio.Event)
    done: trio.Event = attrs.field(factory=trio.Event)
    settled: trio.Event = attrs.field(factory=trio.Event)

    @property
    def progress(self) -> float:
        """The part that is done, from 0.0 to 1.0, by rows."""
        if self.done.is_set() or not self.rows_planned:
            return 1.0 if self.done.is_set() else self.told
        return min(1.0, self.rows_done / self.rows_planned)

    @property
    def kind(self) -> str:
        """The word for its end: ``ready``, or the code of the refusal."""
        found = self.outcome
        return found.code or found.reason.value if isinstance(found, Refused) else "ready"

    def ask(self, principal: str) -> None:
        """Add a principal that wants the build: its turn for a slot may come before the others'."""
        self.left.discard(principal)
        if principal not in self.principals:
            self.principals.append(principal)
            if self.lease is not None:
                self.lease.join(principal)

    def add_name(self, order: NameOrder) -> bool:
        """Have the result named when it becomes ready; returns False if it is too late for that."""
        if self.names is None or self.done.is_set():
            return False
        self.names[order.name] = order
        return True

    def take_names(self) -> tuple[NameOrder, ...]:
        """Return the names to set when the result becomes ready; :meth:`add_name` takes none from now on."""
        names, self.names = self.names or {}, None
        return tuple(names.values())

    @property
    def stopped(self) -> Refused:
        """The outcome of a build whose scope was cancelled."""
        if self.revoked:
            return REVOKED
        if self.ended:
            return STOPPED
        return CANCELLED if self.left.issuperset(self.principals) and self.left else ABANDONED

    def leave(self, principal: str) -> bool:
        """Note that a principal wants the build no more; returns True if that ends it.

        It goes on for others that asked for it, and once its whole result can be read.
        """
        if principal not in self.principals or self.written is not None or self.done.is_set():
            return False
        self.left.add(principal)
        if not self.left.issuperset(self.principals):
            return False
        self.scope.cancel()
        return True

    @property
    def state(self) -> str:
        """``waiting``, ``building``, ``committing`` or ``elsewhere``: another server builds it."""
        if self.written is not None:
            return "committing"
        if self.record is not None:
            return "elsewhere" if self.tail is None else "building"
        return "waiting"

    @property
    def is_written(self) -> bool:
        """Whether all of its bytes are written: its commit takes milliseconds."""
        return self.tail is not None and self.tail.ended

    @property
    def commits_long(self) -> bool:
        """Test whether its bytes are all written, and more than :data:`COMMITTED_SOON`."""
        long = self.is_written and self.tail is not None and self.tail.size > COMMITTED_SOON
        return long and not isinstance(self.outcome, Refused)

    def end(self, principal: str | None = None) -> bool:
        """End the build for an administrator; returns False if it is whole, over, or another server's.

        Args:
            principal: End it for this principal only: it goes on for others that asked for it.
        """
        if self.state in {"committing", "elsewhere"} or self.done.is_set():
            return False
        if principal is not None and not self.leave(principal):
            return False
        self.ended = True
        self.scope.cancel()
        return True

    def revoke(self) -> None:
        """End the build: no caller may read its result."""
        self.revoked = True
        self.scope.cancel()

    def admit(self, record: BuildRecord) -> None:
        """Publish the build's record: requests have its ids, and its bytes as they are written."""
        self.record = record
        self.admitted.set()
        if self.tail is not None:
            self.readable.set()

    def announce(self, written: Hashed) -> None:
        """Publish the whole result: it can be read, while its commit goes on."""
        self.written = written
        self.hashed.set()

    def finish(self, outcome: ArtifactRecord | Refused) -> None:
        """Settle the outcome and wake all who wait for it. The first outcome counts."""
        if self.done.is_set():
            return
        self.outcome = outcome
        if isinstance(outcome, Refused) and outcome.reason is Reason.DATA_UNREADABLE:
            build_id = None if self.record is None else self.record.build_id
            logger.warning(
                "table unreadable", build_id=build_id, error=outcome.code, detail=outcome.detail
            )  # which names the file
        if self.tail is not None:
            self.tail.end(outcome if isinstance(outcome, Refused) else None)
        self.log.close()
        self.release_slot()
        self.admitted.set()
        self.hashed.set()
        self.readable.set()
        self.done.set()

    def release_slot(self) -> None:
        """Release the slot. Harmless when repeated."""
        if self.lease is not None:
            self.lease.release()

    async def wait_admitted(self) -> None:
        """Wait until the build runs or was refused. If the last waiting request is cancelled, so is it."""
        self.wanted += 1
        try:
            await self.admitted.wait()
        finally:
            self.wanted -= 1
            if not self.wanted and not self.admitted.is_set():
                self.scope.cancel()

    def opened(self) -> None:
        """Count a reader."""
        self.readers += 1

    def closed(self) -> None:
        """Uncount a reader. With the last one the slot is free at once; the build goes on without it."""
        self.readers -= 1
        if not self.readers:
            self.release_slot()
