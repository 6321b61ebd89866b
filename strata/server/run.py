"""Run a server process: sockets, signals, reload on SIGHUP, shutdown."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import structlog
import trio

from strata.background import keep_running
from strata.config import Settings
from strata.http.door.tarpit import SHARE
from strata.http.metrics_app import metrics_app
from strata.http.routes import ROUTES
from strata.http.serving.connection import FIRST_BYTE_SECONDS, ClientTimeouts, Connection
from strata.http.serving.connection_table import ConnectionCounters, ConnectionTable
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.readers import READERS
from strata.server.process import CLOSING_SECONDS, Leave, connections_within, leaving
from strata.server.reload import tls_of, watch_certificate, watch_hangups
from strata.server.service import Service, memory_of, open_service
from strata.server.stores import CannotOpenError
from strata.tracing.opening import OpenTracing, opened_tracing
from strata.tracing.spans import TracingError

log = structlog.get_logger(__name__)

BUILDS_SECONDS = 0.05
"""Seconds between two looks at the builds of a server that stops."""

METRICS_CONNECTIONS = 32
"""Most connections to the metrics port at a time; further ones push out idle ones, or are refused."""


@attrs.define(eq=False)
class _Stop:
    """The end of the server.

    Attributes:
        closing: Set when the listeners close.
        deadline: When the grace period ends, on Trio's clock.
    """

    closing: trio.Event = attrs.field(factory=trio.Event)
    deadline: float = math.inf


async def run_server(
    settings: Settings,
    *,
    announce: Callable[[list[str]], None],
    reload: Callable[[], Settings] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second signal stops the server at once.

    Args:
        settings: Checked settings.
        announce: Called with the bound addresses when the server accepts connections.
        reload: Reads the configuration again on SIGHUP; blocking; may raise ``ConfigError``.

    Raises:
        CannotListenError: If an address cannot be bound.
        CannotOpenError: If the stores cannot be opened, or tracing cannot be switched on.
        ConfigError: If certificates or overrides have become invalid since the settings were checked.
    """
    stopping = _Stop()
    tls = await trio.to_thread.run_sync(tls_of, settings)
    READERS.limit(memory_of(settings))
    await trio.to_thread.run_sync(READERS.begin)  # first: it imports for as long as the stores take to open
    async with (
        leaving() as leave,
        _tracing(settings) as tracing,
        open_service(settings, tracing=tracing) as service,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_watch_signals, service, stopping, nursery.cancel_scope, leave)
        stats = service.registry.runtime_stats
        tasks: dict[str, Callable[[], Awaitable[None]]] = {
            "reload": partial(watch_hangups, service, tls, reload),
            "tenant_overrides": service.tenant_overrides.poller.watch,
            "runtime_stats": stats.watch,
        }
        if tls is not None:
            tasks["certificate"] = partial(watch_certificate, tls, settings.tls_certificate)
        for name, task in tasks.items():
            nursery.start_soon(keep_running, name, task, stats.failures)
        # Abandoned at the end: the readers end with the process.
        nursery.start_soon(partial(trio.to_thread.run_sync, READERS.prepare, abandon_on_cancel=True))
        fitting = connections_within(settings.max_connections)
        connections: ConnectionTable[Connection] = ConnectionTable(fitting, settings.max_connections_per_peer)
        service.app.tarpit.most = fitting // SHARE
        counters = ConnectionCounters()
        stats.cut = counters.counts
        stats.certificate_expires = lambda: None if tls is None else tls.expires
        stats.connections = lambda: {
            "idle": connections.idle,
            "busy": len(connections) - connections.idle,
        }
        serving = partial(
            serve,
            service.app,
            [bind_of(settings)],
            stop=stopping.closing.wait,
            grace=settings.shutdown_grace_seconds,
            timeouts=timeouts_of(settings),
            table=connections,
            tls=tls,
            counters=counters,
            leaving=lambda: service.registry.leaving,
        )
        async with trio.open_nursery() as inner:
            urls: list[str] = await inner.start(serving)
            if settings.metrics_port is not None:
                # In the outer nursery: the metrics are served until the shutdown is complete.
                urls += await nursery.start(partial(_serve_metrics, service, settings, settings.metrics_port))
            announce(urls)
        with trio.move_on_at(stopping.deadline):
            await _builds_ended(service)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _tracing(settings: Settings) -> AsyncIterator[OpenTracing]:
    """Trace requests in the block where ``tracing_enabled`` is set."""
    routes = [(route.method, route.pattern, route.path) for route in ROUTES]
    try:
        async with opened_tracing("strata", routes, enabled=settings.tracing_enabled) as found:
            yield found
    except TracingError as error:
        raise CannotOpenError(f"tracing_enabled: {error}.") from None


async def _serve_metrics(
    service: Service,
    settings: Settings,
    port: int,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    await serve(
        metrics_app(service.registry),
        [Bind(settings.metrics_host, port, names="metrics_host, metrics_port")],
        stop=trio.sleep_forever,
        grace=0,
        timeouts=timeouts_of(settings),
        table=ConnectionTable(METRICS_CONNECTIONS),
        task_status=task_status,
    )


def bind_of(settings: Settings) -> Bind:
    """Return the address or Unix socket to listen on."""
    return Bind(
        settings.host,
        settings.port,
        None if settings.unix_socket is None else Path(settings.unix_socket).expanduser(),
    )


def timeouts_of(settings: Settings) -> ClientTimeouts:
    """Return the deadlines for clients."""
    return ClientTimeouts(
        settings.keep_alive_seconds, settings.request_head_seconds, settings.client_stall_seconds
    )


async def _watch_signals(service: Service, stopping: _Stop, scope: trio.CancelScope, leave: Leave) -> None:
    """On SIGTERM or SIGINT report not ready, wait for the notice, stop; on a second signal stop at once."""
    settings, close = service.settings, service.registry.resources.metadata.close
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await anext(signals)
        log.info("stopping", notice=settings.shutdown_notice_seconds, grace=settings.shutdown_grace_seconds)
        seconds = settings.shutdown_notice_seconds + settings.shutdown_grace_seconds
        leave(seconds + CLOSING_SECONDS, close)
        stopping.deadline = trio.current_time() + seconds
        service.registry.leaving = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_after, settings.shutdown_notice_seconds, service, stopping)
            await anext(signals)
            log.warning("second signal: stopping at once")
            leave(CLOSING_SECONDS, close)
            scope.cancel()


async def _stop_after(seconds: float, service: Service, stopping: _Stop) -> None:
    """Close the listeners, answer what clients sent before they could see that, and refuse what follows."""
    await trio.sleep(seconds)
    stopping.closing.set()
    await trio.sleep(FIRST_BYTE_SECONDS)
    service.registry.draining = True


async def _builds_ended(service: Service) -> None:
    """Wait for the builds that no request waits for: another server, or the next start, has their results."""
    while any(  # noqa: ASYNC110  # each tenant has its own builds, and no event of their end
        tenant.actor is not None
        and tenant.actor.materializer is not None
        and tenant.actor.materializer.running
        for tenant in service.registry.tenants()
    ):
        await trio.sleep(BUILDS_SECONDS)
