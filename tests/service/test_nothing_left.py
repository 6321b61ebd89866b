"""After every time limit and every cancellation nothing of a query is left, here or on an executor."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from processes import family
from service_kit import Running, Warehouse, identity, numbers, running
from sidecar_kit import Served, executor

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection

SLOW = "SELECT count(*) AS n FROM range(1000000000) a, range(1000000) b WHERE a.range + b.range = 7"

LATE, PATIENT = "team-late", "team-patient"
"""Tenants: queries of the first have half a second, of the second as long as they take."""

ROUNDS = 3
"""Queries of each tenant whose processes and descriptors are counted."""


@attrs.frozen
class Place:
    """Where queries run, and what they use there.

    Attributes:
        service: The server.
        served: The executor; None: queries run beside the server.
        directories: Where queries have their files.
    """

    service: Running
    served: Served | None
    directories: tuple[Path, ...]

    def queries(self) -> int:
        """Return how many queries have a process."""
        if self.served is not None:
            return self.served.app.runner._sql.running
        return self.service.service.registry.resources.transforms.launcher.running

    def held(self) -> dict[str, object]:
        """Return what queries hold, by its name; nothing is falsy."""
        registry = self.service.service.registry
        transforms = registry.resources.transforms
        found = {
            "slots": sum(
                slots.used for one in registry.tenants() for slots in one.actor.builder.slots.values()
            ),
            "memory": registry.resources.memory.used,
            "processes": self.queries() + transforms.launcher.running,
            "signed urls": len(transforms.pulls.pulls),
            "executions": len(self.served.app.running) if self.served is not None else 0,
            "files": [one for directory in self.directories for one in directory.glob("*")],
            "processor": [pid for pid in family(os.getpid())[1:] if is_busy(pid)],
        }
        return {name: what for name, what in found.items() if what}


def is_busy(pid: int) -> bool:
    """Return whether a process computes, or would if a processor were free."""
    with suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    return False


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.parametrize("where", ["embedded", "direct", "signed"])
async def test_nothing_is_left_of_a_query_that_is_late_or_cancelled(
    settings: Settings, warehouse: Warehouse, tmp_path: Path, where: str
) -> None:
    """No process, processor time, file, slot, memory, signed URL, execution, or descriptor."""
    warehouse.create(numbers(3))
    async with AsyncExitStack() as stack:
        served = None
        more: dict[str, str] = {}
        directories = [Path(settings.cache_dir) / ".spill"]
        if where != "embedded":
            (tmp_path / "token").write_text("secret")
            served = await stack.enter_async_context(executor(tmp_path / "builds"))
            directories.append(tmp_path / "builds")
            more = {"executor_url": served.url, "token_file": str(tmp_path / "token")}
        if where == "signed":
            more |= {"transport": "signed", "strata_url": "http://127.0.0.1:1"}
        entries = (
            RegisteredTransform("duckdb_sql@v1", tenants=(LATE,), timeout_seconds=0.5, **more),
            RegisteredTransform("duckdb_sql@v1", **more),
        )
        settings = attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=entries))
        service = await stack.enter_async_context(running(settings))
        transforms = service.service.registry.resources.transforms
        if where == "signed":
            transforms.registry = tuple(
                attrs.evolve(one, strata_url=service.url) for one in transforms.registry
            )
        place = Place(service, served, tuple(directories))
        late = await stack.enter_async_context(service.client(**identity("ana", LATE)))
        patient = await stack.enter_async_context(service.client(**identity("bob", PATIENT)))
        before = processes = 0
        for number in range(1 + ROUNDS):
            record = await ended(late, await begin(late, number))
            assert ("failed", "transform_timeout") == (record["state"], record["error_code"])
            await nothing_is_held(place)
            build_id = await begin(patient, number)
            with trio.fail_after(60):
                while not place.queries():  # noqa: ASYNC110  # a process has no event to wait for
                    await trio.sleep(0.01)
            cancelled = await patient.post(f"/v1/builds/{build_id}/cancel")
            assert cancelled.json()["cancelled"], cancelled.text
            record = await ended(patient, build_id)
            assert ("failed", "cancelled") == (record["state"], record["error_code"])
            await nothing_is_held(place)
            if number == 0:  # connections, processes that wait for queries, and threads stay from here on
                before, processes = descriptors(), len(family(os.getpid()))
        with trio.fail_after(60):
            while counted_more(processes, before):  # noqa: ASYNC110  # as above
                await trio.sleep(0.01)


def counted_more(processes: int, opened: int) -> bool:
    """Return whether each query has left a process or a descriptor; of those that wait, some come and go."""
    queries = 2 * ROUNDS
    return len(family(os.getpid())) >= processes + queries or descriptors() >= opened + queries


async def begin(client: httpx.AsyncClient, number: int) -> str:
    transform = {"executor": "duckdb_sql@v1", "params": {"sql": f"{SLOW} AND a.range > {number}"}}
    body = {"inputs": ["wh:db.events"], "transform": transform, "mode": "artifact"}
    begun = await client.post("/v1/materialize", json=body)
    assert 200 == begun.status_code, begun.text
    return begun.json()["build_id"]


async def ended(client: httpx.AsyncClient, build_id: str) -> dict:
    with trio.fail_after(60):
        while True:
            found = (await client.get(f"/v1/builds/{build_id}")).json()
            if found["state"] == "failed":
                return found
            await trio.sleep(0.01)


async def nothing_is_held(place: Place) -> None:
    """Wait until queries hold nothing."""
    with trio.move_on_after(60):  # a busy machine takes its time to end processes
        while place.held():  # noqa: ASYNC110  # the system has no event for it
            await trio.sleep(0.01)
    assert {} == place.held()
