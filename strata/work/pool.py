"""The process-wide work pool: as many quanta at a time as there are cores, in fair order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import attrs
import trio

from strata.work.fair import FairQueue, Ticket
from strata.work.tier import Tier

T = TypeVar("T")


class WorkPool:
    """Runs blocking quanta (decode, encode, hash, file I/O) in worker threads.

    A quantum should last a few milliseconds: nothing interrupts it. Whoever is cancelled while it waits
    leaves the queue at once; whoever is cancelled while it runs returns at once (unless it asked not to),
    and its slot comes back when the thread does.

    Args:
        slots: Quanta that run at the same time.
        inline: Run quanta on the loop instead of in threads, for deterministic simulation.
    """

    def __init__(self, slots: int, *, inline: bool = False) -> None:
        if slots < 1:
            raise ValueError(f"a work pool needs at least one slot, not {slots}")
        self.slots = slots
        self.running = 0
        self._inline = inline
        self._queue = FairQueue()

    def __repr__(self) -> str:
        return f"<WorkPool {self.running}/{self.slots} running, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Quanta in the queue."""
        return len(self._queue)

    async def run(
        self,
        flow: str,
        tier: Tier,
        quantum: Callable[[], T],
        *,
        cost: int = 65536,
        abandon: bool = True,
        urgent: bool = False,
    ) -> T:
        """Run ``quantum`` when it is ``flow``'s turn and return what it returns.

        Args:
            flow: Whose work it is (the tenant).
            tier: Interactive or bulk.
            quantum: A blocking callable; its exceptions are the caller's.
            cost: Expected bytes, by which turns are shared out.
            abandon: Return at once when cancelled, though the quantum still runs; False for one whose
                files somebody will clean up.
            urgent: Go before the flow's own other work.
        """
        turn = _Turn(flow, tier, cost, urgent, pool=self)
        if self._inline:
            await turn.acquire_on_behalf_of(turn)
            try:
                return quantum()
            finally:
                turn.release_on_behalf_of(turn)
        # Trio documents any object with these two methods as a limiter; its annotation names only its own.
        limiter = cast("trio.CapacityLimiter", turn)
        return await trio.to_thread.run_sync(quantum, abandon_on_cancel=abandon, limiter=limiter)

    def _enter(self, turn: _Turn) -> bool:
        if self.running < self.slots:
            self.running += 1
            return True
        self._queue.push(turn)
        return False

    def _leave_queue(self, turn: _Turn) -> None:
        if not self._queue.remove(turn):
            self._release()  # its turn had come in the same instant

    def _release(self) -> None:
        following = self._queue.pop()
        if following is None:
            self.running -= 1
        else:
            assert isinstance(following, _Turn)
            following.come.set()


@attrs.define(eq=False)
class _Turn(Ticket):
    """One quantum's place in the queue, in the shape of the limiter that Trio asks of a thread.

    Trio releases it when the thread has really finished, also when whoever waited was cancelled before.
    """

    pool: WorkPool = attrs.field(kw_only=True)
    come: trio.Event = attrs.field(factory=trio.Event)

    async def acquire_on_behalf_of(self, _borrower: object, /) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.pool._enter(self):  # noqa: SLF001  # a turn is the pool's own other half
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        try:
            await self.come.wait()
        except trio.Cancelled:
            self.pool._leave_queue(self)  # noqa: SLF001
            raise

    def release_on_behalf_of(self, _borrower: object, /) -> None:
        self.pool._release()  # noqa: SLF001
