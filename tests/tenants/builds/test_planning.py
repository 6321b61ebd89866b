"""Concurrent scans of one snapshot share a plan, each in its own principal's turn."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import attrs
import pytest
import trio

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import Step, too_many_files
from strata.tenants.budgets.tenant_cache import RememberedBudget
from strata.tenants.builds import planning
from strata.tenants.builds.planning import Planner
from strata.tenants.shared.resources import SMALL_COST
from strata.work import Tier, WorkPool

MOST = 1000
LOST = Refused(Reason.UNAVAILABLE, "The manifest cannot be read right now.")


@attrs.frozen
class Scan:
    """The attributes of a resolved scan that a planner uses."""

    plan_key: str
    columns: str = ""
    literal_bytes: int = 0
    remote: bool = False
    enough_rows: int | None = None


@attrs.frozen
class Plan:
    scan: Scan
    files: tuple[()] = ()
    nbytes: int = 1000
    max_rows: int = 0
    estimated_bytes: int = 0

    @property
    def planned(self) -> "Plan":
        return self

    def for_scan(self, scan: Scan) -> "Plan":
        assert scan.plan_key == self.scan.plan_key
        return Plan(scan)


@contextmanager
def releasing(lock: threading.Lock) -> Iterator[None]:
    try:
        yield
    finally:
        lock.release()


class Planning:
    """A planning of ``steps`` steps."""

    def __init__(self, scan: Scan, most: int, steps: int) -> None:
        self.scan = scan
        self.most = most
        self.left = self.steps = steps
        self.lock = threading.Lock()
        self.plan: Plan | None = None


class Files:
    """Plannings of ``steps`` steps that proceed while the gate is open; the first ``refused`` are refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: int = 0, steps: int = 1) -> None:
        self.made: list[Scan] = []
        self.taken: list[Scan] = []
        self.begun: list[Planning] = []
        self.refused = refused
        self.gate = threading.Event()
        self.began = threading.Event()
        monkeypatch.setattr(planning, "Planning", lambda scan, most, _source: self.begin(scan, most, steps))
        monkeypatch.setattr(planning, "plan_step", self.step)
        monkeypatch.setattr(planning, "WAIT_SECONDS", 60)

    def begin(self, scan: Scan, most: int, steps: int) -> Planning:
        self.begun.append(Planning(scan, most, steps))
        return self.begun[-1]

    def step(self, planning: Planning) -> Step:
        if not planning.lock.acquire(blocking=False):
            return Step(busy=True)
        with releasing(planning.lock):
            if planning.plan is not None:
                return Step(plan=planning.plan)
            self.taken.append(planning.scan)
            self.began.set()
            assert self.gate.wait(60)
            if len(self.taken) <= self.refused:
                return Step(refused=LOST)
            if planning.steps > planning.most:
                return Step(100, refused=too_many_files(planning.most))
            planning.left -= 1
            if planning.left:
                return Step(100)
            self.made.append(planning.scan)
            planning.plan = Plan(planning.scan)
            return Step(100, planning.plan)


def planner(slots: int = 4) -> Planner:
    return Planner("a", SimpleNamespace(pool=WorkPool(slots), remembered=RememberedBudget(2**62)))


async def _until(event: threading.Event) -> None:
    with trio.fail_after(60):
        while not event.is_set():
            await trio.lowlevel.checkpoint()


async def test_scans_that_begin_together_share_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each caller gets the plan with its own columns; another table has a plan of its own."""
    files, found, plans = Files(monkeypatch), planner(), []

    async def ask(scan: Scan) -> None:
        plans.append(await found.plan(scan, "ana", 60, MOST))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(ask, Scan("one", f"c{number}"))
        nursery.start_soon(ask, Scan("two"))
        await _until(files.began)
        files.gate.set()
    assert ["one", "two"] == sorted(scan.plan_key for scan in files.made)
    assert {Plan(Scan("one", f"c{number}")) for number in range(8)} | {Plan(Scan("two"))} == set(plans)
    await ask(Scan("one", "later"))
    assert 2 == len(files.made)
    assert {} == found._running


async def test_a_refusal_is_one_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the caller whose step was refused fails; the next one takes the step again."""
    files, found, ends = Files(monkeypatch, refused=1), planner(), []

    async def ask(scan: Scan) -> None:
        try:
            ends.append(await found.plan(scan, "ana", 60, MOST))
        except RefusalError as error:
            ends.append(error.refused)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, Scan("one"))
        await _until(files.began)
        files.gate.set()
    assert sorted([LOST, Plan(Scan("one")), Plan(Scan("one"))], key=repr) == sorted(ends, key=repr)
    assert 2 == len(files.taken)


async def test_a_scan_that_gives_up_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller leaves at its own timeout, and the others get the plan it began."""
    files, found, plans = Files(monkeypatch), planner(), []

    async def ask() -> None:
        plans.append(await found.plan(Scan("one", "b"), "bob", 60, MOST))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with pytest.raises(RefusalError) as caught:
            await found.plan(Scan("one", "a"), "ana", 0.01, MOST)
        assert "plan_timeout" == caught.value.refused.code
        await _until(files.began)
        files.gate.set()
    assert [Plan(Scan("one", "b"))] == plans
    assert 1 == len(files.made)
    assert {} == found._running


async def test_nobody_waits_in_the_turn_of_another_principal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller does not wait for another principal whose step is behind a backlog."""
    files, found = Files(monkeypatch), planner(slots=1)
    files.gate.set()
    pool, order = found.resources.pool, []

    async def backlog() -> None:
        await pool.run("a", Tier.INTERACTIVE, lambda: order.append("backlog"), principal="ana")

    async def ask(who: str) -> None:
        await found.plan(Scan("one", who), who, 60, MOST)
        order.append(who)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(backlog)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(ask, "ana")
        await trio.lowlevel.checkpoint()
        nursery.start_soon(ask, "bob")
    assert order.index("bob") < 5 < order.index("ana")


