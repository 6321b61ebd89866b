"""Events of a session, and the numbered log that members read and resume.

The log is bounded. A member keeps the number of the last event that it has; there is no queue for each
member, so a slow one holds up nothing: when its place has left the log, it has to load the state again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

import attrs

MAX_EVENTS: Final = 10_000
"""Maximum events in a log; the oldest ones go."""

MAX_BYTES: Final = 4 * 1024 * 1024
"""Maximum bytes of the events in a log; the oldest ones go, the latest one never."""

PART_BYTES: Final = 256 * 1024
"""Maximum bytes of the events that :meth:`EventLog.after` returns, unless one has more: each member that does
not read keeps as many alive."""

EVENT_BYTES: Final = 256
"""Bytes that an event counts as, besides its texts."""


@attrs.frozen
class Adopted:
    """A server owns the session from now on; members of the former owner have to join again."""

    epoch: int


@attrs.frozen
class Joined:
    """A member came in; ``writes`` says whether it may edit."""

    member: str
    principal: str
    writes: bool


@attrs.frozen
class Left:
    """A member went, for a reason: ``closed``, ``too_slow``, ``revoked``, ``idle`` or ``ended``."""

    member: str
    reason: str


@attrs.frozen
class Focused:
    """A member looks at a cell, or at none."""

    member: str
    cell: str | None


@attrs.frozen
class Locked:
    """A member has the lock of a cell until a time on the owner's clock."""

    member: str
    cell: str
    until: float


@attrs.frozen
class Unlocked:
    """The lock of a cell is free."""

    cell: str


@attrs.frozen
class Edited:
    """A member made a revision, which changed the cells; a principal that has not joined is no member."""

    member: str
    revision: int
    cells: tuple[str, ...]
    principal: str = ""


@attrs.frozen
class Queued:
    """A run of a cell waits for its turn; a principal asked for it."""

    cell: str
    principal: str


@attrs.frozen
class Started:
    """A run of a cell began; runs have numbers, from 1 in each session."""

    cell: str
    run: int


@attrs.frozen
class Printed:
    """A run printed a text, to ``stdout`` or ``stderr``."""

    cell: str
    run: int
    stream: str
    text: str


@attrs.frozen
class Ended:
    """A run ended: ``how`` is ``ok``, ``reused``, ``skipped`` or the code of an error, with a sentence."""

    cell: str
    run: int
    how: str
    message: str


Event = Adopted | Joined | Left | Focused | Locked | Unlocked | Edited | Queued | Started | Printed | Ended


def bytes_of(event: Event) -> int:
    """Return the bytes that an event counts as."""
    texts = (value for value in attrs.astuple(event) if isinstance(value, str))
    cells = event.cells if isinstance(event, Edited) else ()
    return EVENT_BYTES + sum(map(len, (*texts, *cells)))


@attrs.frozen
class Numbered:
    """An event with its number, from 1 without a gap."""

    seq: int
    event: Event


@attrs.frozen
class LoadAgain:
    """A member's place is not in the log: it loads the state, which is that of the event ``seq``."""

    seq: int


@attrs.define(eq=False)
class EventLog:
    """The last events of a session.

    Attributes:
        last: Number of the last event; 0: there has been none.
    """

    last: int = 0
    _events: deque[Numbered] = attrs.field(factory=deque, init=False)
    _bytes: int = attrs.field(default=0, init=False)

    def __iter__(self) -> Iterator[Numbered]:
        return iter(self._events)

    def append(self, event: Event) -> Numbered:
        """Append an event, and drop the oldest ones beyond the bounds."""
        self.last += 1
        numbered = Numbered(self.last, event)
        self._events.append(numbered)
        self._bytes += bytes_of(event)
        while len(self._events) > 1 and (len(self._events) > MAX_EVENTS or self._bytes > MAX_BYTES):
            self._bytes -= bytes_of(self._events.popleft().event)
        return numbered

    def after(self, seq: int, most: int) -> tuple[Numbered, ...] | LoadAgain:
        """Return up to ``most`` events behind the event ``seq``, the oldest first; of long ones fewer.

        Returns :class:`LoadAgain` if the next one is in the log no more, or if the log never had ``seq``.
        """
        first = self.last - len(self._events) + 1
        if not first - 1 <= seq <= self.last:
            return LoadAgain(self.last)
        start, nbytes = seq - first + 1, 0
        part: list[Numbered] = []
        for one in islice(self._events, start, start + most):
            nbytes += bytes_of(one.event)
            if part and nbytes > PART_BYTES:
                break
            part.append(one)
        return tuple(part)
