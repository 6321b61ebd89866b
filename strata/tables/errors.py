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


class EncryptedError(ValueError):
    """A file is encrypted."""


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


def encrypted(what: str, location: str) -> Refused:
    """Return the refusal (UNSUPPORTED) for a file that is encrypted; arguments as of :func:`unreadable`."""
    return Refused(
        Reason.UNSUPPORTED,
        f"The {what} {file_name(location)} is encrypted, which is not supported",
        code="unsupported_table_feature",
    )


def contradicted(what: str, location: str, found: str, stated: str) -> Refused:
    """Return the refusal (DATA_UNREADABLE) for a file that is not as the table's manifest describes it.

    Args:
        what: The kind of file, such as ``data file``.
        location: The file's location; the refusal repeats its last component only.
        found: What the file has, such as ``5 rows``.
        stated: What the manifest says.
    """
    return Refused(
        Reason.DATA_UNREADABLE,
        f"The {what} {file_name(location)} has {found}, but the table's manifest says {stated}",
        code="data_unreadable",
    )


def _schema_mismatch(what: str, location: str, cause: ResolveError) -> Refused:
    return Refused(
        Reason.UNSUPPORTED,
        f"The {what} {file_name(location)} does not fit the table's schema: {cause}",
        code="unsupported_table_feature",
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
        RefusalError: On leaving the block: DATA_UNREADABLE, because the file is missing or damaged, or
            UNSUPPORTED, with the cause's message, because it does not fit the table's schema (pyiceberg's
            ``ResolveError``) or is encrypted.
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
        if isinstance(cause, ResolveError):
            event, refused = "file_does_not_fit", _schema_mismatch(self.what, self.location, cause)
        elif isinstance(cause, EncryptedError):
            event, refused = "file_encrypted", encrypted(self.what, self.location)
        else:
            event, refused = "file_unreadable", unreadable(self.what, self.location)
        _log.warning(event, what=self.what, location=_masked(self.location), exc_info=cause)
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
