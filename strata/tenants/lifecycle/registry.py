"""All tenants of the process: which are live, which may be evicted, and what follows a crash.

Each actor runs under its own supervisor, in one nursery that belongs to the server and not to Quart. A crash
is logged once with its cause, and requests get 503 at once. The tenant then rests, without a place among the
live ones, for a time that doubles (``resting.py``); its first question after that starts another actor. Other
tenants are not affected.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import attrs
import structlog
import trio

from strata.artifacts import tenant_prefix
from strata.outcomes import Reason, Refused
from strata.tenants.budgets.cache_sharing import CacheBudgetManager
from strata.tenants.lifecycle.actor import TenantActor
from strata.tenants.lifecycle.envelope import Envelope
from strata.tenants.lifecycle.handle import DRAINED, STILL_ENDING, Readiness, State, Tenant, not_running
from strata.tenants.lifecycle.resting import RestingTenants, cause_of, note_crash
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.overrides import DISABLED, TenantOverrides
from strata.tenants.limits.rates import RateBook
from strata.tenants.messages import Explain, FitCache, Materialize, Pending, Question, UpdateLimits, WarmCache
from strata.tenants.shared.resources import Resources
from strata.tenants.stats.counters import TenantMetrics
from strata.tenants.stats.runtime import RuntimeStats
from strata.work import AdmissionToken

IDLE_LOOK_SECONDS = 0.25

ENDING_SECONDS = 15.0
"""Most seconds a question waits for an actor that ends; then it is refused, or another tenant is evicted."""

NEW_WORK = (Materialize, Explain, WarmCache)
"""Questions that a drained tenant refuses."""

LOOKS = 64
"""Quiet tenants examined in one go in search of an idle one."""

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Registry:
    """The live tenants: bounded in number, the least recently used evicted first.

    Attributes:
        resources: The shared resources of all actors.
        limits: Limits by tenant id.
        max_tenants: Most live actors (``max_tenants``).
        mailbox_size: Questions that may wait in one mailbox (``mailbox_size``).
        max_crashes: Crashes within the window after which an actor stays down (``max_tenant_crashes``).
        crash_window: The window, in seconds (``tenant_crash_window_seconds``).
        probe: Returns whether the metadata store answers; blocking.
        sharing: Divides the cache budget; None: every tenant has what its limits say.
        idle_seconds: Seconds after which an idle tenant is evicted (``tenant_idle_seconds``).
        most_named: Tenants whose metrics are series of their own (``metrics_max_tenants``).
        tenant_overrides: Limits by tenant, and which tenants are enabled; None: all are.
        leaving: Whether readiness is refused, so that balancers send requests elsewhere; questions are still
            answered.
        draining: Whether questions are refused.
        drained: Tenants that take no new work until they are restarted.
        rates: The rate limits' state of all tenants, live or not.
        others: Counters of tenants that are no longer live, or have no series of their own.
        runtime_stats: Loop lag and the like.
    """

    resources: Resources
    limits: Callable[[str], TenantLimits]
    max_tenants: int
    mailbox_size: int
    max_crashes: int
    crash_window: float
    probe: Callable[[], bool]
    sharing: CacheBudgetManager | None = None
    idle_seconds: float = math.inf
    most_named: int = 1000
    tenant_overrides: TenantOverrides | None = None
    leaving: bool = False
    draining: bool = False
    drained: set[str] = attrs.field(factory=set)
    rates: RateBook = attrs.field(init=False)
    others: TenantMetrics = attrs.field(factory=TenantMetrics)
    runtime_stats: RuntimeStats = attrs.field(factory=RuntimeStats)
    _tenants: OrderedDict[str, Tenant] = attrs.field(factory=OrderedDict)
    _quiet: OrderedDict[str, Tenant] = attrs.field(factory=OrderedDict)
    _ending: dict[str, Tenant] = attrs.field(factory=dict)
    _resting: RestingTenants = attrs.field(factory=RestingTenants)
    _directories: dict[str, Tenant] = attrs.field(factory=dict)
    _named: int = 0
    _grown_quiet: trio.Event = attrs.field(factory=trio.Event)
    _nursery: trio.Nursery | None = None

    @rates.default
    def _nothing_taken(self) -> RateBook:
        return RateBook(self.limits)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Host the actors until cancelled or drained."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self.sharing is not None:
                self.sharing.told = self._cache_was_cut
                nursery.start_soon(self.sharing.run)
            task_status.started()
            await self._dismiss_idle()

    def tenants(self) -> Iterator[Tenant]:
        """Yield the live tenants, the one unused for longest first, then those that rest after a crash."""
        return chain(self._tenants.values(), self._resting)

    def metrics_of(self, tenant: str) -> TenantMetrics:
        """Return the counters for ``tenant``, live or not."""
        found = self.find(tenant)
        return self.others if found is None else found.metrics

    async def readiness(self) -> Readiness:
        """Return whether balancers should send requests here."""
        if self.leaving or self.draining:
            return Readiness.DRAINING
        return Readiness.READY if await self.resources.health.healthy(self.probe) else Readiness.STORE_DOWN

    async def ask(self, tenant: str, question: Question, admission: AdmissionToken | None = None) -> Any:
        """Ask ``tenant`` and return its answer, or a refusal.

        A full mailbox is refused at once.

        Args:
            tenant: The tenant.
            question: The question.
            admission: The token of the request; released before its task waits for the actor.
        """
        admission = admission or AdmissionToken()
        if self.draining:
            return Refused(Reason.UNAVAILABLE, "The server is shutting down.", code="draining", retry_after=5)
        found = await self._live(tenant, question, admission)
        answer: Any
        if isinstance(found, Refused):
            answer = found
        elif found.actor is None or found.state is not State.RUNNING:
            answer = not_running(found)
        else:
            answer = found.actor.answer_at_once(question)
            if answer is None or isinstance(answer, Pending):
                admission.release()
                answer = await self._put(found, Envelope(question, answer))
            else:
                self._note_quiet(found)
        if isinstance(answer, Refused):
            self.metrics_of(tenant).refused(answer.code or answer.reason.value)
        return answer

    async def _put(self, found: Tenant, envelope: Envelope) -> Any:
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
        found.open[envelope] = None
        self._quiet.pop(found.id, None)
        try:
            await envelope.answered.wait()
        except trio.Cancelled:
            envelope.abandon()
            raise
        finally:
            found.open.pop(envelope, None)
            self._note_quiet(found)
        return envelope.answer

    def turned_away(self, tenant: str, question: Question | None = None) -> Refused | None:
        """Return the refusal of a disabled or drained tenant, or None; starts no actor.

        A drained tenant that is still live answers questions about its running work.
        """
        if self.tenant_overrides is not None and not self.tenant_overrides.enabled(tenant):
            return DISABLED
        if tenant not in self.drained:
            return None
        if tenant in self._tenants and question is not None and not isinstance(question, NEW_WORK):
            return None
        return DRAINED

    @property
    def full(self) -> bool:
        """Whether no tenant can be started: all live ones are busy."""
        full = len(self._tenants) >= self.max_tenants and not self._ending
        return full and not any(found.idle for found in self._quiet.values())

    def find(self, tenant: str) -> Tenant | None:
        """Return a live tenant, or one that rests after a crash."""
        return self._tenants.get(tenant) or self._resting.find(tenant)

    async def _live(self, tenant: str, question: Question, admission: AdmissionToken) -> Tenant | Refused:
        while True:
            refused = self.turned_away(tenant, question)  # the tenant may have been disabled during the wait
            if refused is not None:
                return refused
            found = self._tenants.get(tenant)
            if found is not None and found.state is not State.LEAVING:
                self._tenants.move_to_end(tenant)
                if self.sharing is not None:
                    self.sharing.budget.touch(tenant_prefix(tenant))
                return found
            resting = self._resting.find(tenant)
            if resting is not None and resting.rests:
                return resting
            if found is None and len(self._tenants) < self.max_tenants:
                return self._start(tenant)
            # A tenant that leaves comes back only when its old work is over: never a second set of slots.
            leaving = found if found is not None else self._evict()
            if leaving is None:
                detail = "The server serves as many tenants as it may (max_tenants)."
                return Refused(Reason.UNAVAILABLE, detail, code="too_many_tenants", retry_after=5)
            admission.release()
            with trio.move_on_after(ENDING_SECONDS) as patience:
                await leaving.gone.wait()
            if patience.cancelled_caught and leaving is found:
                return STILL_ENDING

    def _start(self, tenant: str) -> Tenant:
        found = self._resting.take(tenant)
        if found is None:
            named = self._named < self.most_named
            self._named += named
            found = Tenant(tenant, TenantMetrics(), named)
        found.state, found.gone = State.RUNNING, trio.Event()
        self._tenants[tenant] = found
        self._note_quiet(found)
        self._hire(found)
        assert self._nursery is not None
        self._nursery.start_soon(self._supervise, found)
        return found

    def _note_quiet(self, found: Tenant) -> None:
        """Append a tenant to the eviction queue unless a question is open or it is leaving."""
        if found.open or self._tenants.get(found.id) is not found or found.state is State.LEAVING:
            return
        self._append_quiet(found)
        self._grown_quiet.set()

    def _append_quiet(self, found: Tenant) -> None:
        found.quiet_since = trio.current_time()
        self._quiet[found.id] = found
        self._quiet.move_to_end(found.id)

    def _evict(self) -> Tenant | None:
        """Evict the least recently used idle tenant; returns one that leaves, or None when all are busy.

        Examines :data:`LOOKS` tenants at most: one that turns out to be busy is appended to the queue again.
        """
        now = trio.current_time()
        for found in self._ending.values():
            if now < found.ending_since + ENDING_SECONDS:  # one that hangs is not waited for by all others
                return found
        for _ in range(min(LOOKS, len(self._quiet))):
            found = next(iter(self._quiet.values()))
            if self._dismissed(found):
                return found
        return None

    def _dismissed(self, found: Tenant) -> bool:
        """Evict a quiet tenant if it is idle; returns whether it was."""
        if not found.idle:
            self._append_quiet(found)  # also while it is being described: others are examined then
            return False
        self.let_go(found)
        return True

    async def _dismiss_idle(self) -> None:
        """Evict tenants that were idle for ``idle_seconds``, at most :data:`LOOKS` at a time."""
        while True:
            while not self._quiet:
                self._grown_quiet = trio.Event()
                await self._grown_quiet.wait()
            await trio.sleep_until(next(iter(self._quiet.values())).quiet_since + self.idle_seconds)
            for found in list(islice(self._quiet.values(), LOOKS)):
                if found.quiet_since + self.idle_seconds > trio.current_time():
                    break
                self._dismissed(found)

    def let_go(self, found: Tenant) -> None:
        """Evict an idle tenant: it answers what is in its mailbox, and ends."""
        self._end(found)
        assert found.inbox is not None
        found.inbox.close()

    def stop(self, found: Tenant, refused: Refused, *, again: bool = False) -> None:
        """End a tenant's actor now; open questions are refused.

        Args:
            found: A live tenant.
            refused: The refusal.
            again: Start another actor at once, with the crashes forgotten, instead of evicting the tenant.
        """
        if again:
            found.state = State.RESTARTING
        else:
            self._end(found)
        found.again, found.resumes = again, trio.current_time()
        if again:
            found.crashes.clear()
        assert found.inbox is not None
        found.inbox.close()
        found.fail_all(refused)
        found.scope.cancel()

    def start(self, tenant: str) -> None:
        """Start a tenant that is not live, unless ``max_tenants`` are."""
        if tenant not in self._tenants and len(self._tenants) < self.max_tenants:
            self._start(tenant)

    def resting(self, tenant: str) -> Tenant | None:
        """Return a tenant that rests after a crash of its actor."""
        return self._resting.find(tenant)

    def resume(self, found: Tenant) -> None:
        """End a tenant's rest and forget its crashes; without a free place, its next question starts it."""
        found.crashes.clear()
        found.downs, found.resumes = 0, trio.current_time()
        self.start(found.id)

    def forget(self, found: Tenant) -> None:
        """Forget a tenant that rests."""
        self._resting.take(found.id)
        self._merge_counters(found)

    def _merge_counters(self, found: Tenant) -> None:
        self._named -= found.named
        self.others.add(found.metrics)

    def _end(self, found: Tenant) -> None:
        found.state, found.ending_since = State.LEAVING, trio.current_time()
        self._quiet.pop(found.id, None)
        self._ending[found.id] = found

    def dismiss(self, found: Tenant) -> None:
        """Evict a tenant when its work is over, unless it is served again by then."""
        if not found.leaves:
            found.leaves = True
            assert self._nursery is not None
            self._nursery.start_soon(self._dismiss, found)

    async def _dismiss(self, found: Tenant) -> None:
        structlog.contextvars.unbind_contextvars("request_id")
        while not found.gone.is_set() and self.turned_away(found.id) is not None:
            # The streams of a disabled tenant will not be read; those of a drained one are its running work.
            if found.idle and not (found.id in self.drained and found.unread):
                self.let_go(found)
                return
            await trio.sleep(IDLE_LOOK_SECONDS)
        found.leaves = False

    def update_limits(self, tenants: Collection[str] | None = None) -> None:
        """Send live tenants their present limits, without a restart, also lower ones.

        Args:
            tenants: The tenants whose limits have changed; None: all may have. One tenant's change takes no
                work of another.
        """
        self.rates.update(tenants)
        changed = self._tenants if tenants is None else self._tenants.keys() & set(tenants)
        for found in [self._tenants[tenant] for tenant in changed]:
            self._give_limits(found)
            if self.turned_away(found.id) is not None:
                self.dismiss(found)

    def _give_limits(self, found: Tenant) -> None:
        self._tell(found, self._limits_now(found))

    def _tell(self, found: Tenant, question: Question) -> None:
        """Send a question whose answer is not awaited; a full mailbox gets it once it has room."""
        if found.inbox is None:
            return
        assert self._nursery is not None
        envelope = Envelope(question)
        try:
            found.inbox.send_nowait(envelope)
        except trio.WouldBlock:
            self._nursery.start_soon(self._tell_later, found, found.inbox, envelope)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the next actor begins with the values of then

    async def _tell_later(
        self, found: Tenant, inbox: trio.MemorySendChannel[Envelope], envelope: Envelope
    ) -> None:
        """Wait for room in a full mailbox; newer limits may have overtaken these."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await inbox.send(envelope)
            if isinstance(envelope.question, UpdateLimits) and envelope.question != self._limits_now(found):
                self._give_limits(found)

    def _limits_now(self, found: Tenant) -> UpdateLimits:
        return UpdateLimits(self.limits(found.id))

    def _cache_was_cut(self, key: str) -> None:
        """Have a tenant shrink its cache to its allowance of then."""
        found = self._directories.get(key)
        if found is not None:
            self._tell(found, FitCache())

    def _hire(self, found: Tenant) -> None:
        found.inbox, mailbox = trio.open_memory_channel[Envelope](self.mailbox_size)
        limits = self._limits_now(found).limits
        found.actor = TenantActor(
            found.id, self.resources, limits, found.metrics, mailbox, allowance=found.allowance
        )
        found.scope, found.again, found.since = trio.CancelScope(), False, trio.current_time()

    async def _supervise(self, found: Tenant) -> None:
        # The task inherits the request id of the tenant's first request.
        structlog.contextvars.unbind_contextvars("request_id")
        try:
            while await self._run_once(found):
                self._stay(found)
                self._hire(found)
                found.state = State.RUNNING
        finally:
            self._part(found)

    def _stay(self, found: Tenant) -> None:
        """Keep a leaving tenant that is restarted; requests waiting for its end look again."""
        if self._ending.pop(found.id, None) is not None:
            found.gone.set()
            found.gone, found.leaves = trio.Event(), False

    async def _admit(self, found: Tenant) -> None:
        """Give the tenant its part of the cache budget, unless it has it."""
        if self.sharing is None or found.allowance is not None:
            return
        key = tenant_prefix(found.id)
        self._directories[key] = found
        found.allowance = await self.sharing.enter(key)
        assert found.actor is not None
        found.actor.allowance = found.allowance

    def _part(self, found: Tenant) -> None:
        """Forget a tenant that has ended, except for its counters; one that has crashed rests."""
        if self.sharing is not None and found.actor is not None:
            key = tenant_prefix(found.id)
            self._directories.pop(key, None)
            self.sharing.leave(key, found.actor.left_bytes)
            found.allowance = None
        self._quiet.pop(found.id, None)
        self._ending.pop(found.id, None)
        del self._tenants[found.id]
        found.actor = found.inbox = None  # nothing of the actor is kept
        forgotten = found if found.state in (State.RUNNING, State.LEAVING) else self._resting.add(found)
        if forgotten is not None:
            self._merge_counters(forgotten)
        found.gone.set()

    async def _run_once(self, found: Tenant) -> bool:
        """Run the actor until it ends; returns whether to start another one at once."""
        assert found.actor is not None
        assert found.inbox is not None
        try:
            with found.scope:
                await self._admit(found)
                await found.actor.run()
        except Exception as error:  # noqa: BLE001  # a supervisor is where any crash ends
            self._crashed(found, error)
            found.inbox.close()
            return False
        finally:
            found.fail_all(not_running(found))
        return found.again

    def _crashed(self, found: Tenant, error: Exception) -> None:
        """Note a crash: the tenant rests."""
        found.metrics.restarts += 1
        found.metrics.note_error(cause_of(error), "crash")
        pause = note_crash(found, trio.current_time(), most=self.max_crashes, window=self.crash_window)
        log.error(
            "tenant down" if found.state is State.DOWN else "tenant crashed",
            tenant=found.id,
            crashes=len(found.crashes),
            pause=pause,
            request_ids=[envelope.request_id for envelope in found.open],
            exc_info=error,
        )
