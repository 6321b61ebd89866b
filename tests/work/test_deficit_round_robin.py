"""The deficit round robin, compared with a model that loops through the rounds."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from fair_bounds import owes_nothing
from hypothesis import given
from hypothesis import strategies as st

from strata.work.deficit_round_robin import QUANTUM_BYTES, DeficitRoundRobin

WEIGHTS = {"a": 1.0, "b": 1.0, "c": 0.25, "d": 3.0, "e": 0.9}
KEYS = st.sampled_from(sorted(WEIGHTS))
COSTS = st.sampled_from([1, 65536, QUANTUM_BYTES // 3, QUANTUM_BYTES, 5 * QUANTUM_BYTES])
STEPS = st.one_of(
    st.tuples(st.just("join"), KEYS),
    st.tuples(st.just("join"), KEYS),
    st.tuples(st.just("leave"), KEYS),
    st.tuples(st.just("turn"), COSTS),
    st.tuples(st.just("turn"), COSTS),
    st.tuples(st.just("charge"), KEYS, COSTS, st.sampled_from([1, -1])),
)


@attrs.define
class Model:
    """Deficit round robin as published: lists, and a loop over every flow for each round."""

    ring: list[str] = attrs.field(factory=list)
    spent: list[str] = attrs.field(factory=list)
    credit: dict[str, int] = attrs.field(factory=dict)
    waiting: set[str] = attrs.field(factory=set)

    @staticmethod
    def grant(key: str) -> int:
        return round(QUANTUM_BYTES * WEIGHTS[key])

    def join(self, key: str) -> None:
        if key in self.waiting:
            return
        self.waiting.add(key)
        if self.credit.setdefault(key, self.grant(key)) > 0:
            self.ring.append(key)
        else:
            self.spent.append(key)

    def leave(self, key: str) -> None:
        self.waiting.discard(key)
        self.ring = [one for one in self.ring if one != key]
        self.spent = [one for one in self.spent if one != key]

    def turn(self, cost: int) -> str:
        while not self.ring:
            self.credit = {key: left for key, left in self.credit.items() if left <= 0}
            for key in self.credit:
                self.credit[key] += self.grant(key)
            self.ring = [key for key in self.spent if self.credit[key] > 0]
            self.spent = [key for key in self.spent if self.credit[key] <= 0]
        key = self.ring.pop(0)
        self.credit[key] -= cost
        (self.ring if self.credit[key] > 0 else self.spent).append(key)
        return key

    def charge(self, key: str, cost: int) -> None:
        owed = self.owed(key)
        self.credit[key] = min(self.credit[key] - cost, self.grant(key))
        if key in self.waiting and owed != self.owed(key):  # else it keeps its place
            self.leave(key)
            self.waiting.add(key)
            (self.ring if self.credit[key] > 0 else self.spent).append(key)

    def owed(self, key: str) -> int:
        """Return the rounds until there is credit."""
        left = self.credit[key]
        return 0 if left > 0 else -left // self.grant(key) + 1


@given(st.lists(STEPS, max_size=60))
def test_turns_are_those_of_the_textbooks_loop(steps: list[tuple[Any, ...]]) -> None:
    """The heap of rounds serves in the same order as the model's loop."""
    turns, model = DeficitRoundRobin[str](), Model()
    for step in steps:
        match step:
            case ("join", key):
                turns.join(key, WEIGHTS[key])
                model.join(key)
            case ("leave", key) if key in model.waiting:
                turns.leave(key)
                model.leave(key)
            case ("turn", cost) if model.waiting:
                expected = model.turn(cost)
                key = turns.next()
                turns.take(key, cost)
                assert expected == key
            case ("charge", key, cost, sign) if key in model.credit:
                turns.charge(key, sign * cost)
                model.charge(key, sign * cost)
        assert len(model.waiting) == len(turns)
        for key in model.waiting:
            assert (key in model.ring) == owes_nothing(turns, key)


@given(st.integers(1, 6), COSTS, COSTS)
def test_a_newcomer_waits_for_one_turn_of_each_other(others: int, cost: int, mine: int) -> None:
    """A new flow waits for one turn of each other flow, whatever the turns cost."""
    turns = DeficitRoundRobin[str]()
    for index in range(others):
        turns.join(f"other-{index}")
    for _ in range(50):
        turns.take(turns.next(), cost)
    turns.join("me")

    before = 0
    while (key := turns.next()) != "me":
        turns.take(key, mine)
        before += 1

    assert before <= others


def test_who_leaves_and_comes_back_still_owes() -> None:
    """A flow whose queue runs empty between two quanta keeps its debt."""
    turns = DeficitRoundRobin[str]()
    turns.join("honest")
    turns.join("hopping")
    served = dict.fromkeys(["honest", "hopping"], 0)
    for _ in range(300):
        key = turns.next()
        cost = {"honest": QUANTUM_BYTES // 4, "hopping": 4 * QUANTUM_BYTES}[key]
        turns.take(key, cost)
        served[key] += cost
        if key == "hopping":
            turns.leave(key)
            turns.join(key)

    assert abs(served["honest"] - served["hopping"]) <= 5 * QUANTUM_BYTES


def test_what_is_forgotten_is_what_nobody_waits_for() -> None:
    """After ten thousand flows have left, the round is as small as one of the flows that stayed."""
    turns = DeficitRoundRobin[int]()
    turns.join(-1)
    for key in range(10_000):
        turns.join(key)
        for _ in range(2):
            turns.take(turns.next(), QUANTUM_BYTES)
        turns.leave(key)

    assert len(turns._accounts) < 300
    assert len(turns._heap) < 300


@pytest.mark.parametrize("weight", [0, -1.0, float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    """A weight of zero, below zero or NaN is a ``ValueError``."""
    with pytest.raises(ValueError, match="a weight is above zero"):
        DeficitRoundRobin[str]().join("a", weight)
