"""Accept connections, run Hypercorn's protocol on each, and stop in order.

On a stop, listeners and idle connections are closed, and requests under way may end within a grace period.
The connections left then are broken off through their streams, because Hypercorn shields its writes from
cancellation.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio
from hypercorn.trio.worker_context import WorkerContext

from strata.http.asgi import App
from strata.http.peers import peer_key
from strata.http.serving.connection import Address, ClientTimeouts, Connection, ServerContext, address
from strata.http.serving.connection_table import ConnectionCounters, ConnectionTable
from strata.http.serving.listening import BACKLOG, Bind, Listener, Tls, close, listen, url_of
from strata.http.serving.protocol import hypercorn_config
from strata.http.serving.socket_stream import DeadlineStream

MAX_CONNECTIONS = 4096
"""Most connections of a server without a given table; then an idle one is closed, or the new one refused."""

ACCEPT_PAUSE_SECONDS = 0.05
"""Seconds without accepting after an accept failed, as for lack of file descriptors or memory."""

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
    leaving: Callable[[], bool] = lambda: False,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until ``stop`` returns, then let requests end within ``grace`` seconds.

    Args:
        app: ASGI application without lifespan.
        binds: Addresses to listen on.
        stop: Awaited; its return begins the shutdown.
        grace: Seconds for requests under way at the shutdown; then their connections are broken off.
        timeouts: Deadlines for clients.
        table: Table of open connections, which bounds their number.
        tls: TLS of every listener; None for plain HTTP.
        counters: Counts connections closed by the server.
        leaving: Returns whether the server will stop soon; then each answer ends its connection, so that a
            proxy sends no request on a connection that is being closed.
        task_status: Started with the bound URLs.

    Raises:
        CannotListenError: If an address cannot be bound.
    """
    members = table if table is not None else ConnectionTable[Connection](MAX_CONNECTIONS)
    server = _Server(
        app, timeouts or ClientTimeouts(), members, tls, counters or ConnectionCounters(), leaving
    )
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
                    for listener in listeners:
                        await server.accept_queued(listener, connections)
                    close(listeners)
                    accepting.cancel_scope.cancel()
                stopping.set()
                await server.end_idle()
            outer.cancel_scope.cancel()
    finally:
        close(listeners)


class _Server:
    """Connections of one server, and the state they share."""

    def __init__(  # noqa: PLR0917  # each by its type
        self,
        app: App,
        timeouts: ClientTimeouts,
        table: ConnectionTable[Connection],
        tls: Tls | None,
        counters: ConnectionCounters,
        leaving: Callable[[], bool],
    ) -> None:
        self._table = table
        self._tls = tls
        self._counters = counters
        self._context = WorkerContext(None)
        self._server = ServerContext(
            app, hypercorn_config(), self._context, timeouts, self._counters, self._table, leaving
        )
        self._open: set[Connection] = set()

    async def accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        """Accept connections until the listener is closed; continue after any other error of the system.

        An error of one connection ends that connection alone.
        """
        while True:
            try:
                stream = await listener.inner.accept()
            except trio.ClosedResourceError:
                return  # the server stops
            except OSError as error:
                self._counters.note("no file or memory" if error.errno in _EXHAUSTED else "not accepted")
                if error.errno in _EXHAUSTED:
                    self._end(self._table.make_room())
                await trio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            try:
                client = None if listener.file else address(stream.socket.getpeername())
                self._welcome(stream, client, nursery)
            except OSError:
                self._counters.note("not accepted")
                stream.socket.close()  # the peer has closed it already

    async def accept_queued(self, listener: Listener, nursery: trio.Nursery) -> None:
        """Accept what the kernel has queued, which it would reset when the listener closes.

        A proxy may have sent a request on such a connection, and would not repeat one that changes something.
        The queue of a socket that another process holds, too, is left to that process.
        """
        if listener.inherited:
            return
        poll = select.poll()
        poll.register(listener.inner.socket.fileno(), select.POLLIN)
        for _ in range(BACKLOG):
            if not poll.poll(0):
                return
            with trio.move_on_after(ACCEPT_PAUSE_SECONDS):  # another task may have taken it
                try:
                    stream = await listener.inner.accept()
                    self._welcome(
                        stream, None if listener.file else address(stream.socket.getpeername()), nursery
                    )
                except (OSError, trio.BusyResourceError):
                    return

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
            self._counters.note("replaced")
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
        """Close idle connections; the others close after their response."""
        await self._context.terminated.set()
        for connection in tuple(self._open):
            connection.end_if_idle()

    async def break_off(self, stopping: trio.Event, grace: float, connections: trio.CancelScope) -> None:
        """Break off the connections left when the grace period ends, or when the server is cancelled."""
        try:
            await stopping.wait()
            await trio.sleep(grace)
            log.warning("connections broken off", connections=len(self._open), grace=grace)
        finally:
            self._counters.tell()
            for connection in tuple(self._open):
                connection.break_off()
            connections.cancel()
