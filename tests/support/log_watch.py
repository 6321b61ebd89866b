"""Watch what the suite logs, at every level, and fail the test in which a secret was logged.

A pytest plugin. Secrets are the tokens of the test deployments, and every text that contains :data:`MARK`,
which tests put into row values, identity headers, keys and bodies on purpose. Watched are the events of
structlog before any level drops them, the records of the standard library's logging, and the logs of server
processes, which run at DEBUG (see ``service_kit.process``).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from structlog._base import BoundLoggerBase  # handles every event of every kind of logger

from strata.observability.logs import failure

MARK = "s3cr3t"

TOKENS = (
    "a-token-of-twenty-characters",
    "the-token-that-was-used-before",
    "demo-only-token-not-a-secret",
)

_SECRET = re.compile("|".join(map(re.escape, (MARK, *TOKENS))))
_CONTEXT = 80


def leaks(text: str) -> list[str]:
    """Return each secret in ``text`` with its surroundings."""
    return [
        text[max(0, found.start() - _CONTEXT) : found.end() + _CONTEXT] for found in _SECRET.finditer(text)
    ]


class Watch:
    """The secrets logged since the last :meth:`take`."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def take(self) -> list[str]:
        """Return the secrets that were logged, and forget them."""
        texts, self._texts = self._texts, []
        return [leak for text in texts for leak in leaks(text)]

    def note(self, text: str) -> None:
        """Search a text for secrets."""
        self._texts.append(text)

    def event(self, name: str, event: Any, fields: dict[str, Any]) -> None:
        """Search an event of structlog, as it would be written."""
        error = fields.pop("exc_info", None)
        if error is True:
            error = sys.exc_info()[1]
        shown = f"{name} {event} {fields}"
        if isinstance(error, BaseException):
            shown += failure((type(error), error, error.__traceback__))
        self.note(shown)

    def record(self, record: logging.LogRecord) -> None:
        """Search a record of the standard library's logging."""
        if not record.name.startswith(("hypothesis", "schemathesis")) and not isinstance(record.msg, dict):
            self.note(f"{record.name} {record.levelname} {record.getMessage()}")


watch = Watch()


def _listening(process_event: Callable[..., Any]) -> Callable[..., Any]:
    def heard(self: Any, method: str, event: Any, fields: dict[str, Any]) -> Any:
        bound = {**structlog.contextvars.get_contextvars(), **self._context, **fields}
        watch.event(method, event, bound)
        return process_event(self, method, event, fields)

    return heard


def _recording(handle: Callable[..., Any]) -> Callable[..., Any]:
    def heard(self: logging.Logger, record: logging.LogRecord) -> Any:
        watch.record(record)
        return handle(self, record)

    return heard


@pytest.fixture(autouse=True, scope="session")
def _listen() -> Iterator[None]:
    # Rich's tracebacks show local variables: of one crashed actor that takes half a minute, on the loop.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    patch = pytest.MonkeyPatch()
    patch.setattr(BoundLoggerBase, "_process_event", _listening(BoundLoggerBase._process_event))
    patch.setattr(logging.Logger, "handle", _recording(logging.Logger.handle))
    yield
    patch.undo()
    _fail_on(watch.take())


@pytest.fixture(autouse=True)
def _nothing_secret_is_logged() -> Iterator[None]:
    yield
    _fail_on(watch.take())


def _fail_on(found: list[str]) -> None:
    if found:
        lines = "\n".join(f"  …{leak!r}…" for leak in found[:10])
        pytest.fail(f"secrets were logged, {len(found)} in all:\n{lines}", pytrace=False)
