"""What a request for a notebook must bring: its scope, and the revision that it means."""

from __future__ import annotations

import re
from typing import Final

from strata.auth import Headers
from strata.http.door.routing import Call, joined
from strata.http.problems import Problem, ProblemError

READ: Final = "notebook:read"
WRITE: Final = "notebook:write"
EXECUTE: Final = "notebook:execute"

_REVISION: Final = re.compile('"([1-9][0-9]{0,8})"')


def require_scope(call: Call, scope: str) -> None:
    """Refuse a caller without a scope, before anything is looked up.

    Raises:
        ProblemError: 403, naming the scope: that there is such a route is no secret.
    """
    if not call.context.caller.has_scope(scope):
        raise ProblemError(Problem(403, f"This route requires the {scope} scope", error="missing_scope"))


def etag_of(revision: int) -> str:
    """Return the ETag of a revision."""
    return f'"{revision}"'


def if_match(headers: Headers) -> int | None:
    """Return the revision that ``If-Match`` names; ``None`` without the header, and for ``*``.

    Raises:
        ProblemError: 400 for what is not one ETag of a revision.
    """
    text = joined(headers, b"if-match")
    if text is None or text.strip() == "*":
        return None
    match = _REVISION.fullmatch(text.strip())
    if match is None:
        raise ProblemError(Problem(400, 'If-Match must be one revision, such as "3".', "bad_precondition"))
    return int(match[1])
