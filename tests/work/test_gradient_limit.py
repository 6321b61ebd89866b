"""The adaptive limit on synthetic load."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.work.gradient_limit import Gradient


def fed(limit: Gradient, latency: float, times: int = 1) -> Gradient:
    """Feed equal samples with the whole limit in use; return the limit."""
    for _ in range(times):
        limit.sample(latency, limit.limit)
    return limit


def test_it_shrinks_when_latency_rises_and_recovers_when_it_falls() -> None:
    """The limit falls stepwise to its floor and rises again to its maximum."""
    limit = fed(Gradient(1, 16, tolerance=2), 0.005, 300)
    assert 16 == limit.limit

    seen = [fed(limit, 0.050).limit for _ in range(40)]
    assert sorted(seen, reverse=True) == seen
    assert 1 == seen[-1]

    fed(limit, 0.005, 200)
    assert 16 == limit.limit


def test_it_stays_where_it_is_while_latency_is_as_usual() -> None:
    """Latency within the tolerance, or a single slow quantum, does not lower the limit."""
    limit = fed(Gradient(1, 8, tolerance=2), 0.005, 100)

    assert 8 == fed(limit, 0.0099, 100).limit
    assert 7 <= fed(limit, 1.0).limit


def test_what_lasts_becomes_usual() -> None:
    """A lasting latency becomes the baseline, so the limit recovers."""
    limit = fed(Gradient(1, 8, tolerance=2), 0.005, 600)
    assert 1 == fed(limit, 0.050, 50).limit

    assert 8 == fed(limit, 0.050, 600).limit
    assert 0.025 <= limit.usual <= 0.050


def test_what_is_hardly_used_is_not_judged() -> None:
    """Samples with few quanta in flight do not lower the limit."""
    limit = fed(Gradient(1, 8, tolerance=1), 0.001, 100)
    for _ in range(100):
        limit.sample(1.0, 3)

    assert 8 == limit.limit


@given(
    st.integers(1, 4),
    st.integers(0, 12),
    st.lists(st.tuples(st.floats(1e-6, 1e3), st.integers(0, 20)), max_size=80),
)
def test_it_never_leaves_its_bounds(least: int, more: int, samples: list[tuple[float, int]]) -> None:
    """The limit stays within its bounds for any samples, and is deterministic."""
    limits = [Gradient(least, least + more, tolerance=1.5) for _ in range(2)]
    for latency, in_flight in samples:
        for limit in limits:
            limit.sample(latency, in_flight)
        assert least <= limits[0].limit <= least + more
        assert limits[0].limit == limits[1].limit


@pytest.mark.parametrize(
    ("least", "most", "tolerance"), [(0, 1, 2), (2, 1, 2), (1, 2, 0.5), (1, 2, float("nan"))]
)
def test_bounds_and_tolerance_make_sense(least: int, most: int, tolerance: float) -> None:
    """A minimum of 0, a maximum below the minimum and a tolerance below 1 or NaN are a ``ValueError``."""
    with pytest.raises(ValueError, match="at least"):
        Gradient(least, most, tolerance=tolerance)
