"""A process that is killed at any moment: builds, uploads, moved names and collections, without a socket.

What a service has acknowledged is appended to a file, a line each; a killed process may lose its last line only.
"""

from __future__ import annotations

import json
import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pyarrow as pa
import trio
from service_kit import identity, scan

from strata.config import Settings
from strata.server import open_service

PEOPLE = identity("ana", scopes="artifacts:write admin:*")
NAMES = ("daily", "weekly", "best")
UPLOAD = {"executor": "made@v1", "params": {}}


def settings_of(document: str) -> Settings:
    return Settings(**json.loads(document))


def run(document: str, table: str, seed: int, acknowledged: str) -> None:
    """Work until killed."""
    trio.run(partial(_work, settings_of(document), table, random.Random(seed), Path(acknowledged)))


@attrs.define
class Worker:
    """One client of the service."""

    client: httpx.AsyncClient
    table: str
    draw: random.Random
    log: int

    def tell(self, **what: Any) -> None:
        os.write(self.log, json.dumps(what).encode() + b"\n")

    async def build(self) -> None:
        limit, name = self.draw.randrange(1, 2000), self.draw.choice([None, *NAMES])
        body = scan(self.table, params={"limit": limit}, **({} if name is None else {"name": name}))
        if self.draw.random() < 0.3:
            body["refresh"] = True
        answer = await self.client.post("/v1/materialize", json=body)
        if not _done(answer):
            return
        if not _done(await self.client.get(answer.json()["stream_url"])):
            return
        record = await self.client.get(_path(answer.json()["artifact_uri"]))
        if record.status_code == 200 and record.json()["state"] == "ready":
            self.tell(ready=answer.json()["artifact_uri"])

    async def upload(self) -> None:
        rows = pa.table({"id": range(self.draw.randrange(1, 50))})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        given = {"inputs": [], "transform": UPLOAD | {"params": {"n": self.draw.randrange(9)}}}
        answer = await self.client.put(
            "/v1/artifacts",
            files={
                "metadata": (None, json.dumps(given), "application/json"),
                "data": ("data.arrow", sink.getvalue().to_pybytes(), "application/vnd.apache.arrow.stream"),
            },
        )
        if _done(answer, 409):
            self.tell(ready=answer.json()["artifact_uri"])

    async def name(self) -> None:
        listing = await self.client.get("/v1/artifacts?state=ready&limit=20")
        found = listing.json()["artifacts"] if _done(listing) else []
        if found:
            target, name = self.draw.choice(found), self.draw.choice(NAMES)
            body = {"name": name, "artifact_id": target["artifact_id"], "version": target["version"]}
            answer = await self.client.post("/v1/names", json=body)
            if _done(answer, 404):
                self.tell(name=name)

    async def collect(self) -> None:
        answer = await self.client.post("/v1/artifacts/gc?min_idle_seconds=0&max_idle_days=0")
        if _done(answer):
            self.tell(collected=answer.json()["deleted_count"])


def _done(answer: httpx.Response, *others: int) -> bool:
    """Whether a request was carried out; a busy machine refuses some with 503, which promises nothing."""
    assert answer.status_code in (200, 201, 503, *others), answer.text
    return answer.status_code in (200, 201)


def _path(uri: str) -> str:
    return f"/v1/artifacts/{uri.removeprefix('strata://artifact/').replace('@v=', '/v/')}"


async def _work(settings: Settings, table: str, draw: random.Random, acknowledged: Path) -> None:
    log = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with open_service(settings) as service:
        transport = httpx.ASGITransport(app=service.app)  # type: ignore[arg-type]  # ASGI by its own types
        async with httpx.AsyncClient(transport=transport, base_url="http://strata", headers=PEOPLE) as client:
            worker = Worker(client, table, draw, log)
            worker.tell(started=True)
            kinds = [worker.build] * 5 + [worker.upload, worker.name, worker.name, worker.collect]
            while True:
                async with trio.open_nursery() as nursery:
                    for kind in draw.sample(kinds, 3):
                        nursery.start_soon(kind)
