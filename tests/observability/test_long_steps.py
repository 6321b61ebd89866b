"""A step of a task that holds the event loop is counted, and logged with the task's name."""

from __future__ import annotations

import loop_budget
import trio
import trio.testing
from structlog.testing import capture_logs

from strata.tenants.stats.runtime import BUDGET_SECONDS, LINE_EVERY_SECONDS, LongSteps, RuntimeStats


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_steps_beyond_the_budget_are_counted_with_the_longest_one() -> None:
    """A step within the budget is not; the time between two checkpoints counts, not that of the whole task."""
    clock = Clock()
    steps = LongSteps(clock)

    async def work() -> None:
        for seconds in (BUDGET_SECONDS, 0.07, 0.3, 0.06):
            clock.now += seconds
            await trio.lowlevel.checkpoint()

    trio.lowlevel.add_instrument(steps)
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
    trio.lowlevel.remove_instrument(steps)
    assert (3, 0.3) == (steps.count, round(steps.longest, 6))
    [line] = lines
    assert ("event loop held", 0.07, 0) == (line["event"], line["seconds"], line["more"])
    assert line["task"].endswith(".work")


async def test_lines_are_rate_limited_and_say_how_many_there_were() -> None:
    """One line in ten seconds; the next one counts those that had none."""
    clock = Clock()
    steps, task = LongSteps(clock), trio.lowlevel.current_task()
    with capture_logs() as lines:
        for pause in (0.0, 1.0, 1.0, LINE_EVERY_SECONDS):
            clock.now += pause
            steps.before_task_step(task)
            clock.now += 0.1
            steps.after_task_step(task)
    assert [0, 2] == [line["more"] for line in lines]


async def test_the_step_in_which_measuring_begins_is_measured_from_there() -> None:
    """Its beginning was not seen, and the clock's zero is that of the machine."""
    clock = Clock()
    clock.now = 4000.0
    stats = RuntimeStats(long_steps=LongSteps(clock))
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stats.watch)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert (0, []) == (stats.long_steps.count, lines)


async def test_the_server_measures_until_it_ends() -> None:
    """The instrument is there while the figures are watched, and gone afterwards."""
    stats = RuntimeStats()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stats.watch)
        await trio.testing.wait_all_tasks_blocked()
        stats.long_steps.before_task_step(trio.lowlevel.current_task())
        nursery.cancel_scope.cancel()
    try:
        trio.lowlevel.remove_instrument(stats.long_steps)
    except KeyError:
        return
    raise AssertionError("the instrument is still there")


async def test_the_suite_notices_a_server_task_and_no_task_of_a_test() -> None:
    """The name of a task tells whose it is; garbage collection is not its work."""
    clock, held = Clock(), []
    budget = loop_budget.LoopBudget(held.append, clock)
    trio.lowlevel.add_instrument(budget)

    async def work() -> None:
        clock.now += 1.0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, name="strata.http.serving.serve")
        nursery.start_soon(work)
    trio.lowlevel.remove_instrument(budget)
    assert ["strata.http.serving.serve held the event loop for 1000 ms"] == held
