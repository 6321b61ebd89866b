"""What operators do with tenants, on a virtual clock with scripted actors."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.auth import Principal
from strata.config import Settings
from strata.outcomes import Refused
from strata.server.service import limits_of
from strata.tenants import State, TenantLimits
from strata.tenants.lifecycle import operator_actions as act
from strata.tenants.lifecycle import registry as module
from strata.tenants.lifecycle.registry import IDLE_LOOK_SECONDS, Registry
from strata.tenants.lifecycle.resting import LONGEST_PAUSE_SECONDS
from strata.tenants.limits.overrides import TenantOverrides
from strata.tenants.messages import Describe, GetBuild, Materialize, Transformation, UpdateLimits
from strata.tenants.stats.counters import TenantMetrics

ANA = Principal("ana", "a", frozenset())
WORK = Materialize(ANA, Transformation(("t",), "scan@v1", {}))
LOOK = GetBuild(ANA, "b")


@attrs.define(eq=False)
class Obedient:
    """An actor that answers, blocks on "hold", crashes on "crash", and can be made deaf or slow to end."""

    tenant: str
    resources: object
    limits: TenantLimits
    metrics: TenantMetrics
    mailbox: trio.MemoryReceiveChannel
    allowance: object = None
    idle: bool = True
    unread: int = 0

    def answer_at_once(self, question) -> object:
        return (self.tenant, question) if question == "at hand" else None

    async def run(self) -> None:
        started.append((self.tenant, trio.current_time()))
        if self.tenant in deaf:
            await trio.sleep_forever()
        try:
            async with trio.open_nursery() as nursery, self.mailbox:
                async for envelope in self.mailbox:
                    nursery.start_soon(self.serve, envelope)
        finally:
            if self.tenant in slow:
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)

    async def serve(self, envelope: Any) -> None:
        question = envelope.question
        if isinstance(question, UpdateLimits):
            self.limits = question.limits
            given.append((self.tenant, trio.current_time(), question.limits.bulk_slots))
        elif question == "crash":
            raise RuntimeError("on purpose")
        elif question == "linger":
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
        elif question == "hold" or (isinstance(question, Describe) and self.tenant == "stuck"):
            await trio.sleep_forever()
        else:
            envelope.reply((self.tenant, question))


started: list[tuple[str, float]] = []
given: list[tuple[str, float, int]] = []
deaf: set[str] = set()
slow: set[str] = set()


async def at_once(function: Callable[[], Any]) -> Any:
    """Read files on the loop: a virtual clock does not wait for threads."""
    await trio.lowlevel.checkpoint()
    return function()


@pytest.fixture
async def registry(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, tmp_path: Path
) -> AsyncIterator[Registry]:
    for kept in (started, given, deaf, slow):
        kept.clear()
    monkeypatch.setattr(module, "TenantActor", Obedient)
    settings = Settings(multi_tenant_enabled=True, tenant_overrides_file=str(tmp_path / "overrides.toml"))
    tenant_overrides = TenantOverrides(settings, limits_of, blocking=at_once)
    found = Registry(
        resources=None, limits=tenant_overrides.limits, tenant_overrides=tenant_overrides, max_tenants=4, mailbox_size=3, max_crashes=2,
        crash_window=60, probe=lambda: True,
    )  # fmt: skip
    tenant_overrides.changed = found.update_limits
    async with trio.open_nursery() as nursery:
        await nursery.start(found.run)
        yield found
        nursery.cancel_scope.cancel()


def overrides(registry: Registry, text: str) -> None:
    registry.tenant_overrides.settings.overrides_path.write_text(text)


async def code(registry: Registry, tenant: str, question: object = "x") -> str | None:
    answer = await registry.ask(tenant, question)
    return answer.code if isinstance(answer, Refused) else None


async def test_a_changed_limit_reaches_a_running_actor_within_a_second(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """The running actor gets a raised or lowered limit, and other tenants' actors are not called."""
    await registry.ask("a", "x")
    await registry.ask("b", "x")
    actor = registry.find("a").actor
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.tenant_overrides.poller.watch)
        await trio.sleep(100.2)
        for slots in (20, 1):
            given.clear()
            began = trio.current_time()
            overrides(registry, f"[tenants.a]\nbulk_slots = {slots}\n")
            await trio.sleep(1)
            assert {"a": slots} == {tenant: held for tenant, _, held in given}
            assert all(at - began <= 1 for _, at, _ in given)
            assert slots == actor.limits.bulk_slots
        nursery.cancel_scope.cancel()
    assert actor is registry.find("a").actor
    assert 2 == len(started)


