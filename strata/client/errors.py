"""Exceptions of the client, all derived from :class:`StrataError`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_TEXT = 300  # bytes of an answer's body that are quoted


class StrataError(Exception):
    """A request failed.

    Attributes:
        status: HTTP status; ``None`` without an answer.
        title: Kind of problem, in a few words.
        detail: One sentence about this problem.
        request_id: The server's id of the request, for its logs.
        error: Stable machine-readable word, such as ``missing_scope``.
        errors: Faults in the request body: ``{"loc": [...], "msg": ...}``.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        title: str = "",
        request_id: str | None = None,
        error: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.error = error
        self.errors = tuple(errors)

    def __str__(self) -> str:
        """Return one line: status, title, detail and request id, as far as known."""
        head = " ".join(str(part) for part in (self.status, self.title) if part)
        tail = f" (request {self.request_id})" if self.request_id else ""
        return f"{head}: {self.detail}{tail}" if head else f"{self.detail}{tail}"


class ConnectionFailedError(StrataError):
    """No answer arrived: the connection was refused or reset, or timed out.

    Attributes:
        broken: Whether the connection was refused or broke, so that asking again at once may help.
    """

    def __init__(self, detail: str, *, title: str = "", broken: bool = False) -> None:
        super().__init__(detail, title=title)
        self.broken = broken


class TruncatedStreamError(StrataError):
    """A result was cut off; the rows received are not the result."""


class BadAnswerError(StrataError):
    """The answer does not match the wire contract."""


class BuildFailedError(StrataError):
    """The build failed; ``error`` is the build's error code."""


class WaitTimeoutError(StrataError):
    """A build was not ready in time; it continues, and can be waited for again."""


def error_from_answer(status: int, headers: Mapping[str, str], body: bytes) -> StrataError:
    """Return the error for an answer: RFC 9457 problem details, or any body of a proxy in between.

    Args:
        status: HTTP status.
        headers: Headers with names in lower case.
        body: The answer's body, or its beginning.
    """
    request_id = headers.get("x-request-id")
    try:
        problem = json.loads(body)
    except ValueError:  # also undecodable bytes
        problem = None
    if not isinstance(problem, dict):
        text = " ".join(body[:_MAX_TEXT].decode("utf-8", "replace").split())
        return StrataError(text or "The answer has no body.", status=status, request_id=request_id)
    errors = problem.get("errors")
    return StrataError(
        _text(problem.get("detail")) or "The answer gives no detail.",
        status=status,
        title=_text(problem.get("title")) or "",
        request_id=_text(problem.get("request_id")) or request_id,
        error=_text(problem.get("error")),
        errors=[item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else (),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
