"""Operations on tenants: describe, evict, restart and drain them.

An actor gets questions as messages, or is ended by its supervisor; its state is never touched from outside.
Whatever ends an actor, a ready result stays ready, a running build fails as interrupted and leaves no trace,
and requests that wait are refused with ``Retry-After``.
"""

from __future__ import annotations

import attrs
import trio

from strata.outcomes import Reason, Refused
from strata.tenants.lifecycle.envelope import Envelope
from strata.tenants.lifecycle.handle import State, Tenant
from strata.tenants.lifecycle.registry import Registry
from strata.tenants.messages import Describe, Description, Question
from strata.tenants.retention_messages import WorkQuestion
from strata.tenants.stats.counters import ErrorNote

DESCRIBE_SECONDS = 1.0
"""Seconds an actor may take to describe itself; then it is described without its own part."""

WORK_SECONDS = 12.0
"""Seconds an actor may take to list its builds, or to end some."""

EVICTED = Refused(
    Reason.UNAVAILABLE,
    "An administrator has stopped this tenant's work; ask again.",
    code="tenant_evicted",
    retry_after=1,
)

RESTARTED = attrs.evolve(
    EVICTED, detail="An administrator has restarted this tenant's service.", code="tenant_restarting"
)


@attrs.frozen
class View:
    """A tenant as operators see it.

    Attributes:
        state: The state of its actor: a :class:`~strata.tenants.lifecycle.registry.State`, or ``absent``.
        enabled: Whether the tenant is served.
        drained: Whether it takes no new work until it is restarted.
        seconds: Seconds since its actor was started.
        restarts: Crashes of its actor.
        waiting: Requests that wait for an answer.
        queued: Questions in its mailbox.
        errors: The tenant's last errors, the oldest first.
        inside: The actor's description of itself; None if there is no actor or it did not answer in time.
    """

    state: str
    enabled: bool
    drained: bool
    seconds: float | None = None
    restarts: int = 0
    waiting: int = 0
    queued: int = 0
    errors: tuple[ErrorNote, ...] = ()
    inside: Description | None = None


def look(registry: Registry, tenant: str) -> View:
    """Describe a tenant without asking its actor."""
    enabled = registry.tenant_overrides is None or registry.tenant_overrides.enabled(tenant)
    drained, found = tenant in registry.drained, registry.find(tenant)
    if found is None:
        return View("absent", enabled, drained)
    queued = 0 if found.inbox is None else found.inbox.statistics().current_buffer_used
    seconds = trio.current_time() - found.since
    metrics, errors = found.metrics, found.metrics.errors
    return View(
        found.state.value, enabled, drained, seconds, metrics.restarts, len(found.open), queued, errors
    )


async def describe(registry: Registry, tenant: str) -> View:
    """Describe a tenant with its actor's own part; starts no actor, and does not count as a use of it."""
    view, found = look(registry, tenant), registry.find(tenant)
    if found is None or found.state is not State.RUNNING:
        return view
    inside = await _ask(found, Describe(), DESCRIBE_SECONDS)
    return attrs.evolve(view, inside=inside if isinstance(inside, Description) else None)


async def work(registry: Registry, tenant: str, question: WorkQuestion) -> object | None:
    """Ask a tenant's actor about its builds and streams; starts no actor, and does not count as a use of it.

    Returns:
        The answer; None if there is no actor, or it did not answer in time.
    """
    found = registry.find(tenant)
    if found is None or found.state is not State.RUNNING:
        return None
    return await _ask(found, question, WORK_SECONDS)


async def _ask(found: Tenant, question: Question, seconds: float) -> object | None:
    envelope = Envelope(question)
    assert found.inbox is not None
    try:
        found.inbox.send_nowait(envelope)
    except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
        return None  # full or about to end
    found.open[envelope] = None
    try:
        with trio.move_on_after(seconds):
            await envelope.answered.wait()
    finally:
        found.open.pop(envelope, None)
        if not envelope.answered.is_set():
            envelope.abandon()
    answer: object | None = envelope.answer
    return answer


def evict(registry: Registry, tenant: str) -> bool:
    """End a tenant's actor now; the next question starts another one. Returns whether there was one."""
    found = registry.find(tenant)
    if found is None:
        return False
    if registry.resting(tenant) is not None:
        registry.forget(found)
        return True
    registry.stop(found, EVICTED)
    return True


def restart(registry: Registry, tenant: str) -> bool:
    """End a tenant's actor and start another one, its crashes forgotten; the tenant takes new work again.

    Returns whether anything changed: not for a disabled tenant without an actor, whose drain had ended.
    """
    changed = tenant in registry.drained
    registry.drained.discard(tenant)
    found = registry.find(tenant)
    if found is None or registry.resting(tenant) is not None:
        if registry.turned_away(tenant) is not None:
            return changed
        if found is None:
            registry.start(tenant)
        else:
            registry.resume(found)
        return True
    if found.state is State.LEAVING:
        return True  # a request that waits for its end starts another one, and must not wait in vain
    registry.stop(found, RESTARTED, again=True)
    return True


def drain(registry: Registry, tenant: str) -> bool:
    """Take no new work of a tenant until it is restarted; running work ends, then the actor does.

    Returns whether anything changed: the tenant, live or absent, was not drained before.
    """
    changed = tenant not in registry.drained
    registry.drained.add(tenant)
    found = registry.find(tenant)
    if found is not None:
        registry.dismiss(found)
    return changed
