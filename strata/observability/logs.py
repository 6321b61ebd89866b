"""Write logs: one JSON object a line (or readable text), with ids and numbers only.

No token, header value, request value or row belongs in a log call, except the ids of a request: its caller,
tenant, path and known tables. Exceptions are written without their
messages, because libraries put the values they failed on into them. Log records of libraries are written from
WARNING up: below that they repeat requests, statements and URLs.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from strata.decisions import tell_decisions

OURS = "strata"
"""Name of the logger above all loggers of this package."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(level: str, style: Literal["json", "text"], stream: TextIO | None = None) -> None:
    """Configure logging for the process.

    Args:
        level: Lowest level written (``log_level``); for libraries at least WARNING.
        style: ``json`` or ``text`` (``log_format``).
        stream: Destination; standard error by default.

    Raises:
        KeyError: If ``level`` is no level of the standard library's logging.
    """
    out = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level]
    tell_decisions(told=number <= logging.DEBUG)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor
    if style == "json":
        shared.append(structlog.processors.ExceptionRenderer(failure))
        # One encoder: json.dumps makes one for each line.
        encoder = json.JSONEncoder(default=repr)
        renderer = structlog.processors.JSONRenderer(lambda event, **_options: encoder.encode(event))
    else:
        shared.append(_visible)
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=_write_failure)
    sink = _Sink(out)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_args: sink,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger(OURS).setLevel(number)


class _Sink:
    """Write this package's own lines; the standard library's logging takes the loop twice the time a line.

    Args:
        out: Destination.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        """Write a line; one that cannot be written (full disk, closed pipe) is lost."""
        with self._lock, suppress(OSError, ValueError):
            self._out.write(line + "\n")
            self._out.flush()

    debug = info = warning = error = critical = exception = msg


def _visible(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape control characters, which a terminal would obey: a request's path may hold any character."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


def failure(exc_info: ExcInfo) -> str:
    """Return a traceback without values: neither local variables nor messages.

    An :class:`OSError` is shown with its number, which names the failure and not the file.
    """
    return "".join(_lines(exc_info[1], set()))


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    """Yield the text of an exception, after its cause's and before those of its group's exceptions."""
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _lines(before, seen)
        yield "\nwhich led to:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    kind = type(error)
    yield f"{kind.__module__}.{kind.__qualname__}{_number(error)}\n"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            if id(inner) not in seen:
                yield "\none of them:\n\n"
                yield from _lines(inner, seen)


def _number(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f" [errno {error.errno}]"
    return ""


def _write_failure(out: TextIO, exc_info: ExcInfo) -> None:
    out.write("\n" + failure(exc_info))
