"""Unreadable files as refusals that name the file and nothing else of the server."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

import attrs
import pyarrow as pa
import structlog
from pyiceberg.exceptions import ResolveError

from strata.outcomes import Reason, RefusalError, Refused

P = ParamSpec("P")
T = TypeVar("T")

_log = structlog.get_logger(__name__)
_VALUE = re.compile("=[^/]*(?=/)")


def file_name(location: str) -> str:
    """Return the last part of a location: enough to find the file, and no path of the server."""
    return location.rstrip("/").rpartition("/")[2]


def unreadable(what: str, location: str) -> Refused:
    """Refuse because a file that the table's metadata names cannot be read.

    Args:
        what: The kind of file, such as ``data file``.
        location: Where it is; only its name is repeated.
    """
    return Refused(
        Reason.DATA_UNREADABLE,
        f"The {what} {file_name(location)} is missing or damaged",
        code="data_unreadable",
    )


def _misfit(what: str, location: str) -> Refused:
    return Refused(
        Reason.DATA_UNREADABLE,
        f"The {what} {file_name(location)} does not fit the table's schema",
        code="data_unreadable",
    )


def _shown(location: str) -> str:
    """Return a location for the log: a directory such as ``name=value`` holds a value of rows."""
    return _VALUE.sub("=…", location)


@attrs.frozen
class Reading:
    """Turns any failure to read ``location`` into a refusal naming it.

    Readers of damaged files fail in many ways (Arrow, Avro, JSON, arithmetic on nonsense lengths), so every
    exception but a refusal made further down counts as damage. The answer names the file; the cause goes to
    the operator's log. No generator, whose frame would be in the cause's own traceback: with that cycle all
    that the failed reading holds would wait for the collector of garbage.

    Attributes:
        what: The kind of file, such as ``data file``.
        location: Where it is.

    Raises:
        RefusalError: With :attr:`Reason.DATA_UNREADABLE`, on the way out of the block.
    """

    what: str
    location: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, cause: BaseException | None, _where: TracebackType | None
    ) -> None:
        if not isinstance(cause, Exception):
            return
        if isinstance(cause, RefusalError | MemoryError | pa.ArrowMemoryError):
            return
        fits = not isinstance(cause, ResolveError)
        event = "file_unreadable" if fits else "file_does_not_fit"
        _log.warning(event, what=self.what, location=_shown(self.location), exc_info=cause)
        refused = unreadable(self.what, self.location) if fits else _misfit(self.what, self.location)
        raise RefusalError(refused) from cause


def refusable(function: Callable[P, T]) -> Callable[P, T | Refused]:
    """Return ``function`` with a raised refusal returned as a value: the module's public border."""

    @functools.wraps(function)
    def border(*args: P.args, **kwargs: P.kwargs) -> T | Refused:
        try:
            return function(*args, **kwargs)
        except RefusalError as refusal:
            return refusal.refused

    return border
