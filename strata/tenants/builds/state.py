"""A running build: owned by the actor, watched by any number of requests."""

from __future__ import annotations

import attrs
import trio

from strata.artifacts import ArtifactRecord, BuildRecord
from strata.outcomes import Refused
from strata.tenants.limits.slots import Lease
from strata.tenants.shared.byte_stream import Tail


@attrs.define(eq=False)
class Build:
    """One build, from the first request for it to its end.

    Requests wait for ``admitted``; readers follow ``tail``; ``done`` is set when the outcome is final, and
    ``settled`` when the cache has what it will have of it.

    Attributes:
        key: The provenance hash it is single-flight for.
        inputs: (URI, version) pairs it is built from.
        scope: Cancelling it ends the build.
        wanted: Requests that wait for admission; when the last one leaves before it, so does the build.
        readers: Streams open on it.
        record: Its row in the metadata store, once admitted.
        tail: Its growing blob, once admitted.
        principals: Who asks for it; any one's turn will do.
        lease: The slot it holds or waits for; given back at the end, or when its last reader leaves.
        memory: What it has reserved of the process's memory, or waits for; given back at its very end.
        rows_done: Rows read so far, before filters.
        rows_planned: Rows the plan says there are to read.
        exact_rows: Rows of the result, when the plan knows.
        names: Names to point at the result, of requests that joined.
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
    lease: Lease | None = None
    memory: Lease | None = None
    rows_done: int = 0
    rows_planned: int = 0
    exact_rows: int | None = None
    names: set[str] = attrs.field(factory=set)
    outcome: ArtifactRecord | Refused | None = None
    admitted: trio.Event = attrs.field(factory=trio.Event)
    done: trio.Event = attrs.field(factory=trio.Event)
    settled: trio.Event = attrs.field(factory=trio.Event)

    @property
    def progress(self) -> float:
        """How far it is, from 0.0 to 1.0, by rows."""
        if self.done.is_set() or not self.rows_planned:
            return 1.0 if self.done.is_set() else 0.0
        return min(1.0, self.rows_done / self.rows_planned)

    def ask(self, principal: str) -> None:
        """Note somebody who asks for it; whoever it waits for a slot with, another's turn may come first."""
        if principal not in self.principals:
            self.principals.append(principal)
            if self.lease is not None:
                self.lease.join(principal)

    def admit(self, record: BuildRecord) -> None:
        """Let those who wait have its ids, and its bytes as they come."""
        self.record = record
        self.admitted.set()

    def finish(self, outcome: ArtifactRecord | Refused) -> None:
        """Settle the outcome and wake everybody. The first outcome counts."""
        if self.done.is_set():
            return
        self.outcome = outcome
        if self.tail is not None:
            self.tail.end(outcome if isinstance(outcome, Refused) else None)
        self.release_slot()
        self.admitted.set()
        self.done.set()

    def release_slot(self) -> None:
        """Give its slot back, once."""
        if self.lease is not None:
            self.lease.release()

    async def wait_admitted(self) -> None:
        """Wait until it runs or was refused. If the last one who waits is cancelled, so is the build."""
        self.wanted += 1
        try:
            await self.admitted.wait()
        finally:
            self.wanted -= 1
            if not self.wanted and not self.admitted.is_set():
                self.scope.cancel()

    def opened(self) -> None:
        """A reader came."""
        self.readers += 1

    def closed(self) -> None:
        """A reader left. The last one's slot is free at once; the build goes on without it."""
        self.readers -= 1
        if not self.readers:
            self.release_slot()
