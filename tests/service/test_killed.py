"""A process is killed at random moments of builds, uploads, name moves and collections: what was acknowledged holds.

Twenty kills in CI, five hundred each night (`nox -s nightly`), on SQLite and on PostgreSQL with a directory.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import crash_child
import pytest
from crash_check import check, lines_of
from postgres_kit import dsn, new_database
from service_kit import Warehouse, numbers

from strata.config import Settings

STARTING = 60.0
"""Seconds in which a child opens its service."""

ACKNOWLEDGED = 5
"""A child has fewer acknowledged operations before its moment comes."""

LONGEST = 0.2
"""Seconds after them in which a child is killed."""


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    found = attrs.evolve(
        settings, service_writes_enabled=True, log_level="ERROR", artifact_gc_interval_seconds=0
    )
    if request.param == "sqlite":
        return found
    url = new_database(request.getfixturevalue("postgresql"))
    return attrs.evolve(found, artifact_metadata_dsn=dsn(url), artifact_lease_seconds=1)


def work_until_killed(settings: Settings, table: str, draw: random.Random, acknowledged: Path) -> None:
    """Start a child, and kill it at a random moment after its start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crash_child"])
    document = json.dumps(
        {one.name: getattr(settings, one.name) for one in attrs.fields(Settings) if _given(settings, one)}
    )
    before = sum("started" in line for line in lines_of(acknowledged))
    child = context.Process(
        target=crash_child.run, args=(document, table, draw.randrange(2**32), str(acknowledged))
    )
    child.start()
    for _ in range(int(STARTING / 0.01)):
        if not child.is_alive() or sum("started" in line for line in lines_of(acknowledged)) > before:
            break
        child.join(0.01)
    wanted = sum(1 for _ in lines_of(acknowledged)) + draw.randrange(ACKNOWLEDGED)
    for _ in range(int(STARTING / 0.01)):
        if not child.is_alive() or sum(1 for _ in lines_of(acknowledged)) >= wanted:
            break
        child.join(0.01)
    child.join(draw.uniform(0, LONGEST))
    assert child.is_alive(), f"the child ended by itself: {child.exitcode}"
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()


def _given(settings: Settings, field: attrs.Attribute[Any]) -> bool:
    value = getattr(settings, field.name)
    return isinstance(value, str | int | float | bool | dict) and value != field.default


async def kill(settings: Settings, warehouse: Warehouse, tmp_path: Path, times: int) -> None:
    """Kill a process so many times; check after each."""
    warehouse.create(numbers(2000))
    acknowledged, draw = tmp_path / "acknowledged", random.Random(times)
    acknowledged.touch()
    done: Counter[str] = Counter()
    for _ in range(times):
        work_until_killed(settings, warehouse.uri(), draw, acknowledged)
        done = await check(settings, acknowledged)
    assert times == done["started"]
    assert min(done["ready"], done["name"]) > 0, f"the processes did nothing: {done}"


@pytest.mark.slow
async def test_what_was_acknowledged_holds(stored: Settings, warehouse: Warehouse, tmp_path: Path) -> None:
    """After each of ten kills at random moments."""
    await kill(stored, warehouse, tmp_path, 10)


@pytest.mark.nightly
async def test_what_was_acknowledged_holds_after_hundreds_of_kills(
    stored: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """After each of 250 kills at random moments, on each database."""
    await kill(stored, warehouse, tmp_path, 250)
