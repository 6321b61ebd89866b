"""Refusals as values: what a caller must expect besides a result.

A function that can be refused returns ``T | Refused`` and its caller matches on it; ``strata.http`` is the
only place that turns a reason into a status code. Exceptions are for bugs and cancellation.
"""

from __future__ import annotations

import enum

import attrs


class Reason(enum.Enum):
    """Why a request was refused; ``strata.http.problems`` has the HTTP status of each reason."""

    BAD_REQUEST = "bad_request"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNPROCESSABLE = "unprocessable"
    BUSY = "busy"
    UNSUPPORTED = "unsupported"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed_out"
    DATA_UNREADABLE = "data_unreadable"
    FAILED = "failed"


@attrs.frozen
class Limit:
    """The limit that was reached, for the ``RateLimit`` headers (draft-ietf-httpapi-ratelimit-headers).

    Attributes:
        name: The setting.
        quota: The quota, in the limit's own unit.
        reset: Seconds after which a request may succeed again.
        value: The setting's value where it differs from the quota: a rate per second or per day.
        window: Seconds in which an exhausted quota is refilled; ``None`` for a quota not bound to time.
        wait: Exact seconds after which a request may succeed again, where they are known; ``reset`` is whole.
    """

    name: str
    quota: int
    reset: int
    value: float | None = None
    window: int | None = None
    wait: float | None = None


@attrs.frozen
class Refused:
    """A valid request that will not be answered.

    Attributes:
        reason: The kind of refusal.
        detail: One sentence for the user; never a secret, a path of the server, a row's value or anything
            about another tenant.
        code: A stable machine-readable word (``error`` in the body), such as ``response_too_large``.
        retry_after: Seconds after which the same request may succeed (BUSY, UNAVAILABLE); at least 1.
        loc: Location of the fault in the request, such as ``("body", "transform", "params", "columns")``.
        limit: The limit that was reached (BUSY).
        final: Whether waiting does not help, so that there is no ``Retry-After`` (UNAVAILABLE).
    """

    reason: Reason
    detail: str
    code: str | None = None
    retry_after: int | None = None
    loc: tuple[str | int, ...] = ()
    limit: Limit | None = None
    final: bool = False


class RefusalError(Exception):
    """Carries a :class:`Refused` out of deep code; converted back at the package's public functions."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.detail)
        self.refused = refused
