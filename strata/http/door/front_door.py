"""The front door: plain ASGI around the application.

Before a route is entered, a request has an id, an identity, a token of the admission queue and its whole body
(all bodies of the surface are small and capped). An early answer is given only after the body was drained, up
to a cap: an answer before the body has arrived leaves the proxy's connection in a state in which the *next*
request on it, perhaps another user's, now and then stalls. Past the cap the connection is closed instead.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
import trio

from strata.acl.patterns import PLACEHOLDER_PRINCIPALS
from strata.auth import DEFAULT_TENANT, Headers, IdentityContract, IdentityRefused, Principal, identify
from strata.executor.protocol.pulls import Grant
from strata.http.asgi import GONE_KEY, KNOWN_KEY, LOADS_KEY, App, Receive, Scope, Send
from strata.http.door import routing
from strata.http.door.auth_failures import FailureLimit, unknown
from strata.http.door.body import Body, ClientGoneError, drain
from strata.http.door.context import SCOPE_KEY, Context
from strata.http.door.cross_site import TrustedHosts, refuse_body
from strata.http.door.error_pages import rendered
from strata.http.door.request_line import RequestLine
from strata.http.door.routing import Route
from strata.http.door.signed import redeem
from strata.http.door.sockets import SOCKET_KEY, Frames, Sockets, as_http
from strata.http.door.tarpit import Tarpit
from strata.http.door.uploads import UploadBody, UploadGoneError, UploadRoute, declared, too_large
from strata.http.peers import peer_key
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Limit, Refused
from strata.tenants import Registry
from strata.tenants.budgets.body_budget import BodyBudget, BodyCharge
from strata.tenants.limits.bandwidth import BandwidthLimiter
from strata.tenants.limits.rates import RateBook
from strata.tenants.stats.counters import TenantMetrics
from strata.tracing.spans import RequestTracer, child
from strata.work import AdmissionQueue, EgressTurns

OPEN_PATHS = frozenset({"/health", "/health/ready"})
"""The only paths that need neither an identity nor a signed URL."""

SCANS = frozenset({"/v1/materialize", "/v1/cache/warm"})
"""Paths of which a POST counts as a scan, besides as a request."""

_HOST = re.compile(r"\Ahttps?://[^/]*(?=/)", re.IGNORECASE)
"""Scheme and host before the path, in the absolute form of a request target (RFC 9112, section 3.2.2)."""

_PATH = re.compile(r"/(?!/).*", re.DOTALL)
"""A path. The application would take ``//v1/x`` for ``/v1/x``, past every rule on the one name of it."""

BODY_SECONDS = 60.0
"""Seconds a body may take to arrive; then the request is refused with 408."""

log = structlog.get_logger("strata.access")


