"""Unreadable files as refusals that name the file and nothing else of the server."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

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


@contextmanager
def reading(what: str, location: str) -> Iterator[None]:
    """Turn any failure to read ``location`` into a refusal naming it.

    Readers of damaged files fail in many ways (Arrow, Avro, JSON, arithmetic on nonsense lengths), so every
    exception but a refusal made further down counts as damage. The answer names the file; the cause goes to
    the operator's log.

    Raises:
        RefusalError: With :attr:`Reason.DATA_UNREADABLE`.
    """
    try:
        yield
    except RefusalError:
        raise
    except (MemoryError, pa.ArrowMemoryError):
        raise
    except ResolveError as cause:
        _log.warning("file_does_not_fit", what=what, location=_shown(location), exc_info=True)
        raise RefusalError(_misfit(what, location)) from cause
    except Exception as cause:
        _log.warning("file_unreadable", what=what, location=_shown(location), exc_info=True)
        raise RefusalError(unreadable(what, location)) from cause


def refusable(function: Callable[P, T]) -> Callable[P, T | Refused]:
    """Return ``function`` with a raised refusal returned as a value: the module's public border."""

    @functools.wraps(function)
    def border(*args: P.args, **kwargs: P.kwargs) -> T | Refused:
        try:
            return function(*args, **kwargs)
        except RefusalError as refusal:
            return refusal.refused

    return border
