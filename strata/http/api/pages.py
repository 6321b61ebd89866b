"""Pages of a listing: their answers, and the tokens that say where the next one begins."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from strata.artifacts import Cursor
from strata.http.api.query_params import bad_parameter
from strata.http.door.context import Context
from strata.http.door.routing import Answer

R = TypeVar("R")

SMALL_PAGE: Final = 100
"""Records of a page that the event loop encodes; a longer page is encoded in the work pool."""

PIECE: Final = 500
"""Records of a page that are encoded in one call, which holds the interpreter: 0.2 ms."""

LONGEST_TOKEN: Final = 4096
"""Maximum characters of a page token; a longer one is refused. The longest name takes 2,731."""

_MAX_INTEGER: Final = 2**63 - 1


async def page_answer(
    context: Context, records: Sequence[R], encode: Callable[[Sequence[R]], Answer]
) -> Answer:
    """Return the answer that ``encode`` makes of the records of a page."""
    if len(records) <= SMALL_PAGE:
        return encode(records)
    return await context.compute(partial(encode, records))


def encoded_list(records: Iterable[msgspec.Struct]) -> Any:
    """Return a list in JSON, for the place of a list in an answer; few records are in memory at a time."""
    text, remaining = bytearray(b"["), iter(records)
    while piece := list(islice(remaining, PIECE)):
        text += (b"," if len(text) > 1 else b"") + msgspec.json.encode(piece)[1:-1]
    text += b"]"
    return msgspec.Raw(text)


def text_token(text: str) -> str:
    """Return an opaque text as a page token."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def token_text(token: str) -> str:
    """Return the text of a page token.

    Raises:
        ProblemError: 400 for what is no token.
    """
    if len(token) > LONGEST_TOKEN:
        raise no_token()
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise no_token() from None


def place_token(place: Cursor, total: int, sort: str, order: str) -> str:
    """Return the token of the page behind a place; it keeps the number of artifacts in all pages."""
    return text_token(json.dumps([sort, order, total, place.value, place.artifact_id, place.version]))


def token_place(token: str, sort: str, order: str) -> tuple[Cursor, int]:
    """Return the place and the number of a page token.

    Raises:
        ProblemError: 400 for what is no token, or one of a listing in another order.
    """
    try:
        match json.loads(token_text(token)):
            case [str(), str(), int(total), value, str(artifact_id), int(version)] as found:
                pass
            case _:
                raise no_token()
    except (ValueError, RecursionError):
        raise no_token() from None
    if found[:2] != [sort, order]:
        raise bad_parameter("page_token", "is of a listing with another sort or order")
    numbers = (total, version) if not isinstance(value, int) else (total, version, value)
    if not _fits(value, sort) or not all(0 <= number <= _MAX_INTEGER for number in numbers):
        raise no_token()
    return Cursor(value, artifact_id, version), total


def _fits(value: Any, sort: str) -> bool:
    if sort == "artifact_id":
        return isinstance(value, str)
    if sort == "created_at":
        return isinstance(value, (int, float)) and math.isfinite(value)
    return value is None or isinstance(value, int)


def no_token() -> Exception:
    """Return the 400 of a text that is no page token."""
    return bad_parameter("page_token", "is not a token of this listing")
