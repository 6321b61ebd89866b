"""The actor of a tenant: it owns the tenant's slots, cache shard, running builds and counters.

Its loop only routes: each question is answered by a task of its own, so a slow scan never blocks the mailbox.
An exception in a question ends that question: an error of the operating system is a refusal, a bug is
answered 500. Only an error of the actor itself, in its loop or nursery, ends it; its supervisor, the
registry, refuses the questions that wait and starts another actor from what is on disk.
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
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import KnownNamespaces
from strata.tenants import discovery_messages as d
from strata.tenants import messages as m
from strata.tenants.builds.exception_groups import expected_of
from strata.tenants.builds.materialize import SCAN, Materializer
from strata.tenants.builds.runner import Builder
from strata.tenants.discovery.describing import TableDescriber
from strata.tenants.discovery.listing import TableLister
from strata.tenants.lifecycle.envelope import Envelope
from strata.tenants.lifecycle.introspection import INTROSPECTION
from strata.tenants.lifecycle.rules_administration import explain_access, reload_rules
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.slots import Slots
from strata.tenants.notebooks import messages as n
from strata.tenants.notebooks.editor import NotebookEditor
from strata.tenants.registry_messages import PutArtifact, VerifyArtifact
from strata.tenants.results.lineage import LineageReader
from strata.tenants.results.naming import Naming
from strata.tenants.results.read import Reader
from strata.tenants.results.registry import NAMING, REGISTRY, RegistryReader
from strata.tenants.results.removal import Remover
from strata.tenants.results.retention import Retention
from strata.tenants.results.uploading import Uploader
from strata.tenants.results.warming import CacheWarmer
from strata.tenants.retention_messages import CancelBuild, CollectArtifacts, RemoveArtifact, WhyKept
from strata.tenants.sessions.questions import SESSIONS
from strata.tenants.sessions.sessions import NotebookSessions
from strata.tenants.shared.authorizer import CACHE_RESOURCE
from strata.tenants.shared.os_errors import error_name, refusal_of
from strata.tenants.shared.resources import Resources
from strata.tenants.stats.counters import TenantMetrics
from strata.tenants.transforms.logs import LogReader
from strata.tenants.transforms.requests import Transforms
from strata.tracing.spans import child, continued, forget
from strata.work import Tier

QUESTION_CRASHED = Refused(
    Reason.FAILED, "Internal error; the server's log has it under this request id.", code="internal"
)

CACHE_UNAVAILABLE = Refused(
    Reason.UNAVAILABLE,
    "The tenant's cache cannot be cleared: its directory cannot be read or changed right now.",
    code="cache_unavailable",
    retry_after=5,
)

OPEN_SECONDS = 10.0
"""Seconds to read the cache's directory; at the bound the tenant is served without a cache for now."""

FIRST_READ_AGAIN_SECONDS = 1.0
"""Seconds until a cache directory that could not be read is tried again; doubled after each attempt."""

LONGEST_READ_AGAIN_SECONDS = 60.0
"""Most seconds between two attempts."""

