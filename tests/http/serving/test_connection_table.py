"""The table of connections: which are accepted, and which are closed for new ones."""

from hypothesis import given
from hypothesis import strategies as st

from strata.http.serving.connection_table import ConnectionTable


def test_the_longest_idle_connection_makes_room() -> None:
    """Of those whose clients are known."""
    table: ConnectionTable[int] = ConnectionTable(3)
    for member in (1, 2, 3):
        assert (True, None) == table.enter(member, "a")
        table.note(member, idle=True)
    table.note(1, idle=False)
    assert (True, 2) == table.enter(4, "b")
    table.note(4, idle=False)
    table.note(1, idle=True)
    assert (True, 3) == table.enter(5, "b")
    table.note(5, idle=True)
    assert (True, 1) == table.enter(6, "b")


def test_strangers_go_before_the_proxys_idle_connections() -> None:
    """However long those have been idle: clients that only connect push out connections like their own."""
    table: ConnectionTable[int] = ConnectionTable(3)
    for member in (1, 2, 3):
        table.enter(member, "a")
    table.note(1, idle=True, known=True)
    assert [(True, 2), (True, 3), (True, 4), (True, 5)] == [table.enter(new, "b") for new in (4, 5, 6, 7)]


def test_an_idle_connection_is_found_when_the_system_has_no_room() -> None:
    """Long before there are too many."""
    table: ConnectionTable[int] = ConnectionTable(100)
    for member in (1, 2):
        table.enter(member, "a")
    table.note(1, idle=False)
    assert [2, None] == [table.make_room(), table.make_room()]
    assert 1 == len(table)


def test_a_busy_connection_is_never_closed_for_another() -> None:
    """When every connection has a request, the new one is refused."""
    table: ConnectionTable[int] = ConnectionTable(2)
    for member in (1, 2):
        table.enter(member, "a")
        table.note(member, idle=False)
    assert (False, None) == table.enter(3, "b")
    table.leave(1)
    assert (True, None) == table.enter(3, "b")


def test_a_peer_with_a_bound_makes_room_among_its_own() -> None:
    """One address never costs another its connection."""
    table: ConnectionTable[int] = ConnectionTable(100, 2)
    for member, peer in ((1, "a"), (2, "b"), (3, "a")):
        assert (True, None) == table.enter(member, peer)
    assert (True, 1) == table.enter(4, "a")
    table.note(3, idle=False)
    table.note(4, idle=False)
    assert (False, None) == table.enter(5, "a")
    assert (True, None) == table.enter(6, "b")


def test_who_was_sent_away_is_not_counted_again_when_it_ends() -> None:
    """Its task still runs for a moment."""
    table: ConnectionTable[int] = ConnectionTable(1)
    table.enter(1, "a")
    assert (True, 1) == table.enter(2, "a")
    table.note(1, idle=True)
    table.leave(1)
    table.leave(1)
    assert (1, 1) == (len(table), table.idle)


@given(
    st.integers(1, 6),
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from(["enter", "leave", "busy", "idle"]), st.integers(0, 12)), max_size=80),
)
def test_there_are_never_more_than_there_may_be(most: int, per_peer: int, steps) -> None:
    """Whatever comes and goes; and a refusal means that no idle connection could have been closed instead."""
    table: ConnectionTable[int] = ConnectionTable(most, per_peer)
    model: dict[int, bool] = {}
    for what, member in steps:
        peer = str(member % 3)
        own = [one for one in model if one % 3 == member % 3]
        if what == "enter" and member not in model:
            welcome, leaver = table.enter(member, peer)
            if leaver is not None:
                assert model.pop(leaver)
            if welcome:
                model[member] = True
            else:
                full_own = bool(per_peer) and len(own) >= per_peer
                assert not any(model[one] for one in (own if full_own else model))
        elif what == "leave":
            model.pop(member, None)
            table.leave(member)
        elif what in {"busy", "idle"}:
            if member in model:
                model[member] = what == "idle"
            table.note(member, idle=what == "idle")
        assert len(model) == len(table) <= most
        assert sum(model.values()) == table.idle
        if per_peer:
            assert all(sum(one % 3 == peer for one in model) <= per_peer for peer in range(3))
