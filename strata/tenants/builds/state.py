"""A running build: owned by the actor, followed by any number of requests."""

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
        principals: The principals that want it, the first one first; the slot turn of any of them serves.
        lease: The slot it holds or waits for; released at the end, or when its last reader leaves.
        memory: Its reservation of the process's memory, held or waited for; released at its very end.
        rows_done: Rows read so far, before filters.
        rows_planned: Rows to read by the plan.
        exact_rows: Rows of the result, where the plan knows.
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
        """The part that is done, from 0.0 to 1.0, by rows."""
        if self.done.is_set() or not self.rows_planned:
            return 1.0 if self.done.is_set() else 0.0
        return min(1.0, self.rows_done / self.rows_planned)

    def ask(self, principal: str) -> None:
        """Add a principal that wants the build: its turn for a slot may come before the others'."""
        if principal not in self.principals:
            self.principals.append(principal)
            if self.lease is not None:
                self.lease.join(principal)

    def admit(self, record: BuildRecord) -> None:
        """Publish the build's record: requests have its ids, and its bytes as they are written."""
        self.record = record
        self.admitted.set()

    def finish(self, outcome: ArtifactRecord | Refused) -> None:
        """Settle the outcome and wake all who wait for it. The first outcome counts."""
        if self.done.is_set():
            return
        self.outcome = outcome
        if self.tail is not None:
            self.tail.end(outcome if isinstance(outcome, Refused) else None)
        self.release_slot()
        self.admitted.set()
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
