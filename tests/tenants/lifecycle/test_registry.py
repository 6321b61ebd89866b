"""The registry: one actor a tenant, a bound, supervision; on a virtual clock with scripted actors."""

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.outcomes import Reason, Refused
from strata.tenants import State, TenantLimits
from strata.tenants.lifecycle import registry as module
from strata.tenants.lifecycle.envelope import Envelope
from strata.tenants.lifecycle.handle import Readiness
from strata.tenants.lifecycle.registry import ENDING_SECONDS, Registry
from strata.tenants.lifecycle.resting import (
    DOWN_RETRY_SECONDS,
    FIRST_PAUSE_SECONDS,
    LONGEST_DOWN_SECONDS,
    RESTING_REMEMBERED,
)
from strata.tenants.messages import UpdateLimits
from strata.tenants.stats.counters import TenantMetrics


@attrs.define(eq=False)
class Obedient:
    """An actor that answers "echo", blocks on "hold" until released and crashes on "crash"."""

    tenant: str
    resources: object
    limits: TenantLimits
    metrics: TenantMetrics
    mailbox: trio.MemoryReceiveChannel
    allowance: object = None
    idle: bool = True
    left_bytes: int = 0
    running = 0
    most: dict = attrs.field(factory=dict)
    hold = trio.Event()

    def answer_at_once(self, question) -> object:
        return (self.tenant, question) if question == "at hand" else None

    async def run(self) -> None:
        alive[self.tenant] = alive.get(self.tenant, 0) + 1
        assert 1 == alive[self.tenant], "two actors of one tenant"
        try:
            async with trio.open_nursery() as nursery, self.mailbox:
                async for envelope in self.mailbox:
                    nursery.start_soon(self.serve, envelope)
        finally:
            alive[self.tenant] -= 1

    async def serve(self, envelope) -> None:
        question = envelope.question
        if isinstance(question, UpdateLimits):
            self.limits = question.limits
            return
        if question == "crash":
            raise RuntimeError("on purpose")
        with envelope.scope:
            if question == "hold":
                held.append(envelope)
                await trio.sleep_forever()
            if question == "busy":
                self.idle = False
            envelope.reply((self.tenant, question))


alive: dict[str, int] = {}
held: list = []


