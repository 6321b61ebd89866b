"""Refusals for unreadable files: they name the file and no path of the server."""

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
    """Return the last component of a location, for answers that must not show the server's paths."""
    return location.rstrip("/").rpartition("/")[2]


def unreadable(what: str, location: str) -> Refused:
    """Return the refusal (DATA_UNREADABLE) for a file of the table that is missing or damaged.

    Args:
        what: The kind of file, such as ``data file``.
        location: The file's location; the refusal repeats its last component only.
    """
    return Refused(
        Reason.DATA_UNREADABLE,
        f"The {what} {file_name(location)} is missing or damaged",
        code="data_unreadable",
    )


def _schema_mismatch(what: str, location: str) -> Refused:
    return Refused(
        Reason.DATA_UNREADABLE,
        f"The {what} {file_name(location)} does not fit the table's schema",
        code="data_unreadable",
    )


def _masked(location: str) -> str:
    """Mask partition values (``value`` in a directory ``name=value``) in a location, for the log."""
    return _VALUE.sub("=…", location)


@attrs.frozen
class Reading:
    """Context manager: raises a refusal that names the file when reading the file at ``location`` fails.

    Readers of damaged files fail in many ways (Arrow, Avro, JSON, arithmetic on nonsense lengths), so every
    ``Exception`` counts as damage, except a refusal and a lack of memory, which pass unchanged. The cause is
    logged. A class and not a generator: a generator's frame would be part of the cause's traceback, a
    reference cycle that keeps the buffers of the failed read until the next garbage collection.

    Attributes:
        what: The kind of file, such as ``data file``.
        location: The file's location.

    Raises:
        RefusalError: On leaving the block: DATA_UNREADABLE, because the file is missing or damaged, or does
            not fit the table's schema (pyiceberg's ``ResolveError``).
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
        _log.warning(event, what=self.what, location=_masked(self.location), exc_info=cause)
        refused = unreadable(self.what, self.location) if fits else _schema_mismatch(self.what, self.location)
        raise RefusalError(refused) from cause


def refusable(function: Callable[P, T]) -> Callable[P, T | Refused]:
    """Return ``function`` so that it returns a :class:`Refused` where it raised :class:`RefusalError`."""

    @functools.wraps(function)
    def border(*args: P.args, **kwargs: P.kwargs) -> T | Refused:
        try:
            return function(*args, **kwargs)
        except RefusalError as refusal:
            return refusal.refused

    return border
