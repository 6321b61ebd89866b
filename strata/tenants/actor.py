"""The actor that is a tenant: it owns the tenant's slots, cache shard, running builds and counters.

Its loop only routes: each question is answered by a task of its own, so a slow scan never blocks the mailbox.
A question that crashes (a bug) crashes the actor; its supervisor, the registry, answers whoever waits and
starts it anew from what is on disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import structlog
import trio

from strata.artifacts import tenant_prefix
from strata.cache import CacheShard
from strata.outcomes import RefusalError, Refused
from strata.tenants import messages as m
from strata.tenants.building import Builder
from strata.tenants.limits import TenantLimits
from strata.tenants.materializing import Materializer
from strata.tenants.metrics import TenantMetrics
from strata.tenants.reading import Reader
from strata.tenants.resources import Resources
from strata.tenants.slots import Slots
from strata.work import Tier

log = structlog.get_logger(__name__)


class Envelope:
    """A question on its way, and the place for its answer.

    Attributes:
        question: What is asked.
        request_id: The request it is asked for, which all lines logged on its behalf carry.
        scope: Cancelled by the asker who leaves: nobody works for an answer nobody wants.
        answer: The answer, once there is one.
        gone: Nobody waits for it any more.
    """

    def __init__(self, question: m.Question) -> None:
        self.question = question
        self.request_id: str | None = structlog.contextvars.get_contextvars().get("request_id")
        self.scope = trio.CancelScope()
        self.answer: Any = None
        self.answered = trio.Event()
        self.gone = False

    def reply(self, answer: object) -> None:
        """Settle the answer; the first one counts. What nobody will take is let go of."""
        if self.gone or self.answered.is_set():
            _let_go(answer)
            return
        self.answer = answer
        self.answered.set()

    def abandon(self) -> None:
        """The asker leaves, perhaps at the very moment in which the answer came."""
        self.gone = True
        self.scope.cancel()
        _let_go(self.answer)


def _let_go(answer: object) -> None:
    if isinstance(answer, m.Opened):
        answer.stream.close()


@attrs.define(eq=False)
class TenantActor:
    """One tenant, running.

    Attributes:
        tenant: Its id.
        resources: What the process lends it.
        limits: What it may use.
        metrics: Its counters; they outlive a restart.
        mailbox: Where its questions come from.
        busy: Questions being answered.
    """

    tenant: str
    resources: Resources
    limits: TenantLimits
    metrics: TenantMetrics
    mailbox: trio.MemoryReceiveChannel[Envelope]
    busy: int = 0
    builder: Builder | None = None
    materializer: Materializer | None = None
    reader: Reader | None = None
    _shard: CacheShard | None = None

    @property
    def idle(self) -> bool:
        """Nothing is asked, built or expected to be fetched: the actor can go."""
        return not self.busy and (self.materializer is None or self.materializer.idle)

    @property
    def at_rest(self) -> bool:
        """Nothing is asked or built; a stream may still wait for its reader."""
        return not self.busy and (self.materializer is None or not self.materializer.running)

    @property
    def shard(self) -> CacheShard:
        """The tenant's cache, once the actor runs."""
        assert self._shard is not None
        return self._shard

    async def run(self) -> None:
        """Open what the tenant has on disk, then answer until the mailbox closes and all work is done."""
        prefix = tenant_prefix(self.tenant)
        root = self.resources.cache_dir / prefix
        opened = partial(CacheShard.open, root, budget_bytes=self.limits.cache_bytes)
        self._shard = await self.resources.pool.run(self.tenant, Tier.INTERACTIVE, opened, abandon=False)
        slots = {
            Tier.INTERACTIVE: Slots("interactive_slots", self.limits.interactive_slots),
            Tier.BULK: Slots("bulk_slots", self.limits.bulk_slots),
        }
        async with trio.open_nursery() as nursery:
            self.builder = Builder(
                tenant=self.tenant,
                prefix=prefix,
                resources=self.resources,
                shard=self._shard,
                slots=slots,
                limits=self.limits,
                metrics=self.metrics,
            )
            self.materializer = Materializer(self.tenant, self.resources, self.builder, nursery)
            self.reader = Reader(self.tenant, prefix, self.resources, self.materializer)
            async with self.mailbox:
                async for envelope in self.mailbox:
                    self.busy += 1
                    nursery.start_soon(self._serve, envelope)

    async def _serve(self, envelope: Envelope) -> None:
        question = envelope.question
        if envelope.request_id is not None:
            # This task's own: what it starts, a build above all, goes on carrying the id.
            structlog.contextvars.bind_contextvars(request_id=envelope.request_id)
        try:
            with envelope.scope:
                try:
                    answer = await self._answer(question)
                except RefusalError as error:  # a store that does not answer: no reason to start anew
                    answer = error.refused
                except Exception as error:  # the supervisor logs the cause, and cannot know the request
                    crash = {"question": type(question).__name__, "error": type(error).__name__}
                    log.error("question crashed", tenant=self.tenant, **crash)  # noqa: TRY400
                    raise
                outcome = answer.reason.value if isinstance(answer, Refused) else "ok"
                if isinstance(answer, Refused):
                    self.metrics.note_refused(answer, type(question).__name__)
                self.metrics.questions[type(question).__name__, outcome] += 1
                envelope.reply(answer)
        finally:
            self.busy -= 1

    async def _answer(self, question: m.Question) -> Any:
        materializer, reader = self.materializer, self.reader
        assert materializer is not None
        assert reader is not None
        handlers: dict[type, Callable[[Any], Awaitable[object]]] = {
            m.Materialize: materializer.materialize,
            m.Explain: materializer.explain,
            m.OpenStream: reader.open_stream,
            m.OpenArtifact: reader.open_artifact,
            m.GetArtifact: reader.get_artifact,
            m.GetBuild: reader.get_build,
            m.ListArtifacts: reader.list_artifacts,
            m.ArtifactStats: reader.stats,
            m.GetName: reader.get_name,
            m.ListNames: reader.list_names,
            m.ClearCache: self._clear_cache,
            m.DescribeCache: self._describe_cache,
            m.UpdateLimits: self._update_limits,
            m.Describe: self._describe,
        }
        return await handlers[type(question)](question)

    async def _clear_cache(self, question: m.ClearCache) -> m.Cleared | Refused:
        refused = self.resources.gate.check_admin(question.principal, "admin/cache")
        if refused is not None:
            return refused
        files = self.shard.clear()
        await self.resources.pool.run(
            self.tenant, Tier.INTERACTIVE, partial(self.shard.remove_files, files), abandon=False
        )
        return m.Cleared()

    async def _describe_cache(self, _question: m.DescribeCache) -> object:
        return self.shard.stats()

    async def _describe(self, _question: m.Describe) -> m.Description:
        assert self.builder is not None
        assert self.materializer is not None
        return m.Description(
            limits=self.limits,
            slots=tuple(
                m.SlotUse(tier.value, held.total, held.used, held.waiting)
                for tier, held in self.builder.slots.items()
            ),
            in_flight=tuple(
                m.InFlight(None if build.record is None else build.record.build_id, build.progress)
                for build in self.materializer.running.values()
            ),
            questions=self.busy - 1,  # this one aside
            streams=len(self.materializer.streams),
            cache=self.shard.stats(),
        )

    async def _update_limits(self, question: m.UpdateLimits) -> TenantLimits:
        assert self.builder is not None
        self.limits = question.limits
        self.builder.update(question.limits)
        files = self.shard.set_budget(question.limits.cache_bytes)
        await self.resources.pool.run(
            self.tenant, Tier.INTERACTIVE, partial(self.shard.remove_files, files), abandon=False
        )
        return self.limits
