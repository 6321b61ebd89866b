"""The tarpit holds a few refusals of each tenant, within the connections there are."""

from strata.http.door.tarpit import Tarpit


def test_a_tenant_has_as_many_places_as_it_leaves_to_others() -> None:
    """A tenant alone gets half of the places, the next one half of the rest."""
    tarpit, places = Tarpit(8), []

    def hold(tenant: str) -> bool:
        place = tarpit.place(tenant)
        places.append(place)
        return place.__enter__()

    assert [True] * 4 + [False] * 4 == [hold("a") for _ in range(8)]
    assert [True, True, False] == [hold("b") for _ in range(3)]
    assert hold("c")
    assert 7 == tarpit.held
    for place in places:
        place.__exit__(None, None, None)
    assert 0 == tarpit.held


def test_a_server_that_holds_nothing_up_has_no_places() -> None:
    """A tarpit without places refuses at once."""
    with Tarpit(0).place("a") as held:
        assert not held
