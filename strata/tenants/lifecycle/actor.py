"""The actor of a tenant: it owns the tenant's slots, cache shard, running builds and counters.

Its loop only routes: each question is answered by a task of its own, so a slow scan never blocks the mailbox.
A question that crashes (a bug) crashes the actor; its supervisor, the registry, refuses the questions that
wait and starts another actor from what is on disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from strata.artifacts import tenant_prefix
from strata.cache import Allowance, CacheShard, CacheStats
from strata.outcomes import RefusalError, Refused
from strata.tenants import messages as m
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.runner import Builder
from strata.tenants.lifecycle.rules_administration import explain_access, reload_rules
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.slots import Slots
from strata.tenants.results.lineage import LineageReader
from strata.tenants.results.read import Reader
from strata.tenants.results.warming import CacheWarmer
from strata.tenants.shared.authorizer import CACHE_RESOURCE
from strata.tenants.shared.resources import Resources
from strata.tenants.stats.counters import TenantMetrics
from strata.work import Tier

log = structlog.get_logger(__name__)


class Envelope:
    """A question in the mailbox, and its answer.

    Attributes:
        question: The question.
        pending: The rest of its work; None: nothing has been done.
        request_id: The id of its request, which all lines logged for it carry.
        scope: Cancelled when the request is: the work for it ends.
        answer: The answer, once there is one.
        answered: Set with the answer.
        gone: Whether the request has left.
    """

    def __init__(self, question: m.Question, pending: m.Pending | None = None) -> None:
        self.question = question
        self.pending = pending
        self.request_id: str | None = structlog.contextvars.get_contextvars().get("request_id")
        self.scope = trio.CancelScope()
        self.answer: Any = None
        self.answered = trio.Event()
        self.gone = False

    def reply(self, answer: object) -> None:
        """Settle the answer. The first one counts; a stream that will not be read is closed."""
        if self.gone or self.answered.is_set():
            _let_go(answer)
            return
        self.answer = answer
        self.answered.set()

    def abandon(self) -> None:
        """Give the question up, perhaps in the very moment in which its answer came."""
        self.gone = True
        self.scope.cancel()
        _let_go(self.answer)


def _let_go(answer: object) -> None:
    if isinstance(answer, m.Opened):
        answer.stream.close()


@attrs.define(eq=False)
class TenantActor:
    """A running tenant.

    Attributes:
        tenant: The tenant's id.
        resources: The process's shared resources.
        limits: The tenant's limits.
        metrics: The tenant's counters; they outlive a restart.
        mailbox: Delivers the questions.
        allowance: The cache's part of the budget that all caches share; None: ``limits.cache_bytes``.
        busy: Questions being answered.
        left_bytes: Bytes of cache on disk when the actor ended; None before.
    """

    tenant: str
    resources: Resources
    limits: TenantLimits
    metrics: TenantMetrics
    mailbox: trio.MemoryReceiveChannel[Envelope]
    allowance: Allowance | None = None
    busy: int = 0
    left_bytes: int | None = None
    builder: Builder | None = None
    materializer: Materializer | None = None
    reader: Reader | None = None
    _shard: CacheShard | None = None

    @property
    def idle(self) -> bool:
        """Whether no question is answered, no build runs and no stream waits: the actor can be evicted."""
        return not self.busy and (self.materializer is None or self.materializer.idle)

    @property
    def at_rest(self) -> bool:
        """Whether no question is answered and no build runs; streams may still wait for their readers."""
        return not self.busy and (self.materializer is None or not self.materializer.running)

    @property
    def shard(self) -> CacheShard:
        """The tenant's cache, once the actor runs."""
        assert self._shard is not None
        return self._shard

    @property
    def opened_materializer(self) -> Materializer:
        """The tenant's builds, once the actor runs."""
        assert self.materializer is not None
        return self.materializer

    @property
    def opened_reader(self) -> Reader:
        """The tenant's results, once the actor runs."""
        assert self.reader is not None
        return self.reader

    @property
    def cache(self) -> CacheStats | None:
        """Counters of the tenant's cache while it is open."""
        return None if self._shard is None else self._shard.stats()

    async def run(self) -> None:
        """Open the tenant's cache, then answer questions until the mailbox closes and all work is done."""
        prefix = tenant_prefix(self.tenant)
        self._shard = await self._open(prefix)
        try:
            async with trio.open_nursery() as nursery:
                self._move_in(prefix, self._shard, nursery)
                async with self.mailbox:
                    async for envelope in self.mailbox:
                        self.busy += 1
                        nursery.start_soon(self._serve, envelope)
                        del envelope  # or an idle tenant would keep its last question and the answer
        finally:
            self.metrics.cache_closed(self._shard.stats())
            self.left_bytes = self._shard.stats().bytes
            self._shard = None

    async def _open(self, prefix: str) -> CacheShard:
        opened = partial(
            CacheShard.open,
            self.resources.cache_dir / prefix,
            budget_bytes=self.limits.cache_bytes,
            allowance=self.allowance,
        )
        shard = await self.resources.pool.run(self.tenant, Tier.INTERACTIVE, opened, abandon=False)
        files = shard.settle()
        if files:
            remove = partial(shard.remove_files, files)
            await self.resources.pool.run(self.tenant, Tier.INTERACTIVE, remove, abandon=False)
        return shard

    def _move_in(self, prefix: str, shard: CacheShard, nursery: trio.Nursery) -> None:
        slots = {
            Tier.INTERACTIVE: Slots(
                "interactive_slots",
                self.limits.interactive_slots,
                self.limits.interactive_slots_per_principal,
            ),
            Tier.BULK: Slots("bulk_slots", self.limits.bulk_slots, self.limits.bulk_slots_per_principal),
        }
        self.builder = Builder(
            tenant=self.tenant,
            prefix=prefix,
            resources=self.resources,
            shard=shard,
            slots=slots,
            limits=self.limits,
            metrics=self.metrics,
        )
        self.materializer = Materializer(self.tenant, self.resources, self.builder, nursery)
        self.reader = Reader(self.tenant, prefix, self.resources, self.materializer)

    async def _serve(self, envelope: Envelope) -> None:
        question = envelope.question
        if envelope.request_id is not None:
            # This task's own: what it starts, a build above all, goes on carrying the id.
            structlog.contextvars.bind_contextvars(request_id=envelope.request_id)
        try:
            with envelope.scope:
                try:
                    answer = envelope.pending or HANDLERS[type(question)](self, question)
                    if isinstance(answer, m.Pending):
                        answer = await answer.finish()
                except RefusalError as error:  # a store that does not answer is no reason for a restart
                    answer = error.refused
                except Exception as error:  # the supervisor logs the cause, and cannot know the request
                    crash = {"question": type(question).__name__, "error": type(error).__name__}
                    log.error("question crashed", tenant=self.tenant, **crash)  # noqa: TRY400  # see above
                    raise
                self._count(question, answer)
                envelope.reply(answer)
        finally:
            self.busy -= 1

    def answer_at_once(self, question: m.Question) -> object | None:
        """Do what a question needs no wait for.

        Returns the answer, or a :class:`~strata.tenants.messages.Pending` for the mailbox. None where nothing
        was done: the actor has yet to open its cache, or the handler crashed, which it then does again in the
        actor's own task, where a crash is supervised.
        """
        if self.reader is None:
            return None
        try:
            answer = HANDLERS[type(question)](self, question)
        except Exception:  # noqa: BLE001  # a bug, or a store that does not answer: see above
            return None
        if not isinstance(answer, m.Pending):
            self._count(question, answer)
        return answer

    def _count(self, question: m.Question, answer: object) -> None:
        kind, outcome = type(question).__name__, "ok"
        if isinstance(answer, Refused):
            outcome = answer.reason.value
            self.metrics.note_refused(answer, kind)
        self.metrics.answered(kind, outcome)

    async def clear_cache(self, question: m.ClearCache) -> m.Cleared | Refused:
        """Empty the tenant's cache; refuse a caller who may not administer it."""
        refused = self.resources.authorizer.check_admin(question.principal, CACHE_RESOURCE)
        if refused is not None:
            return refused
        await self._remove(self.shard.clear())
        return m.Cleared()

    async def describe_cache(self, question: m.DescribeCache) -> object:
        """Return the counters of the tenant's cache; refuse a caller who may not administer it."""
        refused = self.resources.authorizer.check_admin(question.principal, CACHE_RESOURCE)
        return self.shard.stats() if refused is None else refused

    async def describe(self, _question: m.Describe) -> m.Description:
        """Describe limits, slots, running builds, streams and cache."""
        assert self.builder is not None
        assert self.materializer is not None
        return m.Description(
            limits=self.limits,
            slots=tuple(
                m.SlotUse(tier.value, held.total, held.used, held.waiting)
                for tier, held in self.builder.slots.items()
            ),
            in_flight=tuple(
                m.InFlight(
                    None if build.record is None else build.record.build_id,
                    build.progress,
                    tuple(build.principals),
                )
                for build in self.materializer.running.values()
            ),
            questions=self.busy - 1,  # this one aside
            streams=len(self.materializer.streams),
            cache=self.shard.stats(),
        )

    async def update_limits(self, question: m.UpdateLimits) -> TenantLimits:
        """Take new limits, and remove cached files beyond the cache's."""
        assert self.builder is not None
        self.limits = question.limits
        self.builder.update(question.limits)
        await self._remove(self.shard.set_budget(question.limits.cache_bytes))
        return self.limits

    async def fit_cache(self, _question: m.FitCache) -> None:
        """Remove cached files beyond what the cache budget grants."""
        await self._remove(self.shard.fit())

    async def _remove(self, files: list[Path]) -> None:
        if files:
            remove = partial(self.shard.remove_files, files)
            await self.resources.pool.run(self.tenant, Tier.INTERACTIVE, remove, abandon=False)


