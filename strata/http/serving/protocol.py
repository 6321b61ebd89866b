"""Adapt Hypercorn's HTTP/1.1 protocol: fewer copies, problem bodies for errors, no HTTP/2."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Event
from hypercorn.protocol.events import Body, Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from strata.http.asgi import GONE_KEY, App, Scope
from strata.http.problems import Problem
from strata.http.serving.websocket import SocketStream, SwitchedConnection, is_handshake, without_extensions
from strata.work import FileRange

HEADER_BYTES = 32 * 1024
"""Most bytes of a request head, with the empty line that ends it; a larger one is answered with 431."""

MIGHT_SWITCH = h11.MIGHT_SWITCH_PROTOCOL  # type: ignore[attr-defined]  # documented, and not in __all__
"""h11's state of a client whose whole request asked for an upgrade, until the answer begins."""

QUEUED_PARTS = 10
"""Parts of a request body queued for the application; then reading from the client pauses."""

_FAULTS = {
    431: "The request's head is too large.",
    501: "The request's transfer coding is not known.",
}

_GONE = frozenset({"http.disconnect", "websocket.disconnect"})

log = structlog.get_logger(__name__)

S = TypeVar("S", HTTPStream, SocketStream)

Put = Callable[[Any], Awaitable[None]]

Carry = Callable[[FileRange], Awaitable[None]]


def hypercorn_config() -> Config:
    """Return Hypercorn's configuration: no logs of its own, bounded head and body queue."""
    config = Config()
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = HEADER_BYTES
    config.max_app_queue_size = QUEUED_PARTS
    return config


def headers_of(request: h11.Request) -> list[tuple[bytes, bytes]]:
    """Return a request's headers with their names in lower case.

    Walking through h11's own sequence of them takes ten times as long.
    """
    return [(name.lower(), value) for name, value in request.headers.raw_items()]


class LeanConnection(h11.Connection):
    """An h11 connection that suits streams of large chunks and small responses.

    The pieces of a chunk are returned as they are instead of joined into a copy, and the head of a response
    is sent together with the first bytes of its body.

    Args:
        last: Returns whether the response that begins is the connection's last.
    """

    _head: tuple[bytes, ...] = ()

    def __init__(self, last: Callable[[], bool]) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
        self._last = last

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """Return the next event; bytes after a connection's last request are ignored.

        Raises:
            h11.RemoteProtocolError: If the bytes are no HTTP/1.1, the head is larger than
                :data:`HEADER_BYTES`, the body's length is ambiguous, or the method is not in upper case.
        """
        state = self.their_state
        if state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        if state is MIGHT_SWITCH and not self.trailing_data[0]:
            return h11.NEED_DATA  # no upgrade is accepted: go on reading, to notice a client that leaves
        if state is not h11.IDLE:
            return super().next_event()
        unread = len(self.trailing_data[0])
        event = super().next_event()
        if isinstance(event, h11.Request):
            # h11 itself measures only heads that are incomplete after a read of the socket.
            if unread - len(self.trailing_data[0]) > HEADER_BYTES:
                raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)
            _check(event)
        return event

    def send(self, event: h11.Event) -> list[bytes] | None:  # type: ignore[override]  # our stream takes pieces
        """Return the bytes of ``event`` in pieces; a response's head is returned with the event after it."""
        if isinstance(event, h11.Response) and self._last() and b"connection" not in dict(event.headers):
            closing = [*event.headers.raw_items(), (b"Connection", b"close")]
            event = h11.Response(status_code=event.status_code, headers=closing, reason=event.reason)
        pieces = self.send_with_data_passthrough(event)
        if isinstance(event, h11.Response):
            self._head = tuple(pieces or ())
            return []
        if self._head and pieces is not None:
            pieces[:0] = self._head
            self._head = ()
        return pieces


def _check(request: h11.Request) -> None:
    """Refuse a request that another reader might understand differently.

    Raises:
        h11.RemoteProtocolError: 400, after which the connection is closed.
    """
    if request.method == b"PRI":
        raise h11.RemoteProtocolError("HTTP/2 is not spoken here")
    if request.method != request.method.upper():
        # Hypercorn takes "head" for HEAD and h11 does not: the response would be malformed.
        raise h11.RemoteProtocolError("methods know case (RFC 9110, section 9.1)")
    names = {name for name, _ in headers_of(request)}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1"):
        # A proxy that goes by the other header would take a part of the body for the next user's request.
        raise h11.RemoteProtocolError("the body has two lengths (RFC 9112, section 6.1)")


