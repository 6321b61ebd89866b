"""The events of a session in the store: members see what is kept, and the next owner goes on behind it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from memory_notebooks import MemoryNotebookStore

from strata.artifacts import Act
from strata.auth import Principal
from strata.notebooks.model.notebook import Access
from strata.notebooks.session.events import (
    Adopted,
    Edited,
    Ended,
    Joined,
    LoadAgain,
    Numbered,
    Printed,
    Queued,
    Started,
    plain_event,
)
from strata.notebooks.session.lease import Tenure
from strata.notebooks.store.contract import Draft
from strata.notebooks.store.leases import EventsRow
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.sessions import event_keeper
from strata.tenants.sessions.event_keeper import DROPPED, LOST_MESSAGE, SERVER_LOST, UNKNOWN_END, EventKeeper
from strata.tenants.sessions.live_session import LiveSession

ANA = Principal("ana", "t", frozenset())
DOWN = RefusalError(Refused(Reason.UNAVAILABLE, "The store is down.", code="metadata_store_down"))


@attrs.define(eq=False)
class World:
    """A store, and servers that share it.

    Attributes:
        store: The store, as the first server has it.
        revision: The latest revision of the notebook.
        before: Called before each write of events.
        behind: Called behind it.
    """

    store: MemoryNotebookStore
    revision: int = 1
    before: Callable[[], object] = lambda: None
    behind: Callable[[], object] = lambda: None
    refused: list[tuple[str, int, str | None]] = attrs.field(factory=list)

    def keeper(self, store: MemoryNotebookStore) -> EventKeeper:
        async def ask(_tenant: str, function: Callable[..., Any], *args: object) -> Any:
            await trio.lowlevel.checkpoint()
            return function(*args)

        async def write(_tenant: str, function: Callable[..., Any], *args: object) -> Any:
            await trio.lowlevel.checkpoint()
            self.before()
            found = function(*args)
            self.behind()
            return found

        async def compute(_tenant: str, _principal: str, function: Callable[[], Any]) -> Any:
            await trio.lowlevel.checkpoint()
            return function()

        def refused(name: str, epoch: int, found: Refused) -> None:
            self.refused.append((name, epoch, found.code))

        resources: Any = SimpleNamespace(notebooks=store, ask=ask, write=write, compute=compute)
        return EventKeeper("t", resources, refused)

    async def adopted(self, keeper: EventKeeper, *, lost: bool = False) -> LiveSession:
        """Return the session, once the server has its lease."""
        session = LiveSession("n")
        leases = keeper.resources.notebooks.leases
        taken = leases.take("t", "n")
        if isinstance(taken, Refused):
            await trio.sleep(taken.retry_after or 0)
            taken = leases.take("t", "n")
        session.tenure = Tenure().granted(taken.epoch, 0.0)
        view: Any = SimpleNamespace()
        assert not isinstance(await keeper.adopt(ANA, session, view, lost=lost), Refused)
        return session


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    store = MemoryNotebookStore(trio.current_time, "s1", 10.0, alone=False)

    class Editor:
        """Reads revisions, of which each has the cells ``c1``, ``c2`` … up to its number."""

        def __init__(self, *_: object) -> None:
            pass

        async def get(self, question: Any, _known: object = None) -> Any:
            await trio.lowlevel.checkpoint()
            if question.revision is not None:
                return Refused(Reason.NOT_FOUND, "It went.")
            cells = tuple(SimpleNamespace(id=f"c{one}") for one in range(1, found.revision + 1))
            return SimpleNamespace(
                revision=SimpleNamespace(revision=found.revision, author="ben"),
                content=SimpleNamespace(cells=cells),
            )

    monkeypatch.setattr(event_keeper, "NotebookEditor", Editor)
    found = World(store)
    return found


async def create(world: World) -> None:
    draft = Draft(title="N", author="ana", content="{}", analysis="{}")
    act = Act(tenant="t", principal="ana", principal_tenant="t", action="create", request_id="r", new="n")
    world.store.create("t", "n", Access.TENANT, draft, act)


async def kept(session: LiveSession) -> None:
    """Wait until the store has all events."""
    while session.log.told != session.log.last:
        await session.changed.wait()


async def test_members_see_an_event_when_the_store_has_it(world: World, autojump_clock: object) -> None:
    """Until then the log ends before it, for those that ask and for those that come."""
    await create(world)
    keeper = world.keeper(world.store)
    session = await world.adopted(keeper)
    assert (1, 0, ()) == (session.log.last, session.log.told, session.log.after(0, 9))
    changed = session.changed
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep, session)
        await changed.wait()
        assert (Numbered(1, Adopted(1)),) == session.log.after(0, 9)
        world.before = lambda: (_ for _ in ()).throw(DOWN)
        session.tell(Queued("c", "ana"))
        await trio.sleep(60)
        assert (2, 1, ()) == (session.log.last, session.log.told, session.log.after(1, 9))
        assert LoadAgain(1) == session.log.after(2, 9)
        assert not session.idle
        world.before = lambda: None
        await kept(session)
        assert (Numbered(2, Queued("c", "ana")),) == session.log.after(1, 9)
        assert session.idle
        session.end("ended")  # the task ends, too


async def test_the_next_owner_goes_on_and_ends_what_was_lost(world: World, autojump_clock: object) -> None:
    """It has id, numbers and events; runs of the lost server end, and a revision that was not told is told."""
    await create(world)
    keeper = world.keeper(world.store)
    session = await world.adopted(keeper)
    run = (
        Queued("a", "ana"),
        Queued("b", "ana"),
        Queued("b", "ana"),
        Started("a", 1),
        Printed("a", 1, "stdout", "x\0"),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep, session)
        session.begin(SimpleNamespace(cell="a"))
        session.versions[1]["demo:t"] = "v"
        session.tell(Joined("m", "ana", writes=True), *run)
        await kept(session)
        nursery.cancel_scope.cancel()
    world.revision = 2
    other = await world.adopted(world.keeper(world.store.beside("s2")))
    assert (session.id, 1, {1: {"demo:t": "v"}}) == (other.id, other.runs, other.versions)
    assert (7, 7, 12) == (other.log.stored, session.log.last, other.log.last)
    assert [*session.log] == [*other.log][:7]
    assert [
        Adopted(2),
        Edited("", 2, ("c1", "c2"), "ben"),
        Ended("a", 1, SERVER_LOST, UNKNOWN_END),
        *[Ended("b", 0, SERVER_LOST, DROPPED)] * 2,
    ] == [one.event for one in other.log][7:]
    assert ({}, 2, 2) == (other.state.members, other.state.revision, other.state.epoch)

    third = await world.adopted(world.keeper(world.store.beside("s3")), lost=True)
    assert other.id != third.id  # s2 has kept nothing: what it may have told is not known
    assert (7, LoadAgain(7)) == (third.log.stored, third.log.after(6, 9))


async def test_a_known_end_says_what_to_do(world: World, autojump_clock: object) -> None:
    """Where the cell has the outcome already, the event says the same; runs that ended do not end twice."""
    await create(world)
    keeper = world.keeper(world.store)
    session = await world.adopted(keeper)
    ended = (
        Queued("a", "ana"),
        Started("a", 1),
        Ended("a", 1, "ok", ""),
        Queued("b", "ana"),
        Ended("b", 0, "skipped", ""),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep, session)
        session.tell(*ended, Started("c", 2))
        await kept(session)
        nursery.cancel_scope.cancel()
    other = await world.adopted(world.keeper(world.store.beside("s2")), lost=True)
    assert [Adopted(2), Ended("c", 2, SERVER_LOST, LOST_MESSAGE)] == [one.event for one in other.log][7:]


async def test_a_server_that_owns_it_no_more_tells_nothing(world: World, autojump_clock: object) -> None:
    """The store refuses its events; the one who gave it up leaves none."""
    await create(world)
    keeper = world.keeper(world.store)
    session = await world.adopted(keeper)
    beside = world.store.beside("s2")
    other = await world.adopted(world.keeper(beside))
    await keeper.keep(session)
    assert [("n", 1, "session_elsewhere")] == world.refused
    assert (0, ()) == (session.log.told, beside.leases.events("t", "n"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.keeper(beside).keep, other)
        await kept(other)
        nursery.cancel_scope.cancel()
    assert 1 == len(beside.leases.events("t", "n"))
    beside.leases.give_up("t", "n", 2)
    assert () == beside.leases.events("t", "n")


async def test_a_bug_costs_the_session_and_not_the_tenant(world: World, autojump_clock: object) -> None:
    """The session is forgotten as one that moved: one that stayed would end each member at once, for ever."""
    await create(world)
    keeper = world.keeper(world.store)
    session = await world.adopted(keeper)

    def crash() -> None:
        raise ValueError("a bug")

    world.before = crash
    await keeper.keep(session)
    assert [("n", 1, "session_elsewhere")] == world.refused
    assert 0 == session.log.told


async def test_old_rows_go(world: World, autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows and by bytes; the latest one stays, and the next owner has those that are left."""
    await create(world)
    keeper = world.keeper(world.store)
    session = await world.adopted(keeper)
    leases = world.store.leases
    monkeypatch.setattr(event_keeper, "MAX_ROWS", 3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep, session)
        for number in range(2, 8):
            session.tell(Printed("c", 1, "stdout", str(number)))
            await kept(session)
        assert [4, 5, 6, 7] == [one.seq for one in leases.events("t", "n")]  # one more until the next write
        monkeypatch.setattr(event_keeper, "MAX_BYTES", 1000)
        for text in ("x" * 2000, "y"):
            session.tell(Printed("c", 1, "stdout", text))
            await kept(session)
        assert [8, 9] == [one.seq for one in leases.events("t", "n")]
        nursery.cancel_scope.cancel()
    other = await world.adopted(world.keeper(world.store.beside("s2")))
    assert [8, 9] == [one.seq for one in other.log][:2]


