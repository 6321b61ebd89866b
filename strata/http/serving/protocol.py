"""Hypercorn's HTTP/1.1 protocol, with what it lacks: lean answers, problems for errors, no way to HTTP/2."""

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
"""Largest request head."""

QUEUED_PARTS = 10
"""Parts of a request's body that wait for the application; then the client is not read from."""

_FAULTS = {
    431: "The request's head is too large.",
    501: "The request's transfer coding is not known.",
}

log = structlog.get_logger(__name__)

Put = Callable[[Any], Awaitable[None]]

Carry = Callable[[FileRange], Awaitable[None]]


def hypercorn_config() -> Config:
    """Return Hypercorn's configuration: silent, and bounded."""
    config = Config()
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = HEADER_BYTES
    config.max_app_queue_size = QUEUED_PARTS
    return config


class LeanConnection(h11.Connection):
    """An h11 connection for streams of large chunks and for small answers.

    The pieces of a chunk are handed out as they are instead of joined into a copy, and the head of an answer
    goes out together with the first bytes of its body.

    Args:
        last: Whether the answer that begins is the connection's last.
    """

    _head: tuple[bytes, ...] = ()

    def __init__(self, last: Callable[[], bool]) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
        self._last = last

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """Return the next event. What comes after a connection's last request is nobody's, not an error."""
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Request) and event.method == b"PRI":
            raise h11.RemoteProtocolError("HTTP/2 is not spoken here")
        if isinstance(event, h11.Request) and event.method != event.method.upper():
            # Hypercorn takes "head" for HEAD and h11 does not: the answer would be neither's.
            raise h11.RemoteProtocolError("methods know case (RFC 9110, section 9.1)")
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
    streams would pass by every limit that is kept here for a connection.
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
        """Send a load by Hypercorn's stream, whose own way in would make bytes of it."""
        await self.stream_send(Body(stream_id=STREAM_ID, data=cast("bytes", load)))

    @property
    def begun(self) -> bool:
        """Whether bytes of a head have arrived that is not whole."""
        return bool(self.connection.trailing_data[0])

    @property
    def last(self) -> bool:
        """Whether no further request can come."""
        return self.connection.their_state is h11.MUST_CLOSE

    @property
    def whole(self) -> bool:
        """Whether the request under way has arrived to its end."""
        return self.connection.their_state not in (h11.IDLE, h11.SEND_BODY)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Go on with HTTP/1.1, whatever is asked for: a server may ignore an upgrade (RFC 9110, 7.8)."""

    async def _send_error_response(self, status_code: int) -> None:
        """Answer what is no HTTP request, in the shape of every other error."""
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
    """A request's messages on their way to the application.

    Hypercorn's own queue holds the connection for good when the application answers without reading it: the
    reader waits for room in it, and the end of the answer waits there too. This one takes everything, and
    drops it, once the answer's last message is on its way, and news that the client left never waits.

    What need not wait does not yield either: a pass of a busy loop is everybody else's work, and a small
    request would wait for five of them on its way in alone. Its connection yields with each read.
    """

    def __init__(self, send: Put, carry: Carry) -> None:
        self._sender, self._receiver = trio.open_memory_channel[dict[str, Any]](QUEUED_PARTS)
        self._send = send
        self._carry = carry
        self._gone = False
        self._listener: Callable[[], None] | None = None

    def tell_gone(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called when nothing more can come, at once if that is so by now."""
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
            return  # nobody waits for it any more

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
        """Say that nothing more is sent, and let go of Hypercorn's stream, which holds on to :meth:`put`.

        The two would be a cycle for each request, and full collections of garbage would stop the loop.
        """
        try:
            await self.send(None)
        finally:
            self._send = _nobody
            self._listener = None


async def _nobody(_message: dict[str, Any] | None) -> None:
    """Hear nothing: the request is over."""


async def _nowhere(_load: FileRange) -> None:
    """Take a load where no protocol has said yet how to."""
    raise RuntimeError("a load came before the protocol")


class Tasks:
    """Starts the application for each request, in the connection's nursery.

    Attributes:
        carry: Sends a load as a part of the answer's body. The connection's protocol has to say how.
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
        """Let go of the protocol: no request is under way any more."""
        self.carry = _nowhere

    @staticmethod
    async def _run(app: App, scope: Scope, inbox: _Inbox) -> None:
        try:
            await app(scope, inbox.receive, inbox.send)
        except Exception:
            log.exception("application crashed")
        finally:
            await inbox.end()
