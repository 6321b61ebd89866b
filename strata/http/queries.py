"""Parameters of a query, checked."""

from __future__ import annotations

from datetime import UTC, datetime

from quart import request

from strata.http.problems import Problem, ProblemError


def whole(key: str, default: int, least: int, most: int) -> int:
    """Return a whole number of the query.

    Raises:
        ProblemError: If it is none, or out of bounds.
    """
    text = request.args.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):  # noqa: PLR2004
        raise bad_parameter(key, f"must be a whole number from {least} to {most}")
    return int(text)


def moment(key: str) -> float | None:
    """Return a moment of the query in seconds since the epoch; UTC without an offset.

    Raises:
        ProblemError: If it is none.
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
    """Return the refusal of a parameter."""
    named = key[:64]
    return ProblemError(
        Problem(400, f"{named}: {message}.", "bad_parameter", [{"loc": ["query", named], "msg": message}])
    )
