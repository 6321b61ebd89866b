import datetime as dt

import pytest

from strata.client.retry import RetryPolicy, exact_seconds, next_wait, parse_retry_after

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


def wait(**changes):
    given = {"status": 429, "retry_after": "2", "attempt": 1, "elapsed": 0.0, "now": NOW, "chance": 0.0}
    policy = changes.pop("policy", RetryPolicy(attempts=3, total_seconds=60))
    return next_wait(policy, **{**given, **changes})


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says(status):
    """Retry-After in seconds is the wait."""
    assert wait(status=status) == 2.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 501, 502, 504])
def test_other_refusals_are_final(status):
    """Other statuses are not retried."""
    assert wait(status=status) is None


def test_an_http_date_is_measured_from_now():
    """Retry-After may be a date (RFC 9110, 10.2.3); a past one means no wait."""
    assert wait(retry_after="Sun, 01 Mar 2026 12:00:30 GMT") == 30.0
    assert wait(retry_after="Sun, 01 Mar 2026 11:00:00 GMT") == 0.0


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "٣", "Sun, 99 Mar 2026"])
def test_an_illegible_retry_after_falls_back_to_backing_off(text):
    """A malformed header neither crashes the client nor removes the wait."""
    assert parse_retry_after(text, NOW) is None
    assert wait(retry_after=text) == 0.5


def test_without_the_header_the_wait_doubles():
    """The wait doubles from half a second."""
    many = RetryPolicy(attempts=10, total_seconds=60)

    assert [0.5, 1.0, 2.0] == [wait(policy=many, retry_after=None, attempt=attempt) for attempt in (1, 2, 3)]


def test_the_jitter_only_lengthens_and_by_a_tenth_at_most():
    """A retry never comes earlier than the server requested."""
    assert wait(chance=1.0, retry_after="10") == 11.0
    assert wait(chance=0.5, retry_after="10") == 10.5


def test_attempts_are_bounded():
    """The last attempt's refusal is final."""
    assert wait(attempt=2) is not None
    assert wait(attempt=3) is None


def test_a_wait_that_does_not_fit_into_the_time_is_not_begun():
    """With an hour to wait, the error is raised at once."""
    assert wait(elapsed=58.0) == 2.0
    assert wait(elapsed=58.1) is None
    assert wait(retry_after="3600") is None
    assert wait(retry_after="9" * 400) is None


def test_the_exact_wait_is_kept_without_jitter():
    """The server keeps a place from that moment on; an exact wait that contradicts the header is ignored."""
    assert wait(exact=1.234, chance=1.0) == 1.234
    for odd in (0.9, 2.1, -1.0, float("nan"), float("inf")):
        assert wait(exact=odd) == 2.0
    assert wait(exact=0.3, retry_after=None) == 0.5


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"retry_after_seconds": 0.25, "other": [1]}', 0.25),
        (b'{"retry_after_seconds": 2}', 2.0),
        (b'{"retry_after_seconds": "2"}', None),
        (b'{"detail": "no"}', None),
        (b"<html>busy</html>", None),
        (b"\xff", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_body_without_the_exact_wait_is_no_fault(body, expected):
    """It may be another server's, or a proxy's."""
    assert exact_seconds(body) == expected
