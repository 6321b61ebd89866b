"""Evaluate preconditions, ranges and ``Accept`` of a request for a stored result (RFC 9110). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import TypeAlias

import attrs
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_etags

from strata.auth import Headers
from strata.http.door.routing import joined

POSITION_DIGITS = 19
"""Digits of a byte position that are read; a longer position is after the end of any result, as these are."""

_RANGE = re.compile(r"([0-9]*)-([0-9]*)")


class Verdict(Enum):
    """How a request is answered when it is not a range of the result.

    Attributes:
        WHOLE: With all of the result.
        NOT_MODIFIED: 304: the client has the result already.
        PRECONDITION_FAILED: 412: the result is not the one that the client means.
        UNSATISFIABLE: 416: no byte of the range exists.
    """

    WHOLE = "whole"
    NOT_MODIFIED = "not modified"
    PRECONDITION_FAILED = "precondition failed"
    UNSATISFIABLE = "unsatisfiable"


@attrs.frozen
class ByteRange:
    """The range that answers a request, as 206.

    Attributes:
        begin: First byte.
        end: Byte after the last one.
    """

    begin: int
    end: int


Decision: TypeAlias = Verdict | ByteRange


def decide(method: str, headers: Headers, etag: str | None, length: int) -> Decision:
    """Return how a GET or HEAD of a stored result is answered, in the order of RFC 9110, section 13.2.2.

    A result has no modification date, so conditions on dates are ignored, and ``If-Range`` with a date holds
    for no result. Ranges of an unknown unit, malformed ones and several ranges are ignored (section 14.2).

    Args:
        method: The request's method.
        headers: The request's headers.
        etag: The result's strong validator with its quotes; None if it has none.
        length: Bytes of the result.
    """
    opaque = (etag or "").strip('"')
    wanted = joined(headers, b"if-match")
    if wanted is not None and not parse_etags(wanted).contains(opaque):
        return Verdict.PRECONDITION_FAILED
    known = joined(headers, b"if-none-match")
    if known is not None and parse_etags(known).contains_weak(opaque):
        return Verdict.NOT_MODIFIED
    ranges, validator = joined(headers, b"range"), joined(headers, b"if-range")
    if method != "GET" or ranges is None or (validator is not None and validator.strip() != etag):
        return Verdict.WHOLE
    return _range(ranges, length)


def _range(text: str, length: int) -> Decision:
    unit, _, rest = text.partition("=")
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    match = _RANGE.fullmatch(parts[0]) if len(parts) == 1 else None
    if unit.strip().lower() != "bytes" or match is None or match[0] == "-":
        return Verdict.WHOLE
    if not match[1]:
        begin, end = max(0, length - _position(match[2])), length
    else:
        begin, end = _position(match[1]), length
        if match[2]:
            last = _position(match[2])
            if last < begin:
                return Verdict.WHOLE
            end = min(last + 1, length)
    return ByteRange(begin, end) if begin < end else Verdict.UNSATISFIABLE


def _position(digits: str) -> int:
    return int((digits.lstrip("0") or "0")[:POSITION_DIGITS])


def prefers(headers: Headers, media: str, default: str) -> bool:
    """Return whether a request's ``Accept`` asks for ``media`` rather than for ``default``.

    It does if it names ``media`` with a weight above 0 that is at least that of ``default``. Where both are
    named with equal weights, the first one counts; a wildcard never asks for ``media``.

    Args:
        headers: The request's headers; several lines of ``Accept`` are one list.
        media: Media type in lower case.
        default: Media type of the answer to a request without preference, in lower case.
    """
    text = joined(headers, b"accept")
    if text == media:  # as Strata's clients send it, without the library's 20 us of parsing
        return True
    if text is None or media not in (text := text.lower()):
        return False
    accepted = parse_accept_header(text, MIMEAccept)
    weight, other = _weight(accepted, media), _weight(accepted, default)
    if weight is None or not weight:
        return False
    if other is None:
        return weight >= accepted.quality(default)
    return weight > other or (weight == other and text.find(media) < text.find(default))


def _weight(accepted: Iterable[tuple[str, float]], media: str) -> float | None:
    return max((weight for name, weight in accepted if name.partition(";")[0].strip() == media), default=None)
