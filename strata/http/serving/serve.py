"""Our own thin loop around Hypercorn's connection handler: listeners, the crowd of connections, the end.

When a stop is asked for, listeners close, idle connections too, and requests under way may end within a
grace; whatever is left then is broken off, from outside, because Hypercorn shields what it writes.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio
from hypercorn.trio.worker_context import WorkerContext

from strata.http.asgi import App
from strata.http.peers import peer_key
from strata.http.serving.connection import Address, ClientTimeouts, Connection, ServerContext, address
from strata.http.serving.connection_table import ConnectionCounters, ConnectionTable
from strata.http.serving.listening import Bind, Listener, Tls, close, listen, url_of
from strata.http.serving.protocol import hypercorn_config
from strata.http.serving.socket_stream import DeadlineStream

MAX_CONNECTIONS = 4096

ACCEPT_PAUSE_SECONDS = 0.05
"""Pause after the system had no file or memory for a connection."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger(__name__)


async def serve(
    app: App,
    binds: Sequence[Bind],
    *,
    stop: Callable[[], Awaitable[object]],
    grace: float,
    timeouts: ClientTimeouts | None = None,
    table: ConnectionTable[Connection] | None = None,
    tls: Tls | None = None,
    counters: ConnectionCounters | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until ``stop`` returns, then let requests end within ``grace`` seconds.

    Args:
        app: An ASGI application without lifespan.
        binds: Where to listen.
        stop: Awaited; its return begins the shutdown.
        grace: Seconds for requests under way. Whatever is left then is broken off.
        timeouts: How long to wait for clients.
        table: How many connections there may be.
        tls: Speak TLS on every listener.
        counters: Counts connections that are cut.
        task_status: Told the URLs that are bound.

    Raises:
        CannotListenError: If an address cannot be bound.
    """
    members = table if table is not None else ConnectionTable[Connection](MAX_CONNECTIONS)
    server = _Server(app, timeouts or ClientTimeouts(), members, tls, counters or ConnectionCounters())
    listeners = await listen(binds)
    try:
        stopping = trio.Event()
        async with trio.open_nursery() as outer:
            async with trio.open_nursery() as connections:
                outer.start_soon(server.break_off, stopping, grace, connections.cancel_scope)
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(server.accept, listener, connections)
                    task_status.started([url_of(listener, tls=tls is not None) for listener in listeners])
                    await stop()
                    close(listeners)
                    accepting.cancel_scope.cancel()
                stopping.set()
                await server.end_idle()
            outer.cancel_scope.cancel()
    finally:
        close(listeners)


class _Server:
    """The connections of one server, and what they share."""

    def __init__(
        self,
        app: App,
        timeouts: ClientTimeouts,
        table: ConnectionTable[Connection],
        tls: Tls | None,
        counters: ConnectionCounters,
    ) -> None:
        self._table = table
        self._tls = tls
        self._counters = counters
        self._context = WorkerContext(None)
        self._server = ServerContext(
            app, hypercorn_config(), self._context, timeouts, self._counters, self._table
        )
        self._open: set[Connection] = set()

    async def accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        """Accept connections until the listener is closed; whatever else the system says, go on."""
        while True:
            try:
                stream = await listener.inner.accept()
            except trio.ClosedResourceError:
                return  # the server stops
            except OSError as error:
                self._counters.note("no file or memory" if error.errno in _EXHAUSTED else "not accepted")
                self._end(self._table.make_room())
                await trio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            try:
                client = None if listener.file else address(stream.socket.getpeername())
            except OSError:
                stream.socket.close()  # gone before it was here
            else:
                self._welcome(stream, client, nursery)

    def _welcome(self, stream: trio.SocketStream, client: Address | None, nursery: trio.Nursery) -> None:
        patient = DeadlineStream(stream, self._server.timeouts.stall)
        connection = Connection(
            self._server, patient, client, None if self._tls is None else self._tls.context
        )
        welcome, leaver = self._table.enter(connection, peer_key(client[0] if client else None))
        self._end(leaver)
        if welcome:
            self._open.add(connection)
            nursery.start_soon(self._run, connection)
        else:
            self._counters.note("refused: all are busy")
            patient.break_off()
            stream.socket.close()

    def _end(self, leaver: Connection | None) -> None:
        if leaver is not None:
            self._counters.note("made room")
            leaver.break_off()

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        except Exception:
            log.exception("connection crashed")
        finally:
            self._open.discard(connection)
            self._table.leave(connection)

    async def end_idle(self) -> None:
        """End what is idle now; what has a request under way ends with its answer."""
        await self._context.terminated.set()
        for connection in tuple(self._open):
            connection.end_if_idle()

    async def break_off(self, stopping: trio.Event, grace: float, connections: trio.CancelScope) -> None:
        """When the grace is over, or everything is cancelled, end what the protocol shields."""
        try:
            await stopping.wait()
            await trio.sleep(grace)
            log.warning("connections broken off", connections=len(self._open), grace=grace)
        finally:
            self._counters.tell()
            for connection in tuple(self._open):
                connection.break_off()
            connections.cancel()
