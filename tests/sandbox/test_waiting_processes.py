"""Processes that are forked before they are asked for: each runs one job, and none is left over."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from processes import family, state, waiting

from strata.sandbox.launcher import Launcher


@pytest.fixture
async def launcher() -> AsyncIterator[Launcher]:
    found = Launcher("waiting_job")
    yield found
    await found.close()


async def answer(launcher: Launcher) -> dict[str, Any]:
    with trio.fail_after(60):
        async with launcher.process() as process:
            await process.give({}, [0])
            return dict((await process.receive()).facts())


async def test_a_job_is_given_to_a_process_that_has_rehearsed(launcher: Launcher) -> None:
    """The first has none that waits; each later one takes one, which no other job has used or can reach."""
    before = family(os.getpid())
    first = await answer(launcher)
    assert (0, 1) == (first["rehearsals"], first["sockets"])
    seen = {first["pid"]}
    for _ in range(3):
        there = await waiting(before)
        found = await answer(launcher)
        assert found["pid"] in there
        assert (1, 1) == (found["rehearsals"], found["sockets"])
        assert found["pid"] not in seen
        seen.add(found["pid"])


async def test_no_job_waits_for_a_rehearsal() -> None:
    """While the processes for later jobs still rehearse, each job has one that is forked for it."""
    before, launcher = family(os.getpid()), Launcher("waiting_job:load_unready")
    try:
        await answer(launcher)
        rehearsing = await waiting(before)
        found = await answer(launcher)
        assert 0 == found["rehearsals"]
        assert rehearsing == await waiting(before)
    finally:
        await launcher.close()


async def test_waiting_processes_that_have_ended_are_replaced(launcher: Launcher) -> None:
    """A kernel that is out of memory ends them before others."""
    before = family(os.getpid())
    await answer(launcher)
    ended = await waiting(before)
    for pid in ended:
        assert "1000" == Path(f"/proc/{pid}/oom_score_adj").read_text().strip()
        os.kill(pid, signal.SIGKILL)
    with trio.fail_after(60):
        while any(state(pid) != "Z" for pid in ended):  # noqa: ASYNC110  # the kernel tells no event
            await trio.sleep(0.01)
    found = await answer(launcher)
    assert found["pid"] not in ended
    assert not set(ended).intersection(await waiting(before))


async def test_waiting_processes_end_with_the_one_that_forked_them(launcher: Launcher) -> None:
    """At a stop, and when that process is killed."""
    before = family(os.getpid())
    await answer(launcher)
    left = await waiting(before)
    server = next(pid for pid in family(os.getpid()) if pid not in before)
    os.kill(server, signal.SIGKILL)
    with trio.fail_after(60):
        while any(Path(f"/proc/{pid}").exists() for pid in left):  # noqa: ASYNC110  # as above
            await trio.sleep(0.01)
    found = await answer(launcher)
    assert found["pid"] not in left
