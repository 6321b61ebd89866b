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
from strata.tenants.messages import Explain, Materialize, Question, UpdateLimits
from strata.tenants.metrics import TenantMetrics
from strata.tenants.resources import Resources
from strata.tenants.tenancy import DISABLED, Tenancy

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
DOWN_RETRY_SECONDS = 60
IDLE_LOOK_SECONDS = 0.25

NEW_WORK = (Materialize, Explain)
"""What a drained tenant is not asked any more."""

DRAINED = Refused(
    Reason.UNAVAILABLE,
    "This tenant is drained: an operator has stopped its new work here.",
    code="tenant_drained",
    retry_after=30,
)

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
        tenancy: Whose word on who is served at all is asked, if there is one.
        leaving: Whether readiness says no, so that requests are sent elsewhere; questions are still answered.
        draining: Whether questions are refused.
        drained: Tenants that take no new work until they are restarted.
    """

    resources: Resources
    limits: Callable[[str], TenantLimits]
    max_tenants: int
    mailbox_size: int
    max_crashes: int
    crash_window: float
    probe: Callable[[], bool]
    cache_bytes: int
    tenancy: Tenancy | None = None
    leaving: bool = False
    draining: bool = False
    drained: set[str] = attrs.field(factory=set)
    _tenants: OrderedDict[str, Tenant] = attrs.field(factory=OrderedDict)
    _nursery: trio.Nursery | None = None

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
        turned_away = self.turned_away(tenant, question)
        if turned_away is not None:
            return turned_away
        found = await self._live(tenant)
        if isinstance(found, Refused):
            return found
        if found.state is not State.RUNNING:
            return not_running(found)
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

    def turned_away(self, tenant: str, question: Question | None = None) -> Refused | None:
        """Return why ``tenant`` is not served whatever its state, or None; no actor is started for that.

        A tenant that is drained and still there answers what is asked about work that is under way.
        """
        if self.tenancy is not None and not self.tenancy.enabled(tenant):
            return DISABLED
        if tenant not in self.drained:
            return None
        if tenant in self._tenants and question is not None and not isinstance(question, NEW_WORK):
            return None
        return DRAINED

    @property
    def full(self) -> bool:
        """Whether a tenant that is not live has to wait for another one to go, and none can."""
        return len(self._tenants) >= self.max_tenants and not any(
            found.idle or found.state is State.LEAVING for found in self._tenants.values()
        )

    def find(self, tenant: str) -> Tenant | None:
        """Return a live tenant."""
        return self._tenants.get(tenant)

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
            if found.idle:
                self.let_go(found)
                return found
        return None

    @staticmethod
    def let_go(found: Tenant) -> None:
        """Let an idle tenant go: it ends what is in its mailbox, and is then gone."""
        found.state = State.LEAVING
        assert found.inbox is not None
        found.inbox.close()

    @staticmethod
    def stop(found: Tenant, refused: Refused, *, again: bool = False) -> None:
        """End a tenant's actor now, or the pause after its crash; whoever waits is refused.

        Args:
            found: Not one that is down.
            refused: What they are told.
            again: Start another one at once, with the crashes forgiven, instead of letting it go.
        """
        found.state = State.RESTARTING if again else State.LEAVING
        found.again, found.retry_after = again, 1
        if again:
            found.crashes.clear()
        assert found.inbox is not None
        found.inbox.close()
        found.fail_all(refused)
        found.scope.cancel()
        if found.pause is not None:
            found.pause.cancel()

    def start(self, tenant: str) -> None:
        """Start a tenant that is not live, if there is room."""
        if tenant not in self._tenants and len(self._tenants) < self.max_tenants:
            self._start(tenant)

    def forget(self, found: Tenant) -> None:
        """Forget a tenant that is down, whose supervisor has ended."""
        assert found.state is State.DOWN
        del self._tenants[found.id]

    def dismiss(self, found: Tenant) -> None:
        """Let a tenant go when its work is over, unless it is welcome again by then."""
        if not found.leaves:
            found.leaves = True
            assert self._nursery is not None
            self._nursery.start_soon(self._dismiss, found)

    async def _dismiss(self, found: Tenant) -> None:
        structlog.contextvars.unbind_contextvars("request_id")
        while not found.gone.is_set() and self.turned_away(found.id) is not None:
            # Nobody will read the streams of a tenant that is not served.
            unread = found.id not in self.drained and found.at_rest
            if unread or found.idle:
                self.let_go(found)
                return
            await trio.sleep(IDLE_LOOK_SECONDS)
        found.leaves = False

    def update_limits(self) -> None:
        """Give every live tenant the limits of this moment, without a restart, also downwards."""
        for found in self._tenants.values():
            self._give_limits(found)
            if self.turned_away(found.id) is not None:
                self.dismiss(found)

    def _share_cache(self) -> None:
        """Give every live tenant an equal part of ``max_cache_size_bytes``."""
        part = self._cache_part()
        for found in self._tenants.values():
            if found.actor is not None and found.actor.limits.cache_bytes != min(
                part, self.limits(found.id).cache_bytes
            ):
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
        limits = self.limits(found.id)
        return UpdateLimits(attrs.evolve(limits, cache_bytes=min(self._cache_part(), limits.cache_bytes)))

    def _cache_part(self) -> int:
        return self.cache_bytes // max(1, len(self._tenants))

    def _hire(self, found: Tenant) -> None:
        found.inbox, mailbox = trio.open_memory_channel[Envelope](self.mailbox_size)
        limits = self._limits_now(found).limits
        found.actor = TenantActor(found.id, self.resources, limits, found.metrics, mailbox)
        found.scope, found.again, found.since = trio.CancelScope(), False, trio.current_time()

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
            with found.scope:
                await found.actor.run()
        except Exception as error:  # noqa: BLE001  # a supervisor is where any crash ends
            pause = self._crashed(found, error)
            found.inbox.close()
            if pause is None:
                return False
            with trio.move_on_after(pause) as found.pause:
                await trio.sleep_forever()
            return found.state is State.RESTARTING
        finally:
            found.fail_all(not_running(found))
        return found.again

    def _crashed(self, found: Tenant, error: Exception) -> float | None:
        """Note a crash; the pause before the next start, or None to stay down."""
        now = trio.current_time()
        found.metrics.restarts += 1
        found.metrics.note_error(_cause(error), "crash")
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
        found.fail_all(not_running(found))
        return pause


def _cause(error: BaseException) -> str:
    """Return the kind of error that is in nurseries' groups, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__


def not_running(found: Tenant) -> Refused:
    """Return what whoever asks a tenant is told that is not running."""
    if found.state is State.DOWN:
        detail = "This tenant's service crashed too often and is down; an operator has to look at it."
        return Refused(Reason.UNAVAILABLE, detail, code="tenant_down", retry_after=found.retry_after)
    detail = "This tenant's service is restarting."
    return Refused(Reason.UNAVAILABLE, detail, code="tenant_restarting", retry_after=found.retry_after)
