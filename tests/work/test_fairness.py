"""Fairness figures: Jain's index and the window of served bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.work.fairness import BUCKETS, WINDOW_SECONDS, Served, jain_index


@pytest.mark.parametrize(
    ("values", "index"),
    [([], 1.0), ([0, 0], 1.0), ([5], 1.0), ([3, 3, 3], 1.0), ([1, 0, 0, 0], 0.25), ([2, 1], 0.9)],
)
def test_jains_index(values: list[float], index: float) -> None:
    """Equal parts are 1; everything to one of n is 1/n."""
    assert index == jain_index(values)


@given(st.lists(st.integers(0, 10**15), min_size=1))
def test_an_index_is_between_one_nth_and_one(values: list[int]) -> None:
    """Jain's index is between 1/n and 1 for any parts."""
    assert 1 / len(values) - 1e-9 <= jain_index(values) <= 1 + 1e-9


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.floats(0, 50)), max_size=60))
def test_a_window_forgets_what_is_older(steps: list[tuple[str, int, float]]) -> None:
    """The window keeps the last minute and at most one bucket more, and frees what is older."""
    served, now, noted = Served(), 0.0, []
    for key, amount, pause in steps:
        now += pause
        served.add(key, amount, now)
        noted.append((key, amount, now))
        totals = served.totals(now)
        width = WINDOW_SECONDS / BUCKETS
        for one in "ab":
            least = sum(n for k, n, at in noted if k == one and now - at <= WINDOW_SECONDS - width)
            most = sum(n for k, n, at in noted if k == one and now - at <= WINDOW_SECONDS)
            assert least <= totals[one] <= most
        assert len(served._buckets) <= BUCKETS

    assert not served.totals(now + 2 * WINDOW_SECONDS)