log = structlog.get_logger(__name__)


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
    sessions: NotebookSessions | None = None
    _shard: CacheShard | None = None
    _namespaces: KnownNamespaces | None = None

    @property
    def idle(self) -> bool:
        """Whether no question is answered, no build and no cell runs: the actor can be evicted.

        Its unread streams are left for its next actor.
        """
        runs = self.sessions is not None and self.sessions.running
        return not self.busy and not runs and (self.materializer is None or not self.materializer.running)

    @property
    def unread(self) -> int:
        """Streams that wait for their reader."""
        return 0 if self.materializer is None else self.materializer.unread

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
    def namespaces(self) -> KnownNamespaces:
        """The namespaces of catalog servers that the tenant has just listed."""
        if self._namespaces is None:
            self._namespaces = KnownNamespaces(trio.lowlevel.current_clock().current_time)
        return self._namespaces

    @property
    def opened_sessions(self) -> NotebookSessions:
        """The live sessions of the tenant's notebooks, once the actor runs."""
        assert self.sessions is not None
        return self.sessions

    @property
    def cache(self) -> CacheStats | None:
        """Counters of the tenant's cache while it is open."""
        return None if self._shard is None else self._shard.stats()

    async def run(self) -> None:
        """Open the tenant's cache, then answer questions until the mailbox closes and all work is done."""
        forget()  # the request that started it
        prefix = tenant_prefix(self.tenant)
        self._shard = await self._open(prefix)
        try:
            async with trio.open_nursery() as nursery:
                self._move_in(prefix, self._shard, nursery)
                reading = trio.CancelScope()
                if self._shard.failure is not None:
                    nursery.start_soon(self._read_cache_again, reading)
                async with self.mailbox:
                    async for envelope in self.mailbox:
                        self.busy += 1
                        nursery.start_soon(self._serve, envelope)
                        del envelope  # or an idle tenant would keep its last question and the answer
                reading.cancel()
                self.opened_sessions.close()
                if self.reader is not None and self.reader.checking is not None:
                    self.reader.checking.cancel()
        finally:
            if self.materializer is not None:
                self.resources.left_streams.leave(self.tenant, self.materializer.left())
            self.metrics.cache_closed(self._shard.stats())
            self.left_bytes = self._shard.stats().bytes
            self._shard = None

    async def _open(self, prefix: str) -> CacheShard:
        """Open the tenant's cache; one that cannot be read, or not in time, is empty for now."""
        root, budget = self.resources.cache_dir / prefix, self.limits.cache_bytes
        opened = partial(CacheShard.open, root, budget_bytes=budget, allowance=self.allowance)
        shard = CacheShard(root, budget, self.allowance)
        shard.failure = TimeoutError()
        with trio.move_on_after(OPEN_SECONDS):
            shard = await self.resources.pool.run(self.tenant, Tier.INTERACTIVE, opened)
        if shard.failure is not None:
            log.warning("cache cannot be read", tenant=self.tenant, error=error_name(shard.failure))
            self.metrics.note_error("cache_unavailable", "cache")
        files = shard.settle()
        if files:
            remove = partial(shard.remove_files, files)
            await self.resources.pool.run(self.tenant, Tier.INTERACTIVE, remove, abandon=False)
        return shard

    async def _read_cache_again(self, scope: trio.CancelScope) -> None:
        """Try a cache directory that could not be read, after pauses that double, until it can be."""
        shard, pause = self.shard, FIRST_READ_AGAIN_SECONDS
        with scope:
            while shard.failure is not None:
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_READ_AGAIN_SECONDS)
                try:
                    index = await self.resources.pool.run(self.tenant, Tier.BULK, shard.read_disk)
                except OSError:  # logged when the cache was opened
                    continue
                await self._remove(shard.take(index))
                log.info("cache can be read again", tenant=self.tenant)

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
        self.materializer.streams.update(self.resources.left_streams.take(self.tenant))
        self.reader = Reader(self.tenant, prefix, self.resources, self.materializer)
        self.sessions = NotebookSessions(self.tenant, self.resources, self.materializer)

    async def _serve(self, envelope: Envelope) -> None:
        question = envelope.question
        if envelope.request_id is not None:
            # This task's own: what it starts, a build above all, goes on carrying the id.
            structlog.contextvars.bind_contextvars(request_id=envelope.request_id)
        answer: object = None
        try:
            with envelope.scope, continued(envelope.span), child("answer"):
                answer = envelope.pending or HANDLERS[type(question)](self, question)
                if isinstance(answer, m.Pending):
                    answer = await answer.finish()
        except Exception as error:  # noqa: BLE001  # it ends the question, not the actor
            answer = self._failed(question, error)
        finally:
            self.busy -= 1
        if not envelope.scope.cancelled_caught:  # else no request waits for it
            self._count(question, answer)
            envelope.reply(answer)

    def answer_at_once(self, question: m.Question) -> object | None:
        """Do what a question needs no wait for.

        Returns the answer, or a :class:`~strata.tenants.messages.Pending` for the mailbox. None where nothing
        was done: the actor has yet to open its cache.
        """
        if self.reader is None:
            return None
        try:
            answer = HANDLERS[type(question)](self, question)
        except Exception as error:  # noqa: BLE001  # it ends the question, not the front door's task
            answer = self._failed(question, error)
        if not isinstance(answer, m.Pending):
            self._count(question, answer)
        return answer

    def _failed(self, question: m.Question, error: Exception) -> Refused:
        """Return the refusal of a question that raised; a bug's traceback is logged here, once."""
        error = expected_of(error) if isinstance(error, ExceptionGroup) else error
        if isinstance(error, RefusalError):
            return error.refused
        kind = type(question).__name__
        if isinstance(error, OSError):
            log.warning("system error", tenant=self.tenant, question=kind, error=error_name(error))
            return refusal_of(error)
        log.error(
            "question crashed", tenant=self.tenant, question=kind, error=type(error).__name__, exc_info=error
        )
        return QUESTION_CRASHED

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
        if self.shard.failure is not None:
            return CACHE_UNAVAILABLE  # what is in the directory would come back
        failure = await self._remove(self.shard.clear())
        if failure is not None:
            log.warning("cache not cleared", tenant=self.tenant, error=error_name(failure))
            return CACHE_UNAVAILABLE
        return m.Cleared()

    async def describe_cache(self, question: m.DescribeCache) -> object:
        """Return the counters of the tenant's cache; refuse a caller who may not administer it."""
        refused = self.resources.authorizer.check_admin(question.principal, CACHE_RESOURCE)
        return self.shard.stats() if refused is None else refused

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

    async def _remove(self, files: list[Path]) -> OSError | None:
        """Remove files of the cache; returns the first error."""
        if not files:
            return None
        remove = partial(self.shard.remove_files, files)
        return await self.resources.pool.run(self.tenant, Tier.INTERACTIVE, remove, abandon=False)


