"""What is known of a request once the front door has let it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol, TypeVar

import attrs
import trio

from strata.auth import Headers, IdentityContract, Principal
from strata.executor.protocol.pulls import Grant
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Refused
from strata.tenants import Registry
from strata.tenants.budgets.body_budget import BodyCharge
from strata.tenants.limits.bandwidth import BandwidthLimiter
from strata.tenants.messages import Materialized, Opened, Question
from strata.tracing.spans import RequestTracer, Span, child
from strata.work import AdmissionToken

ATTEMPT = b"x-strata-attempt"
"""Header with the number of an attempt at a request, from 1 on; a client may send it."""

ATTEMPT_DIGITS = 3
"""Most digits of an attempt's number; a longer one is ignored."""

SCOPE_KEY = "strata"
"""Key of an ASGI scope: the request's context, for the application inside."""

ACTIONS = {
    "/v1/materialize": "materialize",
    "/v1/artifacts/explain-materialize": "explain",
    "/v1/cache/warm": "warm",
}
"""What a request that opened no rows did with the tables that it names, by its path."""

T = TypeVar("T")


class Closable(Protocol):
    """What a request has opened."""

    def close(self) -> None:
        """Close it; does nothing when repeated."""


@attrs.define(eq=False)
class Context:
    """A request's identity, and how its answer goes.

    Attributes:
        request_id: Its id: the caller's own where that is fit for a header and a log line, else a new one.
        registry: The tenants.
        headers: The request's headers.
        path: The request's path.
        query: The request's query, which no log may have: it may hold a signature.
        grant: What a signed URL permits; None without one.
        principal: The caller; None on the open paths, and by a signed URL.
        contract: How the caller was identified.
        broken: Why a body that was begun could not be ended. Its connection is then cut, for an Arrow reader
            must see a torn stream and never a short one.
        status: Status of the answer; 0 before it.
        sent: Bytes of body sent.
        ended: Whether the answer's last byte is on its way.
        chunked: Whether the client can tell a torn body without a length from a whole one. Not in HTTP/1.0,
            where both end with the connection.
        meter: Counts and paces those bytes; None where no rates are kept.
        tell_gone: Registers a function to call when the client disconnects; None where the server reports
            that only to a task that waits for its next message.
        carried: Whether the server takes a ``FileRange`` in the place of an answer's bytes.
        inputs: The table URIs that it names, as they were sent.
        problem: The refusal that it was answered with, for its line in the log.
        opened: Results opened for it; the door closes them when the request is over, however it ends.
        reads: What was opened, for the access audit.
        places: Places of the access audit that are kept for records of it.
        admission: Its token of the admission queue.
        body: What its body holds of the memory budget, until the request is over.
        begun: When its head had arrived, by the clock of trio.
        admitted: When it left the admission queue; 0 before.
        headed: When the head of its answer was about to be sent, by the same clock; 0 before.
        artifact: The result that it was answered with, as ``id@v=version``, for its line in the log.
        span: Its span; None where it is not traced.
    """

    request_id: str
    registry: Registry
    principal: Principal | None = None
    contract: IdentityContract | None = None
    headers: Headers = ()
    path: str = "/"
    query: bytes = attrs.field(default=b"", repr=False)
    grant: Grant | None = None
    broken: Refused | None = None
    status: int = 0
    sent: int = 0
    ended: bool = False
    chunked: bool = True
    meter: BandwidthLimiter | None = None
    tell_gone: Callable[[Callable[[], None]], None] | None = None
    carried: bool = False
    inputs: Sequence[str] = ()
    problem: Problem | None = None
    opened: list[Closable] = attrs.field(factory=list)
    reads: list[Opened] = attrs.field(factory=list)
    places: int = 0
    admission: AdmissionToken = attrs.field(factory=AdmissionToken)
    body: BodyCharge | None = None
    begun: float = 0.0
    admitted: float = 0.0
    headed: float = 0.0
    artifact: str | None = None
    span: Span | None = None

    def trace(self, tracer: RequestTracer | None, method: str) -> None:
        """Begin its span, once it is known for which tenant it is; not without a tracer."""
        if tracer is not None:
            tenant = self.caller.tenant if self.grant is None else self.grant.pull.tenant
            span = tracer.begin(self.headers, method, self.path, self.request_id, tenant)
            self.span = span.__enter__()  # ``end`` is called where this is

    def timing(self) -> list[tuple[bytes, bytes]]:
        """Return ``Server-Timing`` of an answer that is about to be sent, in whole milliseconds.

        ``queue`` is the time until admission, the arrival of the body included; ``app`` the time from there
        to the head of the answer. Refusals have none: how long one took might tell why,
        and finer than milliseconds the time of an answer might tell what else was looked for.
        """
        self.headed = trio.current_time()
        if not self.admitted or self.status >= HTTPStatus.BAD_REQUEST:
            return []
        queue, app = self.admitted - self.begun, self.headed - self.admitted
        return [(b"server-timing", b"queue;dur=%d, app;dur=%d" % (queue * 1000, app * 1000))]

    def stages(self, seconds: float) -> dict[str, float]:
        """Return the seconds of each stage that the request has reached, of ``seconds`` together.

        ``queue_seconds`` until admission, the arrival of its body included; ``app_seconds`` from there to the
        head of the answer; ``send_seconds`` the rest, as fast as its client reads.
        """
        found = {}
        if self.admitted:
            found["queue_seconds"] = round(self.admitted - self.begun, 6)
        if self.headed:
            found["app_seconds"] = round(self.headed - (self.admitted or self.begun), 6)
            found["send_seconds"] = round(max(0.0, self.begun + seconds - self.headed), 6)
        return found

    @property
    def attempt(self) -> int | None:
        """The number of the attempt that the client states; None if it states none."""
        stated = next((value for name, value in self.headers if name == ATTEMPT), b"")
        return int(stated) if stated.isdigit() and len(stated) <= ATTEMPT_DIGITS else None

    @property
    def caller(self) -> Principal:
        """The caller. Every route but the open ones has one: the front door saw to it."""
        assert self.principal is not None
        return self.principal

    async def ask(self, question: Question, answer: type[T]) -> T:
        """Ask the caller's own tenant.

        Args:
            question: The question.
            answer: The type of its answer.

        Raises:
            ProblemError: If the question was refused.
        """
        with child("ask") as span:
            span.set("strata.question", type(question).__name__)
            result = await self.registry.ask(self.caller.tenant, question, self.admission)
        if isinstance(result, Refused):
            raise ProblemError(Problem.of(result))
        assert isinstance(result, answer)
        if isinstance(result, (Opened, Materialized)):
            self.artifact = f"{result.artifact_id}@v={result.version}"
        if isinstance(result, Opened):
            self.opened.append(result.stream)
            audit = self.registry.resources.accesses
            if audit is not None and audit.wants(self.caller.tenant):
                kept = audit.keep_place(self.caller.tenant)
                if isinstance(kept, Refused):
                    raise ProblemError(Problem.of(kept))
                self.places += kept
                self.reads.append(result)
        return result

    def end(self) -> None:
        """Give back what the request holds, and record what it read, or tried to read."""
        if self.span is not None:
            self._end_span(self.span)
        for stream in self.opened:
            stream.close()
        self.admission.release()
        if self.body is not None and self.body.nbytes:
            self.body.release()
        if self.principal is None or not (self.reads or self.inputs):
            return
        audit = self.registry.resources.accesses
        if audit is None:
            return
        audit.leave_places(self.principal.tenant, self.places)  # nothing else runs until they are taken below
        facts: dict[str, object] = {"request_id": self.request_id, "action": "read", "outcome": self.outcome}
        for read in self.reads:
            about = {"artifact_id": read.artifact_id, "version": read.version, "rows": read.rows}
            about |= {"nbytes": self.sent}
            kept, self.places = self.places > 0, max(0, self.places - 1)
            audit.note(self.principal, facts | about, kept=kept, inputs=read.inputs or {})
        if not self.reads:
            facts["action"] = ACTIONS.get(self.path, "read")
            audit.note(self.principal, facts, inputs=self.inputs)

    def _end_span(self, span: Span) -> None:
        span.set("http.response.status_code", self.status or 499)
        span.set("strata.sent_bytes", self.sent)
        span.set("strata.spans_left_out", span.trace.left_out or None)
        if self.broken is not None or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.fail(self.outcome)
        span.__exit__(None, None, None)

    @property
    def outcome(self) -> str:
        """How the request ended, for the access audit."""
        if self.broken is not None:
            return self.broken.code or self.broken.reason.value
        if self.problem is not None:
            return self.problem.error or self.problem.reason or "refused"
        return "ok" if self.ended and self.status < HTTPStatus.BAD_REQUEST else "client_left"

    async def compute(self, function: Callable[[], T]) -> T:
        """Call a function that computes for longer than the event loop may; see :meth:`Resources.compute`."""
        self.admission.release()
        return await self.registry.resources.compute(self.caller.tenant, self.caller.id, function)

    def require_admin(self, scope: str, resource: str) -> None:
        """Refuse a caller without ``scope``, or to whom the access rules deny ``admin`` on ``resource``.

        Raises:
            ProblemError: 403, naming the scope or the rules: that there is such an endpoint is no secret.
        """
        if not self.caller.has_scope(scope):
            raise ProblemError(Problem(403, f"This needs the scope {scope}.", error="missing_scope"))
        refused = self.registry.resources.authorizer.check_admin(self.caller, resource)
        if refused is not None:
            raise ProblemError(Problem.of(refused))
