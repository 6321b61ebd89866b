"""The process-wide work pool: as many quanta at a time as there are cores, in fair order."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import TypeVar

import attrs
import trio

from strata.work.fair import FairQueue, Queued, QueueEntry
from strata.work.fairness import Served
from strata.work.gradient_limit import Gradient
from strata.work.threads import run_in_thread
from strata.work.tier import Tier

T = TypeVar("T")

QUANTUM_SECONDS = 0.005
"""What an interactive quantum takes about: waiting for less is no reason to hold bulk work back."""

QUIET_SECONDS = 1.0
"""After so long without interactive work, bulk work has all slots again."""


def _equal(_flow: str) -> float:
    return 1.0


class WorkPool:
    """Runs blocking quanta (decode, encode, hash, file I/O) in worker threads.

    A quantum should last a few milliseconds: nothing interrupts it. Whoever is cancelled while it waits
    leaves the queue at once; whoever is cancelled while it runs returns at once (unless it asked not to),
    and its slot comes back when the thread does.

    Args:
        slots: Quanta that run at the same time.
        inline: Run quanta on the loop instead of in threads, for deterministic tests.
        tolerance: How many times longer than usual interactive quanta may take until they begin, with
            :data:`QUANTUM_SECONDS` for themselves, before bulk work has fewer slots, but one at least; 0:
            bulk work always has all of them.

    Attributes:
        slots: Quanta that run at the same time.
        running: Quanta that run now.
        running_bulk: How many of them are bulk.
        weight_of: Returns a tenant's weight, above zero; asked for each quantum.
    """

    def __init__(self, slots: int, *, inline: bool = False, tolerance: float = 0) -> None:
        if slots < 1:
            raise ValueError(f"a work pool needs at least one slot, not {slots}")
        self.slots = slots
        self.running = 0
        self.running_bulk = 0
        self.weight_of: Callable[[str], float] = _equal
        self._inline = inline
        self._queue = FairQueue()
        self._waiting: OrderedDict[_Turn, None] = OrderedDict()
        self._served = Served()
        self._bulk = Gradient(1, slots, tolerance=tolerance) if tolerance else None
        self._interactive_at = float("-inf")

    def __repr__(self) -> str:
        return f"<WorkPool {self.running}/{self.slots} running, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Quanta in the queue."""
        return len(self._queue)

    @property
    def oldest_wait(self) -> float:
        """Seconds for which the oldest quantum in the queue has been there; 0 when there is none."""
        oldest = next(iter(self._waiting), None)
        return 0.0 if oldest is None else trio.current_time() - oldest.since

    @property
    def largest_deficit(self) -> int:
        """Bytes by which, of the tenants that wait in a tier, one is behind another at most, at weight 1."""
        return max(self._queue.largest_deficit(tier) for tier in Tier)

    @property
    def bulk_limit(self) -> int:
        """Slots that bulk work may have now."""
        loud = trio.current_time() - self._interactive_at <= QUIET_SECONDS
        return self._bulk.limit if self._bulk is not None and loud else self.slots

    def queued_quanta(self) -> Counter[str]:
        """Return how many quanta each tenant has in the queue; those without any are left out."""
        return self._queued(attrgetter("quanta"))

    def queued_bytes(self) -> Counter[str]:
        """Return the expected bytes of what each tenant has in the queue; likewise."""
        return self._queued(attrgetter("nbytes"))

    def _queued(self, what: Callable[[Queued], int]) -> Counter[str]:
        total: Counter[str] = Counter()
        for tier in Tier:
            for flow, queued in self._queue.queued(tier):
                total[flow] += what(queued)
        return total

    def served_bytes(self) -> Counter[str]:
        """Return the bytes of work done for each tenant in the last minute, for a fairness index."""
        return self._served.totals(trio.current_time())

    async def run(
        self,
        flow: str,
        tier: Tier,
        quantum: Callable[[], T],
        *,
        cost: int = 65536,
        abandon: bool = True,
        urgent: bool = False,
        principal: str = "",
        charge: Callable[[T], int | None] | None = None,
    ) -> T:
        """Run ``quantum`` when it is ``flow``'s turn and return what it returns.

        Args:
            flow: Whose work it is (the tenant).
            tier: Interactive or bulk.
            quantum: A blocking callable; its exceptions are the caller's.
            cost: Expected bytes, by which turns are shared out.
            abandon: Return at once when cancelled, though the quantum still runs; False for one whose
                files somebody will clean up.
            urgent: Go before the principal's own other work.
            principal: Who in the tenant wants it.
            charge: Returns the bytes that it really took, from what the quantum returned; None if that is
                not known. It is called in the worker thread.
        """
        turn = _Turn(flow, tier, cost, urgent, principal, self.weight_of(flow), pool=self)
        work = quantum if charge is None else partial(turn.charged_by, quantum, charge)
        await turn.wait()
        if not self._inline:
            return await run_in_thread(work, abandon=abandon, finished=partial(self._release, turn))
        try:
            return work()
        finally:
            self._release(turn)

    def _enter(self, turn: _Turn) -> None:
        self._queue.push(turn)
        self._waiting[turn] = None
        self._start()

    def _leave_queue(self, turn: _Turn) -> None:
        if self._queue.remove(turn):
            del self._waiting[turn]
        else:
            turn.cost_known = 0
            self._release(turn)  # its turn had come in the same instant

    def _release(self, turn: _Turn) -> None:
        self.running -= 1
        self.running_bulk -= turn.tier is Tier.BULK
        self._queue.settle(turn, turn.cost_known)
        self._served.add(turn.flow, turn.charged, trio.current_time())
        self._start()

    def _start(self) -> None:
        """Let those begin whose turn it is, as far as there are slots.

        Bulk work that must wait for a slot of its own kind is never forgotten: one of that kind runs, and
        comes here when it ends.
        """
        while self.running < self.slots:
            following = self._queue.pop(bulk=self.running_bulk < self.bulk_limit)
            if following is None:
                return
            assert isinstance(following, _Turn)
            del self._waiting[following]
            if following.tier is Tier.INTERACTIVE:
                self._note_wait(following)
            self.running += 1
            self.running_bulk += following.tier is Tier.BULK
            following.come.set()

    def _note_wait(self, turn: _Turn) -> None:
        self._interactive_at = now = trio.current_time()
        if self._bulk is not None:
            self._bulk.sample(now - turn.since + QUANTUM_SECONDS, self.running_bulk)


@attrs.define(eq=False)
class _Turn(QueueEntry):
    """One quantum's place in the queue.

    Attributes:
        pool: Where it waits.
        come: Set when its turn comes.
        since: When it began to wait.
        cost_known: Bytes it really took, once that is known.
    """

    pool: WorkPool = attrs.field(kw_only=True)
    come: trio.Event = attrs.field(factory=trio.Event)
    since: float = attrs.field(factory=trio.current_time)
    cost_known: int | None = None

    def charged_by(self, quantum: Callable[[], T], charge: Callable[[T], int | None]) -> T:
        """Run the quantum, and note what it took. In a worker thread."""
        result = quantum()
        self.cost_known = charge(result)
        return result

    async def wait(self) -> None:
        """Wait for its turn, which whoever runs the quantum then ends."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.pool._enter(self)  # noqa: SLF001  # a turn is the pool's own other half
        if self.come.is_set():
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        try:
            await self.come.wait()
        except trio.Cancelled:
            self.pool._leave_queue(self)  # noqa: SLF001  # its other half
            raise
