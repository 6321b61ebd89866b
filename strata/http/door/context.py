"""What is known of a request once it is through the door."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import attrs
from quart import request

from strata.auth import IdentityContract, Principal
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Refused
from strata.tenants import Registry
from strata.tenants.limits.bandwidth import BandwidthLimiter
from strata.tenants.messages import Opened, Question
from strata.tenants.shared.byte_stream import ByteStream
from strata.work import AdmissionToken

SCOPE_KEY = "strata"

T = TypeVar("T")


@attrs.define(eq=False)
class Context:
    """A request's identity and fate.

    Attributes:
        request_id: Its id, the caller's own where that is fit.
        principal: Who asks; None on the open routes.
        registry: Where the tenants' actors are asked.
        contract: How its identity was read.
        broken: Why a body that was begun could not be ended; the connection is then cut instead, for an
            Arrow reader must see a torn stream and never a short one.
        status: Status of the answer.
        sent: Bytes of body sent.
        ended: The answer's last byte is on its way.
        chunked: The client can tell a torn body without a length from a whole one: not in HTTP/1.0, where
            both end with the connection.
        meter: Counts and paces them; None where that is nobody's limit.
        tell_gone: Takes who is to be called when the server says "disconnect"; None where it only says so to
            whoever waits for its next message.
        carried: Whether the server takes loads for bytes of an answer.
        opened: Results opened for it; the door closes them when the request is over, however it ends.
        admission: Its token of the admission queue, once it is admitted.
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

    async def ask(self, question: Question, answer: type[T]) -> T:
        """Ask the caller's own tenant; a refusal leaves the route as a problem.

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

    @property
    def caller(self) -> Principal:
        """Who asks. Every route but the open ones has a principal: the door saw to it."""
        assert self.principal is not None
        return self.principal


def context() -> Context:
    """Return the current request's context."""
    scope = cast("dict[str, Context]", request.scope)  # ASGI scopes are open
    return scope[SCOPE_KEY]


def principal() -> Principal:
    """Return who asks."""
    return context().caller


async def ask(question: Question, answer: type[T]) -> T:
    """Ask the caller's own tenant: see :meth:`Context.ask`."""
    return await context().ask(question, answer)


def require_scope(scope: str) -> None:
    """Refuse a caller who does not hold ``scope``.

    Raises:
        ProblemError: 403, naming the scope.
    """
    if not principal().has_scope(scope):
        raise ProblemError(Problem(403, f"This needs the scope {scope}.", error="missing_scope"))


def require_admin(what: str) -> None:
    """Refuse a caller who may not administer ``what``: for lack of the scope, or by the access rules.

    Raises:
        ProblemError: 403, naming the scope or the rules.
    """
    require_scope(f"admin:{what}")
    refused = context().registry.resources.authorizer.check_admin(principal(), f"admin/{what}")
    if refused is not None:
        raise ProblemError(Problem.of(refused))
