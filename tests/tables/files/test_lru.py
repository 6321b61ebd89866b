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


def test_a_smaller_budget_and_a_heavier_entry_make_others_leave():
    """The weights stay within the budget when either changes; the entry that changed counts as used."""
    cache: WeightedLru[str, int] = WeightedLru(10)
    for key in "abc":
        cache.put(key, ord(key), 3)
    cache.reweigh("a", 6)
    assert [97, None, 99] == [cache.get(key) for key in "abc"]
    cache.reweigh("x", 6)
    cache.resize(5)
    assert (5, 3) == (cache.budget, cache.weight)
    cache.reweigh("c", 6)
    assert 0 == cache.weight


def test_the_weight_of_all_entries_is_reported_after_each_put():
    """A cache inside of an entry of another cache is weighed there."""
    cache: WeightedLru[str, int] = WeightedLru(10)
    seen: list[int] = []
    cache.changed = seen.append
    for key, weight in (("a", 4), ("b", 5), ("c", 3), ("d", 11)):
        cache.put(key, 0, weight)
    assert [4, 9, 8, 8] == seen


def test_every_value_that_leaves_is_reported_once():
    """A value may have to be taken apart when it leaves: for another, for a smaller budget, or as too heavy."""
    cache: WeightedLru[str, str] = WeightedLru(10)
    left: list[str] = []
    cache.gone = left.append
    for key, value, weight in (
        ("a", "a1", 4),
        ("b", "b1", 4),
        ("c", "c1", 4),
        ("b", "b2", 4),
        ("c", "c1", 5),
    ):
        cache.put(key, value, weight)
    assert ["a1", "b1"] == left
    cache.reweigh("b", 5)
    cache.put("x", "x1", 11)
    cache.reweigh("b", 11)
    cache.resize(0)
    assert ["a1", "b1", "x1", "b2", "c1"] == left
