"""The bounded cache of parsed files."""

from __future__ import annotations

from strata.tables.files.lru import WeightedLru


def test_the_least_recently_used_entry_leaves_first():
    """Reading counts as use."""
    cache: WeightedLru[str, int] = WeightedLru(3)
    for key in "abc":
        cache.put(key, ord(key), 1)
    assert ord("a") == cache.get("a")
    cache.put("d", 0, 1)
    assert cache.get("b") is None
    assert [97, 99, 0] == [cache.get(key) for key in "acd"]


def test_the_weights_never_pass_the_budget():
    """Also when an entry is replaced by a heavier one."""
    cache: WeightedLru[str, int] = WeightedLru(10)
    for key, weight in [("a", 4), ("b", 4), ("a", 9), ("c", 1), ("c", 10)]:
        cache.put(key, weight, weight)
        assert cache._entries.currsize <= 10
    assert (None, None, 10) == (cache.get("a"), cache.get("b"), cache.get("c"))


def test_an_entry_over_the_whole_budget_is_not_kept():
    """It is not stored and evicts nothing."""
    cache: WeightedLru[str, int] = WeightedLru(10)
    cache.put("a", 1, 5)
    cache.put("b", 2, 11)
    assert (1, None) == (cache.get("a"), cache.get("b"))
    cache.put("a", 3, 11)
    assert cache.get("a") is None
    assert 0 == cache._entries.currsize
