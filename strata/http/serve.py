"""Our own thin loop around Hypercorn's connection handler: listeners, the crowd of connections, the end.

When a stop is asked for, listeners close, idle connections too, and requests under way may end within a
grace; whatever is left then is broken off, from outside, because Hypercorn shields what it writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework
from hypercorn.utils import wrap_app

from strata.http.asgi import App
from strata.http.connection import HEADER_BYTES, Connection, Patience, PatientStream
from strata.http.crowd import Crowd
from strata.http.listening import Bind, Tls, close, listen, url_of

MAX_CONNECTIONS = 4096
COMPLAIN_SECONDS = 60.0
"""Between two lines of the log about connections that found no room."""

log = structlog.get_logger(__name__)


async def serve(
    app: App,
    binds: Sequence[Bind],
    *,
    stop: Callable[[], Awaitable[object]],
    grace: float,
    patience: Patience | None = None,
    crowd: Crowd[PatientStream] | None = None,
    tls: Tls | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until ``stop`` returns, then let requests end within ``grace`` seconds.

    Args:
        app: An ASGI application without lifespan.
        binds: Where to listen.
        stop: Awaited; its return begins the shutdown.
        grace: Seconds for requests under way. Whatever is left then is broken off.
        patience: How long to wait for clients.
        crowd: How many connections there may be.
        tls: Speak TLS on every listener.
        task_status: Told the URLs that are bound.

    Raises:
        OSError: If an address cannot be bound.
    """
    server = _Server(app, patience or Patience(), crowd if crowd is not None else Crowd(MAX_CONNECTIONS), tls)
    listeners = await listen(binds)
    try:
        stopping = trio.Event()
        async with trio.open_nursery() as outer:
            async with trio.open_nursery() as connections:
                outer.start_soon(server.break_off, stopping, grace, connections.cancel_scope)
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(partial(_accept, listener, server.handle, connections))
                    task_status.started([url_of(listener, tls=tls is not None) for listener in listeners])
                    await stop()
                    close(listeners)
                    accepting.cancel_scope.cancel()
                stopping.set()
                await server.context.terminated.set()  # idle connections close now
            outer.cancel_scope.cancel()
    finally:
        close(listeners)


class _Server:
    """What the connections of one server share."""

    def __init__(self, app: App, patience: Patience, crowd: Crowd[PatientStream], tls: Tls | None) -> None:
        self._config = _hypercorn_config(patience)
        self._app: AppWrapper = wrap_app(cast("ASGIFramework", app), self._config.wsgi_max_body_size, "asgi")
        self.context = WorkerContext(None)
        self._patience = patience
        self._crowd = crowd
        self._tls = tls
        self._streams: set[PatientStream] = set()
        self._complained = -COMPLAIN_SECONDS

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end."""
        patient = PatientStream(stream, self._patience.stall)
        welcome, leaver = self._crowd.enter(patient, _peer(stream))
        if leaver is not None:
            self._complain("idle connection closed to make room")
            leaver.break_off()
        if not welcome:
            self._complain("connection refused")
            patient.break_off()
            await patient.aclose()
            return
        self._streams.add(patient)
        secured: PatientStream | trio.SSLStream[PatientStream] = patient
        if self._tls is not None:
            secured = trio.SSLStream(patient, self._tls.context, server_side=True, https_compatible=True)

        def changed(idle: bool) -> None:  # noqa: FBT001  # a callback of one flag
            self._crowd.note(patient, idle=idle)

        try:
            await Connection(
                self._app, self._config, self.context, secured, patience=self._patience, changed=changed
            )
        finally:
            self._streams.discard(patient)
            self._crowd.leave(patient)

    async def break_off(self, stopping: trio.Event, grace: float, connections: trio.CancelScope) -> None:
        """When the grace is over, or everything is cancelled, end what Hypercorn shields."""
        try:
            await stopping.wait()
            await trio.sleep(grace)
            log.warning("connections broken off", connections=len(self._streams), grace=grace)
        finally:
            for stream in tuple(self._streams):
                stream.break_off()
            connections.cancel()

    def _complain(self, what: str) -> None:
        """Say so in the log, but not once a connection: whoever opens them would write it."""
        now = trio.current_time()
        if now - self._complained >= COMPLAIN_SECONDS:
            self._complained = now
            log.warning(what, connections=len(self._crowd), max_connections=self._crowd.most)


async def _accept(
    listener: trio.SocketListener,
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    try:
        await trio.serve_listeners(handle, [listener], handler_nursery=nursery)
    except trio.ClosedResourceError:
        return  # the server stops


def _peer(stream: trio.SocketStream) -> str:
    """Return whose connection it is; all those of a Unix socket are one peer's."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def _hypercorn_config(patience: Patience) -> Config:
    config = Config()
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = HEADER_BYTES
    config.keep_alive_timeout = patience.idle
    config.ssl_handshake_timeout = patience.head
    return config
