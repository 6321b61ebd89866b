"""What is known of a request once the front door has let it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs

from strata.auth import IdentityContract, Principal
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Refused
from strata.tenants import Registry
from strata.tenants.limits.bandwidth import BandwidthLimiter
from strata.tenants.messages import Opened, Question
from strata.tenants.shared.byte_stream import ByteStream
from strata.work import AdmissionToken

SCOPE_KEY = "strata"
"""Key of an ASGI scope: the request's context, for the application inside."""

T = TypeVar("T")


@attrs.define(eq=False)
class Context:
    """A request's identity, and how its answer goes.

    Attributes:
        request_id: Its id: the caller's own where that is fit for a header and a log line, else a new one.
        registry: The tenants.
        principal: The caller; None on the open paths.
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
        opened: Results opened for it; the door closes them when the request is over, however it ends.
        admission: Its token of the admission queue.
    """

    request_id: str
    registry: Registry
    principal: Principal | None = None
    contract: IdentityContract | None = None
    broken: Refused | None = None
    status: int = 0
    sent: int = 0
    ended: bool = False
    chunked: bool = True
    meter: BandwidthLimiter | None = None
    tell_gone: Callable[[Callable[[], None]], None] | None = None
    carried: bool = False
    opened: list[ByteStream] = attrs.field(factory=list)
    admission: AdmissionToken = attrs.field(factory=AdmissionToken)

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
        result = await self.registry.ask(self.caller.tenant, question, self.admission)
        if isinstance(result, Refused):
            raise ProblemError(Problem.of(result))
        assert isinstance(result, answer)
        if isinstance(result, Opened):
            self.opened.append(result.stream)
        return result

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