@pytest.mark.parametrize(
    "events", ["", "{}", '{"events": [{"kind": "sung"}]}', '{"events": [{"kind": "queued"}]}']
)
async def test_events_of_another_version_begin_a_new_session(
    world: World, autojump_clock: object, events: str
) -> None:
    """Members load it, and numbers are not given twice."""
    await create(world)
    world.store.leases.take("t", "n")
    row = EventsRow(seq=7, session="old", epoch=1, nbytes=1, events=events)
    world.store.leases.add_events("t", "n", row, 0, 0)
    other = await world.adopted(world.keeper(world.store.beside("s2")))
    assert ("old" != other.id, 7, 8) == (True, other.log.stored, other.log.last)


async def test_events_of_an_earlier_session_stay_behind(world: World, autojump_clock: object) -> None:
    """Their runs had the same numbers, and the tables behind them are others: they are nobody's to see."""
    await create(world)
    leases = world.store.leases
    for epoch, id_ in ((1, "old"), (2, "new")):
        leases.take("t", "n")
        said = plain_event(Printed("c", 1, "stdout", id_))
        body = {"events": [said], "versions": {"1": {f"demo:{id_}": "v"}}, "runs": 1, "revision": 1}
        row = EventsRow(seq=epoch, session=id_, epoch=epoch, nbytes=1, events=json.dumps(body))
        assert None is leases.add_events("t", "n", row, epoch - 1, 0)
    other = await world.adopted(world.keeper(world.store.beside("s2")))
    assert ("new", {1: {"demo:new": "v"}}) == (other.id, other.versions)
    assert [Numbered(2, Printed("c", 1, "stdout", "new")), Numbered(3, Adopted(3))] == [*other.log]


