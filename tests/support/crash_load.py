"""Clients of a server that may be killed at any moment: builds, uploads, moved names and collections.

What the server has acknowledged is noted; a request that the kill interrupts promises nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import httpx
import pyarrow as pa
import trio
from service_kit import identity, scan

PEOPLE = identity("ana", scopes="artifacts:write admin:*")
NAMES = ("daily", "weekly", "best")
UPLOAD = {"executor": "made@v1", "params": {}}

ROWS = 2000
LARGE_ROWS = 280_000
"""Rows of a result of more than 8 MiB, which an object store receives in parts."""

LARGE = 0.05
"""Share of builds whose result is a large one."""


@attrs.define
class Clients:
    """Three requests at a time of one principal, until the server is gone.

    Attributes:
        client: Connections to the server.
        tables: URIs of a table of :data:`ROWS` rows and of one of :data:`LARGE_ROWS`.
        draw: Chooses what is requested.
        acknowledged: What the server has acknowledged: ``ready`` and a URI, ``name`` and a name, or
            ``collected`` and a number.
        killed: Whether the server was killed: only then may a connection break.
    """

    client: httpx.AsyncClient
    tables: tuple[str, str]
    draw: random.Random
    acknowledged: list[tuple[str, Any]]
    killed: bool = False

    async def run(self) -> None:
        """Send requests until the server is killed."""
        while not self.killed:
            async with trio.open_nursery() as nursery:
                for kind in self.kinds():
                    nursery.start_soon(self._try, kind)

    def kinds(self) -> list[Callable[[], Awaitable[None]]]:
        """Choose three requests."""
        kinds = [self.build] * 5 + [self.upload, self.name, self.name, self.collect]
        return self.draw.sample(kinds, 3)

    async def _try(self, kind: Callable[[], Awaitable[None]]) -> None:
        try:
            await kind()
        except httpx.TransportError:
            assert self.killed, "the connection to a living server broke"

    async def build(self) -> None:
        """Build a result of either table, as a rule anew, and read it; sometimes it gets a name."""
        small, large = self.tables
        table, limit = small, self.draw.randrange(1, ROWS)
        if self.draw.random() < LARGE:
            table, limit = large, self.draw.randrange(LARGE_ROWS - 50, LARGE_ROWS)
        name = self.draw.choice([None, *NAMES])
        body = scan(table, params={"limit": limit}, **({} if name is None else {"name": name}))
        if self.draw.random() < 0.3:
            body["refresh"] = True
        answer = await self.client.post("/v1/materialize", json=body)
        if not done(answer):
            return
        if not done(await self.client.get(answer.json()["stream_url"])):
            return
        record = await self.client.get(path_of(answer.json()["artifact_uri"]))
        if record.status_code == 200 and record.json()["state"] == "ready":
            self.acknowledged.append(("ready", answer.json()["artifact_uri"]))

    async def upload(self) -> None:
        """Upload one of nine results."""
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
        if done(answer, 409):
            self.acknowledged.append(("ready", answer.json()["artifact_uri"]))

    async def name(self) -> None:
        """Point a name at any result."""
        listing = await self.client.get("/v1/artifacts?state=ready&limit=20")
        found = listing.json()["artifacts"] if done(listing) else []
        if found:
            target, name = self.draw.choice(found), self.draw.choice(NAMES)
            body = {"name": name, "artifact_id": target["artifact_id"], "version": target["version"]}
            answer = await self.client.post("/v1/names", json=body)
            if done(answer, 404):
                self.acknowledged.append(("name", name))

    async def collect(self) -> None:
        """Remove what no name points at."""
        answer = await self.client.post("/v1/artifacts/gc?min_idle_seconds=0&max_idle_days=0")
        if done(answer):
            self.acknowledged.append(("collected", answer.json()["deleted_count"]))


def done(answer: httpx.Response, *others: int) -> bool:
    """Whether a request was carried out; a busy machine refuses some (503, 504), which promises nothing."""
    assert answer.status_code in (200, 201, 503, 504, *others), answer.text
    return answer.status_code in (200, 201)


def path_of(uri: str) -> str:
    """Return the path of an artifact's record by its URI."""
    return f"/v1/artifacts/{uri.removeprefix('strata://artifact/').replace('@v=', '/v/')}"
