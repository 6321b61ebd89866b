"""Which results go, decided without a store; and which are in use."""

import trio
from hypothesis import given
from hypothesis import strategies as st

from strata.artifacts.retention.contract import Unused, Usage
from strata.tenants.retention.collector import Aim
from strata.tenants.stats.recent_uses import MOST_NOTED, RecentUses

RESULTS = st.lists(st.tuples(st.integers(0, 100), st.integers(1, 50)), max_size=20).map(
    lambda found: [Unused(float(at), f"{n:032}", 1, size) for n, (at, size) in enumerate(sorted(found))]
)


@given(
    RESULTS,
    st.integers(0, 60),
    st.none() | st.integers(0, 120),
    st.none() | st.integers(0, 400),
    st.none() | st.integers(0, 15),
    st.integers(0, 100),
)
def test_results_go_in_the_order_of_their_use_and_no_more_than_needed(  # noqa: PLR0917  # Hypothesis gives them
    page: list[Unused], least: int, most: int | None, size: int | None, count: int | None, held: int
) -> None:
    """What goes is the beginning of the page; each was idle, and needed to go; the next one was not."""
    aim, now = Aim(float(least), None if most is None else float(most), size, count), 100.0
    kept = Usage(held + sum(one.nbytes for one in page), len(page))
    chosen = aim.choose(page, kept, now)
    assert tuple(page[: len(chosen)]) == chosen

    def goes(index: int) -> bool:
        left = Usage(kept.stored_bytes - sum(one.nbytes for one in page[:index]), kept.versions - index)
        idle = now - page[index].used_at
        over = (size is not None and left.stored_bytes > size) or (
            count is not None and left.versions > count
        )
        return idle > least and (over or (most is not None and idle > most))

    assert all(goes(index) for index in range(len(chosen)))
    assert len(chosen) == len(page) or not goes(len(chosen))


def test_a_use_is_forgotten_only_if_the_store_was_told_of_it() -> None:
    """A use after the store was asked to note the ones before stays noted."""
    uses = RecentUses()
    uses.note("t", ("a", 1))
    uses.note("t", ("b", 1))
    told = uses.noted("t")
    uses.note("t", ("a", 1))
    uses.told("t", told)
    assert (True, False) == (uses.in_use("t", ("a", 1)), uses.in_use("t", ("b", 1)))
    assert not uses.in_use("u", ("a", 1))
    assert ("t",) == uses.tenants()
    uses.told("t", uses.noted("t"))
    assert () == uses.tenants()


def test_an_open_reader_is_a_use_until_it_closes_and_noted_then() -> None:
    """Two readers of one result are counted; the last one's end is a use."""
    uses = RecentUses()
    first, second = uses.open("t", ("a", 1)), uses.open("t", ("a", 1))
    uses.told("t", uses.noted("t"))
    first()
    uses.told("t", uses.noted("t"))
    assert uses.in_use("t", ("a", 1))
    second()
    assert uses.in_use("t", ("a", 1))
    uses.told("t", uses.noted("t"))
    assert not uses.in_use("t", ("a", 1))


async def test_a_claim_ends_with_its_block() -> None:
    """Who waits for a claimed result is woken, and other tenants' results are not claimed."""
    uses = RecentUses()
    with uses.claiming("t", [("a", 1)]):
        event = uses.claimed("t", ("a", 1))
        assert isinstance(event, trio.Event)
        assert None is uses.claimed("u", ("a", 1))
        assert not event.is_set()
    assert event.is_set()
    assert None is uses.claimed("t", ("a", 1))


def test_many_uses_are_told_early() -> None:
    """What is noted in memory is bounded: beyond, the store is told at once."""
    uses = RecentUses()
    for number in range(MOST_NOTED):
        uses.note("t", (f"{number}", 1))
    assert not uses.full.is_set()
    uses.note("t", ("one more", 1))
    assert uses.full.is_set()
