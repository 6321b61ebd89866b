"""Decide when to repeat a request: a pure function of statuses, headers and clocks."""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime

import attrs
import msgspec

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
        reconnects: Maximum connections in a row that are made anew because the last one was refused or broke.
    """

    attempts: int = attrs.field(default=6, validator=attrs.validators.ge(1))
    total_seconds: float = 60.0
    reconnects: int = attrs.field(default=3, validator=attrs.validators.ge(0))


def next_wait(
    policy: RetryPolicy,
    *,
    status: int,
    retry_after: str | None,
    exact: float | None = None,
    attempt: int,
    elapsed: float,
    now: dt.datetime,
    chance: float,
) -> float | None:
    """Return the seconds to wait before the next attempt; ``None``: give up.

    The wait is the exact one, for which the server keeps a place. Else it is at least ``Retry-After``
    (RFC 9110, section 10.2.3: seconds or an HTTP date), plus up to a tenth of it, so that clients refused
    together do not return together. Without the header, the wait doubles from half a second. A wait that
    exceeds the policy's time is not begun.

    Args:
        policy: The limits.
        status: Status of the last answer.
        retry_after: ``Retry-After`` of the last answer, as sent.
        exact: Seconds of ``Retry-After`` before it was rounded up to whole ones; None if the answer has none.
        attempt: Number of requests made.
        elapsed: Seconds since the first request.
        now: The time of day, aware.
        chance: Random number from 0.0 to 1.0, for the jitter.
    """
    if status not in RETRIED or attempt >= policy.attempts:
        return None
    asked = None if retry_after is None else parse_retry_after(retry_after, now)
    wait = asked if asked is not None else _BASE_SECONDS * 2 ** (attempt - 1)
    if exact is not None and asked is not None and asked - 1 <= exact <= asked:
        wait = exact
    else:
        wait *= 1 + _JITTER * chance
    return wait if elapsed + wait <= policy.total_seconds else None


def reconnect_wait(policy: RetryPolicy, *, breaks: int, elapsed: float, chance: float) -> float | None:
    """Return the seconds to wait before a new connection; ``None``: give up.

    Args:
        policy: The limits.
        breaks: Connections that were refused or broke one after another.
        elapsed: Seconds since the first request.
        chance: Random number from 0.0 to 1.0, for the jitter.
    """
    if breaks > policy.reconnects:
        return None
    wait = _BASE_SECONDS * 2 ** (breaks - 1) * (1 + _JITTER * chance)
    return wait if elapsed + wait <= policy.total_seconds else None


def exact_seconds(body: bytes) -> float | None:
    """Return the exact ``Retry-After`` in seconds that a refusal's body has; ``None`` if it has none."""
    try:
        return _Exact.decode(body).retry_after_seconds
    except msgspec.MsgspecError:  # another server's body, or a proxy's
        return None


class _Refusal(msgspec.Struct):
    """The part of a refusal that decides when to repeat a request."""

    retry_after_seconds: float | None = None


_Exact = msgspec.json.Decoder(_Refusal)


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
