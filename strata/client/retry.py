"""When to ask again: a pure decision over statuses, headers and clocks."""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime

import attrs

RETRIED = frozenset({429, 503})
_BASE_SECONDS = 0.5
_JITTER = 0.1


@attrs.frozen
class RetryPolicy:
    """How long to insist.

    Attributes:
        attempts: Requests in all, the first one included.
        total_seconds: No wait begins that would end later than this after the first request.
    """

    attempts: int = attrs.field(default=6, validator=attrs.validators.ge(1))
    total_seconds: float = 60.0


def next_wait(
    policy: RetryPolicy,
    *,
    status: int,
    retry_after: str | None,
    attempt: int,
    elapsed: float,
    now: dt.datetime,
    chance: float,
) -> float | None:
    """Return the seconds to wait before the next attempt; ``None`` to give up.

    The wait is never shorter than ``Retry-After`` asks (RFC 9110, 10.2.3: seconds or an HTTP date); up to a
    tenth is added, so that clients refused together do not come back together. Without the header the wait
    doubles from half a second. A wait that does not fit into the policy's time is not begun: the error is
    worth more now.

    Args:
        policy: How long to insist.
        status: Status of the last answer.
        retry_after: Its ``Retry-After``, as sent.
        attempt: How many requests were made.
        elapsed: Seconds since the first.
        now: The time of day, aware.
        chance: From 0.0 to 1.0.
    """
    if status not in RETRIED or attempt >= policy.attempts:
        return None
    asked = None if retry_after is None else parse_retry_after(retry_after, now)
    wait = asked if asked is not None else _BASE_SECONDS * 2 ** (attempt - 1)
    wait *= 1 + _JITTER * chance
    return wait if elapsed + wait <= policy.total_seconds else None


def parse_retry_after(text: str, now: dt.datetime) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for, at least 0; ``None`` if it is illegible."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": UTC, of unknown origin
        moment = moment.replace(tzinfo=dt.UTC)
    return max(0.0, (moment - now).total_seconds())
