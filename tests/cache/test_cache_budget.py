"""The shared budget of the caches: pure decisions, compared with its documented rules."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from strata.cache import CacheBudget

TENANTS = st.sampled_from("abcdefg")
BYTES = st.integers(0, 150)


def live(budget: CacheBudget, **wanted: int) -> None:
    for key, nbytes in wanted.items():
        budget.enter(key)
        budget.claim(key, nbytes)


def test_without_a_shortage_each_tenant_is_granted_what_it_claims() -> None:
    """Without a shortage each tenant is granted what it claims, and no tenant is cut."""
    budget = CacheBudget(100, guarantee=10)
    live(budget, a=70, b=20)

    assert [("a", 70), ("b", 20)] == list(budget._granted.items())


def test_a_tenant_over_its_share_gives_first_and_no_further_than_to_an_equal_one() -> None:
    """A tenant within its share keeps all, whatever others claim."""
    budget = CacheBudget(100, guarantee=10)
    live(budget, a=80, b=20)
    budget.enter("c")

    cuts = budget.claim("c", 1000)

    assert {"a": 40} == cuts.live
    assert [("a", 40), ("b", 20), ("c", 40)] == sorted(budget._granted.items())
    assert {} == budget.claim("a", 1000).live


def test_tenants_that_are_gone_give_before_those_that_are_there() -> None:
    """Tenants that are not live are cut first, least recently used first, and no more than needed."""
    budget = CacheBudget(100, guarantee=10)
    live(budget, a=40)
    budget.found("old", 30, 1)
    budget.found("new", 30, 2)

    cuts = budget.claim("a", 75)

    assert ({}, {"old": 0, "new": 25}) == (cuts.live, cuts.gone)
    assert 100 == budget.held


def test_what_was_left_behind_beyond_the_total_goes() -> None:
    """Bytes over a total that was lowered while the server was down are cut when they are found."""
    budget = CacheBudget(100, guarantee=10)
    assert {} == budget.found("x", 90, 2).gone

    assert {"w": 0, "x": 70} == budget.found("w", 10, 1).gone | budget.found("y", 30, 3).gone


def test_more_tenants_than_the_guarantee_is_for_leave_it_to_those_used_last() -> None:
    """With room for ten guarantees, the eleventh tenant takes the bytes of the least recently used."""
    budget = CacheBudget(100, guarantee=10)
    for number in range(10):
        live(budget, **{f"t{number}": 10})
    budget.touch("t0")
    budget.enter("late")

    cuts = budget.claim("late", 10)

    assert {"t1": 0} == cuts.live
    assert (10, 10, 0) == (budget.granted("late"), budget.granted("t0"), budget.granted("t1"))


def test_one_that_comes_back_has_what_it_left() -> None:
    """Its bytes are not counted twice, even when its directory is found late."""
    budget = CacheBudget(100, guarantee=10)
    live(budget, a=40)
    budget.leave("a", 35, 1)
    budget.enter("a")
    budget.found("a", 35, 1)

    assert (35, 35) == (budget.granted("a"), budget.held)


def test_a_start_costs_the_same_however_many_there_are() -> None:
    """10,000 tenants that enter one after the other cut and visit no other tenant."""
    budget = CacheBudget(10**9, guarantee=1)
    for number in range(10_000):
        budget.enter(f"t{number}")
        assert {} == budget.claim(f"t{number}", 100).live
    assert len(budget._largest._heap) <= 2 * 10_000 + 16


class Budget(RuleBasedStateMachine):
    """Invariants: never more than the total; the guarantee holds; a tenant within its share keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = CacheBudget(100, guarantee=20)
        self.here: list[str] = []  # the longest unused first
        self.moment = 0

    def used(self, key: str) -> None:
        self.here.remove(key)
        self.here.append(key)

    @rule(key=TENANTS)
    def enter(self, key) -> None:
        self.budget.enter(key)
        if key not in self.here:
            self.here.append(key)

    @precondition(lambda self: self.here)
    @rule(data=st.data(), wanted=BYTES)
    def claim(self, data, wanted) -> None:
        key = data.draw(st.sampled_from(self.here))
        before = dict(self.budget._granted.items())
        gone = dict(self.budget._gone.items())
        cuts = self.budget.claim(key, wanted)
        after = dict(self.budget._granted.items())
        if wanted > before.get(key, 0):
            self.used(key)
        got = after.get(key, 0)
        assert before.get(key, 0) <= got <= max(before.get(key, 0), min(wanted, 100))
        assert got >= min(wanted, 20), "the guarantee is never refused"
        assert key not in cuts.live
        holders = [one for one in self.here if before.get(one)]
        safe = [one for one in holders if one != key][
            -4:
        ]  # of five that the guarantee is for, the asker is one
        for other, have in before.items():
            if other != key and after.get(other, 0) < have:
                assert not list(self.budget._gone.items()), "tenants that are not live are cut first"
                assert after.get(other, 0) == cuts.live[other]
                if other in safe:
                    assert after.get(other, 0) >= 20, "the guarantee is never taken"
                    assert after.get(other, 0) >= 100 // len({*holders, key}), "nor what is within its share"
        assert all(left < gone[other] for other, left in cuts.gone.items())

    @precondition(lambda self: self.here)
    @rule(data=st.data(), to=BYTES)
    def release(self, data, to) -> None:
        key = data.draw(st.sampled_from(self.here))
        before = self.budget.granted(key)
        self.budget.release(key, to)
        assert min(before, to) == self.budget.granted(key)

    @precondition(lambda self: self.here)
    @rule(data=st.data(), share=st.integers(0, 100))
    def leave(self, data, share) -> None:
        key = data.draw(st.sampled_from(self.here))
        self.here.remove(key)
        self.moment += 1
        left = self.budget.granted(key) * share // 100
        self.budget.leave(key, left, self.moment)
        assert left == dict(self.budget._gone.items()).get(key, 0)

    @rule(key=TENANTS, nbytes=BYTES, moment=st.integers(-5, 5))
    def found(self, key, nbytes, moment) -> None:
        self.budget.found(key, nbytes, moment)

    @rule(key=TENANTS, nbytes=BYTES)
    def shrunk(self, key, nbytes) -> None:
        before = dict(self.budget._gone.items()).get(key, 0)
        self.budget.shrunk(key, nbytes)
        assert min(before, nbytes) == dict(self.budget._gone.items()).get(key, 0)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def touch(self, data) -> None:
        key = data.draw(st.sampled_from(self.here))
        self.budget.touch(key)
        if self.budget.granted(key):
            self.used(key)

    @invariant()
    def never_more_than_the_total(self) -> None:
        live, gone = dict(self.budget._granted.items()), dict(self.budget._gone.items())
        assert not set(live) & set(gone)
        assert sum(live.values()) + sum(gone.values()) == self.budget.held <= 100
        assert set(live) <= set(self.here)
        assert all(live.values())
        assert all(gone.values())


TestBudget = Budget.TestCase
TestBudget.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
