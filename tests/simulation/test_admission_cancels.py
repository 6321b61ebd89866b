"""Three thousand cancellations at every await of admission, from the front door to a build's first byte, leak nothing."""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
from strata.http.door.front_door import FrontDoor
from strata.server import Service, open_service
from strata.tables import Catalogs
from strata.tenants.budgets import disk_space
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.runner import Builder, _BuildRun
from strata.tenants.builds.scan_pipeline import ScanBuild
from strata.tenants.lifecycle.registry import Registry
from strata.tenants.retention.finished import FinishedResults
from strata.tenants.retention.storage import TenantStorage
from strata.work import AdmissionQueue

CANCELS = 3000
WORKERS = 12
REST_SECONDS = 900.0

STAGES: dict[str, tuple[type, str]] = {
    "the tarpit": (FrontDoor, "_refuse_slowly"),
    "the admission queue": (AdmissionQueue, "take"),
    "the mailbox": (Registry, "_put"),
    "the catalog": (Materializer, "resolve"),
    "the store": (FinishedResults, "find"),
    "the turn to start": (_BuildRun, "_wait_to_start"),
    "the plan": (Builder, "plan"),
    "the look at the disk": (TenantStorage, "look"),
    "the slot": (_BuildRun, "_take_slot"),
    "the memory": (_BuildRun, "_reserve_memory"),
    "the blob": (_BuildRun, "_open_blob"),
    "the rows": (ScanBuild, "_expand"),
}
"""Places where an attempt waits, in order."""


class Cancels(trio.abc.Instrument):
    """Cancel each attempt after a number of steps of all tasks, so that each ends at some await of its work."""

    def __init__(self) -> None:
        self.left: dict[Callable[[], object], int] = {}

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See Trio."""
        del task
        for end in list(self.left):
            self.left[end] -= 1
            if self.left[end] <= 0:
                del self.left[end]
                end()


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Places at which attempts were cancelled."""
    found: Counter[str] = Counter()

    def counting(stage: str, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*args: Any, **kwargs: Any) -> Any:
            before = trio.current_effective_deadline()
            try:
                return await real(*args, **kwargs)
            finally:  # count all awaits: a cancelled task still waits for its thread
                found[stage] += before > trio.current_effective_deadline() == -math.inf

        return counted

    read_here(monkeypatch)
    monkeypatch.setattr(disk_space, "SECONDS", 0)  # each build checks the disk
    for stage, (owner, name) in STAGES.items():
        monkeypatch.setattr(owner, name, counting(stage, getattr(owner, name)))
    return found


def settings_of(root: Path) -> Settings:
    """Return small limits, so that attempts wait at each of them."""
    return Settings(
        deployment_mode="service", auth_mode="trusted_proxy", proxy_token=TOKEN, multi_tenant_enabled=True,
        require_tenant_header=True, artifact_dir=str(root / "artifacts"), cache_dir=str(root / "cache"),
        warehouses={"wh": str(lake().path)}, work_slots=2, fetch_parallelism=2, max_concurrent_scans=9,
        interactive_slots=2, bulk_slots=1, interactive_slots_per_principal=1, interactive_max_columns=2,
        memory_budget_bytes=150_000, disk_reserve_bytes=1, rate_limit_client_rps=10, rate_limit_scan_rps=8,
        rate_limit_bytes_per_second=1_000_000, stream_state_ttl_seconds=20, tenant_idle_seconds=10 * REST_SECONDS,
    )  # fmt: skip


@attrs.define(eq=False)
class Attempts:
    """Send requests for a result, in sequence by each of several callers; most are cancelled."""

    service: Service
    cancels: Cancels
    draw: random.Random
    left: int = CANCELS
    statuses: Counter[int] = attrs.field(factory=Counter)

    async def work(self, caller: Caller) -> None:
        while self.left:
            self.left -= 1
            await self.one(caller)
            await trio.sleep(self.draw.random() * 0.1)

    async def one(self, caller: Caller) -> None:
        condition = {"column": "id", "op": ">=", "value": self.draw.randint(0, 300)}
        columns = self.draw.choice([["id"], ["id", "value"], ["id", "owner", "value"]])
        body = {
            "inputs": [f"file://{lake().path}#{SHARED}.t"],
            "transform": {"executor": "scan@v1", "params": {"columns": columns, "filters": [condition]}},
            "mode": self.draw.choice(["stream", "artifact"]),
        }
        wire = Wire(json.dumps(body).encode(), Manner())
        pairs = [*caller.headers(), (b"content-type", b"application/json")]
        if self.draw.random() < 0.3:
            pairs.append((b"accept", b"application/vnd.apache.arrow.stream"))
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/materialize",
            "query_string": b"", "headers": pairs, "client": ("10.0.0.1", 1),
        }  # fmt: skip
        with trio.CancelScope() as patience:
            end = self.draw.choice([patience.cancel, wire.hang_up])
            self.cancels.left[end] = int(2 ** (self.draw.random() * 11.5))
            await self.service.app(scope, wire.receive, wire.send)
        self.cancels.left.pop(end, None)
        self.statuses[wire.answer.status] += 1


