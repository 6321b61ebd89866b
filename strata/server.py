"""A whole server out of settings: resources, registry, door, and the sockets it listens on."""

from __future__ import annotations

import os
import random
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Literal, cast

import attrs
import structlog
import trio

from strata.auth import IdentityContract, request_id
from strata.config import ConfigError, Settings
from strata.http.app import create_app
from strata.http.asgi import App
from strata.http.connection import Patience
from strata.http.crowd import Crowd
from strata.http.descriptors import connections_within
from strata.http.door import FrontDoor
from strata.http.failures import FailureLimit
from strata.http.listening import Bind, Tls
from strata.http.serve import serve
from strata.reloading import apply
from strata.stores import Stores, open_stores
from strata.tables import Catalogs
from strata.tenants import Registry, Resources, TenantLimits
from strata.tenants.gate import Gate
from strata.work import WorkPool

log = structlog.get_logger(__name__)

WAITING_CALLS = 40
"""Calls to databases and catalogs that may block in threads at a time."""

TRANSFERS = 64
"""Calls to a remote blob store that may block in threads at a time."""


@attrs.define(eq=False)
class Service:
    """A running service without sockets: what tests and the demo call directly.

    Attributes:
        app: The ASGI application: the door.
        registry: The tenants.
        gate: The access rules.
        settings: What is in effect.
    """

    app: FrontDoor
    registry: Registry
    gate: Gate
    settings: Settings

    def take(self, settings: Settings) -> None:
        """Put settings into effect, as far as a running server can (:data:`strata.reloading.LIVE`)."""
        self.settings = settings
        self.app.contract = contract_of(settings)
        self.gate.policy, self.gate.hide = settings.acl_config, settings.hide_forbidden_as_not_found
        self.registry.update_limits()


def limits_of(settings: Settings) -> TenantLimits:
    """Return the limits every tenant has."""
    return TenantLimits(
        interactive_slots=settings.interactive_slots,
        bulk_slots=settings.bulk_slots,
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
        whole_row_groups=settings.cache_granularity == "row_group",
    )


def contract_of(settings: Settings) -> IdentityContract:
    """Return how the server reads identities."""
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


@asynccontextmanager
async def open_service(
    settings: Settings,
    *,
    pool: WorkPool | None = None,
    stores: Callable[[Settings], Stores] = open_stores,
    catalogs: Catalogs | None = None,
    app: App | None = None,
) -> AsyncIterator[Service]:
    """Open the stores, start the registry, and yield the service; on the way out, everything is closed.

    Args:
        settings: Checked settings.
        pool: The work pool, where it is not the usual one; likewise the rest, which a simulation replaces.
        stores: Opens the stores; blocking.
        catalogs: The configured warehouses and catalogs.
        app: The application behind the door.
    """
    personal = settings.deployment_mode == "personal"
    slots = min(settings.work_slots or os.cpu_count() or 1, settings.max_fetch_workers)
    with closing(await trio.to_thread.run_sync(stores, settings)) as opened:
        gate = Gate(settings.acl_config, hide=settings.hide_forbidden_as_not_found)
        resources = Resources(
            catalogs=catalogs
            or Catalogs(
                warehouses={alias: _path(path) for alias, path in settings.warehouses.items()},
                catalogs=settings.catalogs,
                any_file_warehouse=personal,
            ),
            metadata=opened.metadata,
            blobs=opened.blobs,
            pool=pool or WorkPool(slots),
            gate=gate,
            cache_dir=_path(settings.cache_dir),
            new_id=partial(secrets.token_urlsafe, 18),
            waits=trio.CapacityLimiter(WAITING_CALLS),
            transfers=None if settings.artifact_blob_backend == "local" else trio.CapacityLimiter(TRANSFERS),
        )
        registry = Registry(
            resources=resources,
            limits=lambda _tenant: limits_of(service.settings),
            max_tenants=settings.max_tenants,
            mailbox_size=settings.mailbox_size,
            max_crashes=settings.max_tenant_crashes,
            crash_window=settings.tenant_crash_window_seconds,
            probe=opened.metadata.probe,
            cache_bytes=settings.max_cache_size_bytes,
        )
        door = FrontDoor(
            app or cast("App", create_app(personal=personal)),
            contract=contract_of(settings),
            registry=registry,
            max_request_bytes=settings.max_request_bytes,
            request_id=partial(request_id, generator=random.SystemRandom()),
            failures=FailureLimit(settings.auth_failures_per_second, settings.auth_failure_burst),
            body_seconds=settings.request_body_seconds,
        )
        service = Service(door, registry, gate, settings)
        async with trio.open_nursery() as nursery:
            await nursery.start(registry.run)
            yield service
            nursery.cancel_scope.cancel()


async def run_server(
    settings: Settings,
    *,
    announce: Callable[[list[str]], None],
    reload: Callable[[], Settings] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends at once.

    Args:
        settings: Checked settings.
        announce: Called with the bound addresses when requests are answered.
        reload: Reads the configuration again, on SIGHUP; blocking. Raises ``ConfigError``.

    Raises:
        OSError: If it cannot listen; ``ssl.SSLError`` if its certificates are not what they must be.
    """
    stopping = trio.Event()
    tls = await trio.to_thread.run_sync(tls_of, settings)
    async with open_service(settings) as service, trio.open_nursery() as nursery:
        nursery.start_soon(_watch_signals, service, stopping, nursery.cancel_scope)
        nursery.start_soon(_watch_hangups, service, tls, reload)
        serving = partial(
            serve,
            service.app,
            [bind_of(settings)],
            stop=stopping.wait,
            grace=settings.shutdown_grace_seconds,
            patience=patience_of(settings),
            crowd=Crowd(connections_within(settings.max_connections), settings.max_connections_per_peer),
            tls=tls,
        )
        async with trio.open_nursery() as inner:
            announce(await inner.start(serving))
        nursery.cancel_scope.cancel()


def bind_of(settings: Settings) -> Bind:
    """Return where to listen."""
    return Bind(
        settings.host, settings.port, None if settings.unix_socket is None else _path(settings.unix_socket)
    )


def patience_of(settings: Settings) -> Patience:
    """Return how long to wait for clients."""
    return Patience(settings.keep_alive_seconds, settings.request_head_seconds, settings.client_stall_seconds)


def tls_of(settings: Settings) -> Tls | None:
    """Return the server's TLS; blocking."""
    if settings.tls_certificate is None:
        return None
    key, authority = (
        None if name is None else _path(name) for name in (settings.tls_key, settings.tls_client_ca)
    )
    return Tls(_path(settings.tls_certificate), key, authority)


async def _watch_signals(service: Service, stopping: trio.Event, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if stopping.is_set():
                log.warning("second signal: stopping at once")
                scope.cancel()
                return
            log.info("stopping", grace=service.settings.shutdown_grace_seconds)
            service.registry.draining = True
            stopping.set()


async def _watch_hangups(service: Service, tls: Tls | None, reload: Callable[[], Settings] | None) -> None:
    """SIGHUP: read configuration and certificates again. What is wrong is refused whole, and said."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if tls is not None:
                try:
                    await trio.to_thread.run_sync(tls.reload)
                except OSError as error:  # ssl.SSLError is one
                    why = error.strerror or str(error)
                    log.warning("certificates not read again: the old ones stay", error=why)
            if reload is None:
                continue
            try:
                settings = await trio.to_thread.run_sync(reload)
            except ConfigError as error:
                problems = [str(problem) for problem in error.problems]
                log.warning("configuration refused: the old one stays", problems=problems)
            else:
                apply(service, settings)


def _path(text: str) -> Path:
    return Path(text).expanduser()
