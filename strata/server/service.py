"""Build the service from settings: stores, resources, tenant registry and front door."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Literal, cast

import attrs
import structlog
import trio

from strata.acl import CompiledPolicy
from strata.artifacts import BlobStore
from strata.artifacts.blobs.objects import ObjectBlobStore
from strata.artifacts.servers.contract import ServerFacts
from strata.auth import IdentityContract, request_id
from strata.background import keep_running
from strata.cache import CacheBudget
from strata.config import ConfigError, Settings
from strata.config.coherence import first_names_of
from strata.config.rules_file import RulesFile, RulesPlace, place_of
from strata.config.tenants import Overrides, read_overrides
from strata.http.asgi import App
from strata.http.door.auth_failures import FailureLimit
from strata.http.door.cross_site import TrustedHosts
from strata.http.door.front_door import FrontDoor
from strata.http.door.sockets import SocketPlaces, Sockets
from strata.http.door.tarpit import SHARE, Tarpit
from strata.http.formats.accelerated import PublishedFiles
from strata.http.routes import HOT, SOCKETS
from strata.http.routes.app import create_app
from strata.http.routes.pulling.pulls import PULL_UPLOADS
from strata.http.routes.registry.uploads import UPLOADS
from strata.observability.logs import configure
from strata.server.live_settings import LOGS, Reloaded
from strata.server.process import collected_when_idle
from strata.server.scheduler import Scheduler
from strata.server.stores import Stores, facts_of, open_stores
from strata.server.transforms import open_cells, open_transforms, take_transforms, take_workers
from strata.tables import Catalogs
from strata.tenants import Registry, Resources, TenantLimits
from strata.tenants.auditing.access_audit import AccessAudit, Retention
from strata.tenants.budgets.body_budget import BodyBudget
from strata.tenants.budgets.cache_sharing import CacheBudgetManager
from strata.tenants.budgets.disk_space import DiskSpaceGuard
from strata.tenants.budgets.machine import processors
from strata.tenants.budgets.memory_budget import MemoryBudget, MemoryParts, default_budget
from strata.tenants.budgets.tenant_cache import RememberedBudget
from strata.tenants.limits.overrides import TenantOverrides
from strata.tenants.limits.token_bucket import Rate
from strata.tenants.retention.sweeper import Sweeper
from strata.tenants.servers.following import SharedOrder
from strata.tenants.servers.heartbeat import Heartbeat
from strata.tenants.servers.rate_exchange import RateExchange
from strata.tenants.sessions.worker_catalogue import WorkerCatalogue
from strata.tenants.shared.artifact_inputs import all_inputs
from strata.tenants.shared.authorizer import Authorizer
from strata.tenants.shared.resources import START_SECONDS, SignedBlobs
from strata.tenants.stats.lent_files import LENT_SECONDS, LentFiles
from strata.tenants.stats.runtime import RuntimeStats
from strata.tracing.opening import OpenTracing
from strata.work import AdmissionQueue, WorkPool

DAY_SECONDS = 86_400.0

NO_TRACING = OpenTracing()

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Service:
    """A running service without sockets, as tests and the demo use it.

    Attributes:
        app: ASGI application, which begins with the front door.
        registry: Tenants.
        authorizer: Access rules in effect.
        tenant_overrides: Limits of each tenant.
        settings: Settings in effect.
        rules: Watches the file of access rules.
    """

    app: FrontDoor
    registry: Registry
    authorizer: Authorizer
    tenant_overrides: TenantOverrides
    settings: Settings
    rules: RulesFile

    def take(self, settings: Settings, rules: CompiledPolicy | None) -> None:
        """Apply the settings that a running server can change (:data:`strata.server.live_settings.LIVE`).

        What can fail is computed before anything is assigned: an exception leaves all as it was.

        Args:
            settings: Checked settings.
            rules: Compiled access rules of these settings; None if there are none.
        """
        contract, failures, memory = contract_of(settings), failure_rate_of(settings), memory_of(settings)
        self.settings = settings
        self.app.contract = contract
        self.app.hosts = hosts_of(settings)
        self.app.max_request_bytes = settings.max_request_bytes
        self.app.body_seconds = settings.request_body_seconds
        if self.app.failures is not None:
            self.app.failures.rate = failures
        resources = self.registry.resources
        parts = MemoryParts.of(memory)
        resources.memory.resize(parts.builds)
        self.app.bodies.total = parts.bodies
        resources.remembered.total = parts.remembered
        resources.catalogs.resize(parts.tables)
        if resources.disk_space is not None:
            resources.disk_space.reserve = settings.disk_reserve_bytes
        take_transforms(resources.transforms, settings)
        take_workers(resources.cells, settings)
        self.authorizer.take(rules)
        self.authorizer.hide = settings.hide_forbidden_as_not_found
        self.tenant_overrides.take(settings)
        self.registry.update_limits()
        self.rules.poller.move()

    def apply(self, found: Reloaded) -> None:
        """Apply a changed configuration, without a checkpoint, so that no request sees half of it."""
        self.take(found.settings, found.rules)
        if LOGS & set(found.changed):
            configure(found.settings.log_level, cast("Literal['json', 'text']", found.settings.log_format))
        log.info("configuration read again", changed=found.changed, needs_restart=found.waiting)

    def facts(self) -> ServerFacts:
        """Return what this server tells the others that share its database."""
        policy, registry = self.authorizer.policy, self.registry
        digest = None if policy is None else hashlib.sha256(repr(policy).encode()).hexdigest()[:16]
        state = "draining" if registry.leaving or registry.draining else "ready"
        return facts_of(self.settings, digest, state)

    def take_rules(self, compiled: CompiledPolicy) -> None:
        """Apply access rules read from their file."""
        self.settings = attrs.evolve(self.settings, acl_config=compiled.policy)
        self.authorizer.take(compiled)


def limits_of(settings: Settings) -> TenantLimits:
    """Return the limits of a tenant without overrides."""
    return TenantLimits(
        interactive_slots=settings.interactive_slots,
        bulk_slots=settings.bulk_slots,
        interactive_slots_per_principal=settings.interactive_slots_per_principal,
        bulk_slots_per_principal=settings.bulk_slots_per_principal,
        interactive_max_bytes=settings.interactive_max_bytes,
        interactive_max_columns=settings.interactive_max_columns,
        interactive_queue_timeout=settings.interactive_queue_timeout_seconds,
        bulk_queue_timeout=settings.bulk_queue_timeout_seconds,
        max_builds=settings.max_concurrent_scans,
        max_tasks=settings.max_tasks_per_scan,
        max_response_bytes=settings.max_response_bytes,
        plan_timeout=settings.plan_timeout_seconds,
        scan_timeout=settings.scan_timeout_seconds,
        fetch_timeout=settings.fetch_timeout_seconds,
        fetch_parallelism=settings.fetch_parallelism,
        batch_rows=settings.batch_size,
        stream_ttl=settings.stream_state_ttl_seconds,
        cache_bytes=settings.max_cache_size_bytes,
        transform_memory=settings.transform_memory_bytes,
        transform_spill=settings.transform_spill_bytes,
        transform_threads=settings.transform_threads,
        rate_limited=settings.rate_limit_enabled,
        requests_per_second=settings.rate_limit_global_rps,
        principal_requests_per_second=settings.rate_limit_client_rps,
        principal_scans_per_second=settings.rate_limit_scan_rps,
        bytes_per_second=settings.rate_limit_bytes_per_second,
        principal_bytes_per_second=settings.rate_limit_client_bytes_per_second,
        bytes_per_day=settings.rate_limit_bytes_per_day,
        principal_bytes_per_day=settings.rate_limit_client_bytes_per_day,
        artifact_max_bytes=settings.artifact_max_bytes,
        artifact_max_count=settings.artifact_max_count,
        artifact_max_idle=settings.artifact_max_idle_days * DAY_SECONDS,
        artifact_min_idle=settings.artifact_min_idle_seconds,
        names_shared=settings.artifact_names_shared,
        access_audit=settings.access_audit,
        protected_aliases=frozenset(aliases_of(settings.registry_protected_aliases)),
    )


def retention_of(settings: Settings) -> Retention:
    """Return the retention of the access audit."""
    return Retention(
        days=settings.access_audit_days,
        nbytes=settings.access_audit_max_bytes,
        required=settings.access_audit_required,
    )


def aliases_of(text: str) -> list[str]:
    """Return the aliases of a list with commas."""
    return [alias.strip() for alias in text.split(",") if alias.strip()]


def memory_of(settings: Settings) -> int:
    """Return the bytes of the memory budget."""
    return settings.memory_budget_bytes or default_budget()


def failure_rate_of(settings: Settings) -> Rate:
    """Return the rate of failed authentications that one address may have."""
    return Rate(settings.auth_failures_per_second, settings.auth_failure_burst)


def overrides_of(settings: Settings) -> Overrides:
    """Return the tenants' overrides, which the admin API writes; blocking.

    Raises:
        ConfigError: If the file of overrides cannot be read or is invalid.
    """
    found, problems = read_overrides(settings.overrides_path)
    if problems:
        raise ConfigError(tuple(problems))
    return found or Overrides()


def contract_of(settings: Settings) -> IdentityContract:
    """Return the contract by which identities are read from headers."""
    tokens = tuple(token for token in (settings.proxy_token, settings.proxy_token_previous) if token)
    return IdentityContract(
        mode=cast("Literal['none', 'trusted_proxy']", settings.auth_mode),
        tokens=tokens,
        principal_header=settings.principal_header,
        scopes_header=settings.scopes_header,
        tenant_header=settings.tenant_header,
        multi_tenant=settings.multi_tenant_enabled,
        require_tenant=settings.require_tenant_header,
        personal_user_header=settings.personal_mode_user_header,
    )


def hosts_of(settings: Settings) -> TrustedHosts:
    """Return the host names under which users reach the server."""
    given = (settings.allowed_hosts or "").split(",")
    names = frozenset(name.strip().strip("[]").lower() for name in given if name.strip())
    if settings.deployment_mode == "service":
        return TrustedHosts(names, checked=bool(names), forwarded=True)
    return TrustedHosts(
        names,
        checked=settings.unix_socket is None or bool(names),  # no browser connects to a Unix socket
        own=frozenset({"localhost", settings.host.lower()}),
        addresses=settings.allow_remote_clients_in_personal,
    )


def rules_place_of(settings: Settings, catalogs: Mapping[str, str]) -> RulesPlace:
    """Return the place of the access rules, given the first name of each catalog."""
    return place_of(settings.acl_file, catalogs, settings.acl_file_watch_seconds)


@asynccontextmanager
async def open_service(
    settings: Settings,
    *,
    pool: WorkPool | None = None,
    stores: Callable[[Settings], Stores] = open_stores,
    catalogs: Catalogs | None = None,
    app: App | None = None,
    tracing: OpenTracing = NO_TRACING,
) -> AsyncIterator[Service]:
    """Open the stores, start the registry and yield the service; close everything at the end.

    Simulations replace the pool, the stores, the catalogs and the application.

    Args:
        settings: Checked settings.
        pool: Work pool; by default one of ``work_slots`` threads.
        stores: Opens the stores; blocking.
        catalogs: Warehouses and catalogs; by default the configured ones.
        app: ASGI application behind the front door; by default the routes.
        tracing: Traces requests; by default none.

    Raises:
        CannotOpenError: If the stores cannot be opened.
        ConfigError: If the file of overrides is invalid.
    """
    personal = settings.deployment_mode == "personal"
    parts = MemoryParts.of(memory_of(settings))
    slots = min(settings.work_slots or processors(), settings.max_fetch_workers)
    with closing(await trio.to_thread.run_sync(stores, settings)) as opened:
        names = await trio.to_thread.run_sync(first_names_of, settings)
        if app is None:  # in a thread: every route is compiled, which takes longer than a step may
            app = cast("App", await trio.to_thread.run_sync(partial(create_app, personal=personal)))
        authorizer = Authorizer(
            settings.acl_config,
            hide=settings.hide_forbidden_as_not_found,
            secret=opened.metadata.secret,
        )
        rules = RulesFile(
            place=lambda: rules_place_of(service.settings, names),
            present=lambda: authorizer.policy,
            take=lambda compiled: service.take_rules(compiled),  # noqa: PLW0108  # the service is made below
        )
        catalogs = catalogs or Catalogs(
            warehouses={alias: _path(path) for alias, path in settings.warehouses.items()},
            catalogs=settings.catalogs,
            callers=settings.catalog_callers,
            any_file_warehouse=personal,
            secret=opened.metadata.secret,
        )
        resources = Resources(
            catalogs=catalogs,
            metadata=opened.metadata,
            retention=opened.retention,
            registry=opened.registry,
            notebooks=opened.notebooks,
            blobs=opened.blobs,
            pool=pool or WorkPool(slots, tolerance=settings.bulk_latency_tolerance),
            authorizer=authorizer,
            cache_dir=_path(settings.cache_dir),
            new_id=partial(secrets.token_urlsafe, 18),
            remote_blobs=settings.artifact_blob_backend != "local",
            published=_published(settings, opened.root, lent := _lent(settings)),
            signed=_signed(settings, opened.blobs),
            lent=lent,
            servers=opened.servers,
            shared_order=None if opened.servers is None else partial(SharedOrder, servers=opened.servers),
            starts=AdmissionQueue(max(1, slots // 2), START_SECONDS),
            memory=MemoryBudget(parts.builds),
            remembered=RememberedBudget(parts.remembered),
            disk_space=DiskSpaceGuard(
                opened.root,
                settings.disk_reserve_bytes,
                shared=settings.multi_tenant_enabled and settings.artifact_blob_backend == "local",
            ),
            rules=rules,
            accesses=None
            if opened.accesses is None
            else AccessAudit(
                opened.accesses,
                catalogs,
                authorizer.decision,
                all_inputs,
                lambda tenant: tenant_overrides.limits(tenant),  # noqa: PLW0108  # they are made below
                lambda: retention_of(tenant_overrides.settings),
                opened.accesses.now,
            ),
        )
        resources.catalogs.resize(parts.tables)
        await open_transforms(resources.transforms, settings)
        await open_cells(resources.cells, opened.notebooks.workers, settings)
        tenant_overrides = TenantOverrides(
            settings, limits_of, await trio.to_thread.run_sync(overrides_of, settings)
        )
        runtime_stats = RuntimeStats(spans=tracing.counts)
        registry = Registry(
            resources=resources,
            limits=tenant_overrides.limits,
            tenant_overrides=tenant_overrides,
            max_tenants=settings.max_tenants,
            mailbox_size=settings.mailbox_size,
            max_crashes=settings.max_tenant_crashes,
            crash_window=settings.tenant_crash_window_seconds,
            probe=opened.metadata.probe,
            sharing=CacheBudgetManager(
                resources.cache_dir,
                CacheBudget(settings.max_cache_size_bytes, settings.cache_guaranteed_bytes),
                resources.pool,
                failures=runtime_stats.failures,
            ),
            runtime_stats=runtime_stats,
            idle_seconds=settings.tenant_idle_seconds,
            most_named=settings.metrics_max_tenants,
        )
        if opened.servers is not None:
            registry.rates.used = {}
        sweeper = Sweeper(
            resources,
            tenant_overrides.limits,
            lambda: tenant_overrides.settings.artifact_gc_interval_seconds,
        )
        admission = AdmissionQueue()
        door = FrontDoor(
            app,
            contract=contract_of(settings),
            hosts=hosts_of(settings),
            registry=registry,
            max_request_bytes=settings.max_request_bytes,
            request_id=partial(request_id, generator=random.SystemRandom()),
            failures=FailureLimit(failure_rate_of(settings)),
            body_seconds=settings.request_body_seconds,
            routes=HOT,
            uploads=(*UPLOADS, *PULL_UPLOADS),
            turns=resources.turns,
            metrics_of=registry.metrics_of,
            rates=registry.rates,
            tarpit=Tarpit(settings.max_connections // SHARE),
            admission=admission,
            bodies=BodyBudget(parts.bodies),
            sockets=Sockets(SOCKETS, SocketPlaces(settings.max_connections // 2)),
            tracer=tracing.tracer,
        )
        tenant_overrides.changed = registry.update_limits
        for shared in (resources.pool, resources.starts, admission):
            shared.weight_of = lambda tenant: tenant_overrides.limits(tenant).weight
        runtime_stats.requests = lambda: {"admitted": admission.taken, "waiting": admission.waiting}
        service = Service(door, registry, authorizer, tenant_overrides, settings, rules)
        with admission.watching(), collected_when_idle(lambda: resources.busy):
            async with trio.open_nursery() as nursery:
                await nursery.start(registry.run)
                tasks: dict[str, Callable[[], Awaitable[None]]] = {
                    "rules": rules.poller.watch,
                    "rights": resources.rights.run,
                    "work_pool": resources.pool.watch,
                    "retention": sweeper.run,
                    "schedules": Scheduler(registry).run,
                }
                if resources.accesses is not None:
                    tasks["access_audit"] = resources.accesses.run
                    tasks["access_audit_retention"] = resources.accesses.keep
                if opened.servers is not None:
                    tasks["notebook_workers"] = WorkerCatalogue(resources).run
                    tasks["servers"] = Heartbeat(opened.servers, resources, service.facts).run
                    tasks["rates"] = RateExchange(opened.servers, registry.rates).run
                for name, task in tasks.items():
                    nursery.start_soon(keep_running, name, task, runtime_stats.failures)
                try:
                    yield service
                finally:
                    nursery.cancel_scope.cancel()
                    await resources.transforms.launcher.close()
                    await resources.transforms.checker.close()
                    await resources.cells.runner.close()


def _published(settings: Settings, root: Path, lent: LentFiles) -> PublishedFiles | None:
    """Return how the proxy names the files of results, if it may send them."""
    if settings.accel_redirect is None or settings.artifact_blob_backend != "local":
        return None
    return PublishedFiles(settings.accel_redirect, (root / "blobs").resolve(), lent)


def _lent(settings: Settings) -> LentFiles:
    """Return the table of what a proxy may be about to fetch: as long as its address is valid."""
    return LentFiles(max(LENT_SECONDS, settings.artifact_presigned_seconds))


def _signed(settings: Settings, blobs: BlobStore) -> SignedBlobs | None:
    """Return what signs addresses of remote blobs, if a proxy may fetch them."""
    seconds, location = settings.artifact_presigned_seconds, settings.accel_redirect
    if not seconds or location is None or not isinstance(blobs, ObjectBlobStore):
        return None
    return SignedBlobs(location, partial(blobs.presign, seconds=seconds))


def _path(text: str) -> Path:
    return Path(text).expanduser()
