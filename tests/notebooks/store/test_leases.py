"""Leases of sessions, on SQLite, on PostgreSQL and on the twin in memory: never two owners that both write."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
from memory_notebooks import MemoryNotebookStore
from postgres_kit import new_store

from strata.artifacts import Act, SqlMetadataStore
from strata.notebooks.model.notebook import Access
from strata.notebooks.store.contract import (
    NOTEBOOK_NOT_FOUND,
    Draft,
    NotebookRecord,
    NotebookStore,
    ResultRow,
)
from strata.notebooks.store.leases import ELSEWHERE, MOVED, Adoption, EventsRow
from strata.notebooks.store.sql_leases import SqlSessionLeases
from strata.notebooks.store.sql_store import SqlNotebookStore
from strata.outcomes import Refused

SECONDS = 10.0
Server = Callable[[str], NotebookStore]


@attrs.define
class World:
    """A database, its clock, and the servers that use it, whose own clocks run alike."""

    server: Server
    now: float = 1000.0
    set: float = 0.0


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    found = World(server=lambda _owner: None)

    def own() -> float:
        return found.now

    def clock() -> float:
        return found.now + found.set

    if request.param == "memory":
        first = MemoryNotebookStore(own, "", SECONDS, alone=False)
        found.server = first.beside
        yield found
        return
    if request.param == "sqlite":
        metadata = SqlMetadataStore(tmp_path / "metadata.db", clock)
    else:
        metadata = new_store(request.getfixturevalue("postgresql"), clock)
    found.server = lambda owner: SqlNotebookStore(
        metadata.transactions, clock, owner=owner, lease_seconds=SECONDS, alone=False, monotonic=own
    )
    yield found
    metadata.close()


def act(name: str = "n") -> Act:
    return Act(tenant="t", principal="ana", principal_tenant="t", action="edit", request_id="r", new=name)


def create(store: NotebookStore, tenant: str = "t") -> None:
    store.create(
        tenant, "n", Access.TENANT, Draft(title="N", author="ana", content="{}", analysis="{}"), act()
    )


def edit(store: NotebookStore, base: int, author: str, epoch: int | None) -> NotebookRecord | Refused:
    draft = Draft(title="N", author=author, content="{}", analysis="{}")
    return store.add_revision("t", "n", base, draft, act(), epoch=epoch)


def result(store: NotebookStore, epoch: int | None, *, ended: bool = False) -> object:
    row = ResultRow(cell="c", sha256=None, byte_size=0, record="{}")
    return store.add_result("t", "n", row, ["c"], epoch=epoch, ended=ended)


def test_one_server_owns_a_session_until_its_lease_is_over(world: World) -> None:
    """Another one is refused with the time that is left since it looked, writes of all kinds included."""
    one, two = world.server("s1"), world.server("s2")
    assert NOTEBOOK_NOT_FOUND == one.leases.take("t", "n")
    create(one)
    create(one, "u")
    assert Adoption(1, "") == one.leases.take("t", "n")
    assert Adoption(1, "") == two.leases.take("u", "n")  # another tenant's of the same name
    assert (ELSEWHERE, 10) == (two.leases.take("t", "n").code, two.leases.take("t", "n").retry_after)
    world.now += 4
    refused = two.leases.take("t", "n")
    assert (ELSEWHERE, 6) == (refused.code, refused.retry_after)
    assert [ELSEWHERE] * 3 == [
        edit(two, 1, "two", None).code, result(two, None).code, two.delete("t", "n", None, act()).code
    ]  # fmt: skip
    assert 2 == edit(one, 1, "one", 1).revision
    assert {"n"} == one.leases.renew("t", {"n": 1})
    assert 10 == two.leases.take("t", "n").retry_after
    world.now += 9.5
    assert ELSEWHERE == two.leases.take("t", "n").code
    assert 3 == edit(one, 2, "one", None).revision
    world.now += 0.5
    assert Adoption(2, "") == two.leases.take("t", "n")
    assert [MOVED] * 3 == [edit(one, 3, "one", 1), result(one, 1), one.leases.note_running("t", "n", 1, "c")]
    assert frozenset() == one.leases.renew("t", {"n": 1})
    assert 4 == edit(two, 3, "two", 2).revision
    assert () == result(two, 2)


def row(seq: int, epoch: int, events: str = "[]") -> EventsRow:
    return EventsRow(seq=seq, session="s", epoch=epoch, nbytes=len(events), events=events)


def test_events_are_the_owners_and_are_there_for_the_next_one(world: World) -> None:
    """In order, once each, of this notebook alone; with a server that gives it up, or the notebook, they go."""
    one, two = world.server("s1"), world.server("s2")
    create(one)
    create(one, "u")
    one.leases.take("t", "n")
    two.leases.take("u", "n")
    assert () == one.leases.events("t", "n")
    first, second = row(2, 1), row(10, 1, "\\u0000ä" * 1000)
    assert None is one.leases.add_events("t", "n", first, 0, 0)
    assert None is one.leases.add_events("t", "n", second, 2, 0)
    assert None is two.leases.add_events("u", "n", row(1, 1), 0, 0)
    assert MOVED == two.leases.add_events("t", "n", row(11, 1), 10, 0)
    assert (first, second) == one.leases.events("t", "n") == two.leases.events("t", "n")
    # The same events again, with more: the answer to the first try was lost.
    longer = row(12, 1)
    assert None is one.leases.add_events("t", "n", longer, 2, 0)
    assert (first, longer) == one.leases.events("t", "n")
    assert None is one.leases.add_events("t", "n", row(13, 1), 12, 2)
    assert [12, 13] == [found.seq for found in one.leases.events("t", "n")]

    two.leases.take("t", "n")
    world.now += 10
    assert 2 == two.leases.take("t", "n").epoch
    assert MOVED == one.leases.add_events("t", "n", row(14, 1), 13, 0)
    one.leases.give_up("t", "n", 1)
    one.leases.leave()
    assert [12, 13] == [found.seq for found in two.leases.events("t", "n")]
    two.leases.leave()
    assert [12, 13] == [found.seq for found in two.leases.events("t", "n")]
    two.leases.take("t", "n")
    two.leases.give_up("t", "n", 3)
    assert ((), [1]) == (
        two.leases.events("t", "n"), [found.seq for found in two.leases.events("u", "n")]
    )  # fmt: skip
    one.leases.take("t", "n")
    assert None is one.leases.add_events("t", "n", row(1, 4), 0, 0)
    assert None is one.delete("t", "n", None, act())
    assert () == one.leases.events("t", "n")


def test_what_ran_is_told_to_the_server_that_adopts(world: World) -> None:
    """The note outlasts its server and the next one's death, until an outcome is written."""
    one, two = world.server("s1"), world.server("s2")
    create(one)
    one.leases.take("t", "n")
    assert None is one.leases.note_running("t", "n", 1, "cell c")
    assert ELSEWHERE == two.leases.take("t", "n").code
    world.now += SECONDS
    assert Adoption(2, "cell c") == two.leases.take("t", "n")
    assert ELSEWHERE == one.leases.take("t", "n").code
    world.now += SECONDS
    assert Adoption(3, "cell c") == one.leases.take("t", "n")
    assert () == result(one, 3, ended=True)
    assert Adoption(4, "") == one.leases.take("t", "n")


