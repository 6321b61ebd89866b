"""What can go wrong for a client, as one family of exceptions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_TEXT = 300


class StrataError(Exception):
    """A request that got no result.

    Attributes:
        status: HTTP status; ``None`` when there was no answer to take it from.
        title: The kind of problem, in a few words.
        detail: One sentence about this one.
        request_id: The server's name for the request, for its logs.
        error: A stable machine-readable word, such as ``missing_scope``.
        errors: Where in the request the faults lie: ``{"loc": [...], "msg": ...}``.
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
        """Return one line: status, title, detail and request id, as far as they are known."""
        head = " ".join(str(part) for part in (self.status, self.title) if part)
        tail = f" (request {self.request_id})" if self.request_id else ""
        return f"{head}: {self.detail}{tail}" if head else f"{self.detail}{tail}"


class ConnectionFailedError(StrataError):
    """No answer came: refused, reset, or too late."""


class TruncatedStreamError(StrataError):
    """A result ended before its end; the rows so far are not the result."""


class BadAnswerError(StrataError):
    """The answer is none the wire contract knows."""


class BuildFailedError(StrataError):
    """The server gave up a build; ``error`` is the build's error code."""


class WaitTimeoutError(StrataError):
    """A build was not over in time; it goes on, and can be waited for again."""


def error_from_answer(status: int, headers: Mapping[str, str], body: bytes) -> StrataError:
    """Return the error an answer stands for: RFC 9457 problem details, or whatever a proxy in between sent.

    Args:
        status: HTTP status.
        headers: With names in lower case.
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
