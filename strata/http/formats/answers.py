"""Answer with a result in the form that its request asks for."""

from __future__ import annotations

from typing import Final

import attrs
from werkzeug.http import parse_etags

from strata.http.api.responses import NOT_MODIFIED_HEADERS, data_answer, result_headers, stream_answer
from strata.http.door.context import Context
from strata.http.door.routing import Answer, joined
from strata.http.formats.accelerated import REDIRECT, object_headers, redirect_of
from strata.http.formats.conversion import UNSUPPORTED, Conversion
from strata.http.formats.negotiation import Form
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError
from strata.tenants.messages import Opened

NOT_ACCEPTABLE: Final = 406


async def finished_answer(opened: Opened, found: Context, form: Form) -> Answer:
    """Answer with a finished result: its stored bytes, in part if asked so, or all of it in another form.

    Raises:
        ProblemError: 406 if the format cannot hold the result.
    """
    if not form.stored:
        return await _converted(opened, found, form)
    answer = data_answer(opened)
    headers = [*answer.headers, *_disposition(opened, form)]
    if opened.stream.address is not None:
        named = object_headers(opened.stream, found, f'"{opened.sha256}"')
        if named is None:
            return attrs.evolve(answer, headers=headers)
        opened.stream.close()
        found.admission.release()
        return Answer([*headers, *named], b"")
    place = redirect_of(opened.stream, found)
    known = joined(found.headers, b"if-none-match") if place is not None else None
    if place is None or (known is not None and parse_etags(known).contains_weak(opened.sha256 or "")):
        return attrs.evolve(answer, headers=headers)
    opened.stream.close()
    found.admission.release()
    return Answer([*headers, (REDIRECT, place)], b"")


async def growing_answer(opened: Opened, found: Context, form: Form) -> Answer:
    """Answer with a result that may still be growing, as it grows.

    Raises:
        ProblemError: If the build fails before the answer begins; 406 if the format cannot hold the result.
    """
    if not form.stored:
        return await _converted(opened, found, form)
    answer = await stream_answer(opened, found)
    return attrs.evolve(answer, headers=[*answer.headers, _VARIES, *_disposition(opened, form)])


async def _converted(opened: Opened, found: Context, form: Form) -> Answer:
    headers = [pair for pair in result_headers(opened) if pair[0] not in _REPLACED]
    headers.insert(0, ("Content-Type", form.media))
    if opened.rows is not None:
        rows = opened.rows if form.limit is None else min(opened.rows, form.limit)
        headers.append(("X-Arrow-Row-Count", str(rows)))
    if opened.sha256 is not None:
        # Weak: another version of the server may compress the same rows to other bytes.
        headers.append(("ETag", f'W/"{opened.sha256}-{form.tag}"'))
        known = joined(found.headers, b"if-none-match")
        if known is not None and parse_etags(known).contains_weak(f"{opened.sha256}-{form.tag}"):
            opened.stream.close()
            return Answer([pair for pair in headers if pair[0] in NOT_MODIFIED_HEADERS], b"", status=304)
    if not found.chunked:
        opened.stream.close()
        words = "A result in another form has no length before its end: ask by HTTP/1.1."
        raise ProblemError(Problem(NOT_ACCEPTABLE, words, UNSUPPORTED))
    if opened.stream.size is None:
        found.admission.release()  # a build is waited for
    conversion = Conversion(opened.stream, form.writer(), found, form.limit)
    found.opened.append(conversion)
    try:
        first = await _first(conversion)
    except RefusalError as error:
        conversion.close()
        problem = Problem.of(error.refused)
        if error.refused.code == UNSUPPORTED:
            problem = Problem(NOT_ACCEPTABLE, error.refused.detail, UNSUPPORTED)
        raise ProblemError(problem) from None
    except BaseException:  # raised again: no other code closes it
        conversion.close()
        raise
    headers += [("Accept-Ranges", "none"), _VARIES, *_disposition(opened, form)]
    return Answer(headers, conversion, first)


async def _first(conversion: Conversion) -> bytes:
    """Return the first bytes with the first rows, so that what these lack is a refusal and no torn answer."""
    first = b""
    while not conversion.begun_rows and (chunk := await conversion.chunk()) is not None:
        first += chunk
    return first


_VARIES: Final = ("Vary", "Accept")
_REPLACED: Final = frozenset({"Content-Type", "X-Arrow-Row-Count", "X-Strata-Receipt"})
"""Headers of a result that tell of its stored bytes."""


def _disposition(opened: Opened, form: Form) -> list[tuple[str, str]]:
    name = f"{opened.artifact_id}-v{opened.version}"
    return [("Content-Disposition", form.disposition(name))] if form.download else []