Handler = Callable[[TenantActor, Any], object]
"""Does what a question of one kind needs no wait for; returns the answer, or a ``messages.Pending``."""


def _waiting(method: Callable[[TenantActor], Callable[[Any], Awaitable[object]]]) -> Handler:
    """Return the handler of questions that always wait, by the method that answers them."""
    return lambda actor, question: m.Pending(partial(method(actor), question))


def _lineage_reader(actor: TenantActor) -> LineageReader:
    return LineageReader(actor.tenant, actor.resources, actor.opened_reader)


HANDLERS: Mapping[type, Handler] = {
    m.Materialize: lambda actor, question: actor.opened_materializer.materialize(question),
    m.OpenArtifact: lambda actor, question: actor.opened_reader.open_artifact(question),
    m.Explain: _waiting(lambda actor: actor.opened_materializer.explain),
    m.OpenStream: _waiting(lambda actor: actor.opened_reader.open_stream),
    m.GetArtifact: _waiting(lambda actor: actor.opened_reader.get_artifact),
    m.GetBuild: _waiting(lambda actor: actor.opened_reader.get_build),
    m.ListArtifacts: _waiting(lambda actor: actor.opened_reader.list_artifacts),
    m.ArtifactStats: _waiting(lambda actor: actor.opened_reader.stats),
    m.GetName: _waiting(lambda actor: actor.opened_reader.get_name),
    m.ListNames: _waiting(lambda actor: actor.opened_reader.list_names),
    m.GetLineage: _waiting(lambda actor: _lineage_reader(actor).lineage),
    m.GetDependents: _waiting(lambda actor: _lineage_reader(actor).dependents),
    m.GetNameStatus: _waiting(lambda actor: _lineage_reader(actor).status),
    m.WarmCache: _waiting(lambda actor: CacheWarmer(actor.opened_materializer).warm),
    m.ExplainAccess: _waiting(lambda actor: partial(explain_access, actor.resources)),
    m.ReloadRules: _waiting(lambda actor: partial(reload_rules, actor.resources)),
    m.ClearCache: _waiting(lambda actor: actor.clear_cache),
    m.DescribeCache: _waiting(lambda actor: actor.describe_cache),
    m.UpdateLimits: _waiting(lambda actor: actor.update_limits),
    m.FitCache: _waiting(lambda actor: actor.fit_cache),
    m.Describe: _waiting(lambda actor: actor.describe),
}
"""The handler of each kind of question, one table for all actors."""
