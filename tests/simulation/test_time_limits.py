"""Deadlines of a build are exact to the millisecond of a virtual clock."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import attrs
import pytest
import trio
from memory_notebooks import MemoryNotebookStore
from memory_registry import MemoryRegistry
from memory_retention import MemoryRetention
from reading_here import read_here
from simulator.lake import SHARED, lake
from simulator.run import _memory, _schedule
from simulator.twins import CatalogTwin, Threads, metadata_twin
from simulator.wire import TOKEN, Caller, Manner, Wire
from trio.testing import MockClock

from strata.artifacts import LocalBlobStore
from strata.config import Settings
from strata.server import Service, open_service
from strata.tables import Catalogs
from strata.tenants.builds.runner import _BuildRun

PAUSE = 1.0
"""Virtual seconds of each call in a thread."""

JUST = 0.001


class AlwaysLongest(random.Random):
    """Make every pause as long as possible."""

    def random(self) -> float:
        return 1.0


def settings_of(root: Path) -> Settings:
    return Settings(
        deployment_mode="service", auth_mode="trusted_proxy", proxy_token=TOKEN, multi_tenant_enabled=True,
        artifact_dir=str(root / "artifacts"), cache_dir=str(root / "cache"), warehouses={"wh": str(lake().path)},
        work_slots=64, max_fetch_workers=64, disk_reserve_bytes=0, rate_limit_enabled=False,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process runs on the virtual clock."""
    read_here(monkeypatch)


async def on_the_clock(work: Callable[[Service], Awaitable[Any]]) -> Any:
    with tempfile.TemporaryDirectory(prefix="strata-deadlines-", dir=_memory()) as name:
        root = Path(name)
        for part in ("artifacts/blobs", "cache"):
            (root / part).mkdir(parents=True)
        catalogs = Catalogs(warehouses={"wh": lake().path}, catalogs={}, any_file_warehouse=False)
        catalogs._sqlite = {"wh": CatalogTwin(lake(), dict.fromkeys(lake().tables, 0), random.Random(1), 0.0)}
        metadata = metadata_twin(random.Random(2), 0.0)
        stores = SimpleNamespace(
            retention=MemoryRetention(metadata),
            registry=MemoryRegistry(metadata),
            notebooks=MemoryNotebookStore(lambda: 0.0),
            accesses=None,
            metadata=metadata,
            blobs=LocalBlobStore(root / "artifacts" / "blobs"),
            root=root / "artifacts",
            servers=None,
            close=lambda: None,
        )
        async with open_service(
            settings_of(root), stores=lambda _settings: stores, catalogs=catalogs
        ) as service:
            return await work(service)


def run(work: Callable[[Service], Awaitable[Any]]) -> Any:
    """Run ``work`` with a service on a virtual clock, whose threads take a second each."""
    _schedule(3)
    with Threads(AlwaysLongest(), PAUSE).instead():
        return trio.run(partial(on_the_clock, work), clock=MockClock(autojump_threshold=0))


async def built(service: Service, number: int) -> str:
    """Request a different result for each number; return how its build ended."""
    condition = {"column": "id", "op": ">=", "value": number}
    body = {
        "inputs": [f"file://{lake().path}#{SHARED}.t"],
        "transform": {"executor": "scan@v1", "params": {"filters": [condition]}},
        "mode": "artifact",
    }
    wire = Wire(json.dumps(body).encode(), Manner())
    pairs = [*Caller("red", "ana").headers(), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/materialize",
        "query_string": b"", "headers": pairs, "client": ("10.0.0.1", 1),
    }  # fmt: skip
    tenant = service.registry.find("red")
    before = {} if tenant is None else dict(tenant.metrics.builds)
    await service.app(scope, wire.receive, wire.send)
    tenant = service.registry.find("red")
    assert tenant is not None
    assert tenant.actor is not None
    assert tenant.actor.materializer is not None
    while tenant.actor.materializer.running:  # noqa: ASYNC110  # the end of builds has no event
        await trio.sleep(1)
    [outcome] = [how for how, times in tenant.metrics.builds.items() if times != before.get(how)]
    return outcome


def limited(service: Service, **limits: float) -> None:
    service.take(attrs.evolve(service.settings, **limits), None)


@pytest.mark.parametrize(
    ("setting", "code"),
    [("plan_timeout_seconds", "plan_timeout"), ("fetch_timeout_seconds", "fetch_timeout")],
)
def test_what_takes_as_long_as_it_may_is_done_and_what_takes_longer_is_not(setting: str, code: str) -> None:
    """Deadlines of plans and slices are exact, and follow a limit that is lowered and raised in a running actor."""

    async def work(service: Service) -> list[str]:
        found = []
        for number, seconds in enumerate((PAUSE + JUST, PAUSE - JUST, PAUSE + JUST)):
            limited(service, **{setting: seconds})
            for tenant in service.registry.tenants():
                assert tenant.actor is not None
                assert tenant.actor.builder is not None
                planner = tenant.actor.builder.planner
                planner.plans.clear()  # otherwise the plan is remembered
            found.append(await built(service, number))
        return found

    assert ["ready", code, "ready"] == run(work)


def test_a_scan_has_exactly_as_long_as_it_may() -> None:
    """`scan_timeout_seconds` ends a build at any moment before its last call of the store, which cannot be undone."""
    took: list[float] = []
    real = _BuildRun._write

    async def timed(*args: Any) -> Any:
        began = trio.current_time()
        try:
            return await real(*args)
        finally:
            took.append(trio.current_time() - began)

    async def work(service: Service) -> list[str]:
        found = [await built(service, 0), await built(service, 1)]
        for number, more in enumerate((JUST - PAUSE, -JUST - PAUSE, JUST - PAUSE), start=2):
            limited(service, scan_timeout_seconds=took[1] + more)
            found.append(await built(service, number))
        return found

    with mock.patch.object(_BuildRun, "_write", timed):
        assert ["ready", "ready", "ready", "scan_timeout", "ready"] == run(work)
    assert took[1] > 3 * PAUSE, "there is something to measure"
