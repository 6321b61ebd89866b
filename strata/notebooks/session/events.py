"""Events of a session, and the numbered log that members read and resume.

The log is bounded. A member keeps the number of the last event that it has; there is no queue for each
member, so a slow one holds up nothing: when its place has left the log, it has to load the state again.

Where several servers share a database, a member is told of an event only when the store has it: the server
that owns the session next goes on with the same numbers, and no member has an event that it has not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

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


_KINDS: Final[Mapping[str, type[Any]]] = {
    one.__name__.lower(): one
    for one in (Adopted, Joined, Left, Focused, Locked, Unlocked, Edited, Queued, Started, Printed, Ended)
}


def event_kind(event: Event) -> str:
    """Return the name of an event's kind, as members and the store have it."""
    return type(event).__name__.lower()


def plain_event(event: Event) -> dict[str, Any]:
    """Return an event as plain values, from which :func:`read_event` makes it again."""
    return {"kind": event_kind(event), **attrs.asdict(event)}


def read_event(plain: Mapping[str, Any]) -> Event:
    """Return the event of plain values.

    Raises:
        ValueError: If it is an event of another version.
    """
    values = dict(plain)
    kind = _KINDS.get(values.pop("kind", ""))
    if kind is None or values.keys() != {one.name for one in attrs.fields(kind)}:
        raise ValueError("an event of another version")
    if kind is Edited:
        values["cells"] = tuple(values["cells"])
    event: Event = kind(**values)
    return event


@attrs.define(eq=False)
class EventLog:
    """The last events of a session.

    Attributes:
        last: Number of the last event; 0: there has been none.
        stored: The last event that the store has; ``None``: none is kept, and members need not wait.
    """

    last: int = 0
    stored: int | None = None
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

    def restore(self, events: Iterable[Numbered], last: int) -> None:
        """Go on behind the event ``last`` of the store, with the events up to it that are known."""
        self._events.clear()
        self._bytes = 0
        for one in events:
            self.last = one.seq - 1
            self.append(one.event)
        self.last = self.stored = last

    @property
    def told(self) -> int:
        """Number of the last event that members may be told of."""
        return self.last if self.stored is None else self.stored

    def after(self, seq: int, most: int) -> tuple[Numbered, ...] | LoadAgain:
        """Return up to ``most`` events behind the event ``seq``, the oldest first; of long ones fewer.

        Returns :class:`LoadAgain` if the next one is in the log no more, or if members never had ``seq``.
        """
        if not self._first - 1 <= seq <= self.told:
            return LoadAgain(self.told)
        return self._part(seq, min(most, self.told - seq))

    def unstored(self, most: int) -> tuple[Numbered, ...]:
        """Return up to ``most`` events that the store has not, the oldest first; of long ones fewer."""
        return self._part(max(self.told, self._first - 1), most)

    @property
    def _first(self) -> int:
        return self.last - len(self._events) + 1

    def _part(self, seq: int, most: int) -> tuple[Numbered, ...]:
        start, nbytes = seq - self._first + 1, 0
        part: list[Numbered] = []
        for one in islice(self._events, start, start + most):
            nbytes += bytes_of(one.event)
            if part and nbytes > PART_BYTES:
                break
            part.append(one)
        return tuple(part)