class FrontDoor:
    """ASGI application that lets requests through to ``app``.

    Args:
        app: The application inside.
        contract: How identities are read.
        registry: The tenants.
        max_request_bytes: Largest body of a request, in bytes.
        request_id: Returns the id of a request from its headers: its own if valid, else a new one.
        failures: Limits failed authentication; None for no limit.
        uploads: Paths with large bodies; they never reach ``app``.
        routes: The hot routes, which are entered here.
        turns: Notes every request, so that large results yield to it.
        metrics_of: Returns the counters of a tenant.
        body_seconds: Seconds a body may take to arrive.
        rates: The rate limits of tenants and principals; None for no limit.
        tarpit: Bounds the refusals that are delayed.
        admission: Admits requests in fair order.
        hosts: Host names of this server, whose pages may send requests.
        bodies: Bounds the bytes of request bodies in memory; unbounded by default.
        sockets: The WebSockets; they never reach ``app``.
        tracer: Begins the spans of requests; None: they have none.

    Attributes:
        contract: How identities are read. The contract, the hosts, and the limits of bodies and failures, may
            be replaced while requests are under way.
    """

    def __init__(
        self,
        app: App,
        *,
        contract: IdentityContract,
        registry: Registry,
        max_request_bytes: int,
        request_id: Callable[[Headers], str],
        failures: FailureLimit | None = None,
        uploads: Sequence[UploadRoute] = (),
        routes: Sequence[Route] = (),
        turns: EgressTurns | None = None,
        metrics_of: Callable[[str], TenantMetrics] | None = None,
        body_seconds: float = BODY_SECONDS,
        rates: RateBook | None = None,
        tarpit: Tarpit | None = None,
        admission: AdmissionQueue | None = None,
        hosts: TrustedHosts | None = None,
        bodies: BodyBudget | None = None,
        sockets: Sockets | None = None,
        tracer: RequestTracer | None = None,
    ) -> None:
        self._app = app
        self._tracer = tracer
        self.sockets = sockets or Sockets()
        self.opens_socket = self.sockets.opens
        self.contract = contract
        self.hosts = hosts or TrustedHosts()
        self.failures = failures
        self._uploads: defaultdict[str, list[UploadRoute]] = defaultdict(list)
        for route in uploads:
            self._uploads[route.method].append(route)
        self._routes = routes
        self._turns = turns or EgressTurns()
        self._metrics_of = metrics_of
        self.body_seconds = body_seconds
        self._registry = registry
        self.max_request_bytes = max_request_bytes
        self._request_id = request_id
        self._rates = rates
        self.tarpit = tarpit or Tarpit(0)
        self.admission = admission or AdmissionQueue()
        self._placeholders: set[str] = set()  # placeholders seen as a principal, each warned of once
        self.bodies = bodies or BodyBudget(2**62)
        self._line = RequestLine(metrics_of)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._http(*as_http(scope, receive, send))

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, count it and log it, however it ends."""
        began = trio.current_time()
        scope = {**scope, "path": _HOST.sub("", routing.routed_path(scope), count=1)}
        headers = scope["headers"]
        ours = self._request_id(headers)
        found = Context(ours, self._registry, contract=self.contract, headers=headers, begun=began)
        found.path = scope["path"]
        found.query = scope.get("query_string", b"")
        found.carried = LOADS_KEY in scope.get("state", {})
        found.tell_gone = scope.get(GONE_KEY)
        found.chunked = scope.get("http_version", "1.1") >= "1.1"
        structlog.contextvars.bind_contextvars(request_id=found.request_id)  # a request has a task of its own
        try:
            await self._answer(scope, receive, _Reply(found, send, head=scope["method"] == "HEAD"))
        except ClientGoneError:
            found.status = found.status or 499
        finally:
            self._end(found, scope, trio.current_time() - began)

    def _end(self, found: Context, scope: Scope, seconds: float) -> None:
        found.end()
        who = found.principal
        tenant = who.tenant if who else None
        if tenant is not None and self._metrics_of is not None:
            streamed = seconds if found.opened else None
            self._metrics_of(tenant).requested(found.status or 499, found.sent, streamed)
        self._line.write(found, scope, seconds)

    def _note_placeholder(self, identity: Principal) -> None:
        """Warn, once for each, of a principal that stands for no user: all such users are one principal."""
        if identity.id in PLACEHOLDER_PRINCIPALS and identity.id not in self._placeholders:
            self._placeholders.add(identity.id)
            header = self.contract.principal_header
            log.warning("the principal looks like no user", principal=identity.id, header=header)

    async def _answer(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        found = reply.context
        signed = redeem(found, scope["method"])
        if isinstance(signed, Grant):  # an upload may take long: it must not be the first to be closed
            scope.get("state", {}).get(KNOWN_KEY, _unwatched)()
            found.trace(self._tracer, scope["method"])
        if not (scope["path"] in OPEN_PATHS or isinstance(signed, Grant)):
            identity = signed or identify(scope["headers"], self.contract)
            if isinstance(identity, IdentityRefused):
                await self._refuse(receive, reply, self._unidentified(identity, scope))
                return
            found.principal = identity
            self._note_placeholder(identity)
            self._turns.note_request()
            scope.get("state", {}).get(KNOWN_KEY, _unwatched)()
            refused = self._over_rate(found, identity, scope)
            if refused is not None:
                await self._refuse_slowly(receive, reply, identity, refused)
                return
            misdirected = self._misdirected(scope)
            if misdirected is not None:
                await self._refuse(receive, reply, misdirected)
                return
            found.trace(self._tracer, scope["method"])  # not before: refused requests fill no queue
        for route in self._uploads.get(scope["method"], ()):
            match = route.path.fullmatch(scope["path"])
            if match is not None:
                await self._upload(route, match, scope, receive, reply)
                return
        body = await self._take_body(found, receive)
        usable = body.content is not None and not body.late
        problem = None if usable else self._problem_of(body, found)
        if problem is not None:
            await reply.problem(problem, close=not body.whole)
            return
        content, body.content = bytes(body.content or b""), None
        if found.principal is not None:  # a probe never waits
            await self._admit(found)
        await self._enter(scope, content, receive, reply)

    async def _take_body(self, found: Context, receive: Receive) -> Body:
        """Read the request's body, for as long as it may take; nothing of an unidentified client is kept."""
        body = Body(self.max_request_bytes)
        if found.principal is None:
            body.content = None
        else:
            found.body = body.charge = BodyCharge(self.bodies, found.principal.tenant, found.principal.id)
        with trio.move_on_after(self.body_seconds) as patience:
            await body.take(receive)
        body.late = patience.cancelled_caught
        return body

    def _problem_of(self, body: Body, found: Context) -> Problem | None:
        """Return the problem of a body that cannot be used, or None."""
        if body.refused is not None:
            return Problem.of(body.refused)
        if body.late:
            return Problem(408, "The request's body did not arrive in time.")
        if body.content is None and (found.principal is not None or not body.whole):
            detail = f"The request's body is larger than {self.max_request_bytes} bytes (max_request_bytes)."
            return Problem(413, detail, "request_too_large")
        return None

    async def _enter(self, scope: Scope, body: bytes, receive: Receive, reply: _Reply) -> None:
        """Enter the route of a request: a hot one here, any other one by the application."""
        found = reply.context
        if SOCKET_KEY in scope:
            who, over = found.caller, partial(self._over_rate, found, found.caller, scope)
            frames = Frames(over, lambda: self.contract, partial(self.admission.take, who.tenant, who.id))
            await self.sockets.enter(scope, found, reply.send, frames)
            return
        for route in self._routes:
            parts = route.parts(scope)
            if parts is not None:
                refused = refuse_body(scope["method"], scope["headers"], body)
                if refused is not None:
                    await reply.problem(refused, close=False)
                    return
                call = routing.Call(found, parts, scope["headers"], body)
                await routing.serve(route.handler, call, receive, reply.send)
                return
        scope[SCOPE_KEY] = found
        await self._app(scope, _Replay(body, receive, found), reply.send)

    def _misdirected(self, scope: Scope) -> Problem | None:
        """Return the refusal of what is no path, or of another site's request; else None."""
        if not _PATH.fullmatch(scope["path"]):
            return Problem(404, "No such path")
        headers = scope["headers"]
        return self.hosts.refuse_host(headers) or self.hosts.refuse_site(scope["method"], headers)

    def _over_rate(self, found: Context, who: Principal, scope: Scope) -> Refused | None:
        """Count a request, or return the refusal of the rate limit it exceeds; asks no actor."""
        if self._rates is None:
            return None
        now = trio.current_time()
        rates = self._rates.of(who.tenant, now)
        builds = scope["method"] == "POST" and scope["path"] in SCANS
        refused = rates.admit(who.id, scan=builds, now=now, attempt=found.attempt)
        if refused is None:
            found.meter = BandwidthLimiter(rates, who.id)
        return refused

    async def _refuse_slowly(self, receive: Receive, reply: _Reply, who: Principal, refused: Refused) -> None:
        """Refuse a request over a rate limit; the longer its principal goes on, the later the answer."""
        assert self._rates is not None
        whole, now = await self._drain(receive), trio.current_time()
        seconds = self._rates.of(who.tenant, now).hold_up(who.id, now)
        with self.tarpit.place(who.tenant) as held:
            if held:
                await trio.sleep(seconds)
        await self._admit(reply.context)
        await reply.problem(Problem.of(refused), close=not whole)

    def _unidentified(self, identity: IdentityRefused, scope: Scope) -> Problem:
        """Return the problem of a request without a valid identity: 429 if its address fails too often."""
        self._registry.runtime_stats.unidentified[identity.code] += 1
        if self.failures is None or identity.authenticated:  # the proxy's own word is no guess
            return unknown(identity)
        client = scope.get("client")
        wait = self.failures.fail(peer_key(client[0] if client else None), trio.current_time())
        if wait is None:
            return unknown(identity)
        seconds = max(1, math.ceil(wait))
        return Problem(
            429,
            "Too many requests of this address failed to authenticate.",
            "too_many_failures",
            retry_after=seconds,
            limit=Limit("auth_failure_burst", int(self.failures.rate.burst), seconds),
        )

    async def _upload(
        self, route: UploadRoute, match: re.Match[str], scope: Scope, receive: Receive, reply: _Reply
    ) -> None:
        """Hand a large body to its route piece by piece; the answer follows the last one."""
        body = UploadBody(receive, route.cap, self.body_seconds)
        length = declared(scope["headers"])
        if length is not None and length > route.cap:
            await self._refuse(receive, reply, too_large(route.cap))
            return
        answer: bytes | Problem
        try:
            answer = await route.handler(reply.context, match, body)
        except ProblemError as error:
            answer = error.problem
        except UploadGoneError:
            raise ClientGoneError from None
        answer = body.fault or answer
        slow = isinstance(answer, Problem) and answer.status == 408  # noqa: PLR2004  # the rest would not arrive either
        whole = body.whole or (not slow and await self._drain(receive))
        if isinstance(answer, Problem):
            await reply.problem(answer, close=not whole)
        else:
            await reply.json(answer, close=not whole)

    async def _refuse(self, receive: Receive, reply: _Reply, problem: Problem) -> None:
        whole = await self._drain(receive)
        await self._admit(reply.context)
        await reply.problem(problem, close=not whole)

    async def _admit(self, found: Context) -> None:
        """Wait for admission, once the body has arrived; all unidentified requests wait as one tenant."""
        who = found.principal
        with child("admission"):
            found.admission = await self.admission.take(who.tenant if who else "", who.id if who else "")
        found.admitted = trio.current_time()

    async def _drain(self, receive: Receive) -> bool:
        """Read and drop a body, up to the cap; returns whether its end has arrived."""
        with trio.move_on_after(self.body_seconds):
            return await drain(receive)
        return False


