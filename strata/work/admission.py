"""Requests in hand: how a crowd of one tenant's requests waits behind itself, and not before everybody else.

The loop does what is next, whoever wants it. A tenant with sixty requests on their way has sixty tasks in
every pass, and a single request of another one, which needs a dozen passes, waits for all of them each time.
So one request is in hand at a time, unless it waits for something else, and the others take turns: tenants,
and within a tenant its principals. Nothing is lost by it: one thread does the work anyway.

Where a request waits for a thread, it says so (:func:`release_admission`); a loop that is busy with others
would never tell.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import attrs
import trio

from strata.work.deficit_round_robin import QUANTUM_BYTES
from strata.work.fair import FairQueue, QueueEntry
from strata.work.tier import Tier

PLACES = 1
"""Requests in hand at a time."""

PATIENCE_SECONDS = 0.02
"""After so long a request is taken to wait for something else than the loop, and another has its place. Where
the loop has nothing else to do, that is known at once."""

CROWD = 1
"""A tenant's requests beyond so many in line are a crowd. They go after those of whoever has none there, with
a floor: they are the desk's bulk work. So whoever asks for one thing after another waits for no backlog, not
even while many tenants bring one in the same instant."""


@attrs.define(eq=False)
class AdmissionToken:
    """A request in hand.

    Attributes:
        due: When it counts no longer, on Trio's clock.
    """

    due: float
    _desk: AdmissionQueue | None

    def leave(self) -> None:
        """Let another request begin. Harmless when repeated."""
        admission, self._desk = self._desk, None
        if admission is not None:
            admission.left(self)


IN_HAND: ContextVar[AdmissionToken | None] = ContextVar("strata_in_hand", default=None)
"""The place of the request that a task works for. The tenant's own tasks have it from the question."""


def release_admission() -> None:
    """Let another request begin: this task's own waits for a thread, or for what somebody else does."""
    place = IN_HAND.get()
    if place is not None:
        place.leave()


@attrs.define(eq=False)
class _Waiter(QueueEntry):
    """A request in line; every one counts the same.

    Attributes:
        come: Set when it has a place.
        scope: What it waits in. The oldest waiter's ends when a place is due, for all of them.
        place: Its place.
    """

    come: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    place: AdmissionToken | None = None


def _equal(_tenant: str) -> float:
    return 1.0


class AdmissionQueue:
    """Hands out the places, in the fair order of :class:`~strata.work.fair.FairQueue`.

    Args:
        places: How many there are.
        patience: Seconds after which a request in hand counts no longer.

    Attributes:
        places: How many there are.
        weight_of: Returns a tenant's weight, above zero; asked for each request in line.
    """

    def __init__(self, places: int = PLACES, patience: float = PATIENCE_SECONDS) -> None:
        if places < 1:
            raise ValueError(f"a desk needs at least one place, not {places}")
        self.places = places
        self.weight_of: Callable[[str], float] = _equal
        self._patience = patience
        self._taken: OrderedDict[AdmissionToken, None] = OrderedDict()
        self._queue = FairQueue()
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()
        self._crowds: Counter[str] = Counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See when the loop idles: then whoever is in hand waits for something else, and the next one begins.

        Without it a place is overdue by time alone. In a Trio task.
        """
        watch = _Watch(self, trio.lowlevel.current_trio_token())
        trio.lowlevel.add_instrument(watch)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(watch)

    def __repr__(self) -> str:
        return f"<AdmissionQueue {self.taken}/{self.places} in hand, {self.waiting} waiting>"

    @property
    def taken(self) -> int:
        """Requests in hand, and those that were until they took too long and nobody needed their place."""
        return len(self._taken)

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._waiting)

    async def take(self, tenant: str, principal: str) -> AdmissionToken:
        """Wait for a place. To be left, whatever happens then."""
        if not self._waiting and len(self._taken) < self.places:
            return self._seat()
        tier = Tier.INTERACTIVE if self._crowds[tenant] < CROWD else Tier.BULK
        waiter = _Waiter(tenant, tier, QUANTUM_BYTES, principal=principal, weight=self.weight_of(tenant))
        self._queue.push(waiter)
        self._waiting[waiter] = None
        self._crowds[tenant] += 1
        try:
            while waiter.place is None:
                with waiter.scope:
                    self._call()
                    await waiter.come.wait()
                waiter.scope = trio.CancelScope()
        except trio.Cancelled:
            if waiter.place is not None:
                waiter.place.leave()  # it came in the very moment in which nobody wanted it any more
            else:
                self._queue.remove(waiter)
                self._forget(waiter)
                self._call()
            raise
        return waiter.place

    def left(self, place: AdmissionToken) -> None:
        """Take a place back, unless somebody has it already."""
        if place in self._taken:
            del self._taken[place]
            self._call()

    def pass_by(self) -> None:
        """Give the oldest place to another: the loop idles, so whoever has it waits for something else."""
        if self._waiting and self._taken:
            self._taken.popitem(last=False)
            self._call()

    def _forget(self, waiter: _Waiter) -> None:
        del self._waiting[waiter]
        self._crowds[waiter.flow] -= 1
        if not self._crowds[waiter.flow]:
            del self._crowds[waiter.flow]

    def _seat(self) -> AdmissionToken:
        place = AdmissionToken(trio.current_time() + self._patience, self)
        self._taken[place] = None
        return place

    def _call(self) -> None:
        """Give free places to those whose turn it is; be back when the next one is due."""
        if not self._waiting:
            return
        now = trio.current_time()
        while self._taken and next(iter(self._taken)).due <= now:
            self._taken.popitem(last=False)
        while self._waiting and len(self._taken) < self.places:
            following = self._queue.pop()
            assert isinstance(following, _Waiter)
            self._queue.settle(following)
            self._forget(following)
            following.place = self._seat()
            following.come.set()
        if self._waiting:
            next(iter(self._waiting)).scope.deadline = next(iter(self._taken)).due


class _Watch(trio.abc.Instrument):
    """Tells a desk that somebody waits while the loop is about to sleep."""

    def __init__(self, admission: AdmissionQueue, token: trio.lowlevel.TrioToken) -> None:
        self._desk = admission
        self._token = token
        self._told = False

    def before_io_wait(self, timeout: float) -> None:
        """See Trio; nothing can be run from in here but by way of its token."""
        if timeout > 0 and not self._told and self._desk.waiting:
            self._told = True
            self._token.run_sync_soon(self._tell)

    def _tell(self) -> None:
        self._told = False
        self._desk.pass_by()
