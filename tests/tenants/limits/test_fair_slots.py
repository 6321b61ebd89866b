"""FairShares: whose claim is next, what a key may hold, and the estimated wait."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from strata.tenants.limits.fair_slots import Claim, FairShares
from strata.tenants.limits.retry_after import MOST_SECONDS, RetryAfterEstimator


def enter(turns: FairShares, key: str, size: int = 1) -> Claim:
    ticket = Claim(size)
    turns.enter(ticket, key)
    return ticket


def served(turns: FairShares, held: Claim, count: int) -> list[str | None]:
    """Release ``count`` claims one after the other; return the key that is served each time."""
    order = []
    for _ in range(count):
        (held,) = turns.leave(held, 0.0)
        order.append(held.holder)
    return order


def test_a_hundred_of_one_do_not_delay_the_first_of_another() -> None:
    """Keys are served round robin, however many claims one key has queued."""
    turns = FairShares(1)
    held = enter(turns, "ana")
    for _ in range(100):
        enter(turns, "ana")
    enter(turns, "bob")
    enter(turns, "cid")

    assert ["ana", "bob", "cid", "ana"] == served(turns, held, 4)


def test_a_key_at_its_own_bound_holds_up_only_itself() -> None:
    """A key reaches ``most`` exactly, and other keys are served past its queue."""
    turns = FairShares(4, most=2)
    first, second, third = (enter(turns, "ana") for _ in range(3))
    assert ["ana", "ana", None] == [ticket.holder for ticket in (first, second, third)]

    assert "bob" == enter(turns, "bob").holder
    assert [third] == turns.leave(first, 0.0)
    assert (2, 3) == (turns.held("ana"), turns.used)
    assert "ana" == second.holder


def test_what_one_holds_leaves_a_part_to_others() -> None:
    """A key holds at most ``spare`` times what is free: three quarters of the total when alone."""
    turns = FairShares(100, spare=3)
    tickets = [enter(turns, "a") for _ in range(100)]

    assert 75 == turns.held("a")
    assert "b" == enter(turns, "b", 20).holder
    assert 25 == turns.waiting
    turns.leave(tickets[0], 0.0)
    assert 74 == turns.held("a"), "the rule holds for what is left now"


def test_one_too_large_for_all_there_is_has_its_turn_alone() -> None:
    """A claim above the total waits for all to be free and holds back later claims until then."""
    turns = FairShares(10)
    small, large, late = enter(turns, "a", 4), enter(turns, "b", 40), enter(turns, "c", 1)

    assert (None, None) == (large.holder, late.holder)
    assert [large] == turns.leave(small, 0.0)
    assert [late] == turns.leave(large, 0.0)


def test_a_ticket_of_two_comes_with_the_turn_of_either() -> None:
    """A claim queued for two keys is served at the earlier of their turns."""
    turns = FairShares(1)
    held = enter(turns, "ana")
    queue = [enter(turns, "ana") for _ in range(50)]
    turns.enter(queue[-1], "bob")

    assert [queue[0]] == turns.leave(held, 0.0)
    assert [queue[-1]] == turns.leave(queue[0], 0.0)
    assert "bob" == queue[-1].holder
    assert 48 == turns.waiting


@given(
    st.integers(1, 6),
    st.integers(0, 3),
    st.sampled_from([0, 1, 4]),
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "join", "leave", "resize"]), st.integers(0, 99), st.integers(1, 5)
        ),
        max_size=60,
    ),
)
def test_whatever_happens_nothing_leaks_and_nothing_is_over_admitted(total, most, spare, steps) -> None:
    """Use grows only within the current total, and is zero once all claims are released."""
    turns, tickets = FairShares(total, most=most, spare=spare), []
    for step, number, size in steps:
        before = turns.used
        if step == "enter":
            tickets.append(enter(turns, f"p{number % 4}", size))
        elif step == "join" and tickets and tickets[number % len(tickets)].waiting:
            turns.enter(tickets[number % len(tickets)], f"p{size}")
        elif step == "leave" and tickets:
            turns.leave(tickets.pop(number % len(tickets)), float(number))
        elif step == "resize":
            turns.resize(size, most)
        held = [ticket for ticket in tickets if ticket.holder is not None]
        assert sum(ticket.size for ticket in held) == turns.used
        assert sum(ticket.waiting for ticket in tickets) == turns.waiting
        assert turns.used <= max(before, turns.total) or len(held) == 1
        by_key = Counter(ticket.holder for ticket in held for _ in range(ticket.size))
        assert all(by_key[key] == turns.held(key) for key in by_key)
        if most and step != "resize":
            assert all(n <= most or sum(t.holder == k for t in held) == 1 for k, n in by_key.items())
    for ticket in tickets:
        turns.leave(ticket, 0.0)
        turns.leave(ticket, 0.0)
    assert (0, 0, 0) == (turns.used, turns.waiting, turns.keys)


def test_the_estimate_is_the_pace_times_the_place() -> None:
    """At two releases a second, a key whose third turn is the claim's waits 1.5 seconds."""
    turns = FairShares(1)
    held = enter(turns, "ana")
    assert turns.wait_of("ana", 0.0) is None
    for _ in range(6):
        enter(turns, "ana")
    for now in range(1, 5):
        (held,) = turns.leave(held, now / 2)
    assert (1.5, 0.5) == turns.wait_of("ana", 2.5)


def test_a_promise_is_never_zero_and_never_beyond_a_minute() -> None:
    """Promised seconds grow with the queue from 1 to ``MOST_SECONDS``."""
    estimator = RetryAfterEstimator()
    asked = [estimator.seconds(0.0, 0.2, 0.5) for _ in range(500)]

    assert (1, MOST_SECONDS) == (asked[0], asked[-1])
    assert asked == sorted(asked)


def test_the_pace_is_that_of_the_last_minute() -> None:
    """The interval is measured over the last minute; older releases do not count."""
    estimator = RetryAfterEstimator()
    estimator.released(0.0, "ana")
    estimator.released(2.0, "bob")

    assert (2.0, 4.0) == (estimator.interval(4.0), estimator.interval(4.0, "ana"))
    assert estimator.interval(100.0) is None
