"""A stream that was read no longer waits, and one that was not outlives its tenant's actor."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from weakref import WeakValueDictionary

import pytest
import trio
from inline_pool import InlinePool
from trio.testing import MockClock

from strata.auth import Principal
from strata.outcomes import Refused
from strata.tenants import TenantLimits
from strata.tenants.budgets.tenant_cache import RememberedBudget
from strata.tenants.builds import materialize
from strata.tenants.builds.state import Build
from strata.tenants.lifecycle import actor as actors
from strata.tenants.lifecycle.registry import Registry
from strata.tenants.messages import GetName, Pending
from strata.tenants.shared import left_streams
from strata.tenants.shared.left_streams import LeftStream, LeftStreams

ANA = Principal("ana", "a", frozenset())
READ, PROMISE = "read", "promise"


def ended(number: int) -> Build:
    """Return a build whose result is ready."""
    made = Build(f"key-{number}", ())
    made.record = SimpleNamespace(artifact_id=f"artifact-{number}", version=1)
    made.outcome = object()
    made.done.set()
    return made


async def scan_and(actor: actors.TenantActor, question: GetName) -> str | Refused:
    """Make a result whose stream is promised, and read it if the question says so."""
    found = actor.opened_materializer
    stream_id = found._open_stream(ended(0), question.principal)
    if isinstance(stream_id, str) and question.name == READ:
        found.stream_read(stream_id)
    return stream_id


@pytest.fixture
async def registry(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Registry]:
    """A thousand places for tenants with real actors, whose answers are :func:`scan_and`'s."""
    handlers = dict(actors.HANDLERS)
    handlers[GetName] = lambda actor, question: Pending(lambda: scan_and(actor, question))
    monkeypatch.setattr(actors, "HANDLERS", handlers)
    resources = SimpleNamespace(
        pool=InlinePool(1), cache_dir=tmp_path, left_streams=LeftStreams(),
        remembered=RememberedBudget(2**62), forgetters=WeakValueDictionary(), new_id=map(str, itertools.count()).__next__,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        found = Registry(
            resources=resources, limits=lambda _tenant: TenantLimits(stream_ttl=300), max_tenants=1000,
            mailbox_size=100, max_crashes=2, crash_window=60, probe=lambda: True,
        )  # fmt: skip
        await nursery.start(found.run)
        yield found
        nursery.cancel_scope.cancel()


async def served(registry: Registry, tenant: str, what: str) -> int:
    """Ask until an answer comes, obeying each Retry-After; return how often that took a second try."""
    for tries in itertools.count():
        answer = await registry.ask(tenant, GetName(Principal("ana", tenant, frozenset()), what))
        if not isinstance(answer, Refused):
            return tries
        assert answer.retry_after is not None
        await trio.sleep(answer.retry_after)
    raise AssertionError


@pytest.mark.parametrize("what", [READ, PROMISE])
async def test_four_thousand_tenants_in_five_minutes_are_served(
    autojump_clock: MockClock, registry: Registry, what: str
) -> None:
    """With a thousand places, whether they read their streams or leave them, none is refused for good."""
    began, tries = trio.current_time(), []

    async def come(number: int) -> None:
        await trio.sleep(number * 300 / 4000)
        tries.append(await served(registry, f"t{number}", what))

    async with trio.open_nursery() as nursery:
        for number in range(4000):
            nursery.start_soon(come, number)

    assert [0] * 4000 == tries, "not even for its own Retry-After"
    assert trio.current_time() - began <= 300
    assert len(list(registry.tenants())) <= 1000


async def test_a_thousand_busy_tenants_make_room_as_soon_as_they_are_done(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """Who is refused while all are busy is told when to come again, and is served then."""
    for number in range(1000):
        await served(registry, f"t{number}", PROMISE)
        registry.find(f"t{number}").actor.opened_materializer.running["key"] = ended(1)
    refused = await registry.ask("new", GetName(ANA, READ))
    assert "too_many_tenants" == refused.code
    for found in registry.tenants():
        found.actor.opened_materializer.running.clear()
    await trio.sleep(refused.retry_after)
    assert 0 == await served(registry, "new", READ)


async def test_an_unread_stream_outlives_its_actor_and_can_be_read_once_more(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """An evicted tenant's unread streams are its next actor's, until their own time is over; read ones are not."""
    registry.max_tenants = 1
    stream_id = await registry.ask("a", GetName(ANA, PROMISE))
    read = await registry.ask("a", GetName(ANA, READ))
    of_a = registry.find("a").actor.opened_materializer
    assert [1, True] == [of_a.unread, of_a.stream_for(read, ANA) is not None]
    await trio.sleep(100)
    await registry.ask("b", GetName(ANA, READ))
    assert None is registry.find("a")

    await registry.ask("a", GetName(ANA, READ))
    found = registry.find("a").actor.opened_materializer
    assert LeftStream("ana", "artifact-0", 1, 300.0) == found.stream_for(stream_id, ANA)
    assert None is found.stream_for(stream_id, Principal("bob", "a", frozenset()))
    assert None is found.stream_for(read, ANA)
    assert 0 == len(registry.resources.left_streams)
    found.stream_read(stream_id)
    assert (0, True) == (found.unread, found.stream_for(stream_id, ANA) is not None)
    await trio.sleep(200)
    assert None is found.stream_for(stream_id, ANA)


async def test_streams_that_were_read_count_against_no_bound(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number of results that were read to their end may follow each other; unread ones are bounded."""
    monkeypatch.setattr(materialize, "STREAMS_REMEMBERED", 10)
    assert [0] * 100 == [await served(registry, "a", READ) for _ in range(100)]
    unread = [await registry.ask("a", GetName(ANA, PROMISE)) for _ in range(20)]
    assert ["streams"] * 12 == [answer.code for answer in unread if isinstance(answer, Refused)]
    found = registry.find("a").actor.opened_materializer
    assert len(found.read) <= materialize.READ_REMEMBERED


def test_what_tenants_leave_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant leaves its newest streams; beyond the bound of all, those left first are forgotten."""
    one = LeftStream("ana", "id", 1, 1.0)
    left = LeftStreams()
    left.leave("a", {str(number): one for number in range(1000)})
    assert left_streams.LEFT_OF_A_TENANT == len(left)
    assert {str(number): one for number in range(900, 1000)} == left.take("a")
    for number in range(1000):
        left.leave(f"t{number}", {str(index): one for index in range(100)})
    assert left_streams.LEFT_OF_ALL == len(left)
    assert ({}, 100) == (left.take("t0"), len(left.take("t999")))
    left.leave("none", {})
    assert {} == left.take("none")
