"""Run quanta of blocking work in threads, in fair order, as many at a time as the pool has slots."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import attrs
import structlog
import trio

from strata.outcomes import Reason, RefusalError, Refused
from strata.work.fair import LEAST_COST, FairQueue, QueueEntry
from strata.work.fairness import Served
from strata.work.gradient_limit import Gradient
from strata.work.threads import run_in_thread
from strata.work.tier import Tier

T = TypeVar("T")

log = structlog.get_logger(__name__)

QUANTUM_SECONDS = 0.005
"""Usual seconds of an interactive quantum; a shorter wait does not reduce the slots of bulk work."""

QUIET_SECONDS = 1.0
"""Seconds without interactive work after which bulk work may use all slots again."""


HUNG_SECONDS = 5.0
"""Seconds after which a quantum counts as hung: it waits for a disk that does not answer. Its slot goes to
others, and a tenant with as many hung quanta as the pool has slots gets no more, until one of them ends."""

HUNG = Refused(
    Reason.UNAVAILABLE,
    "The storage of this tenant's data does not answer.",
    code="storage_unavailable",
    retry_after=30,
)


def _equal(_flow: str) -> float:
    return 1.0


class WorkPool:
    """Run blocking quanta (decode, encode, hash, file I/O) in worker threads.

    A quantum should last a few milliseconds: nothing interrupts it. A caller that is cancelled while its
    quantum waits leaves the queue at once; one that is cancelled while its quantum runs returns at once
    (unless ``abandon`` is false), and the slot is free when the thread ends.

    Args:
        slots: Most quanta that run at the same time, at least 1.
        tolerance: Ratio of the present wait of interactive quanta (plus :data:`QUANTUM_SECONDS`) to the usual
            one above which bulk work gets fewer slots, at least one; 0: bulk work may always use all slots.

    Attributes:
        slots: Most quanta that run at the same time.
        running: Quanta that run now.
        running_bulk: Bulk quanta among ``running``.
        hung: Quanta that run for longer than :data:`HUNG_SECONDS`, by tenant; not among ``running``.
        weight_of: Returns a tenant's weight, above zero; called for each quantum.

    Raises:
        ValueError: If ``slots`` is below 1, or ``tolerance`` is neither 0 nor at least 1.
    """

    def __init__(self, slots: int, *, tolerance: float = 0) -> None:
        if slots < 1:
            raise ValueError(f"a work pool needs at least one slot, not {slots}")
        self.slots = slots
        self.running = 0
        self.running_bulk = 0
        self.hung: Counter[str] = Counter()
        self.weight_of: Callable[[str], float] = _equal
        self._queue = FairQueue()
        self._waiting: OrderedDict[_Turn, None] = OrderedDict()
        self._begun: OrderedDict[_Turn, float] = OrderedDict()
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
        """Seconds the oldest quantum in the queue has waited; 0 if the queue is empty."""
        oldest = next(iter(self._waiting), None)
        return 0.0 if oldest is None else trio.current_time() - oldest.since

    @property
    def largest_deficit(self) -> int:
        """Largest difference in bytes served, at weight 1, between two tenants that wait in one tier."""
        return max(self._queue.largest_deficit(tier) for tier in Tier)

    @property
    def bulk_limit(self) -> int:
        """Slots that bulk work may use now."""
        loud = trio.current_time() - self._interactive_at <= QUIET_SECONDS
        return self._bulk.limit if self._bulk is not None and loud else self.slots

    def queued_bytes(self) -> Counter[str]:
        """Return the expected bytes of the quanta in the queue by tenant, without tenants that have none."""
        total: Counter[str] = Counter()
        for tier in Tier:
            for flow, queued in self._queue.queued(tier):
                total[flow] += queued.nbytes
        return total

    def served_bytes(self) -> Counter[str]:
        """Return the bytes of work done in the last minute by tenant."""
        return self._served.totals(trio.current_time())

    async def run(
        self,
        flow: str,
        tier: Tier,
        quantum: Callable[[], T],
        *,
        cost: int = LEAST_COST,
        abandon: bool = True,
        urgent: bool = False,
        principal: str = "",
        charge: Callable[[T], int | None] | None = None,
    ) -> T:
        """Run ``quantum`` when it is ``flow``'s turn and return what it returns.

        Args:
            flow: Tenant the work belongs to.
            tier: Interactive or bulk.
            quantum: Blocking callable; its exceptions are raised to the caller.
            cost: Expected bytes, which the tenant is charged.
            abandon: Return at once when cancelled, while the quantum still runs; False for a quantum whose
                files the caller cleans up.
            urgent: Go before other work of the same principal.
            principal: Principal of the tenant for whom the work is done.
            charge: Returns the bytes the quantum really took, from its result; None if unknown. Called in the
                worker thread.

        Raises:
            ValueError: If the tenant's weight is not above zero.
            RuntimeError: If the system has no thread for the quantum.
            RefusalError: UNAVAILABLE if too many quanta of the tenant hang (:data:`HUNG_SECONDS`).
        """
        turn = _Turn(flow, tier, cost, urgent, principal, self.weight_of(flow), pool=self)
        work = quantum if charge is None else partial(turn.charged_by, quantum, charge)
        await turn.wait()
        return await self._execute(turn, work, abandon=abandon)

    async def watch(self) -> None:
        """Give the slots of hung quanta to others, until cancelled."""
        while True:
            await trio.sleep(HUNG_SECONDS / 4)
            late = trio.current_time() - HUNG_SECONDS
            hung = [turn for turn, began in self._begun.items() if began <= late]
            for turn in hung:
                log.warning("quantum hangs", tenant=turn.flow, seconds=HUNG_SECONDS)
                del self._begun[turn]
                self.hung[turn.flow] += 1
            for turn in hung:  # all are counted before a slot goes to another quantum of their tenant
                self._free(turn)

    async def _execute(self, turn: _Turn, work: Callable[[], T], *, abandon: bool) -> T:
        """Run ``work`` in a thread, and give the slot back when it has ended."""
        return await run_in_thread(work, abandon=abandon, finished=partial(self._release, turn))

    def _enter(self, turn: _Turn) -> None:
        self._queue.push(turn)
        self._waiting[turn] = None
        self._start()

    def _leave_queue(self, turn: _Turn) -> None:
        if self._queue.remove(turn):
            del self._waiting[turn]
        elif not turn.refused:
            turn.cost_known = 0
            self._release(turn)  # its turn came in the same instant

    def _release(self, turn: _Turn) -> None:
        self._queue.settle(turn, turn.cost_known)
        self._served.add(turn.flow, turn.charged, trio.current_time())
        if self._begun.pop(turn, None) is not None:
            self._free(turn)
            return
        self.hung[turn.flow] -= 1
        if not self.hung[turn.flow]:
            del self.hung[turn.flow]

    def _free(self, turn: _Turn) -> None:
        self.running -= 1
        self.running_bulk -= turn.tier is Tier.BULK
        self._start()

    def _start(self) -> None:
        """Start quanta in fair order while slots are free.

        Bulk work held back by ``bulk_limit`` is never forgotten: at least one bulk quantum runs then, and
        calls this method when it ends.
        """
        while self.running < self.slots:
            following = self._queue.pop(bulk=self.running_bulk < self.bulk_limit)
            if following is None:
                return
            assert isinstance(following, _Turn)
            del self._waiting[following]
            if self.hung and self.hung[following.flow] >= self.slots:
                following.refused = True
                self._queue.settle(following, 0)
                following.come.set()
                continue
            if following.tier is Tier.INTERACTIVE:
                self._note_wait(following)
            self.running += 1
            self._begun[following] = trio.current_time()
            self.running_bulk += following.tier is Tier.BULK
            following.come.set()

    def _note_wait(self, turn: _Turn) -> None:
        self._interactive_at = now = trio.current_time()
        if self._bulk is not None:
            self._bulk.sample(now - turn.since + QUANTUM_SECONDS, self.running_bulk)


@attrs.define(eq=False)
class _Turn(QueueEntry):
    """Queue entry of one quantum.

    Attributes:
        pool: Pool whose queue the entry is in.
        come: Set when the quantum's turn comes.
        since: Start of the wait, on Trio's clock.
        cost_known: Bytes the quantum really took; None until known.
        refused: Whether it is refused, since its tenant's quanta hang.
    """

    pool: WorkPool = attrs.field(kw_only=True)
    come: trio.Event = attrs.field(factory=trio.Event)
    since: float = attrs.field(factory=trio.current_time)
    cost_known: int | None = None
    refused: bool = False

    def charged_by(self, quantum: Callable[[], T], charge: Callable[[T], int | None]) -> T:
        """Run the quantum and store the bytes it took; called in a worker thread."""
        result = quantum()
        self.cost_known = charge(result)
        return result

    async def wait(self) -> None:
        """Wait for the quantum's turn, which :meth:`WorkPool.run` ends.

        Raises:
            RefusalError: As :meth:`WorkPool.run`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.pool._enter(self)  # noqa: SLF001  # the pool's own class
        if self.come.is_set():
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            try:
                await self.come.wait()
            except trio.Cancelled:
                self.pool._leave_queue(self)  # noqa: SLF001  # as above
                raise
        if self.refused:
            raise RefusalError(HUNG)
