"""The fair queue alone, without clock or threads."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from strata.work import FairQueue, QueueEntry, Tier
from strata.work.deficit_round_robin import QUANTUM_BYTES
from strata.work.fair import BULK_FLOOR

FLOWS = st.sampled_from("abcd")
TICKETS = st.builds(QueueEntry, FLOWS, st.sampled_from(Tier), st.integers(1, 3 * QUANTUM_BYTES))


def drain(queue: FairQueue) -> list[QueueEntry]:
    return [ticket for _ in range(len(queue)) if (ticket := queue.pop())]


@given(st.lists(TICKETS, max_size=40))
def test_everything_pushed_comes_out_once_and_in_its_flows_order(tickets: list[QueueEntry]) -> None:
    """Nothing is lost, and a flow's entries keep their order."""
    queue = FairQueue()
    for ticket in tickets:
        queue.push(ticket)

    out = drain(queue)

    for flow in "abcd":
        for tier in Tier:
            mine = [t for t in tickets if (t.flow, t.tier) == (flow, tier)]
            assert mine == [t for t in out if (t.flow, t.tier) == (flow, tier)]
    assert queue.pop() is None


@given(st.integers(1, 200), st.integers(2, 5))
def test_a_tenants_thousand_row_groups_delay_another_by_one_turn_each(many: int, tenants: int) -> None:
    """With equal quanta, a new tenant waits for at most one quantum of every other tenant."""
    queue = FairQueue()
    for other in range(1, tenants):
        for _ in range(many):
            queue.push(QueueEntry(f"t{other}", Tier.INTERACTIVE, QUANTUM_BYTES))
    mine = QueueEntry("me", Tier.INTERACTIVE, QUANTUM_BYTES)
    queue.push(mine)

    assert drain(queue).index(mine) <= tenants - 1


def test_turns_are_shared_by_bytes_not_by_count() -> None:
    """Flows are served equal bytes, whatever the size of their quanta."""
    queue = FairQueue()
    for _ in range(100):
        queue.push(QueueEntry("large", Tier.BULK, QUANTUM_BYTES))
    for _ in range(400):
        queue.push(QueueEntry("small", Tier.BULK, QUANTUM_BYTES // 4))

    first = Counter(queue.pop().flow for _ in range(100))  # type: ignore[union-attr]  # 500 are queued

    assert (20, 80) == (first["large"], first["small"])


def test_interactive_goes_first_and_bulk_keeps_its_floor() -> None:
    """While both tiers wait, one turn of four is bulk."""
    queue = FairQueue()
    for _ in range(30):
        queue.push(QueueEntry("a", Tier.INTERACTIVE, 1))
        queue.push(QueueEntry("b", Tier.BULK, 1))

    order = [queue.pop().tier for _ in range(40)]  # type: ignore[union-attr]  # 60 are queued

    assert Tier.INTERACTIVE is order[0]
    assert 40 // BULK_FLOOR == order.count(Tier.BULK)


@given(st.lists(TICKETS, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_a_removed_ticket_never_gets_a_turn(tickets: list[QueueEntry], random) -> None:
    """A removed entry leaves at once, and only once."""
    queue = FairQueue()
    for ticket in tickets:
        queue.push(ticket)
    gone = random.choice(tickets)

    assert (True, False) == (queue.remove(gone), queue.remove(gone))
    assert gone not in drain(queue)
