"""Failed authentication is limited by peer address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.http.door.auth_failures import FailureLimit
from strata.tenants.limits.token_bucket import Rate


def test_after_the_burst_a_peer_waits_as_long_as_it_is_told() -> None:
    """A peer is admitted after Retry-After and refused one second earlier."""
    limit = FailureLimit(Rate(0.5, 3))
    assert [None] * 3 == [limit.fail("a", 100.0) for _ in range(3)]
    wait = limit.fail("a", 100.0)
    assert 2.0 == wait
    assert limit.fail("a", 101.0) == pytest.approx(1.0)
    assert limit.fail("a", 102.0) is None
    assert limit.fail("a", 102.0) is not None


def test_one_peers_failures_are_no_other_peers() -> None:
    """Each peer has its own bucket."""
    limit = FailureLimit(Rate(1, 1))
    assert limit.fail("a", 0.0) is None
    assert limit.fail("a", 0.0) is not None
    assert limit.fail("b", 0.0) is None


def test_no_more_peers_are_remembered_than_there_is_room_for() -> None:
    """The peer whose last failure is oldest is forgotten first."""
    limit = FailureLimit(Rate(1, 1), peers=3)
    for peer in "abcabcad":
        limit.fail(peer, 0.0)
    assert 3 == len(limit._buckets)
    assert limit.fail("a", 0.0) is not None


def test_forgetting_an_address_gives_nobody_a_fresh_burst() -> None:
    """Ten thousand addresses get no more failures than the remembered ones together."""
    limit = FailureLimit(Rate(1, 2), peers=4)
    assert 4 * 2 == sum(limit.fail(f"peer-{i % 10_000}", 0.0) is None for i in range(30_000))


@given(
    st.floats(0.1, 10),
    st.integers(1, 20),
    st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=100),
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    """Over any period and rhythm, failures stay within burst and rate."""
    limit, now, let_through = FailureLimit(Rate(rate, burst)), 0.0, 0
    for pause in pauses:
        now += pause
        let_through += limit.fail("a", now) is None
    assert let_through <= burst + rate * now + 1e-6
    assert let_through >= 1