class Protocol(H11Protocol):
    """HTTP/1.1 of one connection.

    HTTP/2 is refused, over TLS (ALPN offers HTTP/1.1 alone), by upgrade and by prior knowledge: its streams
    would escape the limits kept for each connection.
    """

    def __init__(
        self,
        app: App,
        config: Config,
        context: WorkerContext,
        tasks: Tasks,
        *,
        tls: bool,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        state: dict[str, Any],
        send: Callable[[Event], Awaitable[None]],
        last: Callable[[], bool],
    ) -> None:
        tasks_like, app_like = cast("Any", tasks), cast("Any", app)
        super().__init__(
            app_like, config, context, tasks_like, ConnectionState(state), tls, client, server, send
        )
        self.connection = LeanConnection(last)
        tasks.carry = self._carry

    async def _carry(self, load: FileRange) -> None:
        """Send a file range through Hypercorn's stream, whose usual entry would convert it to bytes."""
        await self.stream_send(Body(stream_id=STREAM_ID, data=cast("bytes", load)))

    @property
    def begun(self) -> bool:
        """Whether a part of a request head has arrived, and the rest has not."""
        return bool(self.connection.trailing_data[0])

    @property
    def last(self) -> bool:
        """Whether the connection accepts no further request."""
        return self.connection.their_state is h11.MUST_CLOSE

    @property
    def whole(self) -> bool:
        """Whether the present request has arrived completely."""
        return self.connection.their_state not in (h11.IDLE, h11.SEND_BODY)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Ignore requests for HTTP/2, as a server may (RFC 9110, section 7.8)."""

    async def _create_stream(self, request: h11.Request) -> None:
        """Pass a request to the application; only the handshake of a WebSocket upgrades, on a path for it."""
        headers = headers_of(request)
        if b"upgrade" in dict(headers):
            if is_handshake(request) and (getattr(self.app, "opens_socket", None) or _never)(request.target):
                # The connection serves no request behind it.
                stream = self._stream_of(SocketStream)
                stream.switched = self.connection = SwitchedConnection(
                    cast("h11.Connection", self.connection)
                )
                await self._pass_on(stream, request, without_extensions(headers))
                return
            headers = [pair for pair in headers if pair[0] != b"upgrade"]
        await self._pass_on(self._stream_of(HTTPStream), request, headers)
        self.keep_alive_requests += 1
        await self.context.mark_request()

    def _stream_of(self, kind: type[S]) -> S:
        return kind(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )

    async def _pass_on(
        self, stream: HTTPStream | SocketStream, request: h11.Request, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.stream = stream
        await stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method=request.method.decode(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )

    async def _send_error_response(self, status_code: int) -> None:
        """Answer malformed HTTP with a problem body, as every other error."""
        request_id = secrets.token_hex(16)
        log.info("malformed request", request_id=request_id, status=status_code)
        problem = Problem(status_code, _FAULTS.get(status_code, "The request is not valid HTTP/1.1."))
        body = problem.body(request_id)
        headers = [(name.lower().encode(), value.encode()) for name, value in problem.header_pairs()]
        headers += [
            (b"x-request-id", request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class _Inbox:
    """Queue of a request's messages to the application.

    Hypercorn's own queue blocks the connection for good when the application answers without reading the
    body: the reader waits for room in the queue, and so does the end of the response. This queue accepts and
    drops all messages once the response's last message is sent, and a disconnect never waits.

    Operations that need not wait do not yield either: a small request would otherwise wait for five passes of
    a busy loop before it reaches the application. The connection yields with each read.
    """

    def __init__(self, send: Put, carry: Carry, parts: int = QUEUED_PARTS) -> None:
        self._sender, self._receiver = trio.open_memory_channel[dict[str, Any]](parts)
        self._send = send
        self._carry = carry
        self._gone = False
        self._listener: Callable[[], None] | None = None

    def tell_gone(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when the client has left; at once if it has left already."""
        if self._gone:
            listener()
        else:
            self._listener = listener

    async def put(self, message: dict[str, Any]) -> None:
        if message["type"] in _GONE:
            self._sender.close()
            self._gone = True
            listener, self._listener = self._listener, None
            if listener is not None:
                listener()
            return
        try:
            try:
                self._sender.send_nowait(message)
            except trio.WouldBlock:
                await self._sender.send(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the response is sent: the application reads no more

    async def receive(self) -> dict[str, Any]:
        try:
            try:
                return self._receiver.receive_nowait()
            except trio.WouldBlock:
                return await self._receiver.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any] | None) -> None:
        if message is not None and isinstance(message.get("body"), FileRange):
            await self._carry(message["body"])
            message = {**message, "body": b""}
        if message is None or (message["type"] == "http.response.body" and not message.get("more_body")):
            self._receiver.close()
        await self._send(message)

    async def end(self) -> None:
        """Tell Hypercorn that the response is over, and drop the reference to its stream.

        The stream refers to :meth:`put`: a cycle for each request would cause full collections of garbage,
        which stop the loop.
        """
        try:
            await self.send(None)
        finally:
            self._send = _ignore
            self._listener = None


def _never(_target: bytes) -> bool:
    """Take no WebSocket: the application has no path for one."""
    return False


async def _ignore(_message: dict[str, Any] | None) -> None:
    """Ignore a message: the request is over."""


async def _nowhere(_load: FileRange) -> None:
    """Refuse a file range before the protocol is connected.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError("a file range came before the protocol")


class Tasks:
    """Starts the application for each request, in the connection's nursery.

    Attributes:
        carry: Sends a file range as a part of the response body; set by the connection's protocol.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.carry: Carry = _nowhere

    async def spawn_app(self, app: App, _config: Config, scope: Scope, send: Put) -> Put:
        """See Hypercorn's ``TaskGroup``."""
        # Of a WebSocket one message is taken before the next one is read.
        inbox = _Inbox(send, self.carry, 0 if scope["type"] == "websocket" else QUEUED_PARTS)
        scope[GONE_KEY] = inbox.tell_gone
        self._nursery.start_soon(self._run, app, scope, inbox)
        return inbox.put

    def end(self) -> None:
        """Drop the reference to the protocol; no request may be under way."""
        self.carry = _nowhere

    @staticmethod
    async def _run(app: App, scope: Scope, inbox: _Inbox) -> None:
        try:
            await app(scope, inbox.receive, inbox.send)
        except Exception:
            log.exception("application crashed")
        finally:
            await inbox.end()
