"""Which connections are admitted, and which idle one is closed for a new one."""

from hypothesis import given
from hypothesis import strategies as st

from strata.http.serving.connection_table import ConnectionTable


def test_the_longest_idle_connection_makes_room() -> None:
    """In a full table a new connection closes the one idle for longest."""
    crowd: ConnectionTable[int] = ConnectionTable(3)
    for member in (1, 2, 3):
        assert (True, None) == crowd.enter(member, "a")
        crowd.note(member, idle=True)
    crowd.note(1, idle=False)
    assert (True, 2) == crowd.enter(4, "b")
    crowd.note(4, idle=False)
    crowd.note(1, idle=True)
    assert (True, 3) == crowd.enter(5, "b")
    crowd.note(5, idle=True)
    assert (True, 1) == crowd.enter(6, "b")


def test_strangers_go_before_the_proxys_idle_connections() -> None:
    """Connections of unknown clients are closed before idle connections of known ones."""
    crowd: ConnectionTable[int] = ConnectionTable(3)
    for member in (1, 2, 3):
        crowd.enter(member, "a")
    crowd.note(1, idle=True, known=True)
    assert [(True, 2), (True, 3), (True, 4), (True, 5)] == [crowd.enter(new, "b") for new in (4, 5, 6, 7)]


def test_who_is_found_when_the_system_has_no_room() -> None:
    """An idle connection is found even in a table that is not full."""
    crowd: ConnectionTable[int] = ConnectionTable(100)
    for member in (1, 2):
        crowd.enter(member, "a")
    crowd.note(1, idle=False)
    assert [2, None] == [crowd.make_room(), crowd.make_room()]
    assert 1 == len(crowd)


def test_who_is_busy_is_never_sent_away() -> None:
    """With a request on every connection a new one is refused."""
    crowd: ConnectionTable[int] = ConnectionTable(2)
    for member in (1, 2):
        crowd.enter(member, "a")
        crowd.note(member, idle=False)
    assert (False, None) == crowd.enter(3, "b")
    crowd.leave(1)
    assert (True, None) == crowd.enter(3, "b")


def test_a_peer_with_a_bound_makes_room_among_its_own() -> None:
    """A peer at its bound closes a connection of its own only."""
    crowd: ConnectionTable[int] = ConnectionTable(100, 2)
    for member, peer in ((1, "a"), (2, "b"), (3, "a")):
        assert (True, None) == crowd.enter(member, peer)
    assert (True, 1) == crowd.enter(4, "a")
    crowd.note(3, idle=False)
    crowd.note(4, idle=False)
    assert (False, None) == crowd.enter(5, "a")
    assert (True, None) == crowd.enter(6, "b")


def test_who_was_sent_away_is_not_counted_again_when_it_ends() -> None:
    """A closed connection whose task still runs is counted out once."""
    crowd: ConnectionTable[int] = ConnectionTable(1)
    crowd.enter(1, "a")
    assert (True, 1) == crowd.enter(2, "a")
    crowd.note(1, idle=True)
    crowd.leave(1)
    crowd.leave(1)
    assert (1, 1) == (len(crowd), crowd.idle)


@given(
    st.integers(1, 6),
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from(["enter", "leave", "busy", "idle"]), st.integers(0, 12)), max_size=80),
)
def test_there_are_never_more_than_there_may_be(most: int, per_peer: int, steps) -> None:
    """The bound holds in any order, and a refusal means that no connection was idle."""
    crowd: ConnectionTable[int] = ConnectionTable(most, per_peer)
    model: dict[int, bool] = {}
    for what, member in steps:
        peer = str(member % 3)
        own = [one for one in model if one % 3 == member % 3]
        if what == "enter" and member not in model:
            welcome, leaver = crowd.enter(member, peer)
            if leaver is not None:
                assert model.pop(leaver)
            if welcome:
                model[member] = True
            else:
                full_own = bool(per_peer) and len(own) >= per_peer
                assert not any(model[one] for one in (own if full_own else model))
        elif what == "leave":
            model.pop(member, None)
            crowd.leave(member)
        elif what in {"busy", "idle"}:
            if member in model:
                model[member] = what == "idle"
            crowd.note(member, idle=what == "idle")
        assert len(model) == len(crowd) <= most
        assert sum(model.values()) == crowd.idle
        if per_peer:
            assert all(sum(one % 3 == peer for one in model) <= per_peer for peer in range(3))
