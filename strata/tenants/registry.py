"""All tenants of the process: who is live, who may go, and what happens when one crashes.

Each actor runs under its own supervisor, in one nursery that belongs to the server and not to Quart. A crash
is logged once with its cause, callers get 503 at once, and the actor starts anew after a pause that doubles;
after too many crashes in a window it stays down, and says so. Other tenants never notice.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import attrs
import structlog
import trio

from strata.outcomes import Reason, Refused
from strata.tenants.actor import Envelope, TenantActor
from strata.tenants.limits import TenantLimits
from strata.tenants.messages import Question, UpdateLimits
from strata.tenants.metrics import TenantMetrics
from strata.tenants.rates import RateBook
from strata.tenants.resources import Resources

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
DOWN_RETRY_SECONDS = 60

log = structlog.get_logger(__name__)


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
    """A live tenant, as its supervisor sees it."""

    id: str
    metrics: TenantMetrics
    state: State = State.RUNNING
    retry_after: int = 1
    actor: TenantActor | None = None
    inbox: trio.MemorySendChannel[Envelope] | None = None
    open: set[Envelope] = attrs.field(factory=set)
    crashes: deque[float] = attrs.field(factory=deque)
    gone: trio.Event = attrs.field(factory=trio.Event)

    def fail_all(self, refused: Refused) -> None:
        """Answer everybody who still waits."""
        for envelope in tuple(self.open):
            envelope.reply(refused)


@attrs.define(eq=False)
class Registry:
    """The live tenants, bounded, least recently used first to go.

    Attributes:
        resources: What every actor is lent.
        limits: Limits by tenant id.
        max_tenants: Most live actors (``max_tenants``).
        mailbox_size: Questions that may wait in one mailbox (``mailbox_size``).
        max_crashes: Crashes within the window after which an actor stays down (``max_tenant_crashes``).
        crash_window: The window, in seconds (``tenant_crash_window_seconds``).
        probe: Asks the metadata store whether it lives; blocking.
        cache_bytes: Bytes of cache, shared equally (``max_cache_size_bytes``).
        leaving: Whether readiness says no, so that requests are sent elsewhere; questions are still answered.
        draining: Whether questions are refused.
        rates: What tenants have taken of their rates, whether they are live or not.
    """

    resources: Resources
    limits: Callable[[str], TenantLimits]
    max_tenants: int
    mailbox_size: int
    max_crashes: int
    crash_window: float
    probe: Callable[[], bool]
    cache_bytes: int
    leaving: bool = False
    draining: bool = False
    rates: RateBook = attrs.field(init=False)
    _tenants: OrderedDict[str, Tenant] = attrs.field(factory=OrderedDict)
    _nursery: trio.Nursery | None = None

    @rates.default
    def _nothing_taken(self) -> RateBook:
        return RateBook(self.limits)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Host the actors until cancelled or drained."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def tenants(self) -> Iterator[Tenant]:
        """The live tenants."""
        yield from self._tenants.values()

    async def readiness(self) -> Readiness:
        """Whether requests should be sent here."""
        if self.leaving or self.draining:
            return Readiness.DRAINING
        return Readiness.READY if await self.resources.ask(self.probe) else Readiness.STORE_DOWN

    async def ask(self, tenant: str, question: Question) -> Any:
        """Ask ``tenant`` and return its answer, or a refusal.

        Never waits for room: a full mailbox is refused at once.
        """
        if self.draining:
            return Refused(Reason.UNAVAILABLE, "The server is shutting down.", code="draining", retry_after=5)
        found = await self._live(tenant)
        if isinstance(found, Refused):
            return found
        if found.state is not State.RUNNING:
            return _not_running(found)
        envelope = Envelope(question)
        assert found.inbox is not None
        try:
            found.inbox.send_nowait(envelope)
        except (trio.WouldBlock, trio.BrokenResourceError):
            return Refused(
                Reason.UNAVAILABLE,
                "Too many questions wait for this tenant.",
                code="mailbox_full",
                retry_after=1,
            )
        found.open.add(envelope)
        try:
            await envelope.answered.wait()
        except trio.Cancelled:
            envelope.abandon()
            raise
        finally:
            found.open.discard(envelope)
        return envelope.answer

    async def _live(self, tenant: str) -> Tenant | Refused:
        while True:
            found = self._tenants.get(tenant)
            if found is not None and found.state is not State.LEAVING:
                self._tenants.move_to_end(tenant)
                return found
            if found is None and len(self._tenants) < self.max_tenants:
                return self._start(tenant)
            # One that leaves comes back only when its old work is over: never a second set of slots.
            leaving = found if found is not None else self._evict()
            if leaving is None:
                detail = "The server serves as many tenants as it may (max_tenants)."
                return Refused(Reason.UNAVAILABLE, detail, code="too_many_tenants", retry_after=5)
            await leaving.gone.wait()

    def _start(self, tenant: str) -> Tenant:
        found = self._tenants[tenant] = Tenant(tenant, TenantMetrics())
        self._hire(found)
        assert self._nursery is not None
        self._nursery.start_soon(self._supervise, found)
        self._share_cache()
        return found

    def _evict(self) -> Tenant | None:
        """Let the least recently used idle tenant go, unless one leaves already; None when all are busy."""
        for found in self._tenants.values():
            if found.state is State.LEAVING:
                return found
        for found in self._tenants.values():
            if (
                found.state is State.RUNNING
                and not found.open
                and found.actor is not None
                and found.actor.idle
            ):
                found.state = State.LEAVING
                assert found.inbox is not None
                found.inbox.close()
                return found
        return None

    def update_limits(self) -> None:
        """Give every live tenant the limits of this moment, without a restart, also downwards."""
        self.rates.update()
        for found in self._tenants.values():
            self._give_limits(found)

    def _share_cache(self) -> None:
        """Give every live tenant an equal part of ``max_cache_size_bytes``."""
        part = self._cache_part()
        for found in self._tenants.values():
            if found.actor is not None and found.actor.limits.cache_bytes != part:
                self._give_limits(found)

    def _give_limits(self, found: Tenant) -> None:
        if found.inbox is None:
            return
        assert self._nursery is not None
        envelope = Envelope(self._limits_now(found))
        try:
            found.inbox.send_nowait(envelope)
        except trio.WouldBlock:
            self._nursery.start_soon(self._give_limits_later, found, found.inbox, envelope)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # whoever is hired next gets the limits of that moment

    async def _give_limits_later(
        self, found: Tenant, inbox: trio.MemorySendChannel[Envelope], envelope: Envelope
    ) -> None:
        """Wait for room in a full mailbox; what was given meanwhile may have overtaken it."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await inbox.send(envelope)
            if envelope.question != self._limits_now(found):
                self._give_limits(found)

    def _limits_now(self, found: Tenant) -> UpdateLimits:
        return UpdateLimits(attrs.evolve(self.limits(found.id), cache_bytes=self._cache_part()))

    def _cache_part(self) -> int:
        return self.cache_bytes // max(1, len(self._tenants))

    def _hire(self, found: Tenant) -> None:
        found.inbox, mailbox = trio.open_memory_channel[Envelope](self.mailbox_size)
        limits = self._limits_now(found).limits
        found.actor = TenantActor(found.id, self.resources, limits, found.metrics, mailbox)

    async def _supervise(self, found: Tenant) -> None:
        # The task inherits the id of the request that happened to be the tenant's first.
        structlog.contextvars.unbind_contextvars("request_id")
        try:
            while await self._run_once(found):
                self._hire(found)
                found.state = State.RUNNING
        finally:
            if found.state is not State.DOWN:
                del self._tenants[found.id]
            found.gone.set()

    async def _run_once(self, found: Tenant) -> bool:
        """Run the actor until it ends; whether it should be started again."""
        assert found.actor is not None
        assert found.inbox is not None
        try:
            await found.actor.run()
        except Exception as error:  # noqa: BLE001  # a supervisor is where any crash ends
            pause = self._crashed(found, error)
            found.inbox.close()
            if pause is None:
                return False
            await trio.sleep(pause)
            return True
        finally:
            found.fail_all(_not_running(found))
        return False

    def _crashed(self, found: Tenant, error: Exception) -> float | None:
        """Note a crash; the pause before the next start, or None to stay down."""
        now = trio.current_time()
        found.metrics.restarts += 1
        found.crashes.append(now)
        while found.crashes[0] <= now - self.crash_window:
            found.crashes.popleft()
        count = len(found.crashes)
        failed = [envelope.request_id for envelope in found.open]
        if count > self.max_crashes:
            found.state, found.retry_after = State.DOWN, DOWN_RETRY_SECONDS
            log.error("tenant down", tenant=found.id, crashes=count, request_ids=failed, exc_info=error)
            return None
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (count - 1))
        found.state, found.retry_after = State.RESTARTING, max(1, math.ceil(pause))
        log.error(
            "tenant crashed",
            tenant=found.id,
            crashes=count,
            pause=pause,
            request_ids=failed,
            exc_info=error,
        )
        found.fail_all(_not_running(found))
        return pause


def _not_running(found: Tenant) -> Refused:
    if found.state is State.DOWN:
        detail = "This tenant's service crashed too often and is down; an operator has to look at it."
        return Refused(Reason.UNAVAILABLE, detail, code="tenant_down", retry_after=found.retry_after)
    detail = "This tenant's service is restarting."
    return Refused(Reason.UNAVAILABLE, detail, code="tenant_restarting", retry_after=found.retry_after)
