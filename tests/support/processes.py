"""Processes that a test has started, and theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import trio

from strata.sandbox.fork_server import SPARES


def family(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def state(pid: int) -> str:
    """Return the state of a process, as the kernel's letter for it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def waiting(before: Sequence[int]) -> list[int]:
    """Return the ids of the sandboxed processes that wait for a job, once all of them do.

    Args:
        before: Processes of this one before the one that forks was started; it must be the only new one.
    """
    with trio.fail_after(60):
        while True:
            server, *found = [pid for pid in family(os.getpid()) if pid not in before]
            if len(found) == SPARES and all(state(pid) == "S" for pid in found):
                assert server
                return found
            await trio.sleep(0.01)
