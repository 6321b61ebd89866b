"""How often a request for a small finished result yields: each time it waits for all other tasks of the loop."""

from collections import Counter

import trio
import trio.testing
from service_kit import Warehouse, fetch, numbers, running, scan

from strata.config import Settings

MOST_STEPS = 4
"""Of the task that answers: it asks the tenant's actor, it answers, it ends."""


class Steps(trio.abc.Instrument):
    """Count the steps of each task that answers a request."""

    def __init__(self) -> None:
        self.of: Counter[trio.lowlevel.Task] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name == "strata.http.serving.protocol.Tasks._run":
            self.of[task] += 1


async def test_a_small_finished_result_takes_few_passes_of_the_loop(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Each request of the pair takes few steps: the actor, the answer and its end."""
    warehouse.create(numbers(100))
    async with running(settings) as server, server.client() as client:
        for _ in range(3):
            await fetch(client, scan(warehouse.uri()))
        await trio.testing.wait_all_tasks_blocked(0.01)  # the last answer is over for its own task, too
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        assert 100 == (await fetch(client, scan(warehouse.uri()))).num_rows
        await trio.testing.wait_all_tasks_blocked(0.01)
        trio.lowlevel.remove_instrument(steps)
    assert 2 == len(steps.of)
    assert max(steps.of.values()) <= MOST_STEPS
