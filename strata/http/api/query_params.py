"""Query parameters: known ones, in bounds, or a 400 that names the one at fault."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from werkzeug.datastructures import MultiDict

from strata.http.problems import Problem, ProblemError

MAX_VERSION = 10**18 - 1
"""Largest version of an artifact that a request can name."""

MAX_PLACE = 2**53 - 1
"""Largest whole number of a parameter that has no bound of its own."""


def values_of(query: MultiDict[str, str]) -> Mapping[str, str]:
    """Return the parameters of a query, each with its one value.

    Raises:
        ProblemError: 400 for one that is given twice: readers differ in which value counts.
    """
    for key, values in query.lists():
        if len(values) > 1:
            raise bad_parameter(key, "is given twice")
    return query


def refuse_unknown(query: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse parameters that are not known: one that is misspelled would silently not apply.

    Raises:
        ProblemError: 400, naming the first of them.
    """
    for key in query:
        if key not in known:
            raise bad_parameter(key, f"Unknown parameter; known are {', '.join(sorted(known))}")


def whole(query: Mapping[str, str], key: str, default: int, least: int, most: int) -> int:
    """Return a whole number from ``least`` to ``most``.

    Raises:
        ProblemError: 400.
    """
    text = query.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):  # noqa: PLR2004  # int64
        raise bad_parameter(key, f"must be a whole number from {least} to {most}")
    return int(text)


def text(query: Mapping[str, str], key: str, most: int) -> str | None:
    """Return a text of 1 to ``most`` characters, or None.

    Raises:
        ProblemError: 400.
    """
    found = query.get(key)
    if found is not None and not 1 <= len(found) <= most:
        raise bad_parameter(key, f"must have 1 to {most} characters")
    return found


def moment(query: Mapping[str, str], key: str) -> float | None:
    """Return a time in seconds since the epoch, or None; UTC without an offset.

    Raises:
        ProblemError: 400 for what is not ISO 8601.
    """
    text = query.get(key)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise bad_parameter(key, "must be a time in ISO 8601") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def bad_parameter(key: str, message: str) -> ProblemError:
    """Return the 400 of a parameter that is not valid."""
    named = key[:64]
    return ProblemError(
        Problem(400, f"{named}: {message}.", "bad_parameter", [{"loc": ["query", named], "msg": message}])
    )