@pytest.mark.parametrize("seed", range(30))
async def test_no_member_has_an_event_that_the_next_owner_lacks(
    world: World, autojump_clock: object, seed: int
) -> None:
    """Servers die at any moment, and writes fail before or behind they are done: no event is lost or told twice."""
    chance = random.Random(seed)
    await create(world)

    def fails() -> None:
        if chance.random() < 0.2:
            raise DOWN

    world.before = world.behind = fails
    seen: list[Numbered] = []
    ids = set()
    for life in range(6):
        store = world.store if not life else world.store.beside(f"s{life}")
        keeper = world.keeper(store)
        session = await world.adopted(keeper)
        ids.add(session.id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.keep, session)
            await kept(session)  # one that dies before it has told anything begins a new session
            for number in range(chance.randrange(1, 12)):
                session.tell(*(Printed("c", life, "stdout", str(number)) for _ in range(chance.randrange(3))))
                await trio.sleep(chance.choice([0, 0.5, 3]))
                part = session.log.after(len(seen), chance.randrange(1, 4))
                assert not isinstance(part, LoadAgain)
                seen += part
            nursery.cancel_scope.cancel()
    last = await world.adopted(world.keeper(world.store.beside("last")))
    assert {last.id} == ids
    assert len(seen) > 6
    assert seen == [*last.log][: len(seen)]
    assert [*range(1, last.log.last + 1)] == [one.seq for one in last.log]
