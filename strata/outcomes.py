"""What a caller must expect besides an answer: refusals, as values.

A function that can be refused returns ``T | Refused`` and its caller matches on it; ``strata.http`` is the
only place that turns a reason into a status code. Exceptions are left for bugs and cancellation.
"""

from __future__ import annotations

import enum

import attrs


class Reason(enum.Enum):
    """Why a request was refused. The HTTP status of each is listed in ``strata.http.problems``."""

    BAD_REQUEST = "bad_request"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    UNSUPPORTED = "unsupported"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed_out"
    DATA_UNREADABLE = "data_unreadable"
    FAILED = "failed"


@attrs.frozen
class Limit:
    """The limit that bit, for the ``RateLimit`` headers (draft-ietf-httpapi-ratelimit-headers).

    Attributes:
        name: The setting.
        quota: How much of it there is.
        reset: Seconds after which there may be room again.
        value: The setting's value, where that is not the quota: so much a second, or a day.
        window: Seconds in which a quota that is used up comes back; None where that is no matter of time.
    """

    name: str
    quota: int
    reset: int
    value: float | None = None
    window: int | None = None


@attrs.frozen
class Refused:
    """A request that was understood and will not be answered.

    Attributes:
        reason: Which kind of refusal.
        detail: One sentence for the person who asked; never a secret, a path of the server, a row's value
            or anything about another tenant.
        code: A stable machine-readable word (``error`` in the body), such as ``response_too_large``.
        retry_after: Seconds after which the same request may succeed (BUSY, UNAVAILABLE); at least 1.
        loc: Where in the request body the fault lies, such as ``("body", "transform", "params", "columns")``.
        limit: Which limit was reached (BUSY).
    """

    reason: Reason
    detail: str
    code: str | None = None
    retry_after: int | None = None
    loc: tuple[str | int, ...] = ()
    limit: Limit | None = None


class RefusalError(Exception):
    """Carries a :class:`Refused` out of deep code; converted back at the module's public border."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.detail)
        self.refused = refused
