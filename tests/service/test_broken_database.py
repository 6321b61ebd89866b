"""A PostgreSQL whose connections break at random moments: each request ends, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import crash_child
import httpx
import pytest
import trio
from broken_database import Breaker
from crash_check import check
from postgres_kit import dsn, new_database
from service_kit import Warehouse, numbers, scan

from strata.artifacts.database import postgres as module
from strata.config import Settings
from strata.server import open_service

pytestmark = pytest.mark.slow

ROUNDS = 40
ONE_IN = {"statement": 30, "commit": 4}


class Worker(crash_child.Worker):
    """A client whose builds are often the same, and which counts how its requests end."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.statuses: Counter[int] = Counter()
        self.down = 0

    async def build(self) -> None:
        body = scan(
            self.table, params={"limit": self.draw.randrange(1, 9)}, name=self.draw.choice(crash_child.NAMES)
        )
        body["refresh"] = self.draw.random() < 0.3
        answer = await self.client.post("/v1/materialize", json=body)
        if not self.done(answer):
            return
        try:
            data = await self.client.get(answer.json()["stream_url"])
        except Exception:  # noqa: BLE001  # the stream was torn: its build failed
            self.statuses[0] += 1
            return
        record = await self.client.get(crash_child._path(answer.json()["artifact_uri"]))
        if data.status_code == record.status_code == 200 and record.json()["state"] == "ready":
            self.tell(ready=answer.json()["artifact_uri"])

    def done(self, answer: httpx.Response) -> bool:
        self.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            self.down += answer.json()["error"] == "metadata_store_down"
            assert int(answer.headers["Retry-After"]) > 0
        return crash_child._done(answer)


async def test_connections_that_break_lose_nothing_that_was_acknowledged(
    settings: Settings,
    warehouse: Warehouse,
    postgresql: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Builds, uploads, names and collections go on or are refused; afterwards rows, bytes, sums and audit agree."""
    warehouse.create(numbers(50))
    address = dsn(new_database(postgresql))
    stored = attrs.evolve(
        settings, service_writes_enabled=True, artifact_gc_interval_seconds=0, artifact_metadata_dsn=address
    )
    breaker = Breaker(address, random.Random(7))
    monkeypatch.setattr(module, "_connect", breaker.connecting(module._connect))
    acknowledged = tmp_path / "acknowledged"
    log = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with open_service(stored) as service:
        store: Any = service.registry.resources.metadata
        for engine in (store.database.engine, store.database._apart):
            engine.dispose()
            breaker.watch(engine)
        transport = httpx.ASGITransport(app=service.app)  # type: ignore[arg-type]  # ASGI by its own types
        async with httpx.AsyncClient(
            transport=transport, base_url="http://strata", headers=crash_child.PEOPLE
        ) as client:
            worker = Worker(client, warehouse.uri(), random.Random(3), log)
            worker.tell(started=True)
            kinds = [worker.build] * 5 + [worker.upload, worker.name, worker.name, worker.collect]
            breaker.one_in = ONE_IN
            for _ in range(ROUNDS):
                with trio.fail_after(120):
                    async with trio.open_nursery() as nursery:
                        for kind in worker.draw.sample(kinds, 3):
                            nursery.start_soon(kind)
            breaker.one_in = {}
            [tenant] = service.registry.tenants()
            assert 0 == tenant.metrics.restarts
            body = scan(warehouse.uri(), params={"limit": 20})
            with trio.fail_after(120):
                while (answer := await client.post("/v1/materialize", json=body)).status_code != 200:  # noqa: ASYNC110  # a busy machine
                    await trio.sleep(0.05)
            assert answer.json()["stream_url"]
    os.close(log)
    assert min(breaker.broken["statement"], breaker.broken["commit"]) > 5, breaker.broken
    assert worker.down > 0, worker.statuses
    done = await check(stored, acknowledged)
    assert min(done["ready"], done["name"]) > 0, f"nothing was done: {done}"