def answering(found: Planning, step: Callable[[Planning], Step]) -> Step:
    """Plan at once unless the planning's step hangs, like a store that has recovered."""
    return Step(plan=Plan(found.scan)) if not found.lock.locked() else step(found)


async def test_between_the_steps_of_a_long_plan_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plan of a thousand steps delays another tenant's quantum by fewer than five steps."""
    files, found = Files(monkeypatch, steps=1000), planner(slots=1)
    pool = found.resources.pool
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.plan, Scan("huge"), "ana", 60, MOST)
        await _until(files.began)
        files.gate.set()
        taken = await pool.run("b", Tier.INTERACTIVE, lambda: len(files.taken), principal="bob")
        assert taken < 5
    assert 1000 == len(files.taken)
    assert 1 == len(files.made)


async def test_a_step_costs_what_it_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is charged ``SMALL_COST`` and ``FILE_COST`` for each file it looked at."""
    files, found = Files(monkeypatch, steps=3), planner()
    files.gate.set()
    await found.plan(Scan("one"), "ana", 60, MOST)
    assert {"a": 3 * (SMALL_COST + 100 * planning.FILE_COST)} == found.resources.pool.served_bytes()


async def test_who_waits_for_anothers_step_has_no_slot_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three scans of a table whose store hangs occupy one of two slots of the work pool."""
    files, found = Files(monkeypatch), planner(slots=2)
    pool = found.resources.pool
    async with trio.open_nursery() as nursery:
        for name in ("ana", "bob", "cy"):
            nursery.start_soon(found.plan, Scan("one", name), name, 60, MOST)
        await _until(files.began)
        with trio.fail_after(60):
            for _ in range(5):
                assert 1 == await pool.run("b", Tier.INTERACTIVE, lambda: 1)
            while pool.waiting or pool.running != 1:
                await trio.lowlevel.checkpoint()
        files.gate.set()
    assert 1 == len(files.made)


async def test_a_plan_that_does_not_come_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that hangs delays only its caller: another caller starts the plan anew."""
    files, found = Files(monkeypatch), planner()
    monkeypatch.setattr(planning, "WAIT_SECONDS", 0)
    plans: list[str] = []

    async def ask(columns: str) -> None:
        plans.append((await found.plan(Scan("one", columns), "ana", 60, MOST)).scan.columns)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "hangs")
        await _until(files.began)
        monkeypatch.setattr(planning, "plan_step", lambda found: answering(found, files.step))
        with trio.fail_after(60):
            await ask("quick")
        assert ["quick"] == plans
        files.gate.set()
    assert ["quick", "hangs"] == plans


async def test_a_slow_plan_is_gone_on_with_by_who_began_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller with a slow step keeps its planning while others start their own."""
    files, found = Files(monkeypatch, steps=3), planner()
    monkeypatch.setattr(planning, "WAIT_SECONDS", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.plan, Scan("one", "slow"), "ana", 60, MOST)
        await _until(files.began)
        nursery.start_soon(found.plan, Scan("one", "other"), "bob", 60, MOST)
        with trio.fail_after(60):
            while len(files.begun) < 2:
                await trio.lowlevel.checkpoint()
        files.gate.set()
    assert min(begun.left for begun in files.begun) == 0
    assert all(begun.left < 3 for begun in files.begun)
    assert len(files.taken) <= 3 * len(files.begun)


async def test_a_plan_that_was_given_up_is_gone_on_with_when_it_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planning that timed out is continued by the next request, not repeated."""
    files, found = Files(monkeypatch, steps=3), planner()
    with pytest.raises(RefusalError) as caught:
        await found.plan(Scan("one"), "ana", 0.01, MOST)
    assert "plan_timeout" == caught.value.refused.code
    files.gate.set()
    with trio.fail_after(60):
        await found.plan(Scan("one"), "ana", 60, MOST)
    assert 1 == len(files.begun)
    assert 3 == len(files.taken)
    assert 0 == len(found.unfinished)


async def test_a_scan_of_too_many_files_is_refused_at_once_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused without a step under the same limit or a lower one, and planned under a higher one."""
    files, found = Files(monkeypatch, steps=5), planner()
    files.gate.set()
    for most in (4, 4, 2):
        with pytest.raises(RefusalError) as caught:
            await found.plan(Scan("one"), "ana", 60, most)
        assert too_many_files(most) == caught.value.refused
    assert 1 == len(files.taken)
    assert Plan(Scan("one")) == await found.plan(Scan("one"), "ana", 60, 5)
    assert 6 == len(files.taken)


async def test_a_plan_that_is_made_under_another_limit_refuses_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scan with a higher limit does not join a planning that will exceed a lower one."""
    files, found, refused = Files(monkeypatch, steps=5), planner(), []

    async def too_large() -> None:
        with pytest.raises(RefusalError) as caught:
            await found.plan(Scan("one"), "ana", 60, 4)
        refused.append(caught.value.refused)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(too_large)
        await _until(files.began)
        nursery.start_soon(found.plan, Scan("one"), "ana", 60, 5)
        with trio.fail_after(60):
            while len(files.taken) < 2:
                await trio.lowlevel.checkpoint()
        files.gate.set()
    assert [too_many_files(4)] == refused
    assert [Scan("one")] == files.made
