"""Open spans below the span of a request, wherever its work goes on; without a span above, nothing is done.

The front door, or an executor's application, begins the span of a request (:mod:`strata.http.tracing`). All
code below asks for a span of its own by :func:`child`. Trio hands the present span on to tasks and threads. A
task that works for several requests one after the other says for which by :func:`continued`.

Nothing here imports OpenTelemetry: with tracing off, :func:`child` reads one context variable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self, TypeAlias

import attrs

SPANS_A_TRACE: Final = 1000
"""Maximum spans of one request in this process. Further ones are left out, and what is below them goes to the
span above; the request's span has their number."""

Kind: TypeAlias = Literal["server", "client", "internal"]
Value: TypeAlias = str | int | float | bool
KnownRoute: TypeAlias = tuple[str, re.Pattern[str], str]
"""The method of a route, what its whole path matches, and the path with its variable parts as names."""

ATTRIBUTES: Final = frozenset(
    {
        "error.type",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "strata.build_id",
        "strata.cost_bytes",
        "strata.files",
        "strata.language",
        "strata.limit",
        "strata.outcome",
        "strata.question",
        "strata.remote",
        "strata.request_id",
        "strata.sent_bytes",
        "strata.spans_left_out",
        "strata.tenant",
        "strata.tier",
        "strata.transform",
    }
)
"""The only attributes of spans. None holds text of a request's body, query, headers or rows."""


class TracingError(Exception):
    """Tracing cannot be switched on; the message says why, and what to change."""


class Recorder(Protocol):
    """What makes spans, which are opaque here."""

    def start(self, name: str, kind: Kind, above: Any, link: Any) -> Any:
        """Start a span below ``above``; None: in a trace of its own, with a link to ``link``."""

    def set(self, span: Any, key: str, value: Value) -> None:
        """Set an attribute."""

    def end(self, span: Any, *, failed: bool) -> None:
        """End a span."""

    def headers(self, span: Any) -> list[tuple[str, str]]:
        """Return the headers that hand a span on to another process."""

    def trace_id(self, span: Any) -> str:
        """Return the id of a span's trace, as 32 hexadecimal digits."""


class RequestTracer(Protocol):
    """Starts the spans of requests."""

    def begin(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        method: str,
        path: str,
        request_id: str | None = None,
        tenant: str | None = None,
    ) -> Span:
        """Start the span of a request that was let in, below that of its proxy."""


@attrs.define(eq=False)
class Trace:
    """The spans of one request in this process.

    Attributes:
        recorder: Makes them.
        room: Spans that it may still have.
        left_out: Spans that it could not have.
    """

    recorder: Recorder
    room: int = SPANS_A_TRACE
    left_out: int = 0


class Span:
    """A span under way, as a context manager: what is opened within the block is below it.

    Args:
        trace: The trace it belongs to.
        made: The recorder's span.
    """

    __slots__ = ("_ended", "_failed", "_token", "made", "trace")

    def __init__(self, trace: Trace, made: Any) -> None:
        self.trace = trace
        self.made = made
        self._token: Token[Span | None] | None = None
        self._ended = False
        self._failed = False

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)
            self._token = None
        if kind is not None:
            self.fail(kind.__name__)
        self.end()

    @property
    def trace_id(self) -> str:
        """The id of its trace, as 32 hexadecimal digits."""
        return self.trace.recorder.trace_id(self.made)

    def set(self, key: str, value: Value | None) -> None:
        """Set an attribute, unless the value is None; text is cut at 128 characters.

        Raises:
            ValueError: If the attribute is not in :data:`ATTRIBUTES`.
        """
        if key not in ATTRIBUTES:
            raise ValueError(f"{key} is no attribute of spans")
        if value is not None and not self._ended:
            self.trace.recorder.set(self.made, key, value[:128] if isinstance(value, str) else value)

    def fail(self, kind: str) -> None:
        """Mark it as failed; ``kind`` is a word for the error, never its message."""
        self.set("error.type", kind)
        self._failed = True

    def end(self) -> None:
        """End it; does nothing when repeated."""
        if not self._ended:
            self._ended = True
            self.trace.recorder.end(self.made, failed=self._failed)


class _NoSpan:
    """Stands for a span where nothing is traced."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def set(self, key: str, value: Value | None) -> None:
        """Do nothing."""

    def fail(self, kind: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class _Continued:
    """Makes a span, or none, the present one for a block, and leaves it open."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span | None) -> None:
        self._span = span
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> None:
        self._token = _CURRENT.set(self._span)

    def __exit__(self, *_error: object) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)


NO_SPAN: Final = _NoSpan()
"""The span where nothing is traced."""

_CURRENT: ContextVar[Span | None] = ContextVar("strata_span", default=None)


def current() -> Span | None:
    """Return the span that work of this task belongs to; None where nothing is traced."""
    return _CURRENT.get()


def child(name: str, kind: Kind = "internal") -> Span | _NoSpan:
    """Return a new span below the present one, to be opened by ``with``; one that does nothing without it.

    Args:
        name: Its name, of a fixed vocabulary.
        kind: ``client`` for a call of another process.
    """
    above = _CURRENT.get()
    if above is None:
        return NO_SPAN
    trace = above.trace
    if trace.room <= 0:
        trace.left_out += 1
        return NO_SPAN
    trace.room -= 1
    return Span(trace, trace.recorder.start(name, kind, above.made, None))


def another_trace(name: str) -> Span | _NoSpan:
    """Return the first span of a new trace, which refers to the present one; none without that."""
    above = _CURRENT.get()
    if above is None:
        return NO_SPAN
    recorder = above.trace.recorder
    return Span(Trace(recorder), recorder.start(name, "server", None, above.made))


def continued(span: Span | None) -> _Continued:
    """Make ``span``, which may have ended, the present one for a block; None: nothing is traced there."""
    return _Continued(span)


def forget() -> None:
    """Have this task, which outlives the request that started it, belong to no span."""
    _CURRENT.set(None)


def trace_headers() -> list[tuple[str, str]]:
    """Return the headers that hand the present span on to another process; none where nothing is traced."""
    present = _CURRENT.get()
    return [] if present is None else present.trace.recorder.headers(present.made)
