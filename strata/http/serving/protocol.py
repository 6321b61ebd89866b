"""Hypercorn's HTTP/1.1 protocol with what it lacks: lean answers, problems for errors, and no HTTP/2."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Event
from hypercorn.protocol.events import Body
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from strata.http.asgi import GONE_KEY, App, Scope
from strata.http.problems import Problem
from strata.work import FileRange

HEADER_BYTES = 32 * 1024
"""Bytes of the largest request head; a larger one is refused with 431."""

QUEUED_PARTS = 10
"""Parts of a request's body that wait for the application; with more, the client is not read from."""

_FAULTS = {
    431: "The request's head is too large.",
    501: "The request's transfer coding is not known.",
}

log = structlog.get_logger(__name__)

Put = Callable[[Any], Awaitable[None]]

Carry = Callable[[FileRange], Awaitable[None]]


def hypercorn_config() -> Config:
    """Return Hypercorn's configuration: no logs, bounded queues."""
    config = Config()
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = HEADER_BYTES
    config.max_app_queue_size = QUEUED_PARTS
    return config


class LeanConnection(h11.Connection):
    """An h11 connection for streams of large chunks and for small answers.

    The pieces of a chunk are returned as they are instead of joined into a copy, and the head of an answer is
    sent together with the first bytes of its body.

    Args:
        last: Returns whether the answer that begins is the connection's last.
    """

    _head: tuple[bytes, ...] = ()

    def __init__(self, last: Callable[[], bool]) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
        self._last = last

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """Return the next event. Bytes after a connection's last request are ignored, not an error."""
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Request) and event.method == b"PRI":
            raise h11.RemoteProtocolError("HTTP/2 is not spoken here")
        if isinstance(event, h11.Request) and event.method != event.method.upper():
            # Hypercorn takes "head" for HEAD and h11 does not: they would disagree on the answer's body.
            raise h11.RemoteProtocolError("methods are case-sensitive (RFC 9110, section 9.1)")
        return event

    def send(self, event: h11.Event) -> list[bytes] | None:  # type: ignore[override]  # our stream takes both
        """Return the bytes of ``event``, in pieces; those of a response's head with the event after it."""
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


class Protocol(H11Protocol):
    """HTTP/1.1 of one connection.

    HTTP/2 is not spoken, neither over TLS (ALPN offers HTTP/1.1 alone) nor by upgrade or prior knowledge: its
    streams would evade every limit on connections.
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
        """Send a file range through Hypercorn's stream, whose own entry would turn it into bytes."""
        await self.stream_send(Body(stream_id=STREAM_ID, data=cast("bytes", load)))

    @property
    def begun(self) -> bool:
        """Whether a part of a request's head has arrived, and not all of it."""
        return bool(self.connection.trailing_data[0])

    @property
    def last(self) -> bool:
        """Whether the connection takes no further request."""
        return self.connection.their_state is h11.MUST_CLOSE

    @property
    def whole(self) -> bool:
        """Whether the whole request under way has arrived."""
        return self.connection.their_state not in (h11.IDLE, h11.SEND_BODY)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Go on with HTTP/1.1: a server may ignore an upgrade (RFC 9110, section 7.8)."""

    async def _send_error_response(self, status_code: int) -> None:
        """Answer bytes that are no HTTP request with a problem, like every other error."""
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
    """The queue of a request's messages for the application.

    Hypercorn's own queue blocks the connection for good when the application answers without reading it: the
    reader waits for room in it, and the end of the answer waits there too. This one drops all messages once
    the answer's last message is on its way, and a disconnect never waits.

    An operation that need not wait does not yield either: in each pass a busy loop runs all other tasks, and
    a small request would wait for five passes on its way in alone. Its connection yields with each read.
    """

    def __init__(self, send: Put, carry: Carry) -> None:
        self._sender, self._receiver = trio.open_memory_channel[dict[str, Any]](QUEUED_PARTS)
        self._send = send
        self._carry = carry
        self._gone = False
        self._listener: Callable[[], None] | None = None

    def tell_gone(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when no more messages can come, at once if that is so already."""
        if self._gone:
            listener()
        else:
            self._listener = listener

    async def put(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.disconnect":
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
            return  # the application reads no more

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
        """End the answer and drop Hypercorn's stream, which refers to :meth:`put`.

        The two would be a reference cycle for each request, and full garbage collections would stop the loop.
        """
        try:
            await self.send(None)
        finally:
            self._send = _drop
            self._listener = None


async def _drop(_message: dict[str, Any] | None) -> None:
    """Drop a message: the request is over."""


async def _nowhere(_load: FileRange) -> None:
    """Fail: the connection has no protocol."""
    raise RuntimeError("a file range came before the protocol")


class Tasks:
    """Starts the application for each request, in the connection's nursery.

    Attributes:
        carry: Sends a file range as a part of the answer's body; set by the connection's protocol.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.carry: Carry = _nowhere

    async def spawn_app(self, app: App, _config: Config, scope: Scope, send: Put) -> Put:
        """See Hypercorn's ``TaskGroup``."""
        inbox = _Inbox(send, self.carry)
        scope[GONE_KEY] = inbox.tell_gone
        self._nursery.start_soon(self._run, app, scope, inbox)
        return inbox.put

    def end(self) -> None:
        """Drop the protocol: no request is under way any more."""
        self.carry = _nowhere

    @staticmethod
    async def _run(app: App, scope: Scope, inbox: _Inbox) -> None:
        try:
            await app(scope, inbox.receive, inbox.send)
        except Exception:
            log.exception("application crashed")
        finally:
            await inbox.end()
