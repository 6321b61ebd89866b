"""Turn errors of the operating system into refusals: they end the request that met them, nothing wider."""

from __future__ import annotations

import errno

from strata.outcomes import Reason, Refused

NO_SPACE = Refused(
    Reason.UNAVAILABLE,
    "The server cannot write results right now; its disk may be full.",
    code="storage_unavailable",
    retry_after=30,
)
"""A file cannot be written: the disk is full or broken, or a quota is used up."""

NO_RESOURCES = Refused(
    Reason.UNAVAILABLE,
    "The server has no file descriptors or memory left for this request.",
    code="no_resources",
    retry_after=1,
)

UNREADABLE = Refused(
    Reason.UNAVAILABLE,
    "The server met an error of its storage; its log has the error.",
    code="storage_error",
    retry_after=5,
)

TIMED_OUT = Refused(Reason.TIMED_OUT, "The server's storage did not answer in time.", code="storage_timeout")

_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


def error_name(error: OSError) -> str:
    """Return the symbolic name of an error's number, such as ``EIO``: safe for a log, without a path."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def is_shortage(error: OSError) -> bool:
    """Test whether an error says that the process or the system has no descriptors or memory left."""
    return error.errno in _SHORTAGE


def refusal_of(error: OSError, otherwise: Refused = UNREADABLE) -> Refused:
    """Return the refusal for an error; ``otherwise`` where its number says nothing more precise."""
    if isinstance(error, TimeoutError):
        return TIMED_OUT
    if is_shortage(error):
        return NO_RESOURCES
    return NO_SPACE if error.errno in _WRITING else otherwise
