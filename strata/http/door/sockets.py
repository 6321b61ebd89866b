"""WebSockets through the front door: a handshake is checked as a request, and so is each frame.

For the door a handshake is a request of the method CONNECT, as in RFC 8441: it takes the way of all requests
(identity, rate, host, site, admission), and what refuses it is answered as a problem, before any frame.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import attrs
import structlog
import trio

from strata.auth import IdentityContract, IdentityRefused, identify
from strata.http.asgi import STOPPING_KEY, Receive, Scope, Send
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call, Handler, answer, problem_answer
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Reason, Refused
from strata.tenants.budgets.body_budget import NO_MEMORY
from strata.tracing.spans import another_trace
from strata.work import AdmissionToken

SOCKET_KEY: Final = "strata.socket"
"""Key in an ASGI scope: the WebSocket whose handshake the request is."""

HELD_BYTES: Final = 256 * 1024
"""Bytes of the budget of request bodies that a socket holds: a message being read, and one being handled."""

SOCKET_SECONDS: Final = 900.0
"""Seconds that a handshake's identity counts for. Then the client opens another socket, and the proxy states
the identity and its scopes anew."""

SPARE: Final = 3
"""A tenant holds at most ``SPARE`` times the sockets that it leaves to others, a principal of its tenant."""

MAX_SOCKETS: Final = 2048
"""Most sockets of a server without a given number."""

GOING_SECONDS: Final = 5.0
"""Seconds for the last message of a socket; the connection is closed in any case."""

MALFORMED: Final = Problem(400, "A message is JSON in a text frame: type, id and payload.", "bad_message")

log = structlog.get_logger(__name__)


@attrs.frozen
class Ending:
    """Why a socket ends: its close code, the word for programs, and a sentence."""

    code: int
    reason: str
    message: str


LEFT: Final = Ending(1000, "left", "The client left.")
STOPPING: Final = Ending(1001, "stopping", "The server stops. Open the socket again.")
REVOKED: Final = Ending(4003, "revoked", "Your identity or your rights do not permit this any more.")
RENEW: Final = Ending(4001, "renew", f"A socket lasts {SOCKET_SECONDS:.0f} seconds. Open it again.")
CRASHED: Final = Ending(1011, "crashed", "Internal error; the server's log has it.")
NOT_TEXT: Final = Ending(1003, "not_text", "Messages are text.")


def as_http(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """Return a WebSocket's handshake as the request that the door checks."""
    begun = False

    async def receive_http() -> dict[str, Any]:
        nonlocal begun
        message = await receive()
        if not begun and message["type"] == "websocket.connect":
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def send_http(message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            headers = [pair for pair in message["headers"] if pair[0] != b"connection"]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send({**message, "type": f"websocket.{kind}"})

    return (
        {**scope, "type": "http", "method": "CONNECT", SOCKET_KEY: (receive, send)},
        receive_http,
        send_http,
    )


@attrs.frozen(eq=False)
class Frames:
    """What the door does with each frame of a socket.

    Attributes:
        admit: Counts it against the rate limits; returns the refusal.
        contract: Returns how identities are read now.
        admission: Waits for its admission.
    """

    admit: Callable[[], Refused | None]
    contract: Callable[[], IdentityContract]
    admission: Callable[[], Awaitable[AdmissionToken]]


@attrs.define(eq=False)
class Socket:
    """An open WebSocket, or one whose handshake is not answered yet.

    Attributes:
        context: The handshake's request.
        query: Its query.
        parts: The variable parts of its path.
        frames: What the door does with each frame.
        ending: Why it ends, once it does.
    """

    context: Context
    query: str
    parts: Mapping[str, Any]
    frames: Frames
    _receive: Receive
    _send: Send
    _opened: float = math.inf
    _checked: IdentityContract | None = None
    ending: Ending | None = None
    is_open: bool = False

    async def accept(self) -> None:
        """Answer the handshake; from now on there are frames."""
        request_id = self.context.request_id.encode()
        await self._send({"type": "websocket.accept", "headers": [(b"x-request-id", request_id)]})
        self.is_open = True
        self._opened = trio.current_time()
        self.context.status = 101
        self.context.admission.release()
        if self.context.span is not None:
            self.context.span.end()  # each frame has a trace of its own

    async def receive(self) -> str | Ending:
        """Return the next message of the client, or why there is none."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return LEFT
        text = message.get("text")
        return NOT_TEXT if text is None else text

    async def send(self, data: bytes) -> None:
        """Send a message of JSON."""
        await self._send({"type": "websocket.send", "text": data.decode()})
        self.context.sent += len(data)

    async def close(self, ending: Ending) -> None:
        """Close the socket."""
        await self._send({"type": "websocket.close", "code": ending.code, "reason": ending.message[:120]})

    def still_good(self) -> Ending | None:
        """Return why the handshake's identity counts no more, or None."""
        contract = self.frames.contract()
        if contract is not (self._checked or self.context.contract):
            again = identify(self.context.headers, contract)
            if isinstance(again, IdentityRefused) or again != self.context.caller:
                return REVOKED
            self._checked = contract
        return RENEW if trio.current_time() - self._opened >= SOCKET_SECONDS else None

    async def ask(
        self, handler: Handler, parts: Mapping[str, Any], body: bytes, query: Mapping[str, str]
    ) -> Answer:
        """Return the answer of a route to a frame, which counts as a request of its own."""
        found = Context(
            self.context.request_id,
            self.context.registry,
            principal=self.context.principal,
            contract=self.context.contract,
            headers=self.context.headers,
            path=self.context.path,
        )
        refused = self.frames.admit()
        if refused is not None:
            return problem_answer(Problem.of(refused), found)
        with another_trace("frame") as span:
            span.set("strata.tenant", self.context.caller.tenant)
            span.set("strata.request_id", self.context.request_id)
            found.admission = await self.frames.admission()
            try:
                return await answer(handler, Call(found, {**self.parts, **parts}, (), body, query))
            finally:
                found.admission.release()
                for stream in found.opened:
                    stream.close()


SocketHandler = Callable[[Socket], Awaitable[None]]
"""Talks over a socket. Raises ``ProblemError`` before it has accepted it, for the answer of the handshake."""


@attrs.define(eq=False)
class SocketPlaces:
    """Sockets by tenant and principal.

    Attributes:
        most: Most sockets at a time.
    """

    most: int
    _held: Counter[tuple[str, ...]] = attrs.field(factory=Counter)

    @contextmanager
    def place(self, tenant: str, principal: str) -> Iterator[bool]:
        """Hold a place while the block runs; yields whether there was one."""
        keys = ((), (tenant,), (tenant, principal))
        everyone, mine, own = (self._held[key] for key in keys)
        of_tenant = (self.most - (everyone - mine)) * SPARE // (SPARE + 1)
        if own >= (of_tenant - (mine - own)) * SPARE // (SPARE + 1):
            yield False
            return
        self._held.update(keys)
        try:
            yield True
        finally:
            self._held.subtract(keys)
            self._held += Counter()  # what is zero goes


TOO_MANY_SOCKETS: Final = Refused(
    Reason.BUSY,
    "The server has no further WebSocket for you. Close another one, or read events by GET.",
    code="too_many_sockets",
    retry_after=30,
)


@attrs.frozen(eq=False)
class SocketRoute:
    """A path on which clients open WebSockets, and what talks over them."""

    pattern: re.Pattern[str]
    handler: SocketHandler


@attrs.define(eq=False)
class Sockets:
    """The WebSockets of a server.

    Attributes:
        routes: Their paths.
        places: Bounds their number.
    """

    routes: Sequence[SocketRoute] = ()
    places: SocketPlaces = attrs.field(factory=partial(SocketPlaces, MAX_SOCKETS))

    def opens(self, target: bytes) -> bool:
        """Whether a request's target is the path of a WebSocket."""
        path = unquote(target.partition(b"?")[0].decode("latin-1"))
        return any(route.pattern.fullmatch(path) for route in self.routes)

    async def enter(self, scope: Scope, context: Context, send: Send, frames: Frames) -> None:
        """Let the route of a handshake talk over its socket, until one side ends it."""
        try:
            await self._enter(scope, context, frames)
        except ProblemError as error:
            refusal = problem_answer(error.problem, context)
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in refusal.headers]
            headers.append((b"content-length", b"%d" % (refusal.length or 0)))
            await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
            await send({"type": "http.response.body", "body": refusal.body, "more_body": False})

    async def _enter(self, scope: Scope, context: Context, frames: Frames) -> None:
        who = context.caller
        for route in self.routes:
            match = route.pattern.fullmatch(scope["path"])
            if match is not None:
                break
        else:
            raise ProblemError(Problem(404, "No such path"))
        if context.body is not None and not context.body.cover(HELD_BYTES):
            raise ProblemError(Problem.of(NO_MEMORY))
        with self.places.place(who.tenant, who.id) as held:
            if not held:
                raise ProblemError(Problem.of(TOO_MANY_SOCKETS))
            receive, send = scope[SOCKET_KEY]
            query = scope.get("query_string", b"").decode("latin-1")
            socket = Socket(context, query, match.groupdict(), frames, receive, send)
            stopping = scope.get("state", {}).get(STOPPING_KEY, trio.sleep_forever)
            gone = trio.CancelScope()
            if context.tell_gone is not None:
                context.tell_gone(gone.cancel)
            with gone:
                await _talk(socket, route.handler, stopping)


async def _talk(socket: Socket, handler: SocketHandler, stopping: Callable[[], Awaitable[object]]) -> None:
    """Let a handler talk, until it returns or the server stops, and say the last word."""
    problem: ProblemError | None = None
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await stopping()
            socket.ending = STOPPING
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop)
        try:
            await handler(socket)
        except ProblemError as error:
            problem = error
        except Exception:  # a bug in a route is one socket's, and the log has it
            log.exception("socket crashed")
            socket.ending = CRASHED
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem
    ending = socket.ending or LEFT
    if not socket.is_open:
        raise ProblemError(Problem(503, ending.message, ending.reason, retry_after=1))
    if ending is not LEFT:
        with trio.move_on_after(GOING_SECONDS):
            await socket.send(closed(ending))
            await socket.close(ending)


def closed(ending: Ending) -> bytes:
    """Return the last message of a socket."""
    payload = {"reason": ending.reason, "message": ending.message}
    return json.dumps({"type": "closed", "payload": payload}).encode()
