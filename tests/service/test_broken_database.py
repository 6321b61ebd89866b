"""A PostgreSQL whose connections break at random moments: each request ends, and nothing acknowledged is lost."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import attrs
import crash_load
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


@attrs.define
class Clients(crash_load.Clients):
    """Clients whose builds are often the same, and which count how their requests end."""

    statuses: Counter[int] = attrs.field(factory=Counter)
    down: int = 0

    async def build(self) -> None:
        """Build a result of a few rows, and read it."""
        limit, name = self.draw.randrange(1, 9), self.draw.choice(crash_load.NAMES)
        body = scan(self.tables[0], params={"limit": limit}, name=name)
        body["refresh"] = self.draw.random() < 0.3
        answer = await self.client.post("/v1/materialize", json=body)
        if not self.ended(answer):
            return
        try:
            data = await self.client.get(answer.json()["stream_url"])
        except Exception:  # noqa: BLE001  # the stream was torn: its build failed
            self.statuses[0] += 1
            return
        record = await self.client.get(crash_load.path_of(answer.json()["artifact_uri"]))
        if data.status_code == record.status_code == 200 and record.json()["state"] == "ready":
            self.acknowledged.append(("ready", answer.json()["artifact_uri"]))

    def ended(self, answer: httpx.Response) -> bool:
        """Count how a request ended; returns whether it was carried out."""
        self.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            self.down += answer.json()["error"] == "metadata_store_down"
            assert int(answer.headers["Retry-After"]) > 0
        return crash_load.done(answer)


async def test_connections_that_break_lose_nothing_that_was_acknowledged(
    settings: Settings,
    warehouse: Warehouse,
    postgresql: str,
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
    acknowledged: list[tuple[str, Any]] = []
    async with open_service(stored) as service:
        store: Any = service.registry.resources.metadata
        for engine in (store.database.engine, store.database._apart):
            engine.dispose()
            breaker.watch(engine)
        transport = httpx.ASGITransport(app=service.app)  # type: ignore[arg-type]  # ASGI by its own types
        async with httpx.AsyncClient(
            transport=transport, base_url="http://strata", headers=crash_load.PEOPLE
        ) as client:
            clients = Clients(client, (warehouse.uri(), ""), random.Random(3), acknowledged)
            breaker.one_in = ONE_IN
            for _ in range(ROUNDS):
                with trio.fail_after(120):
                    async with trio.open_nursery() as nursery:
                        for kind in clients.kinds():
                            nursery.start_soon(kind)
            breaker.one_in = {}
            [tenant] = service.registry.tenants()
            assert 0 == tenant.metrics.restarts
            body = scan(warehouse.uri(), params={"limit": 20})
            with trio.fail_after(120):
                while (answer := await client.post("/v1/materialize", json=body)).status_code != 200:  # noqa: ASYNC110  # a busy machine
                    await trio.sleep(0.05)
            assert answer.json()["stream_url"]
    assert min(breaker.broken["statement"], breaker.broken["commit"]) > 5, breaker.broken
    assert clients.down > 0, clients.statuses
    await check(stored, acknowledged)
    done = Counter(kind for kind, _ in acknowledged)
    assert min(done["ready"], done["name"]) > 0, f"nothing was done: {done}"
