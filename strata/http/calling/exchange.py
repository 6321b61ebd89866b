"""One request to another server and its answer, both streamed, on a connection of its own.

Nothing is repeated and no redirect is followed here. The request is sent while the answer is read: a server
may refuse an upload early, or answer while it still reads. A connection serves one request: what a server
sends after its answer is an error of that server, and cannot become the answer to another request.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import attrs
import h11
import trio

from strata.http.calling.addresses import AddressRules, Target, addresses_of, parse_url

CONNECT_SECONDS: Final = 10.0
"""Seconds to connect, the TLS handshake included; then the call fails."""

READ_BYTES: Final = 256 * 1024
"""Most bytes of one read of an answer."""

HEADER_BYTES: Final = 64 * 1024
"""Most bytes of an answer's head."""

STALL_SECONDS: Final = 60.0
"""Seconds in which a server must take some of the request that is sent to it; then the call fails."""

NOTHING: Final[tuple[tuple[str, str], ...]] = ()


class CallError(Exception):
    """A call failed.

    Attributes:
        sent: Whether the server may have seen the request. If not, it can be sent again without a doubt.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@attrs.define(eq=False)
class Response:
    """The answer to a call.

    Attributes:
        status: Its status.
        headers: Its headers, their names in lower case, in the order sent.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    _stream: trio.abc.Stream
    _connection: h11.Connection

    def header(self, name: str) -> str | None:
        """Return the value of a header that was sent once; None if it is absent or was sent twice."""
        found = [value for key, value in self.headers if key == name]
        return found[0] if len(found) == 1 else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body in parts, none of them empty.

        Raises:
            CallError: If the body is not whole, or something follows it.
        """
        while True:
            event = await _next(self._connection, self._stream)
            if isinstance(event, h11.Data):
                if event.data:
                    yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if self._connection.trailing_data[0]:
                    raise CallError("it sent more than its answer", sent=True)
                return
            else:
                raise CallError("it closed the connection in the middle of its answer", sent=True)

    async def read(self, most: int) -> bytes:
        """Return the whole body, or its first ``most`` bytes.

        Raises:
            CallError: As of iterating.
        """
        found = bytearray()
        async for part in self:
            found += part
            if len(found) >= most:
                break
        return bytes(found[:most])


@asynccontextmanager
async def call(
    method: str,
    url: str,
    *,
    rules: AddressRules,
    headers: Sequence[tuple[str, str]] = NOTHING,
    body: AsyncIterable[bytes | memoryview] | None = None,
    size: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Response]:
    """Send a request; the block has its answer, and the connection is closed at its end.

    The caller sets the deadline of the whole exchange.

    Args:
        method: GET, POST or PUT.
        url: Of http or https.
        rules: Which addresses may be connected to.
        headers: Further headers.
        body: The request's body in parts.
        size: Its bytes.
        tls: TLS of https; by default with the system's authorities.

    Raises:
        UrlError: If the URL is malformed or leads where it may not.
        CallError: If the server cannot be reached, or sends no answer.
    """
    target = parse_url(url)
    stream = await _connect(target, await addresses_of(target, rules), tls)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_BYTES)
    head = h11.Request(
        method=method,
        target=target.path,
        headers=[
            ("Host", target.authority),
            ("Connection", "close"),
            ("User-Agent", "strata"),
            *([("Content-Length", str(size))] if method != "GET" else []),
            *headers,
        ],
    )
    failure: Exception | None = None
    try:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send, stream, connection, head, body)
                response = await _begin(connection, stream)
                try:
                    yield response
                except Exception as error:  # noqa: BLE001  # raised below, outside of the nursery's group
                    failure = error
                nursery.cancel_scope.cancel()
        except* CallError as errors:
            failure = _first(errors)
        if failure is not None:
            raise failure
    finally:
        await trio.aclose_forcefully(stream)


def _first(errors: BaseExceptionGroup[CallError]) -> CallError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, CallError)
    return found


async def _connect(target: Target, addresses: Sequence[str], tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """Connect to the first address that accepts."""
    why: object = "it does not answer"
    with trio.move_on_after(CONNECT_SECONDS):
        for address in addresses:
            try:
                stream: trio.abc.Stream = await _open(address, target.port)
            except OSError as error:
                why = error.strerror or error
                continue
            if target.scheme == "http":
                return stream
            context = tls or ssl.create_default_context()
            secure = trio.SSLStream(stream, context, server_hostname=target.host, https_compatible=True)
            try:
                await secure.do_handshake()
            except (trio.BrokenResourceError, ssl.SSLError, OSError) as error:
                await trio.aclose_forcefully(secure)
                raise CallError(f"TLS with {target.host} failed: {error}", sent=False) from None
            except BaseException:  # raised again: no other code closes it
                await trio.aclose_forcefully(secure)
                raise
            return secure
    raise CallError(f"{target.host} cannot be reached: {why}", sent=False)


async def _open(address: str, port: int) -> trio.SocketStream:
    family = trio.socket.AF_INET6 if ":" in address else trio.socket.AF_INET
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        await sock.connect((address, port))
    except BaseException:  # raised again: no other code closes it
        sock.close()
        raise
    return trio.SocketStream(sock)


async def _send(
    stream: trio.abc.Stream,
    connection: h11.Connection,
    head: h11.Request,
    body: AsyncIterable[bytes | memoryview] | None,
) -> None:
    """Send the request; a server that does not take the rest of it may have answered: that counts."""
    try:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, h11.LocalProtocolError):
            await _push(stream, connection, head)
            if body is not None:
                async for part in body:
                    await _push(stream, connection, h11.Data(data=bytes(part)))
            await _push(stream, connection, h11.EndOfMessage())
    except OSError as error:
        raise CallError(f"the request's body cannot be read: {error.strerror or error}", sent=True) from None


async def _push(stream: trio.abc.Stream, connection: h11.Connection, event: h11.Event) -> None:
    data = connection.send(event)
    if not data:
        return
    with trio.move_on_after(STALL_SECONDS) as scope:
        await stream.send_all(data)
    if scope.cancelled_caught:
        raise CallError("it takes no more of the request", sent=True)


async def _begin(connection: h11.Connection, stream: trio.abc.Stream) -> Response:
    while True:
        event = await _next(connection, stream)
        if isinstance(event, h11.InformationalResponse):
            continue
        if isinstance(event, h11.Response):
            pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
            return Response(event.status_code, pairs, stream, connection)
        raise CallError("it closed the connection before it answered", sent=True)


async def _next(connection: h11.Connection, stream: trio.abc.Stream) -> h11.Event:
    """Return the next event of an answer; ConnectionClosed where it ends."""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise CallError(f"its answer is no valid HTTP/1.1: {error}", sent=True) from None
        if event is not h11.NEED_DATA and event is not h11.PAUSED:
            assert isinstance(event, h11.Event)
            return event
        try:
            data = await stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError:
            data = b""
        connection.receive_data(bytes(data))
