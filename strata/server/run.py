"""Run a server process: sockets, signals, reload on SIGHUP, shutdown."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog
import trio

from strata.config import Settings
from strata.http.door.tarpit import SHARE
from strata.http.metrics_app import metrics_app
from strata.http.serving.connection import ClientTimeouts, Connection
from strata.http.serving.connection_table import ConnectionCounters, ConnectionTable
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.server.process import connections_within
from strata.server.reload import tls_of, watch_hangups
from strata.server.service import Service, open_service

log = structlog.get_logger(__name__)

METRICS_CONNECTIONS = 32
"""Most connections to the metrics port at a time; further ones push out idle ones, or are refused."""


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
        CannotOpenError: If the stores cannot be opened.
        ConfigError: If certificates or overrides have become invalid since the settings were checked.
    """
    stopping = trio.Event()
    tls = await trio.to_thread.run_sync(tls_of, settings)
    async with open_service(settings) as service, trio.open_nursery() as nursery:
        nursery.start_soon(_watch_signals, service, stopping, nursery.cancel_scope)
        nursery.start_soon(watch_hangups, service, tls, reload)
        nursery.start_soon(service.tenant_overrides.poller.watch)
        fitting = connections_within(settings.max_connections)
        connections: ConnectionTable[Connection] = ConnectionTable(fitting, settings.max_connections_per_peer)
        service.app.tarpit.most = fitting // SHARE
        nursery.start_soon(service.registry.runtime_stats.watch)
        counters = ConnectionCounters()
        service.registry.runtime_stats.cut = counters.counts
        service.registry.runtime_stats.connections = lambda: {
            "idle": connections.idle,
            "busy": len(connections) - connections.idle,
        }
        serving = partial(
            serve,
            service.app,
            [bind_of(settings)],
            stop=stopping.wait,
            grace=settings.shutdown_grace_seconds,
            timeouts=timeouts_of(settings),
            table=connections,
            tls=tls,
            counters=counters,
        )
        async with trio.open_nursery() as inner:
            urls: list[str] = await inner.start(serving)
            if settings.metrics_port is not None:
                # In the outer nursery: the metrics are served until the shutdown is complete.
                urls += await nursery.start(partial(_serve_metrics, service, settings, settings.metrics_port))
            announce(urls)
        nursery.cancel_scope.cancel()


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


async def _watch_signals(service: Service, stopping: trio.Event, scope: trio.CancelScope) -> None:
    """On SIGTERM or SIGINT report not ready, wait for the notice, stop; on a second signal stop at once."""
    settings = service.settings
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await anext(signals)
        log.info("stopping", notice=settings.shutdown_notice_seconds, grace=settings.shutdown_grace_seconds)
        service.registry.leaving = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_after, settings.shutdown_notice_seconds, service, stopping)
            await anext(signals)
            log.warning("second signal: stopping at once")
            scope.cancel()


async def _stop_after(seconds: float, service: Service, stopping: trio.Event) -> None:
    await trio.sleep(seconds)
    service.registry.draining = True
    stopping.set()
