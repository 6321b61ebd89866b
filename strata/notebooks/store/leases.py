"""What a store keeps of the sessions of notebooks: which server owns each, which cell it runs, its events.

The rules are those of :mod:`strata.notebooks.session.lease`: the epoch is the fencing token of all writes of
an owner. Where one process has the database alone, the lease of any other one is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Protocol

import attrs

from strata.outcomes import Reason, Refused

ELSEWHERE: Final = "session_elsewhere"
"""Code of the refusals of a server that has not the lease."""

MOVED: Final = Refused(
    Reason.UNAVAILABLE,
    "The notebook's session has moved to another server. Ask again.",
    code=ELSEWHERE,
    retry_after=1,
)


def held_elsewhere(seconds: float) -> Refused:
    """Return the refusal of what only the owner of a session does, whose lease lasts for some seconds."""
    return Refused(
        Reason.UNAVAILABLE,
        "The notebook's session is on another server, which answers; if it is gone, its lease ends soon.",
        code=ELSEWHERE,
        retry_after=max(1, math.ceil(round(seconds, 6))),  # what clocks add up to is not exact
    )


@attrs.frozen
class Adoption:
    """A session that a server owns now.

    Attributes:
        epoch: The number of the owner.
        running: What its former owner noted of a cell that it ran to no end; empty: nothing.
    """

    epoch: int
    running: str


@attrs.frozen(kw_only=True)
class EventsRow:
    """Some events of a session, one behind the other.

    Attributes:
        seq: Number of the last one.
        session: Id of the session.
        epoch: The number of the owner that wrote them.
        nbytes: Bytes that they count as.
        events: The events, as the owner writes them.
    """

    seq: int
    session: str
    epoch: int
    nbytes: int
    events: str


class SessionLeases(Protocol):
    """Contract of the leases of sessions, as one server has them."""

    @property
    def alone(self) -> bool:
        """Whether this process has the database alone: nothing needs to be renewed."""

    @property
    def seconds(self) -> float:
        """Seconds that a lease lasts without being renewed."""

    def take(self, tenant: str, name: str) -> Adoption | Refused:
        """Own the session of a notebook, with a new epoch.

        Returns:
            What is taken over, or :func:`held_elsewhere`, or ``NOTEBOOK_NOT_FOUND``.
        """

    def renew(self, tenant: str, epochs: Mapping[str, int]) -> frozenset[str]:
        """Prolong leases of a tenant by the epoch of each name; returns the names that are still owned."""

    def give_up(self, tenant: str, name: str, epoch: int) -> None:
        """End a lease, if it is of this epoch, with the events of the session, which has no members then."""

    def leave(self) -> None:
        """End all leases of this server; the events stay, for the servers that adopt the sessions."""

    def note_running(self, tenant: str, name: str, epoch: int, running: str) -> Refused | None:
        """Note which cell runs, for the server that adopts the session; empty: none.

        Returns:
            :data:`MOVED` to a server that does not own the session, or ``None``.
        """

    def add_events(self, tenant: str, name: str, row: EventsRow, after: int, gone: int) -> Refused | None:
        """Add events of the owner ``row.epoch``, once however often that is tried.

        Args:
            tenant: The tenant.
            name: The notebook.
            row: The events.
            after: Number of the event behind which they come.
            gone: Number of the event up to which older ones go.

        Returns:
            :data:`MOVED` to a server that does not own the session, or ``None``.
        """

    def events(self, tenant: str, name: str) -> tuple[EventsRow, ...]:
        """Return the events that are kept of a notebook's session, the oldest first."""