def held(service: Service) -> dict[str, object]:
    """Return each resource of an attempt that is not as at the start, by name."""
    registry, resources = service.registry, service.registry.resources
    now = trio.current_time()
    turns = resources.turns
    found: dict[str, object] = {
        "memory": (resources.memory.used, resources.memory.waiting, len(resources.memory._leases)),
        "threads that wait": [repr(group) for group in resources.threads if not group.idle],
        "the pool": (resources.pool.running, resources.pool.waiting, resources.pool.running_bulk),
        "turns on the loop": (len(turns._waiting), int(turns._taken)),
        "refusals in the tarpit": service.app.tarpit.held,
        "tokens of requests": (service.app.admission.taken, service.app.admission.waiting),
        "turns to start": (resources.starts.taken, resources.starts.waiting),
        "rates": sum(not rates.at_rest(now) for rates in registry.rates),
        "places in the queues of rates": sum(len(rates._lapsing) for rates in registry.rates),
    }
    for tenant in registry.tenants():
        actor = tenant.actor
        assert actor is not None
        assert actor.builder is not None
        assert actor.materializer is not None
        found[f"questions of {tenant.id}"] = (len(tenant.open), actor.busy)
        found[f"builds of {tenant.id}"] = (
            len(actor.materializer.running),
            len(actor.materializer.by_id),
            int(not actor.idle),
        )
        for tier, slots in actor.builder.slots.items():
            found[f"{tier.value} slots of {tenant.id}"] = (
                slots.used,
                slots.waiting,
                len(slots._leases),
                slots._shares.keys,
            )
            found[f"promises of {tier.value} slots of {tenant.id}"] = sum(
                slots._estimator.claim(f"p{n}", now) for n in range(9)
            )
    return {
        what: value for what, value in found.items() if any(value if isinstance(value, tuple) else [value])
    }


async def attempt(root: Path, draw: random.Random, cancels: Cancels) -> Counter[int]:
    """Run all attempts, wait for all work, and check that no resource is held; return their statuses."""
    for name in ("artifacts/blobs", "cache"):
        (root / name).mkdir(parents=True)
    catalogs = Catalogs(warehouses={"wh": lake().path}, catalogs={}, any_file_warehouse=False)
    catalogs._sqlite = {"wh": CatalogTwin(lake(), dict.fromkeys(lake().tables, 0), draw, 0.0)}
    metadata = metadata_twin(draw, 0.0)
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
    async with open_service(settings_of(root), stores=lambda _settings: stores, catalogs=catalogs) as service:
        attempts = Attempts(service, cancels, draw)
        async with trio.open_nursery() as nursery:
            for number in range(WORKERS):
                nursery.start_soon(attempts.work, Caller("red" if number % 3 else "blue", f"p{number % 4}"))
        await trio.sleep(REST_SECONDS)
        assert {"blue", "red"} == {tenant.id for tenant in service.registry.tenants()}, (
            "still there to be looked at"
        )
        assert {} == held(service)
    return attempts.statuses


@pytest.mark.slow
def test_three_thousand_cancels_at_every_await_of_admission_leak_nothing(struck: Counter[str]) -> None:
    """Slots, memory, threads of disk and store, rates, retry promises and admissions are as at the start."""
    draw, cancels = random.Random(11), Cancels()
    _schedule(12)
    with (
        tempfile.TemporaryDirectory(prefix="strata-cancels-", dir=_memory()) as root,
        Threads(draw, 0.1).instead(),
    ):
        run = partial(attempt, Path(root), draw, cancels)
        statuses = trio.run(run, clock=MockClock(autojump_threshold=0), instruments=[cancels])
    assert CANCELS == statuses.total()
    assert {0, 200, 429} <= set(statuses)
    assert set(STAGES) == {stage for stage, times in struck.items() if times}, struck
