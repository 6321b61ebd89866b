"""Decide when to repeat a request: a pure function of statuses, headers and clocks."""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime

import attrs

RETRIED = frozenset({429, 503})
"""HTTP statuses of a busy server."""
_BASE_SECONDS = 0.5
_JITTER = 0.1


@attrs.frozen
class RetryPolicy:
    """Limits on repeating a request.

    Attributes:
        attempts: Maximum requests, the first one included.
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
    """Return the seconds to wait before the next attempt; ``None``: give up.

    The wait is at least ``Retry-After`` (RFC 9110, section 10.2.3: seconds or an HTTP date), plus up to a
    tenth of it, so that clients refused together do not return together. Without the header, the wait doubles
    from half a second. A wait that exceeds the policy's time is not begun.

    Args:
        policy: The limits.
        status: Status of the last answer.
        retry_after: ``Retry-After`` of the last answer, as sent.
        attempt: Number of requests made.
        elapsed: Seconds since the first request.
        now: The time of day, aware.
        chance: Random number from 0.0 to 1.0, for the jitter.
    """
    if status not in RETRIED or attempt >= policy.attempts:
        return None
    asked = None if retry_after is None else parse_retry_after(retry_after, now)
    wait = asked if asked is not None else _BASE_SECONDS * 2 ** (attempt - 1)
    wait *= 1 + _JITTER * chance
    return wait if elapsed + wait <= policy.total_seconds else None


def parse_retry_after(text: str, now: dt.datetime) -> float | None:
    """Return a ``Retry-After`` header in seconds, at least 0; ``None`` if it is malformed."""
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
