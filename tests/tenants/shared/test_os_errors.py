"""Each error of the system is a refusal with its reason, and none repeats a path."""

import errno

import pytest

from strata.artifacts import BLOB_UNREADABLE
from strata.outcomes import Reason
from strata.tenants.shared.os_errors import error_name, is_shortage, refusal_of


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EIO, "storage_error"),
        (errno.EACCES, "storage_error"),
        (errno.ENOSPC, "storage_unavailable"),
        (errno.EDQUOT, "storage_unavailable"),
        (errno.EROFS, "storage_unavailable"),
        (errno.EMFILE, "no_resources"),
        (errno.ENFILE, "no_resources"),
        (errno.ENOMEM, "no_resources"),
        (errno.ETIMEDOUT, "storage_timeout"),
    ],
)
def test_an_error_is_refused_by_its_number(number: int, code: str) -> None:
    """What a retry may change is 503 with Retry-After, a deadline 504; the number is named in the log only."""
    error = OSError(number, "x", "/a/path/of/the/server")
    refused = refusal_of(error)
    timed_out = number == errno.ETIMEDOUT
    assert (code, Reason.TIMED_OUT if timed_out else Reason.UNAVAILABLE) == (refused.code, refused.reason)
    assert timed_out or (refused.retry_after or 0) >= 1
    assert "/" not in refused.detail
    assert errno.errorcode[number] == error_name(error)
    assert (code == "no_resources") == is_shortage(error)


def test_what_its_number_does_not_tell_its_place_does() -> None:
    """An error that only says "failed" gets the refusal of the file that was used."""
    assert BLOB_UNREADABLE == refusal_of(OSError(errno.EIO, "x"), BLOB_UNREADABLE)
    assert "no_resources" == refusal_of(OSError(errno.EMFILE, "x"), BLOB_UNREADABLE).code
    assert "OSError" == error_name(OSError("no number"))
