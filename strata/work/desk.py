"""Requests in hand: how a crowd of one tenant's requests waits behind itself, and not before everybody else.

The loop does what is next, whoever wants it. A tenant with sixty requests on their way has sixty tasks in
every pass, and a single request of another one, which needs a dozen passes, waits for all of them each time.
So only a few requests are in hand at a time, and whoever has more takes turns: tenants, and within a tenant
its principals. Nothing is lost by it: one thread does the work anyway.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import attrs
import trio

from strata.work.fair import FairQueue, Ticket
from strata.work.tier import Tier
from strata.work.turns import QUANTUM_BYTES

PLACES = 3
"""Requests in hand: one on the loop, the others where they wait for a thread."""

PATIENCE_SECONDS = 0.004
"""After so long, several times what a finished result takes, a request is taken to wait for something else
than the loop, and another has its place. So whoever waits for a slow catalog holds up nobody for longer."""


@attrs.define(eq=False)
class Place:
    """A request in hand.

    Attributes:
        due: When it counts no longer, on Trio's clock.
    """

    due: float
    _desk: Desk | None

    def leave(self) -> None:
        """Let another request begin. Harmless when repeated."""
        desk, self._desk = self._desk, None
        if desk is not None:
            desk.left(self)


@attrs.define(eq=False)
class _Waiter(Ticket):
    """A request in line; every one counts the same.

    Attributes:
        come: Set when it has a place.
        scope: What it waits in. The oldest waiter's ends when a place is due, for all of them.
        place: Its place.
    """

    come: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    place: Place | None = None


def _equal(_tenant: str) -> float:
    return 1.0


class Desk:
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
        self._taken: OrderedDict[Place, None] = OrderedDict()
        self._queue = FairQueue()
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Desk {self.taken}/{self.places} in hand, {self.waiting} waiting>"

    @property
    def taken(self) -> int:
        """Requests in hand, and those that were until they took too long and nobody needed their place."""
        return len(self._taken)

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._waiting)

    async def take(self, tenant: str, principal: str) -> Place:
        """Wait for a place. To be left, whatever happens then."""
        if not self._waiting and len(self._taken) < self.places:
            return self._seat()
        waiter = _Waiter(
            tenant, Tier.INTERACTIVE, QUANTUM_BYTES, principal=principal, weight=self.weight_of(tenant)
        )
        self._queue.push(waiter)
        self._waiting[waiter] = None
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
                del self._waiting[waiter]
                self._call()
            raise
        return waiter.place

    def left(self, place: Place) -> None:
        """Take a place back, unless somebody has it already."""
        if place in self._taken:
            del self._taken[place]
            self._call()

    def _seat(self) -> Place:
        place = Place(trio.current_time() + self._patience, self)
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
            del self._waiting[following]
            following.place = self._seat()
            following.come.set()
        if self._waiting:
            next(iter(self._waiting)).scope.deadline = next(iter(self._taken)).due
