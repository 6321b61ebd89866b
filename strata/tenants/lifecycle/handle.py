"""A live tenant, as its supervisor sees it, and the states it can be in."""

from __future__ import annotations

import enum

import attrs
import trio

from strata.cache import Allowance
from strata.outcomes import Reason, Refused
from strata.tenants.lifecycle.actor import Envelope, TenantActor
from strata.tenants.stats.counters import TenantMetrics


class State(enum.Enum):
    """The life of a tenant's actor."""

    RUNNING = "running"
    RESTARTING = "restarting"
    LEAVING = "leaving"
    DOWN = "down"


class Readiness(enum.Enum):
    """What ``/health/ready`` says."""

    READY = "ready"
    DRAINING = "draining"
    STORE_DOWN = "store_down"

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self is Readiness.READY


@attrs.define(eq=False)
class Tenant:
    """A live tenant, as its supervisor sees it.

    Attributes:
        id: Its id.
        metrics: Its counters.
        named: Whether its metrics are its own series, or are summed with others'.
        quiet_since: When its last question was answered (Trio's clock).
    """

    id: str
    metrics: TenantMetrics
    named: bool = True
    state: State = State.RUNNING
    retry_after: int = 1
    quiet_since: float = 0.0
    allowance: Allowance | None = None
    actor: TenantActor | None = None
    inbox: trio.MemorySendChannel[Envelope] | None = None
    open: dict[Envelope, None] = attrs.field(factory=dict)
    crashes: list[float] = attrs.field(factory=list)
    gone: trio.Event = attrs.field(factory=trio.Event)
    since: float = attrs.field(factory=trio.current_time)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    pause: trio.CancelScope | None = None
    again: bool = False
    leaves: bool = False

    @property
    def idle(self) -> bool:
        """Nobody waits for it and it has nothing to do: it can go."""
        running = self.state is State.RUNNING and not self.open
        return running and self.actor is not None and self.actor.idle

    @property
    def at_rest(self) -> bool:
        """The same, though streams may still wait for their readers."""
        running = self.state is State.RUNNING and not self.open
        return running and self.actor is not None and self.actor.at_rest

    def fail_all(self, refused: Refused) -> None:
        """Answer everybody who still waits."""
        for envelope in tuple(self.open):
            envelope.reply(refused)


def not_running(found: Tenant) -> Refused:
    """Return what whoever asks a tenant is told that is not running."""
    if found.state is State.DOWN:
        detail = "This tenant's service crashed too often and is down; an operator has to look at it."
        return Refused(Reason.UNAVAILABLE, detail, code="tenant_down", retry_after=found.retry_after)
    detail = "This tenant's service is restarting."
    return Refused(Reason.UNAVAILABLE, detail, code="tenant_restarting", retry_after=found.retry_after)
