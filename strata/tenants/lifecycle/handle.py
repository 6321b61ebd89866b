"""A live tenant as the registry keeps it, and its states."""

from __future__ import annotations

import enum
import math

import attrs
import trio

from strata.cache import Allowance
from strata.outcomes import Reason, Refused
from strata.tenants.lifecycle.actor import TenantActor
from strata.tenants.lifecycle.envelope import Envelope
from strata.tenants.stats.counters import TenantMetrics

DRAINED = Refused(
    Reason.UNAVAILABLE,
    "This tenant is drained: an operator has stopped its new work here.",
    code="tenant_drained",
    retry_after=30,
)

STILL_ENDING = Refused(
    Reason.UNAVAILABLE,
    "This tenant's earlier work has not ended yet.",
    code="tenant_restarting",
    retry_after=5,
)


class State(enum.Enum):
    """The life of a tenant's actor."""

    RUNNING = "running"
    RESTARTING = "restarting"
    LEAVING = "leaving"
    DOWN = "down"


class Readiness(enum.Enum):
    """The states of ``/health/ready``."""

    READY = "ready"
    DRAINING = "draining"
    STORE_DOWN = "store_down"

    @property
    def ready(self) -> bool:
        """Whether a balancer should send requests here."""
        return self is Readiness.READY


@attrs.define(eq=False)
class Tenant:
    """A live tenant as the registry keeps it.

    Attributes:
        id: The tenant's id.
        metrics: The tenant's counters.
        named: Whether its metrics are series of their own; else they are summed with other tenants'.
        state: The state of its actor.
        resumes: When a tenant that rests after a crash may be started again, on Trio's clock.
        quiet_since: When its last question was answered, on Trio's clock.
        allowance: The cache's part of the shared budget.
        actor: The actor; None before the first one.
        inbox: The sending end of the actor's mailbox.
        open: Questions without an answer, in order.
        crashes: Times of crashes within the window, on Trio's clock.
        downs: How often it has been down since its actor last ran for a whole window.
        gone: Set when the actor has ended and the tenant is no longer live.
        since: When the actor was started, on Trio's clock.
        scope: Cancelling it ends the actor.
        ending_since: When its actor was told to end, on Trio's clock.
        again: Whether another actor follows the one that is stopped.
        leaves: Whether a task waits for the tenant's work to end, to evict it.
    """

    id: str
    metrics: TenantMetrics
    named: bool = True
    state: State = State.RUNNING
    resumes: float = 0.0
    quiet_since: float = 0.0
    allowance: Allowance | None = None
    actor: TenantActor | None = None
    inbox: trio.MemorySendChannel[Envelope] | None = None
    open: dict[Envelope, None] = attrs.field(factory=dict)
    crashes: list[float] = attrs.field(factory=list)
    downs: int = 0
    gone: trio.Event = attrs.field(factory=trio.Event)
    since: float = attrs.field(factory=trio.current_time)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ending_since: float = 0.0
    again: bool = False
    leaves: bool = False

    @property
    def rests(self) -> bool:
        """Test whether its rest after a crash goes on."""
        return trio.current_time() < self.resumes

    @property
    def idle(self) -> bool:
        """Whether no request waits for it and its actor is idle: it can be evicted."""
        running = self.state is State.RUNNING and not self.open
        return running and self.actor is not None and self.actor.idle

    @property
    def unread(self) -> int:
        """Promised streams that wait for their reader."""
        return 0 if self.actor is None else self.actor.unread

    def fail_all(self, refused: Refused) -> None:
        """Refuse all questions that still wait."""
        for envelope in tuple(self.open):
            envelope.reply(refused)


def not_running(found: Tenant) -> Refused:
    """Return the refusal for requests to a tenant that is not running."""
    seconds = max(1, math.ceil(found.resumes - trio.current_time()))
    if found.state is State.DOWN:
        detail = "This tenant's service crashed too often and is down until it is tried again."
        return Refused(Reason.UNAVAILABLE, detail, code="tenant_down", retry_after=seconds)
    detail = "This tenant's service is restarting."
    return Refused(Reason.UNAVAILABLE, detail, code="tenant_restarting", retry_after=seconds)
