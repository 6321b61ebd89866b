"""Threads for calls that wait (a database, a catalog, a store, a disk), shared by tenants in turns.

Such a call may never end: a network file system or a server that does not answer holds its thread, and
nothing can end a thread. So no tenant holds more than its share of the threads, tenants take turns, and every
wait has a deadline: for a thread, and for the answer. A call that is not awaited any more is interrupted
where the client library can be (:class:`Interrupt`). Until its thread ends, it counts against its own
tenant's share and no longer against all tenants' threads.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

import attrs
import trio

from strata.outcomes import Reason, RefusalError, Refused

T = TypeVar("T")

SHARE = 4
"""A tenant may hold at most 1/``SHARE`` of the threads at a time, at least one; its further calls wait."""

QUEUED = 256
"""Calls of one tenant that may wait for a thread; a further one is refused."""

HUNG = 4
"""Threads of abandoned calls that count against their own tenants only, as a multiple of the threads; with
more, threads of abandoned calls count against all tenants' threads, so that their number is bounded."""

INTERRUPT_SECONDS = 1.0
"""Seconds in which an interrupted write has to end, so that its outcome is known."""

TOO_MANY = Refused(
    Reason.UNAVAILABLE,
    "Too many requests of this tenant wait for storage, a database or a catalog.",
    code="waiting_queue_full",
    retry_after=1,
)


