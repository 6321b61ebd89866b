"""Simulated clients: their requests, and their checks of the answers."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
import trio

from simulator.invariants import APART, BUCKETS, DEADLINE, ENDS, KEPT, ROWS, STATUS
from simulator.lake import SHARED, TENANTS, marker
from simulator.wire import Answer, Caller, Manner, ask

if TYPE_CHECKING:
    from simulator.run import Life

ARROW = (b"accept", b"application/vnd.apache.arrow.stream")
FORGERS = 3
"""Addresses of callers with wrong tokens: one that fails all the time, and some that fail once."""


@attrs.frozen
class Promise:
    """A result that was reported ready.

    Attributes:
        path: Path of its bytes.
        body: The bytes.
        owner: Owner of its table.
    """

    path: str
    body: bytes
    owner: str


@attrs.define(eq=False)
class Book:
    """Facts that clients remember across crashes.

    Attributes:
        promises: Results that were read, by (tenant, path).
        paths: Paths that any client has seen, of any tenant; other clients try them.
        begun: Announced builds, by (tenant, artifact id, version).
        failures: Failed authentications by address.
    """

    promises: dict[tuple[str, str], Promise] = attrs.field(factory=dict)
    paths: list[tuple[str, str]] = attrs.field(factory=list)
    begun: set[tuple[str, str, int]] = attrs.field(factory=set)
    failures: Counter[str] = attrs.field(factory=Counter)


@attrs.define(eq=False)
class Client:
    """One client: a sequence of requests that follows from its own seed."""

    life: Life
    server: trio.Nursery
    caller: Caller
    draw: random.Random
    asked: int = 0

    async def run(self, requests: int) -> None:
        """Send that many requests in sequence, some of them twice at once."""
        for _ in range(requests):
            await trio.sleep(self.draw.random() ** 2 * 4)
            kinds = (
                [self.scan] * 8
                + [self.pry] * 3
                + [self.look] * 3
                + [self.forge, self.clear, self.burst, self.twice]
            )
            await self.draw.choice(kinds)()

    async def scan(self) -> None:
        """Materialize, and read the answer."""
        owner, params = self._owner(), self._params()
        versions = self.life.versions(owner)
        body: dict[str, Any] = {
            "inputs": [f"file://{self.life.lake.path}#{owner}.t"],
            "transform": {"executor": "scan@v1", "params": params},
        }
        if self.draw.random() < 0.2:
            body["refresh"] = True
        if self.draw.random() < 0.2:
            body["name"] = self.draw.choice(["daily", "weekly"])
        body["mode"] = self.draw.choice(["stream", "stream", "artifact"])
        manner = self._manner()
        if self.draw.random() < 0.4:
            answer = await self._ask("POST", "/v1/materialize", body, manner, (ARROW,))
            if answer.status == 200:
                self._told_of(answer.headers["x-strata-artifact-uri"])
                self._check_rows(answer, owner, params, versions)
            return
        answer = await self._ask("POST", "/v1/materialize", body)
        found = answer.json() if answer.status == 200 else None
        if not found:
            return
        self._told_of(found["artifact_uri"])
        artifact = found["artifact_uri"].removeprefix("strata://artifact/").replace("@v=", "/v/")
        self.life.book.paths.append((self.caller.tenant, f"/v1/artifacts/{artifact}/data"))
        if found.get("build_id"):
            self.life.book.paths.append((self.caller.tenant, f"/v1/artifacts/builds/{found['build_id']}"))
        if found.get("stream_url"):
            self.life.book.paths.append((self.caller.tenant, found["stream_url"]))
            await trio.sleep(self.draw.random() ** 4 * 20)
            data = await self._ask("GET", found["stream_url"], manner=manner)
            if data.status == 200:
                self._check_rows(data, owner, params, versions)
        if found["hit"] or self.draw.random() < 0.5:
            await self._remember(f"/v1/artifacts/{artifact}/data", owner)

    def _told_of(self, uri: str) -> None:
        artifact_id, _, version = uri.removeprefix("strata://artifact/").partition("@v=")
        self.life.book.begun.add((self.caller.tenant, artifact_id, int(version)))

    async def _remember(self, path: str, owner: str) -> None:
        """Read a result; once it was reported ready it must survive. It can be read before, while it is committed."""
        data = await self._ask("GET", path)
        if data.status != 200 or not data.whole:
            return
        told = await self._ask("GET", path.removesuffix("/data"))
        if told.status != 200 or told.json()["state"] != "ready":
            return
        known = self.life.book.promises.get((self.caller.tenant, path))
        if known is not None and known.body != data.body:
            self.life.violated(KEPT, f"{path} was other bytes before")
        self.life.book.promises[self.caller.tenant, path] = Promise(path, data.body, owner)

    async def pry(self) -> None:
        """Request paths that other clients have seen, and tables of other tenants."""
        if self.draw.random() < 0.5 or not self.life.book.paths:
            other = self.draw.choice([owner for owner in TENANTS if owner != self.caller.tenant])
            body = {
                "inputs": [f"file://{self.life.lake.path}#{other}.t"],
                "transform": {"executor": "scan@v1", "params": {}},
            }
            answer = await self._ask("POST", "/v1/materialize", body, headers=(ARROW,))
            if answer.status == 200:
                self.life.violated(APART, f"{self.caller.tenant} was let into {other}'s table")
            return
        _, path = self.draw.choice(self.life.book.paths)
        await self._ask("GET", path, manner=self._manner())

    async def look(self) -> None:
        """Request lists and records."""
        paths = [
            "/v1/artifacts?limit=5", "/v1/artifacts/stats", "/v1/cache/stats", "/v1/names",
            "/v1/names/daily", "/health/ready", "/v1/artifacts/builds/none", "/v1/nothing",
        ]  # fmt: skip
        await self._ask("GET", self.draw.choice(paths))

    async def clear(self) -> None:
        """Drop the tenant's cache."""
        await self._ask("POST", "/v1/cache/clear")

    async def forge(self) -> None:
        """Send requests without the token: one address all the time, the others sometimes."""
        number = self.draw.randrange(FORGERS)
        address = f"10.9.9.{number}"
        forged = attrs.evolve(self.caller, token="guessed-by-the-simulation", address=address)
        for _ in range(8 if number == 0 else 1):
            self.life.book.failures[address] += 1
            before = self.life.book.failures[address]
            answer = await ask(
                self.life.service.app, self.server, forged, "GET", "/v1/artifacts", request_id=self._id()
            )
            if answer.status == 200:
                self.life.violated(APART, "a guessed token was accepted")
            if answer.status == 429 and before <= self.life.settings.auth_failure_burst:
                self.life.violated(BUCKETS, f"{address} was refused after {before} failures")
            self._check(answer)

    async def burst(self) -> None:
        """Send the same request many times at once, as many users of a dashboard do."""
        async with trio.open_nursery() as nursery:
            for _ in range(self.draw.randint(2, 10)):
                nursery.start_soon(self.scan)

    async def twice(self) -> None:
        """Send a request twice with the same id, at once or soon after, as a retrying proxy does."""
        seed, asked = self.draw.getrandbits(64), self.asked

        async def once(pause: float) -> None:
            await trio.sleep(pause)
            echo = Client(self.life, self.server, self.caller, random.Random(seed), asked)
            await echo.scan()
            self.asked = max(self.asked, echo.asked)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(once, 0)
            nursery.start_soon(once, self.draw.random() ** 3)

    def _owner(self) -> str:
        return SHARED if self.draw.random() < 0.4 else self.caller.tenant

    def _params(self) -> dict[str, Any]:
        params: dict[str, Any] = {}
        columns = self.draw.choice([None, None, ["id"], ["owner", "id"], ["value", "owner", "id"]])
        if columns is not None:
            params["columns"] = columns
        if self.draw.random() < 0.4:
            params["filters"] = [{"column": "id", "op": "<", "value": self.draw.choice([0, 30, 1010])}]
        return params

    def _manner(self) -> Manner:
        kind = self.draw.random()
        if kind < 0.2:
            return Manner(leaves_after=self.draw.random() ** 2 * 3)
        if kind < 0.3:
            return Manner(stalls=self.draw.random() * 30)
        if kind < 0.4:
            return Manner(stutter=self.draw.random() * 5)
        return Manner()

    def _id(self) -> str:
        self.asked += 1
        return f"{self.life.number}-{self.caller.tenant}-{self.caller.name}-{self.asked}"

    async def _ask(
        self,
        method: str,
        path: str,
        body: object | None = None,
        manner: Manner | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Answer:
        request_id = self._id()
        answer = await ask(
            self.life.service.app, self.server, self.caller, method, path,
            request_id=request_id, body=body, manner=manner, headers=headers,
        )  # fmt: skip
        self.life.note(f"{request_id} {method} {path.partition('?')[0]}: {answer.status} {len(answer.body)}")
        self._check(answer, request_id)
        for owner in TENANTS:
            if owner != self.caller.tenant and marker(owner).encode() in answer.body:
                self.life.violated(APART, f"{path} told {self.caller.tenant} bytes of {owner}")
        self.life.watch()
        return answer

    def _check(self, answer: Answer, request_id: str | None = None) -> None:
        if self.life.ended:
            return  # the process is dead, and so is the connection
        if answer.late:
            self.life.violated(DEADLINE, f"{request_id} did not end")
        lost = self.life.lying and (answer.json() or {}).get("error") == "blob_missing"
        if answer.status == 500 and not lost:
            self.life.violated(STATUS, f"{request_id} was answered 500")
        if answer.status >= 400 and answer.whole and request_id is not None:
            found = answer.json()
            if not isinstance(found, dict) or found.get("request_id") != request_id:
                self.life.violated(STATUS, f"{request_id}: {answer.status} is no problem with its id")

    def _check_rows(
        self, answer: Answer, owner: str, params: dict[str, Any], before: tuple[int, int]
    ) -> None:
        """Compare a complete stream with the expected rows; ignore one that was cut."""
        if not answer.whole:
            return
        first, _ = before
        _, last = self.life.versions(owner)
        versions = self.life.lake.tables[owner]
        wanted = [expected(versions[index].rows, params) for index in range(first, last + 1)]
        try:
            with pa.ipc.open_stream(pa.py_buffer(answer.body)) as reader:
                got = reader.read_all()
        except pa.ArrowInvalid:
            self.life.violated(ROWS, "a stream that ended is no Arrow stream")
            return
        order = got.column_names.index("id")
        got = got.take(pc.sort_indices(got.column(order)))
        if not any(same(got, rows) for rows in wanted):
            self.life.violated(ROWS, f"{params} of {owner} gave {got.num_rows} rows that no version has")


def expected(rows: pa.Table, params: dict[str, Any]) -> pa.Table:
    """Return the expected rows of a scan, by id."""
    for condition in params.get("filters", ()):
        rows = rows.filter(pc.less(rows[condition["column"]], condition["value"]))
    if "columns" in params:
        rows = rows.select(params["columns"])
    return rows.take(pc.sort_indices(rows["id"]))


def same(left: pa.Table, right: pa.Table) -> bool:
    """Return whether two tables have equal columns and values."""
    if left.column_names != right.column_names or left.num_rows != right.num_rows:
        return False
    return all(left[name].to_pylist() == right[name].to_pylist() for name in left.column_names)


async def check_promises(life: Life, server: trio.Nursery) -> None:
    """Check after a crash that every ready result is there, and every announced build has ended."""
    for (tenant, path), promise in sorted(life.book.promises.items()):
        client = Client(life, server, Caller(tenant, "auditor"), random.Random(0))
        for _ in range(20):
            answer = await client._ask("GET", path)
            if answer.status != 503:
                break
            await trio.sleep(1)
        gone = answer.status in {404, 410, 500}
        if gone and not life.lying:
            life.violated(KEPT, f"{tenant}'s {path} is gone after a crash")
        if answer.status == 200 and answer.whole and answer.body != promise.body:
            life.violated(KEPT, f"{tenant}'s {path} has other bytes after a crash")
    for tenant, path in sorted(set(life.book.paths)):
        if "/builds/" not in path:
            continue
        client = Client(life, server, Caller(tenant, "auditor"), random.Random(0))
        answer = await client._ask("GET", path)
        found = answer.json() if answer.status == 200 else None
        if found and found["state"] not in ("ready", "failed"):
            life.violated(ENDS, f"{tenant}'s {path} is {found['state']} after a crash")