@pytest.fixture
async def registry(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> AsyncIterator[Registry]:
    alive.clear()
    held.clear()
    monkeypatch.setattr(module, "TenantActor", Obedient)
    found = Registry(
        resources=None, limits=lambda _tenant: TenantLimits(), max_tenants=2, mailbox_size=3, max_crashes=2,
        crash_window=60, probe=lambda: True,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        await nursery.start(found.run)
        yield found
        nursery.cancel_scope.cancel()


def names(registry: Registry) -> list[str]:
    return [tenant.id for tenant in registry.tenants()]


async def test_each_tenant_has_an_actor_of_its_own(autojump_clock: MockClock, registry: Registry) -> None:
    """A tenant's actor is started by its first question and kept for the next."""
    assert ("a", "one") == await registry.ask("a", "one")
    assert ("b", "two") == await registry.ask("b", "two")
    assert ("a", "three") == await registry.ask("a", "three")
    assert {"a": 1, "b": 1} == alive


async def test_what_is_at_hand_needs_no_message_and_counts_as_use(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peek sends no message and makes the tenant the most recently used."""
    for tenant in "ab":
        await registry.ask(tenant, "x")
    put: list = []

    async def noted(_registry: Registry, _found: object, envelope: Envelope) -> None:
        put.append(envelope.question)

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "_put", noted)
        assert ("a", "at hand") == await registry.ask("a", "at hand")
        assert [] == put
        assert await registry.ask("a", "x") is None
        assert ["x"] == put
    await registry.ask("a", "at hand")
    await registry.ask("c", "x")
    assert ["a", "c"] == names(registry)


async def test_the_least_recently_used_idle_tenant_makes_room(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """The least recently used idle tenant is evicted, and the bound is never exceeded."""
    for tenant in "abac":
        await registry.ask(tenant, "x")
        assert len(names(registry)) <= 2

    assert ["a", "c"] == names(registry)
    assert 0 == alive["b"]


async def test_a_busy_tenant_is_not_evicted_and_never_gets_a_second_actor(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """With all tenants busy a new one is refused; a second actor would mean a second set of slots."""
    await registry.ask("a", "busy")
    await registry.ask("b", "busy")

    refused = await registry.ask("c", "x")

    assert isinstance(refused, Refused)
    assert (Reason.UNAVAILABLE, "too_many_tenants") == (refused.reason, refused.code)
    assert refused.retry_after >= 1
    assert ["a", "b"] == names(registry)


async def test_a_tenant_with_a_question_under_way_is_not_idle(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """A tenant that owes an answer is not evicted."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.ask, "a", "hold")
        await wait_all_tasks_blocked()
        await registry.ask("b", "x")
        await registry.ask("c", "x")
        assert ["a", "c"] == names(registry)
        nursery.cancel_scope.cancel()


async def test_many_newcomers_at_once_respect_the_bound(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """The bound holds while actors are leaving, and no tenant has two actors."""
    async with trio.open_nursery() as nursery:
        for index in range(200):
            nursery.start_soon(registry.ask, f"t{index % 7}", "x")
    assert len(names(registry)) <= 2
    assert set(alive.values()) <= {0, 1}


async def test_a_full_mailbox_is_refused_at_once(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question to a full mailbox is refused with Retry-After."""

    async def deaf(self: Obedient) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Obedient, "run", deaf)
    answers: list = []

    async def ask() -> None:
        answers.append(await registry.ask("a", "x"))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert ["mailbox_full"] * 2 == [answer.code for answer in answers]
        assert all(answer.retry_after >= 1 for answer in answers)
        nursery.cancel_scope.cancel()


async def test_a_crash_answers_whoever_waits_and_then_serves_again(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """Waiting questions get 503 at once, service resumes after a pause, and other tenants are unaffected."""
    answers: list = []

    async def ask(question: str) -> None:
        answers.append(await registry.ask("a", question))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "hold")
        await wait_all_tasks_blocked()
        began = trio.current_time()
        nursery.start_soon(ask, "crash")
        await wait_all_tasks_blocked()
        assert ["tenant_restarting"] * 2 == [answer.code for answer in answers]
        assert began == trio.current_time()
        assert ("b", "x") == await registry.ask("b", "x")
        refused = await registry.ask("a", "x")
        assert (1, "tenant_restarting") == (refused.retry_after, refused.code)
    await trio.sleep(FIRST_PAUSE_SECONDS + 0.01)
    assert ("a", "again") == await registry.ask("a", "again")


async def test_the_pause_doubles_and_too_many_crashes_take_it_down(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """Too many crashes within the window take the tenant down, and no other."""
    for expected in (1, 1):
        refused = await registry.ask("a", "crash")
        assert expected == refused.retry_after
        await trio.sleep(2)
    down = await registry.ask("a", "crash")
    await trio.sleep(DOWN_RETRY_SECONDS - 1)
    later = await registry.ask("a", "x")

    assert ("tenant_down", "tenant_down") == (down.code, later.code)
    assert (DOWN_RETRY_SECONDS, 1) == (down.retry_after, later.retry_after)
    assert [State.DOWN] == [tenant.state for tenant in registry.tenants()]
    assert ("b", "x") == await registry.ask("b", "x")


async def test_a_tenant_that_is_down_is_tried_again(autojump_clock: MockClock, registry: Registry) -> None:
    """After its Retry-After a tenant that is down is started; while it crashes again, the pause doubles."""
    registry.max_crashes = 0
    pauses = []
    for _ in range(7):
        refused = await registry.ask("a", "crash")
        pauses.append(refused.retry_after)
        await trio.sleep(refused.retry_after)
    assert [60, 120, 240, 480, LONGEST_DOWN_SECONDS, LONGEST_DOWN_SECONDS, LONGEST_DOWN_SECONDS] == pauses

    assert ("a", "x") == await registry.ask("a", "x")
    assert State.RUNNING is registry.find("a").state
    await trio.sleep(registry.crash_window + 1)
    assert 60 == (await registry.ask("a", "crash")).retry_after


async def test_tenants_that_are_down_hold_no_place(autojump_clock: MockClock, registry: Registry) -> None:
    """However many tenants are down or restarting, others are served, and each is still reported."""
    registry.max_crashes = 1
    for number in range(5):
        await registry.ask(f"bad{number}", "crash")
    await trio.sleep(1)
    for number in range(3):
        assert "tenant_down" == (await registry.ask(f"bad{number}", "crash")).code

    for tenant in "abab":
        assert (tenant, "x") == await registry.ask(tenant, "x")

    states = [found.state for found in registry.tenants()]
    assert (3, 2) == (states.count(State.DOWN), states.count(State.RESTARTING))
    assert 2 == registry.find("bad0").metrics.restarts
    await trio.sleep(1)
    assert ("bad3", "x") == await registry.ask("bad3", "x")
    assert 1 == registry.find("bad3").metrics.restarts


async def test_what_is_remembered_of_crashed_tenants_is_bounded(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """The tenant at rest for longest is forgotten at the bound; its counters are kept."""
    for number in range(RESTING_REMEMBERED + 3):
        await registry.ask(f"t{number}", "crash")
    assert RESTING_REMEMBERED == len(names(registry))
    assert (None, 3) == (registry.find("t2"), registry.others.restarts)
    assert {None} == {found.actor for found in registry.tenants()}, "nothing is kept of what they held"
    assert ("t2", "x") == await registry.ask("t2", "x")


async def test_a_crash_without_a_question_starts_no_actor_by_itself(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant whose actor ends at once, and that nobody asks for anything, is not started over and over."""
    starts = []

    async def broken(self: Obedient) -> None:
        starts.append(self.tenant)
        raise RuntimeError("on purpose")

    monkeypatch.setattr(Obedient, "run", broken)
    await registry.ask("a", "x")
    await trio.sleep(3600)
    assert ["a"] == starts


async def test_an_actor_that_does_not_end_holds_up_no_other_tenant(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped actor whose work hangs has its own requests refused in time, and another tenant is evicted."""
    release = trio.Event()

    async def hangs(self: Obedient) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await release.wait()

    with monkeypatch.context() as patched:
        patched.setattr(Obedient, "run", hangs)
        with trio.move_on_after(1):
            await registry.ask("a", "x")
    await registry.ask("b", "x")
    registry.stop(registry.find("a"), Refused(Reason.UNAVAILABLE, "stopped"))
    began = trio.current_time()

    assert "tenant_restarting" == (await registry.ask("a", "x")).code
    assert ENDING_SECONDS == trio.current_time() - began
    assert ("c", "x") == await registry.ask("c", "x")
    assert ["a", "c"] == names(registry)
    release.set()


async def test_old_crashes_are_forgiven(autojump_clock: MockClock, registry: Registry) -> None:
    """Only crashes within the window count."""
    for _ in range(6):
        assert "tenant_restarting" == (await registry.ask("a", "crash")).code
        await trio.sleep(61)
    assert ("a", "x") == await registry.ask("a", "x")


async def test_an_asker_who_leaves_cancels_the_work_for_it(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """A cancelled question is cancelled in the actor."""
    with trio.move_on_after(1):
        await registry.ask("a", "hold")

    assert held[0].scope.cancel_called


async def test_a_draining_server_refuses_new_questions(autojump_clock: MockClock, registry: Registry) -> None:
    """A draining server refuses questions and is not ready."""
    registry.draining = True

    refused = await registry.ask("a", "x")
    assert ("draining", Readiness.DRAINING) == (refused.code, await registry.readiness())


async def test_a_tenant_that_was_idle_for_long_enough_goes_by_itself(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """A tenant in use or with work stays, and an evicted tenant's counters are kept."""
    registry.idle_seconds = 100
    await registry.ask("a", "x")
    await registry.ask("b", "busy")
    next(registry.tenants()).metrics.hits = 5
    await trio.sleep(99)
    assert ["a", "b"] == names(registry)
    await registry.ask("a", "x")
    await trio.sleep(99)
    assert ["b", "a"] == names(registry)
    await trio.sleep(2)

    assert ["b"] == names(registry)
    assert {"a": 0, "b": 1} == alive
    assert 5 == registry.others.hits
    assert ("a", "x") == await registry.ask("a", "x")


async def test_an_eviction_looks_at_a_few_tenants_only(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eviction examines ``LOOKS`` tenants, however many are live, and the next one examines others."""
    looked: list[str] = []
    real = Registry._dismissed

    def counted(self: Registry, found) -> bool:
        looked.append(found.id)
        return real(self, found)

    monkeypatch.setattr(Registry, "_dismissed", counted)
    registry.max_tenants = 300
    for number in range(299):
        await registry.ask(f"t{number}", "busy")
    await registry.ask("idle", "x")

    refused = [await registry.ask("new", "x") for _ in range(4)]

    assert ["too_many_tenants"] * 4 == [answer.code for answer in refused]
    assert 4 * module.LOOKS == len(looked)
    assert ("new", "x") == await registry.ask("new", "x")
    assert looked[-1] == "idle"
    assert len(set(looked)) == len(looked)


async def test_only_so_many_tenants_have_metrics_of_their_own(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """The first tenants keep their labels while live, and a free label goes to the next tenant."""
    registry.most_named = 1
    for tenant in "aba":
        await registry.ask(tenant, "x")
    assert {"a": True, "b": False} == {found.id: found.named for found in registry.tenants()}

    await registry.ask("b", "x")
    await registry.ask("c", "x")

    assert {"b": False, "c": True} == {found.id: found.named for found in registry.tenants()}