class Interrupt:
    """What ends the present wait of a call in a thread; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self.requested = False

    def request(self) -> None:
        """Interrupt the call: now if it waits, else as soon as it waits."""
        with self._lock:
            self.requested = True
            if self._stop is not None:
                self._stop()

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """Have ``stop`` called, from another thread, if an interrupt is requested within the block."""
        with self._lock:
            self._stop = stop
            if self.requested:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._stop = None


_INTERRUPT: contextvars.ContextVar[Interrupt | None] = contextvars.ContextVar("interrupt", default=None)


def current_interrupt() -> Interrupt:
    """Return the interrupt of the call that this thread runs; outside such a call, one without effect."""
    return _INTERRUPT.get() or Interrupt()


class Handover(Generic[T]):
    """Gives a call's result to the task that awaits it, or discards it when that task has left.

    Args:
        function: The blocking call.
        discard: Called with a result that no task takes; closes what it holds.

    Attributes:
        interrupt: Interrupts the call.
        done: Whether the call has returned.
    """

    def __init__(self, function: Callable[[], T], discard: Callable[[T], object] | None = None) -> None:
        self._function = function
        self._discard = discard
        self._lock = threading.Lock()
        self._left = False
        self.interrupt = Interrupt()
        self.result: T | None = None
        self.done = False

    def run(self) -> T:
        """Call the function; in a thread."""
        _INTERRUPT.set(self.interrupt)  # in the thread's own copy of the task's context
        result = self._function()
        with self._lock:
            self.done, self.result = True, result
            left = self._left
        if left and self._discard is not None:
            self._discard(result)
        return result

    def leave(self) -> None:
        """Interrupt the call; its result is discarded. The task calls this instead of taking the result."""
        with self._lock:
            self._left, done = True, self.done
        if not done:
            self.interrupt.request()
        elif self._discard is not None:
            self._discard(cast("T", self.result))


@attrs.define(eq=False)
class _Held:
    """One thread of a tenant; stands for the limiter of Trio's call.

    Attributes:
        threads: Where it is from.
        tenant: Its tenant.
        begun: Whether Trio has taken it: it is given back when the thread ends.
        abandoned: Whether no task awaits the call.
        ended: Set when the thread has ended.
    """

    threads: WaitingThreads
    tenant: str
    begun: bool = False
    abandoned: bool = False
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def acquire_on_behalf_of(self, _borrower: object) -> None:
        self.begun = True
        await trio.lowlevel.cancel_shielded_checkpoint()

    def release_on_behalf_of(self, _borrower: object) -> None:
        self.ended.set()
        self.threads.give_back(self.tenant, abandoned=self.abandoned)


@attrs.define(eq=False)
class WaitingThreads:
    """Runs blocking calls that wait in threads of their own; no tenant holds more than its share.

    Attributes:
        name: Name in metrics.
        threads: Most calls that run at a time; further ones wait.
        refused: The refusal of a call that gets no thread, or no answer, in time.
        wait_seconds: Seconds a call may wait for a thread; then it is refused.
        answer_seconds: Seconds a call may run; then it is interrupted, abandoned and refused.
        share: Most threads of one tenant, those of its abandoned calls included.
        queued: Most calls of one tenant that wait for a thread.
        running: Calls that run and are awaited.
        hung: Abandoned calls whose threads have not ended.
        refusals: Calls refused so far.
    """

    name: str
    threads: int
    refused: Refused
    wait_seconds: float
    answer_seconds: float
    share: int = attrs.field(kw_only=True)
    queued: int = attrs.field(default=QUEUED, kw_only=True)
    running: int = 0
    hung: int = 0
    refusals: int = 0
    _held_by: Counter[str] = attrs.field(init=False, factory=Counter)
    _queues: dict[str, deque[trio.Event]] = attrs.field(init=False, factory=dict)

    @share.default
    def _quarter(self) -> int:
        return max(1, self.threads // SHARE)

    def __repr__(self) -> str:
        return f"<WaitingThreads {self.name} {self.running}/{self.threads} running, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def idle(self) -> bool:
        """Whether no call runs or waits, and no thread of an abandoned one is left."""
        return not (self.running or self.hung or self._queues)

    async def run(
        self,
        tenant: str,
        function: Callable[[], T],
        *,
        keep: bool = False,
        discard: Callable[[T], object] | None = None,
        more_seconds: float = 0.0,
        until: float = math.inf,
    ) -> T:
        """Run ``function`` in a thread and return what it returns.

        Args:
            tenant: Tenant whose share the thread is taken from.
            function: Blocking call; its exceptions are raised here.
            keep: Wait for its end though the caller is cancelled, so that a write is known to have happened
                or not; only a deadline ends the wait.
            discard: Called in a thread with the result of a call that was abandoned.
            more_seconds: Seconds the call may run besides ``answer_seconds``, for its bytes.
            until: An earlier deadline, on Trio's clock.

        Raises:
            RefusalError: With :attr:`refused` if a deadline is over; with :data:`TOO_MANY` if too many calls
                of the tenant wait. A write whose deadline is over is interrupted, which undoes it; it may
                happen still if its thread does not end within :data:`INTERRUPT_SECONDS`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # a shield hides a cancellation that came before
        if tenant in self._queues or self.running >= self.threads or self._held_by[tenant] >= self.share:
            await self._wait_for_turn(tenant)
        else:
            self._issue(tenant)
        held, call = _Held(self, tenant), Handover(function, discard)
        due = min(until, trio.current_time() + self.answer_seconds + more_seconds)
        limiter = cast("trio.CapacityLimiter", held)  # Trio documents that it calls these two methods only
        answered = False
        try:
            with trio.CancelScope(deadline=due, shield=keep):
                result = await trio.to_thread.run_sync(call.run, abandon_on_cancel=True, limiter=limiter)
                answered = True
                return result
            if keep and await self._known_after_interrupt(held, call):
                answered = True
                return cast("T", call.result)
        except BaseException:  # raised again; what is noted here decides whether the thread is abandoned
            answered = answered or held.ended.is_set()  # the call's own exception: there is no result
            raise
        finally:
            if not answered:
                self._abandon(held, call)
        self.refusals += 1
        raise RefusalError(self.refused)

    @staticmethod
    async def _known_after_interrupt(held: _Held, call: Handover[T]) -> bool:
        """Interrupt a write and wait for its end; returns whether it happened all the same."""
        call.interrupt.request()
        with trio.CancelScope(deadline=trio.current_time() + INTERRUPT_SECONDS, shield=True):
            await held.ended.wait()
        return call.done

    def _abandon(self, held: _Held, call: Handover[T]) -> None:
        """Leave a call whose thread may go on: from now on it counts against its tenant's share only."""
        if not held.begun:
            self.give_back(held.tenant, abandoned=False)
            return
        call.leave()
        if not held.ended.is_set() and self.hung < HUNG * self.threads:
            held.abandoned = True
            self.running -= 1
            self.hung += 1
            self._start()

    async def _wait_for_turn(self, tenant: str) -> None:
        """Wait for a thread in the tenant's turn, which :meth:`_start` issues.

        Raises:
            RefusalError: As :meth:`run`.
        """
        queue = self._queues.setdefault(tenant, deque())
        if len(queue) >= self.queued:
            self.refusals += 1
            raise RefusalError(TOO_MANY)
        turn = trio.Event()
        queue.append(turn)
        try:
            with trio.move_on_after(self.wait_seconds):
                await turn.wait()
        except trio.Cancelled:
            if turn.is_set():
                self.give_back(tenant, abandoned=False)  # its turn came in the same instant
            else:
                self._leave_queue(tenant, turn)
            raise
        if not turn.is_set():
            self._leave_queue(tenant, turn)
            self.refusals += 1
            raise RefusalError(self.refused)

    def _leave_queue(self, tenant: str, turn: trio.Event) -> None:
        queue = self._queues[tenant]
        queue.remove(turn)
        if not queue:
            del self._queues[tenant]

    def _issue(self, tenant: str) -> None:
        self.running += 1
        self._held_by[tenant] += 1

    def give_back(self, tenant: str, *, abandoned: bool) -> None:
        """Free a thread that has ended or was not used."""
        if abandoned:
            self.hung -= 1
        else:
            self.running -= 1
        self._held_by[tenant] -= 1
        if not self._held_by[tenant]:
            del self._held_by[tenant]
        if self._queues:
            self._start()

    def _start(self) -> None:
        """Give free threads to the tenants that wait, one each in turn, up to each tenant's share.

        Tenants that hold their share are passed over: there are at most ``(1 + HUNG) * threads / share``.
        """
        while self.running < self.threads:
            tenant = next((one for one in self._queues if self._held_by[one] < self.share), None)
            if tenant is None:
                return
            queue = self._queues.pop(tenant)
            turn = queue.popleft()
            if queue:
                self._queues[tenant] = queue  # at the end: the others' turn comes first
            self._issue(tenant)
            turn.set()