Handler = Callable[[TenantActor, Any], object]
"""Does what a question of one kind needs no wait for; returns the answer, or a ``messages.Pending``."""


def _waiting(method: Callable[[TenantActor], Callable[[Any], Awaitable[object]]]) -> Handler:
    """Return the handler of questions that always wait, by the method that answers them."""
    return lambda actor, question: m.Pending(partial(method(actor), question))


def _lineage_reader(actor: TenantActor) -> LineageReader:
    return LineageReader(actor.tenant, actor.resources, actor.opened_reader)


def _lister(actor: TenantActor) -> TableLister:
    return TableLister(actor.tenant, actor.resources, actor.namespaces)


def _describer(actor: TenantActor) -> TableDescriber:
    return TableDescriber(actor.tenant, actor.resources, actor.opened_materializer.builder)


def _remover(actor: TenantActor) -> Remover:
    return Remover(actor.tenant, actor.resources, actor.opened_reader)


def _editor(actor: TenantActor) -> NotebookEditor:
    return NotebookEditor(actor.tenant, actor.resources)


def _transforms(actor: TenantActor) -> Transforms:
    return Transforms(actor.tenant, actor.opened_materializer, actor.opened_reader)


def _explain(actor: TenantActor, question: m.Explain) -> object:
    scan = question.what.executor == SCAN
    explain = actor.opened_materializer.explain if scan else _transforms(actor).explain
    return m.Pending(partial(explain, question))


def _registry(owner: Callable[..., Any], answer: Callable[[Any, Any], Awaitable[object]]) -> Handler:
    """Return the handler of a question that a method of ``owner`` answers."""
    return _waiting(
        lambda actor: partial(answer, owner(actor.tenant, actor.resources, actor.limits, actor.opened_reader))
    )


def _retention(actor: TenantActor) -> Retention:
    return Retention(actor.tenant, actor.resources, actor.limits, actor.opened_reader)


