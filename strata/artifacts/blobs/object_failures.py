"""What the errors of an object store's client mean to a reader or a build: refusals, each with its cause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from strata.outcomes import Reason, RefusalError, Refused

STORE_DOWN = Refused(
    Reason.UNAVAILABLE, "The artifact store does not answer.", code="blob_store_down", retry_after=5
)

DENIED = Refused(
    Reason.UNAVAILABLE,
    "The artifact store does not accept the server's credentials.",
    code="blob_store_denied",
    retry_after=60,
)

NOT_STORED = Refused(
    Reason.UNAVAILABLE,
    "The artifact store acknowledged the result and does not have it.",
    code="blob_not_stored",
    retry_after=5,
)

NOT_REMOVED = Refused(
    Reason.UNAVAILABLE,
    "The artifact store acknowledged a removal and still has the objects.",
    code="blob_not_removed",
    retry_after=5,
)

DAMAGED = Refused(
    Reason.UNAVAILABLE,
    "The artifact store gives other bytes than were stored; if that stays, build the result with refresh.",
    code="blob_damaged",
    retry_after=5,
)
"""The object exists with its size; its bytes as they were read do not have its hash."""

_STATUS = re.compile(r"status code: (\d{3})")
_URL = re.compile(r"https?://\S+")
_DENIED = ("PermissionDeniedError", "UnauthenticatedError")
_PANIC = "PanicException"
"""Name of the exception for a bug in the client library. It is no ``Exception`` and cannot be imported."""

log = structlog.get_logger(__name__)


@contextmanager
def failures_as_refusals(call: str) -> Iterator[None]:
    """Turn errors of the object store or the disk into refusals.

    Logged are the call, the kind of error and the HTTP status only: messages contain URLs.

    Args:
        call: The call of the store: ``put``, ``head``, ``get``, ``delete`` or ``list``.

    Raises:
        RefusalError: :data:`DENIED` if the store refuses the credentials, :data:`STORE_DOWN` otherwise.
    """
    try:
        yield
    except BaseException as error:  # obstore's panics, too; what is not its is raised again
        refused = refusal_of(error)
        if refused is None:
            raise
        status = _STATUS.search(str(error))
        kind = type(error).__name__
        log.warning("object store call failed", call=call, error=kind, status=status and int(status[1]))
        raise RefusalError(refused) from error


def refusal_of(error: BaseException) -> Refused | None:
    """Return the refusal for an error of the object store or the disk; None for another error."""
    if not (isinstance(error, OSError) or is_clients(error)):
        return None
    return DENIED if type(error).__name__ in _DENIED else STORE_DOWN


def is_clients(error: BaseException) -> bool:
    """Test whether an error is one of the object store's client library."""
    from obstore.exceptions import BaseError  # noqa: PLC0415  # an extra

    return isinstance(error, BaseError) or type(error).__name__ == _PANIC


def fault_of(error: BaseException) -> str:
    """Return the first line of a client library's error, without what it says of its own source."""
    line = str(error).strip().partition("\n")[0].rstrip(". ")
    return f"{_URL.sub('(URL)', line)}."
