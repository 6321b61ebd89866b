"""Admission: a backlog of one tenant's requests waits behind itself, not before other tenants' requests.

The loop runs every task that is ready in each pass. A tenant with sixty requests under way has sixty tasks in
every pass, and one request of another tenant, which needs a dozen passes, waits for all of them each time. So
one request at a time is admitted, and the others wait in fair order: tenants, and within a tenant its
principals. No throughput is lost: one thread does the work anyway.

A request that is about to wait for anything but the loop (a thread, a build, another task) releases its token
(:meth:`AdmissionToken.release`) and goes on without one. Builds have tokens of a queue of their own.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import trio

from strata.work.deficit_round_robin import QUANTUM_BYTES
from strata.work.fair import FairQueue, QueueEntry
from strata.work.tier import Tier

TOKENS = 1
"""Requests admitted at a time; further ones wait."""

PATIENCE_SECONDS = 0.02
"""Seconds after which an admitted request counts as waiting for something else, and its token goes to the
next one. An idle loop shows that at once."""

INTERACTIVE_REQUESTS = 1
"""Waiting requests of one tenant that are interactive. Further ones are bulk: they go after those of tenants
with no backlog, with the bulk floor, so a tenant that sends one request after another waits for no backlog,
even while many tenants send one in the same instant."""


@attrs.define(eq=False)
class AdmissionToken:
    """A request's admission. One that no queue has issued is released already.

    Attributes:
        due: When the queue takes it back, on Trio's clock.
    """

    due: float = math.inf
    _queue: AdmissionQueue | None = None

    def release(self) -> None:
        """Admit another request. Harmless when repeated."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.take_back(self)


@attrs.define(eq=False)
class _Waiter(QueueEntry):
    """A waiting request; all have the same cost.

    Attributes:
        admitted: Set when it has a token.
        scope: The scope it waits in. The oldest waiter's expires when a token is due, on behalf of all.
        token: Its token.
    """

    admitted: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    token: AdmissionToken | None = None


def _equal(_tenant: str) -> float:
    return 1.0


class AdmissionQueue:
    """Issues tokens in the fair order of :class:`~strata.work.fair.FairQueue`.

    Args:
        tokens: Tokens at a time, at least 1.
        patience: Seconds after which a token that was not released is taken back.

    Attributes:
        tokens: Tokens at a time.
        weight_of: Returns a tenant's weight, above zero; called for each waiting request.

    Raises:
        ValueError: If there are no tokens.
    """

    def __init__(self, tokens: int = TOKENS, patience: float = PATIENCE_SECONDS) -> None:
        if tokens < 1:
            raise ValueError(f"an admission queue needs at least one token, not {tokens}")
        self.tokens = tokens
        self.weight_of: Callable[[str], float] = _equal
        self._patience = patience
        self._taken: OrderedDict[AdmissionToken, None] = OrderedDict()
        self._queue = FairQueue()
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()
        self._waiting_of: Counter[str] = Counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch for an idle loop: the admitted request waits for something else then; admit another.

        Without it a token is taken back by time alone. In a Trio task.
        """
        watch = _Watch(self, trio.lowlevel.current_trio_token())
        trio.lowlevel.add_instrument(watch)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(watch)

    def __repr__(self) -> str:
        return f"<AdmissionQueue {self.taken}/{self.tokens} admitted, {self.waiting} waiting>"

    @property
    def taken(self) -> int:
        """Admitted requests, including overdue ones whose token no other request has needed."""
        return len(self._taken)

    @property
    def waiting(self) -> int:
        """Waiting requests."""
        return len(self._waiting)

    async def take(self, tenant: str, principal: str) -> AdmissionToken:
        """Wait for a token. The caller releases it, however its request ends."""
        if not self._waiting and len(self._taken) < self.tokens:
            return self._issue()
        backlog = self._waiting_of[tenant] >= INTERACTIVE_REQUESTS
        tier = Tier.BULK if backlog else Tier.INTERACTIVE
        waiter = _Waiter(tenant, tier, QUANTUM_BYTES, principal=principal, weight=self.weight_of(tenant))
        self._queue.push(waiter)
        self._waiting[waiter] = None
        self._waiting_of[tenant] += 1
        try:
            while waiter.token is None:
                with waiter.scope:
                    self._admit()
                    await waiter.admitted.wait()
                waiter.scope = trio.CancelScope()
        except trio.Cancelled:
            if waiter.token is not None:
                waiter.token.release()  # issued in the instant of the cancellation
            else:
                self._queue.remove(waiter)
                self._forget(waiter)
                self._admit()
            raise
        return waiter.token

    def take_back(self, token: AdmissionToken) -> None:
        """Take a released token back, unless it was overdue and another request has it."""
        if token in self._taken:
            del self._taken[token]
            self._admit()

    def take_oldest_back(self) -> None:
        """Take the oldest token back if requests wait: on an idle loop its holder waits elsewhere."""
        if self._waiting and self._taken:
            self._taken.popitem(last=False)
            self._admit()

    def _forget(self, waiter: _Waiter) -> None:
        del self._waiting[waiter]
        self._waiting_of[waiter.flow] -= 1
        if not self._waiting_of[waiter.flow]:
            del self._waiting_of[waiter.flow]

    def _issue(self) -> AdmissionToken:
        token = AdmissionToken(trio.current_time() + self._patience, self)
        self._taken[token] = None
        return token

    def _admit(self) -> None:
        """Issue free and overdue tokens in fair order; have the oldest waiter wake when the next is due."""
        if not self._waiting:
            return
        now = trio.current_time()
        while self._taken and next(iter(self._taken)).due <= now:
            self._taken.popitem(last=False)
        while self._waiting and len(self._taken) < self.tokens:
            following = self._queue.pop()
            assert isinstance(following, _Waiter)
            self._queue.settle(following)
            self._forget(following)
            following.token = self._issue()
            following.admitted.set()
        if self._waiting:
            next(iter(self._waiting)).scope.deadline = next(iter(self._taken)).due


class _Watch(trio.abc.Instrument):
    """Tells an admission queue when requests wait while the loop is about to sleep."""

    def __init__(self, admission: AdmissionQueue, loop: trio.lowlevel.TrioToken) -> None:
        self._admission = admission
        self._loop = loop
        self._told = False

    def before_io_wait(self, timeout: float) -> None:
        """See Trio; an instrument can run nothing but by the loop's token."""
        if timeout > 0 and not self._told and self._admission.waiting:
            self._told = True
            self._loop.run_sync_soon(self._tell)

    def _tell(self) -> None:
        self._told = False
        self._admission.take_oldest_back()