async def test_a_tenant_that_is_disabled_goes_when_its_work_is_over(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """It stays while it has work, and altogether if it is enabled again by then."""
    await registry.ask("a", "x")
    actor = registry.find("a").actor
    actor.idle, actor.unread = False, 1
    overrides(registry, "[tenants.a]\nenabled = false\n")
    await registry.tenant_overrides.refresh()
    await trio.sleep(5)
    assert ("tenant_disabled", State.RUNNING) == (await code(registry, "a"), registry.find("a").state)
    overrides(registry, "[tenants]\n")
    await registry.tenant_overrides.refresh()
    await trio.sleep(5)
    assert (None, actor) == (await code(registry, "a"), registry.find("a").actor)
    overrides(registry, "[tenants.a]\nenabled = false\n")
    await registry.tenant_overrides.refresh()
    await trio.sleep(5)
    actor.idle = True  # its unread stream does not count: a disabled tenant cannot read it
    await trio.sleep(1)
    assert None is registry.find("a")
    assert "tenant_disabled" == await code(registry, "a")
    assert 1 == len(started)


async def test_a_drained_tenant_is_asked_about_its_work_until_it_is_gone(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """New work is refused at once, questions about running work are answered; a restart ends the drain."""
    await registry.ask("a", "x")
    registry.find("a").actor.idle = False
    assert act.drain(registry, "a")
    assert not act.drain(registry, "a"), "it is drained already"
    assert ("tenant_drained", None) == (await code(registry, "a", WORK), await code(registry, "a", LOOK))
    await trio.sleep(10)
    registry.find("a").actor.idle, registry.find("a").actor.unread = True, 1
    await trio.sleep(10)
    assert None is not registry.find("a"), "its unread stream is running work"
    registry.find("a").actor.unread = 0
    await trio.sleep(1)
    assert ("absent", True) == ((view := act.look(registry, "a")).state, view.drained)
    assert ("tenant_drained", None) == (await code(registry, "a", LOOK), await code(registry, "b", WORK))
    assert act.restart(registry, "a")
    assert None is await code(registry, "a", WORK)


@pytest.mark.parametrize("stop", [act.evict, act.restart])
async def test_who_waits_for_a_stopped_actor_is_told_at_once(
    autojump_clock: MockClock, registry: Registry, stop: Callable[[Registry, str], bool]
) -> None:
    """Waiting questions are refused, the next one starts an actor, and other tenants are unaffected."""
    answers: list[Any] = []

    async def ask(tenant: str) -> None:
        answers.append(await registry.ask(tenant, "hold"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "a")
        nursery.start_soon(ask, "b")
        await wait_all_tasks_blocked()
        first = registry.find("a").actor
        began = trio.current_time()
        assert stop(registry, "a")
        await wait_all_tasks_blocked()
        [refused] = answers
        assert refused.code in ("tenant_evicted", "tenant_restarting")
        assert refused.retry_after >= 1
        assert None is await code(registry, "a")
        assert began == trio.current_time()
        assert first is not registry.find("a").actor
        assert 0 == registry.find("a").metrics.restarts
        nursery.cancel_scope.cancel()
    assert ["a", "a", "b"] == sorted(tenant for tenant, _ in started)


async def test_a_restart_of_one_that_is_on_its_way_out_leaves_nobody_waiting(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """Questions to it, and tenants that need its place, wait only until the old actor has ended."""
    for tenant in "abcd":
        await registry.ask(tenant, "x")
    async with trio.open_nursery() as nursery:
        for tenant, question in {"a": "linger", "b": "hold", "c": "hold", "d": "hold"}.items():
            nursery.start_soon(registry.ask, tenant, question)
        await wait_all_tasks_blocked()
        assert act.evict(registry, "a")
        with trio.fail_after(10):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(registry.ask, "a", "x")
                await wait_all_tasks_blocked()
                assert act.restart(registry, "a")
        assert State.RUNNING is registry.find("a").state
        with trio.fail_after(10):
            assert None is await code(registry, "e")
        nursery.cancel_scope.cancel()


async def test_a_restart_ends_the_pause_after_a_crash_and_what_is_down(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """A restart starts a paused or failed tenant again and forgets its crashes."""
    for _ in range(2):
        assert "tenant_restarting" == await code(registry, "a", "crash")
        began = trio.current_time()
        assert act.restart(registry, "a")
        await wait_all_tasks_blocked()
        assert (None, began) == (await code(registry, "a"), trio.current_time())
    for _ in range(3):
        await code(registry, "a", "crash")
        await trio.sleep(LONGEST_PAUSE_SECONDS / 10)
    assert ("down", "RuntimeError") == ((view := act.look(registry, "a")).state, view.errors[-1].code)
    assert act.restart(registry, "a")
    assert None is await code(registry, "a")


async def test_an_eviction_ends_the_pause_after_a_crash_and_what_is_down(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """An evicted tenant that was paused or down starts again with its next question."""
    await code(registry, "a", "crash")
    assert act.evict(registry, "a")
    await wait_all_tasks_blocked()
    assert None is registry.find("a")
    for _ in range(3):
        await code(registry, "a", "crash")
        await trio.sleep(5)
    assert "down" == act.look(registry, "a").state
    assert act.evict(registry, "a")
    assert not act.evict(registry, "a")
    assert None is await code(registry, "a")


@pytest.mark.parametrize("end", [act.evict, act.drain])
async def test_a_restart_of_one_that_is_leaving_keeps_nobody_waiting(
    autojump_clock: MockClock, registry: Registry, end: Callable[[Registry, str], bool]
) -> None:
    """Neither its questions nor tenants that wait for its place are stuck, and it can be drained again."""
    await registry.ask("a", "x")
    slow.add("a")
    end(registry, "a")
    answers: list[object] = []

    async def ask(tenant: str) -> None:
        answers.append(await registry.ask(tenant, "x"))

    with trio.fail_after(60):
        await trio.sleep(IDLE_LOOK_SECONDS)
        assert State.LEAVING is registry.find("a").state
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "a")
            for tenant in "bcde":  # one more than there is room for
                nursery.start_soon(ask, tenant)
            await wait_all_tasks_blocked()
            act.restart(registry, "a")
    assert ["a", "b", "c", "d", "e"] == sorted(answer[0] for answer in answers)
    slow.clear()
    act.drain(registry, "a")
    await trio.sleep(5)
    assert None is registry.find("a")


async def test_who_is_turned_away_while_it_waits_starts_no_actor(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """A tenant drained or disabled while its question waits is refused and not started."""
    for tenant in "abcd":
        await registry.ask(tenant, "x")
    slow.add("a")
    act.drain(registry, "a")
    await trio.sleep(IDLE_LOOK_SECONDS)
    assert State.LEAVING is registry.find("a").state
    answers: dict[str, str | None] = {}

    async def ask(tenant: str) -> None:
        answers[tenant] = await code(registry, tenant, LOOK)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "a")
        nursery.start_soon(ask, "e")
        await wait_all_tasks_blocked()
        overrides(registry, "[tenants.e]\nenabled = false\n")
        await registry.tenant_overrides.refresh()
    assert {"a": "tenant_drained", "e": "tenant_disabled"} == answers
    assert ["a", "b", "c", "d"] == sorted(tenant for tenant, _ in started)


async def test_a_look_at_one_tenant_does_not_keep_a_newcomer_out(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """While the least recently used tenant is being described, another idle one is evicted."""
    for tenant in ("stuck", "b", "c", "d"):
        await registry.ask(tenant, "x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act.describe, registry, "stuck")
        await wait_all_tasks_blocked()
        assert None is await code(registry, "e")
    assert None is registry.find("b")


async def test_a_look_does_not_hold_up_the_loop_when_the_tenant_has_been_idle_for_long_enough(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """An idle tenant that is being described is examined once, and again later."""
    registry.idle_seconds = 10
    await registry.ask("stuck", "x")
    await trio.sleep(9.5)
    with pytest.MonkeyPatch.context() as patch:
        looks: list[object] = []
        dismissed = registry._dismissed
        patch.setattr(Registry, "_dismissed", lambda _, found: looks.append(found) or dismissed(found))
        await act.describe(registry, "stuck")
    assert 1 == len(looks)


async def test_a_tenant_that_does_not_answer_is_described_all_the_same(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """A silent actor is described within a second, one with a full mailbox at once, and none is started."""
    await registry.ask("stuck", "x")
    began = trio.current_time()
    view = await act.describe(registry, "stuck")
    assert ("running", None, 1.0) == (view.state, view.inside, trio.current_time() - began)
    assert not registry.find("stuck").open
    deaf.add("full")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(registry.ask, "full", "x")
        await wait_all_tasks_blocked()
        began = trio.current_time()
        view = await act.describe(registry, "full")
        assert (3, 3, None, began) == (view.waiting, view.queued, view.inside, trio.current_time())
        nursery.cancel_scope.cancel()
    assert "absent" == (await act.describe(registry, "nobody")).state
    assert {"stuck", "full"} == {tenant for tenant, _ in started}


async def test_a_look_does_not_make_a_tenant_more_recently_used(
    autojump_clock: MockClock, registry: Registry
) -> None:
    """Describing a tenant does not change the order of eviction."""
    for tenant in "abcd":
        await registry.ask(tenant, "x")
    await act.describe(registry, "a")
    await registry.ask("e", "x")
    assert ["b", "c", "d", "e"] == [tenant.id for tenant in registry.tenants()]


async def test_a_drain_of_an_absent_tenant_is_a_change(autojump_clock: MockClock, registry: Registry) -> None:
    """It takes effect, so it says so; the second one changes nothing, and neither does evicting no actor."""
    assert (True, False) == (act.drain(registry, "a"), act.drain(registry, "a"))
    assert ("tenant_drained", False) == (await code(registry, "a", WORK), act.evict(registry, "a"))
    assert act.restart(registry, "a")
    assert None is await code(registry, "a", WORK)