HANDLERS: Mapping[type, Handler] = {
    m.Materialize: lambda actor, question: (
        actor.opened_materializer.materialize(question)
        if question.what.executor == SCAN
        else m.Pending(partial(_transforms(actor).materialize, question))
    ),
    m.OpenArtifact: lambda actor, question: actor.opened_reader.open_artifact(question),
    m.Explain: _explain,
    m.OpenStream: _waiting(lambda actor: actor.opened_reader.open_stream),
    PutArtifact: _waiting(lambda actor: Uploader(actor.opened_reader).put),
    VerifyArtifact: _waiting(lambda actor: actor.opened_reader.verify),
    m.GetArtifact: _waiting(lambda actor: actor.opened_reader.get_artifact),
    m.GetBuild: _waiting(lambda actor: actor.opened_reader.get_build),
    CancelBuild: _waiting(lambda actor: actor.opened_reader.cancel_build),
    m.ListArtifacts: _waiting(lambda actor: actor.opened_reader.list_artifacts),
    m.ArtifactStats: _waiting(lambda actor: actor.opened_reader.stats),
    m.GetName: _waiting(lambda actor: actor.opened_reader.get_name),
    m.ListNames: _waiting(lambda actor: actor.opened_reader.list_names),
    m.GetLineage: _waiting(lambda actor: _lineage_reader(actor).lineage),
    m.GetDependents: _waiting(lambda actor: _lineage_reader(actor).dependents),
    m.GetNameStatus: _waiting(lambda actor: _lineage_reader(actor).status),
    **{kind: _registry(Naming, answer) for kind, answer in NAMING.items()},
    **{kind: _registry(RegistryReader, answer) for kind, answer in REGISTRY.items()},
    RemoveArtifact: _waiting(lambda actor: _remover(actor).remove),
    CollectArtifacts: _waiting(lambda actor: _retention(actor).collect),
    WhyKept: _waiting(lambda actor: _retention(actor).why),
    m.WarmCache: _waiting(lambda actor: CacheWarmer(actor.opened_materializer).warm),
    m.ExplainAccess: _waiting(lambda actor: partial(explain_access, actor.resources)),
    m.ReloadRules: _waiting(lambda actor: partial(reload_rules, actor.resources)),
    m.ClearCache: _waiting(lambda actor: actor.clear_cache),
    m.DescribeCache: _waiting(lambda actor: actor.describe_cache),
    m.UpdateLimits: _waiting(lambda actor: actor.update_limits),
    m.FitCache: _waiting(lambda actor: actor.fit_cache),
    **{kind: _waiting(partial(partial, answer)) for kind, answer in INTROSPECTION.items()},
    d.ListTransforms: _waiting(lambda actor: _transforms(actor).offers),
    d.GetBuildLog: _waiting(lambda actor: LogReader(actor.opened_materializer, actor.opened_reader).read),
    d.ListCatalogs: _waiting(lambda actor: _lister(actor).catalogs),
    d.ListTables: _waiting(lambda actor: _lister(actor).tables),
    d.DescribeTable: _waiting(lambda actor: _describer(actor).describe),
    d.ListSnapshots: _waiting(lambda actor: _describer(actor).snapshots),
    d.ListRefs: _waiting(lambda actor: _describer(actor).refs),
    d.ListHistory: _waiting(lambda actor: _describer(actor).history),
    n.CreateNotebook: _waiting(lambda actor: _editor(actor).create),
    n.ListNotebooks: _waiting(lambda actor: _editor(actor).list_notebooks),
    n.GetNotebook: _waiting(lambda actor: _editor(actor).get),
    n.ListRevisions: _waiting(lambda actor: _editor(actor).list_revisions),
    n.CompareRevisions: _waiting(lambda actor: _editor(actor).compare),
    **{
        kind: _waiting(partial(lambda answer, actor: partial(answer, actor.opened_sessions), answer))
        for kind, answer in SESSIONS.items()
    },
}
"""The handler of each kind of question, one table for all actors."""