def test_a_lease_is_given_up(world: World) -> None:
    """Of its own epoch only, or all of a server that leaves; a deleted notebook has none."""
    one, two = world.server("s1"), world.server("s2")
    create(one)
    one.leases.take("t", "n")
    assert Adoption(2, "") == one.leases.take("t", "n")  # its own, after it has forgotten the session
    one.leases.give_up("t", "n", 1)
    two.leases.give_up("t", "n", 2)
    assert ELSEWHERE == two.leases.take("t", "n").code
    one.leases.give_up("t", "n", 2)
    assert Adoption(3, "") == two.leases.take("t", "n")
    two.leases.leave()
    assert Adoption(4, "") == one.leases.take("t", "n")
    assert None is one.delete("t", "n", None, act())
    create(two)
    assert Adoption(1, "") == two.leases.take("t", "n")


@pytest.mark.parametrize("step", [-86_400.0, -30.0, 30.0, 86_400.0])
def test_a_clock_that_is_set_ends_no_lease_and_extends_none(world: World, step: float) -> None:
    """Neither before a renewal nor after it: what counts is how long no renewal was seen."""
    one, two = world.server("s1"), world.server("s2")
    create(one)
    one.leases.take("t", "n")
    assert ELSEWHERE == two.leases.take("t", "n").code
    world.set += step
    world.now += 5
    assert {"n"} == one.leases.renew("t", {"n": 1})
    assert ELSEWHERE == two.leases.take("t", "n").code
    world.set += step
    world.now += 9
    assert ELSEWHERE == two.leases.take("t", "n").code
    assert 2 == edit(one, 1, "one", 1).revision
    world.now += 1
    assert Adoption(2, "") == two.leases.take("t", "n")
    assert MOVED == edit(one, 2, "one", 1)


@pytest.mark.parametrize("seed", range(8))
def test_never_do_two_owners_both_write(world: World, seed: int) -> None:
    """Servers that freeze, forget and come back at random: accepted writes are of rising epochs, one owner each."""
    chance = random.Random(seed)
    create(world.server("s0"))
    servers = {name: world.server(name) for name in ("s1", "s2", "s3")}
    epochs: dict[str, int] = {}
    frozen = dict.fromkeys(servers, 0.0)
    revision, accepted = 1, []
    for _ in range(150):
        world.now += chance.expovariate(0.5)
        world.set += chance.choice([0, 0, 0, -15, 15])
        name = chance.choice([*servers])
        if frozen[name] > world.now:
            continue
        store, epoch = servers[name], epochs.get(name)
        match chance.randrange(10):
            case 0:
                frozen[name] = world.now + chance.choice([3, 12, 40])
            case 1 if epoch is not None:
                store.leases.give_up("t", "n", epoch)
            case 2 | 3 | 4:
                taken = store.leases.take("t", "n")
                if isinstance(taken, Adoption):
                    epochs[name] = taken.epoch
            case 5 if epoch is not None:
                store.leases.renew("t", {"n": epoch})
            case _ if epoch is not None:  # whatever it believes: the store has the last word
                done = edit(store, revision, name, epoch)
                if isinstance(done, NotebookRecord):
                    revision = done.revision
                    accepted.append((epoch, name))
                else:
                    assert MOVED == done
    assert len(accepted) > 5
    assert sorted(accepted) == accepted
    assert len({epoch for epoch, _ in accepted}) == len(set(accepted)) > 1


LEASES = SqlSessionLeases(
    transactions=None,
    now=float,
    owner="a",
    seconds=30.0,
    alone=False,
    sightings=None,
    monotonic=float,
    dead=None,
)  # type: ignore[arg-type]  # no call of these tests uses the database


@pytest.mark.parametrize("step", [0.0, -50.0, 1e-9])
def test_marks_of_renewals_rise_whatever_the_clock_does(step: float) -> None:
    """One that came back would look to another server like no renewal at all."""
    clock = iter(100.0 + number * step for number in range(9))
    leases = attrs.evolve(LEASES, now=lambda: next(clock))
    marks = [leases._mark(None)]
    for _ in range(5):
        marks.append(leases._mark(SimpleNamespace(until=marks[-1])))
    assert sorted(set(marks)) == marks