class _Reply:
    """Sends an answer: adds the headers of every answer, and cuts the connection of a broken body."""

    def __init__(self, context: Context, send: Send, *, head: bool) -> None:
        self.context = context
        self._send = send
        self._head = head

    async def send(self, message: dict[str, Any]) -> None:
        found = self.context
        if message["type"] == "http.response.start":
            found.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._every_answer(), *found.timing()]}
        elif message["type"] == "http.response.body":
            if found.broken is not None and not message.get("more_body", False):
                return  # without this last message the server cuts the connection
            if self._head:
                message = {**message, "body": b""}
            size = len(message.get("body", b""))
            if size and found.meter is not None:
                await found.meter.pace(size, found.admission)
            found.ended = not message.get("more_body", False)
            found.sent += size
            if not found.ended:
                found.admission.release()  # a large result takes egress turns
        if message.get("more_body"):
            # Hypercorn drops messages of a closed connection without a checkpoint, and a body read from the
            # page cache has none either: without this one, a client that left would hold the whole loop.
            await trio.lowlevel.checkpoint()
        await self._send(message)

    def _every_answer(self) -> list[tuple[bytes, bytes]]:
        found = self.context
        pairs = [(b"x-request-id", found.request_id.encode()), (b"x-content-type-options", b"nosniff")]
        if found.principal is not None and found.principal.tenant != DEFAULT_TENANT:
            pairs.append((b"x-tenant-id", found.principal.tenant.encode()))
        return pairs

    async def problem(self, problem: Problem, *, close: bool) -> None:
        """Answer with a problem."""
        self.context.problem = problem
        headers, body = rendered(problem, self.context)
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
        await self._whole(problem.status, pairs, body, close=close)

    async def json(self, body: bytes, *, close: bool) -> None:
        """Answer with JSON."""
        await self._whole(200, [(b"content-type", b"application/json")], body, close=close)

    async def _whole(
        self, status: int, pairs: list[tuple[bytes, bytes]], body: bytes, *, close: bool
    ) -> None:
        pairs.append((b"content-length", str(len(body)).encode()))
        if close:
            pairs.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _unwatched() -> None:
    """Note nothing of a connection that another server than our own accepted."""


class _Replay:
    """Gives the application a body that has arrived, then the server's further messages.

    Once the last byte of the answer is on its way, Hypercorn sends "disconnect" while it still does its
    bookkeeping inside that ``send``; Quart-Trio would cancel it there and the connection's idle timer would
    never start. So that message is kept from the application, which is about to end anyway.
    """

    def __init__(self, body: bytes, receive: Receive, context: Context) -> None:
        self._body: bytes | None = body
        self._receive = receive
        self._context = context

    async def __call__(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        message = await self._receive()
        if self._context.ended:
            await trio.sleep_forever()
        return message
