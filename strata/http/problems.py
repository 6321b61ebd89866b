"""Turn refusals into HTTP responses: the one place where a reason becomes a status code.

The body is RFC 9457 ``application/problem+json`` with the ``detail`` string that existing clients read. It
never contains a header's value, a value of the request's body, a server path or data of another tenant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import attrs
import msgspec

from strata.outcomes import Limit, Reason, Refused

STATUS: Mapping[Reason, int] = {
    Reason.BAD_REQUEST: 400,
    Reason.FORBIDDEN: 403,
    Reason.NOT_FOUND: 404,
    Reason.CONFLICT: 409,
    Reason.TOO_LARGE: 413,
    Reason.UNPROCESSABLE: 422,
    Reason.BUSY: 429,
    Reason.FAILED: 500,
    Reason.DATA_UNREADABLE: 500,
    Reason.UNSUPPORTED: 501,
    Reason.UNAVAILABLE: 503,
    Reason.TIMED_OUT: 504,
}

CONTENT_TYPE = "application/problem+json"


@attrs.frozen
class Problem:
    """An error response.

    Attributes:
        status: HTTP status.
        detail: One sentence.
        error: Stable machine-readable code.
        errors: Faulty places of the request: ``{"loc": [...], "msg": ...}``.
        retry_after: Seconds until a retry may succeed, at least 1.
        limit: Limit that was reached.
        headers: Additional headers.
        reason: Kind of refusal, for the log.
    """

    status: int
    detail: str
    error: str | None = None
    errors: Sequence[Mapping[str, Any]] = ()
    retry_after: int | None = None
    limit: Limit | None = None
    headers: tuple[tuple[str, str], ...] = ()
    reason: str | None = None

    @classmethod
    def of(cls, refused: Refused) -> Problem:
        """Return the response to a refusal."""
        status = STATUS[refused.reason]
        errors = ({"loc": list(refused.loc), "msg": refused.detail},) if refused.loc else ()
        needs_retry = status in (429, 503) and not refused.final
        retry_after = max(1, refused.retry_after or 1) if needs_retry else None
        reason = refused.reason.value
        return cls(status, refused.detail, refused.code, errors, retry_after, refused.limit, reason=reason)

    @classmethod
    def crash(cls) -> Problem:
        """Return the response to a request whose handler raised an unexpected exception."""
        return cls(500, "Internal error; the server's log has it under this request id.", "internal")

    def body(self, request_id: str) -> bytes:
        """Return the JSON body."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.error is not None:
            content["error"] = self.error
        if self.errors:
            content["errors"] = list(self.errors)
        if self.limit is not None:
            value = self.limit.value if self.limit.value is not None else self.limit.quota
            content["limit"] = {"name": self.limit.name, "value": value}
            if self.limit.wait is not None:
                # Rounded up: a request before its time is refused again.
                content["retry_after_seconds"] = math.ceil(self.limit.wait * 1000) / 1000
        return msgspec.json.encode(content)

    def header_pairs(self) -> list[tuple[str, str]]:
        """Return the response headers, without Content-Length."""
        pairs = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store"), *self.headers]
        if self.retry_after is not None:
            pairs.append(("Retry-After", str(self.retry_after)))
        if self.limit is not None:
            window = "" if self.limit.window is None else f";w={self.limit.window}"
            pairs.append(("RateLimit-Policy", f'"{self.limit.name}";q={self.limit.quota}{window}'))
            pairs.append(("RateLimit", f'"{self.limit.name}";r=0;t={self.limit.reset}'))
        return pairs


class ProblemError(Exception):
    """Ends a route with an error response; caught by the app's error handler."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem
