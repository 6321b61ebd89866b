"""Build the service from settings: stores, resources, tenant registry and front door."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Literal, cast

import attrs
import structlog
import trio

from strata.acl import CompiledPolicy
from strata.auth import IdentityContract, request_id
from strata.cache import CacheBudget
from strata.config import ConfigError, Settings
from strata.config.rules_file import RulesFile, RulesPlace, place_of
from strata.config.tenants import Overrides, read_overrides
from strata.http.asgi import App
from strata.http.door.auth_failures import FailureLimit
from strata.http.door.front_door import FrontDoor
from strata.http.door.tarpit import SHARE, Tarpit
from strata.http.routes import HOT
from strata.http.routes.app import create_app
from strata.observability.logs import configure
from strata.server.live_settings import LOGS, Reloaded
from strata.server.process import collected_when_idle
from strata.server.stores import Stores, open_stores
from strata.tables import Catalogs
from strata.tenants import Registry, Resources, TenantLimits
from strata.tenants.limits.overrides import TenantOverrides
from strata.tenants.limits.token_bucket import Rate
from strata.tenants.shared.authorizer import Authorizer
from strata.tenants.shared.cache_sharing import CacheBudgetManager
from strata.tenants.shared.disk_space import DiskSpaceGuard
from strata.tenants.shared.memory_budget import SHARE_OF_MACHINE, MemoryBudget, machine_bytes
from strata.tenants.shared.resources import START_SECONDS
from strata.work import AdmissionQueue, WorkPool

log = structlog.get_logger(__name__)

WAITING_CALLS = 40
"""Most database calls that block in threads at a time; further ones wait."""

TRANSFERS = 64
"""Most calls to a remote blob store that block in threads at a time; further ones wait."""


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

        Args:
            settings: Checked settings.
            rules: Compiled access rules of these settings; None if there are none.
        """
        self.settings = settings
        self.app.contract = contract_of(settings)
        self.app.max_request_bytes = settings.max_request_bytes
        self.app.body_seconds = settings.request_body_seconds
        if self.app.failures is not None:
            self.app.failures.rate = failure_rate_of(settings)
        resources = self.registry.resources
        resources.memory.resize(memory_of(settings))
        if resources.disk_space is not None:
            resources.disk_space.reserve = settings.disk_reserve_bytes
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
        rate_limited=settings.rate_limit_enabled,
        requests_per_second=settings.rate_limit_global_rps,
        principal_requests_per_second=settings.rate_limit_client_rps,
        principal_scans_per_second=settings.rate_limit_scan_rps,
        bytes_per_second=settings.rate_limit_bytes_per_second,
        principal_bytes_per_second=settings.rate_limit_client_bytes_per_second,
        bytes_per_day=settings.rate_limit_bytes_per_day,
        principal_bytes_per_day=settings.rate_limit_client_bytes_per_day,
    )


def memory_of(settings: Settings) -> int:
    """Return the bytes that all builds together may hold in memory."""
    return settings.memory_budget_bytes or machine_bytes() // SHARE_OF_MACHINE


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
    return found


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


def rules_place_of(settings: Settings) -> RulesPlace:
    """Return the place of the access rules."""
    catalogs = (*settings.warehouses, *settings.catalogs)
    return place_of(settings.acl_file, catalogs, settings.acl_file_watch_seconds)


@asynccontextmanager
async def open_service(
    settings: Settings,
    *,
    pool: WorkPool | None = None,
    stores: Callable[[Settings], Stores] = open_stores,
    catalogs: Catalogs | None = None,
    app: App | None = None,
) -> AsyncIterator[Service]:
    """Open the stores, start the registry and yield the service; close everything at the end.

    Simulations replace the pool, the stores, the catalogs and the application.

    Args:
        settings: Checked settings.
        pool: Work pool; by default one of ``work_slots`` threads.
        stores: Opens the stores; blocking.
        catalogs: Warehouses and catalogs; by default the configured ones.
        app: ASGI application behind the front door; by default the routes.

    Raises:
        CannotOpenError: If the stores cannot be opened.
        ConfigError: If the file of overrides is invalid.
    """
    personal = settings.deployment_mode == "personal"
    slots = min(settings.work_slots or os.cpu_count() or 1, settings.max_fetch_workers)
    with closing(await trio.to_thread.run_sync(stores, settings)) as opened:
        authorizer = Authorizer(settings.acl_config, hide=settings.hide_forbidden_as_not_found)
        rules = RulesFile(
            place=lambda: rules_place_of(service.settings),
            present=lambda: authorizer.policy,
            take=lambda compiled: service.take_rules(compiled),  # noqa: PLW0108  # the service is made below
        )
        resources = Resources(
            catalogs=catalogs
            or Catalogs(
                warehouses={alias: _path(path) for alias, path in settings.warehouses.items()},
                catalogs=settings.catalogs,
                any_file_warehouse=personal,
            ),
            metadata=opened.metadata,
            blobs=opened.blobs,
            pool=pool or WorkPool(slots, tolerance=settings.bulk_latency_tolerance),
            authorizer=authorizer,
            cache_dir=_path(settings.cache_dir),
            new_id=partial(secrets.token_urlsafe, 18),
            waits=trio.CapacityLimiter(WAITING_CALLS),
            transfers=None if settings.artifact_blob_backend == "local" else trio.CapacityLimiter(TRANSFERS),
            starts=AdmissionQueue(max(1, slots // 2), START_SECONDS),
            memory=MemoryBudget(memory_of(settings)),
            disk_space=DiskSpaceGuard(settings.artifact_root, settings.disk_reserve_bytes),
            rules=rules,
        )
        tenant_overrides = TenantOverrides(
            settings, limits_of, await trio.to_thread.run_sync(overrides_of, settings)
        )
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
            ),
            idle_seconds=settings.tenant_idle_seconds,
            most_named=settings.metrics_max_tenants,
        )
        admission = AdmissionQueue()
        door = FrontDoor(
            app or cast("App", create_app(personal=personal)),
            contract=contract_of(settings),
            registry=registry,
            max_request_bytes=settings.max_request_bytes,
            request_id=partial(request_id, generator=random.SystemRandom()),
            failures=FailureLimit(failure_rate_of(settings)),
            body_seconds=settings.request_body_seconds,
            routes=HOT,
            turns=resources.turns,
            metrics_of=registry.metrics_of,
            rates=registry.rates,
            tarpit=Tarpit(settings.max_connections // SHARE),
            admission=admission,
        )
        tenant_overrides.changed = registry.update_limits
        for shared in (resources.pool, resources.starts, admission):
            shared.weight_of = lambda tenant: tenant_overrides.limits(tenant).weight
        registry.runtime_stats.requests = lambda: {"admitted": admission.taken, "waiting": admission.waiting}
        service = Service(door, registry, authorizer, tenant_overrides, settings, rules)
        with admission.watching(), collected_when_idle(lambda: resources.busy):
            async with trio.open_nursery() as nursery:
                await nursery.start(registry.run)
                nursery.start_soon(rules.poller.watch)
                yield service
                nursery.cancel_scope.cancel()


def _path(text: str) -> Path:
    return Path(text).expanduser()
