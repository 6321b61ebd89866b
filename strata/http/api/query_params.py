"""Parameters of a query: known ones, in bounds, or a 400 that names the one at fault."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from quart import request

from strata.http.problems import Problem, ProblemError

MAX_PLACE = 2**53 - 1
"""Largest whole number of a parameter that has no bound of its own."""


def refuse_unknown(known: Collection[str]) -> None:
    """Refuse a parameter that is not known, which would silently not apply, and one that is given twice.

    Raises:
        ProblemError: 400, naming the first of them.
    """
    for key, values in request.args.lists():
        if len(values) > 1:
            raise bad_parameter(key, "is given twice")
        if key not in known:
            raise bad_parameter(key, f"Unknown parameter; known are {', '.join(sorted(known))}")


def whole(key: str, default: int, least: int, most: int) -> int:
    """Return a whole number within bounds.

    Raises:
        ProblemError: 400.
    """
    text = request.args.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):  # noqa: PLR2004  # int64
        raise bad_parameter(key, f"must be a whole number from {least} to {most}")
    return int(text)


def moment(key: str) -> float | None:
    """Return a moment of the query in seconds since the epoch; UTC without an offset.

    Raises:
        ProblemError: 400.
    """
    text = request.args.get(key)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise bad_parameter(key, "must be a time in ISO 8601") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def bad_parameter(key: str, message: str) -> ProblemError:
    """Return the answer to a parameter that cannot be."""
    named = key[:64]
    return ProblemError(
        Problem(400, f"{named}: {message}.", "bad_parameter", [{"loc": ["query", named], "msg": message}])
    )
