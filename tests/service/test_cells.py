"""No principal receives a hidden cell: every served byte is searched for foreign cells.

Each text in the table is a token that names its row and column, so a cell is found in Arrow bytes, JSON, the
text of an error, or a header.
"""

from __future__ import annotations

import random
import re
from typing import Any

import attrs
import httpx
import pyarrow as pa
import pytest
from service_kit import ARROW, Running, Warehouse, identity, running

from strata.acl import Policy, Rule
from strata.config import Settings

ROWS = 24
TEXTS = ("a", "b", "c")
COLUMNS = ("id", *TEXTS)
TOKEN = re.compile(rb"cell-(\d+)-([abc])-end")
PEOPLE = ("ana", "eve")
CONDITIONS = {
    None: lambda _i: True,
    "id < 9": lambda i: i < 9,
    "id >= 5": lambda i: i >= 5,
    "id in (1, 7, 15, 20)": lambda i: i in (1, 7, 15, 20),
    "id < 20 and id >= 12": lambda i: 12 <= i < 20,
}


def token(row: int, column: str) -> str:
    return f"cell-{row}-{column}-end"


def table(start: int, count: int) -> pa.Table:
    ids = range(start, start + count)
    texts = {name: pa.array([token(i, name) for i in ids], pa.string()) for name in TEXTS}
    return pa.table({"id": pa.array(ids, pa.int64())} | texts)


@attrs.frozen
class Rights:
    """The cells that a principal may see, as rules of the policy and in plain form."""

    blocks: tuple[tuple[tuple[str, ...] | None, str | None], ...]

    @classmethod
    def drawn(cls, draw: random.Random) -> Rights:
        blocks = []
        for _ in range(draw.choice([0, 1, 1, 2, 3])):
            columns = None if draw.random() < 0.2 else tuple(draw.sample(COLUMNS, draw.randint(1, 3)))
            blocks.append((columns, draw.choice(list(CONDITIONS))))
        return cls(tuple(blocks))

    def rules(self, who: str) -> list[Rule]:
        return [Rule(who, "tables/wh/db/cells", columns=columns, rows=rows) for columns, rows in self.blocks]

    def may(self, row: int, column: str) -> bool:
        return any(
            (names is None or column in names) and CONDITIONS[rows](row) for names, rows in self.blocks
        )

    def shown(self) -> list[str]:
        return [name for name in COLUMNS if any(names is None or name in names for names, _ in self.blocks)]


@attrs.define
class Person:
    """A principal that requests everything in every way, and may only receive its own cells."""

    name: str
    client: httpx.AsyncClient
    rights: Rights = Rights(())
    paths: list[str] = attrs.field(factory=list)
    cells: int = 0
    refusals: int = 0

    def check(self, answer: httpx.Response) -> None:
        served = answer.content + repr(answer.headers).encode()
        for row, column in TOKEN.findall(served):
            assert self.rights.may(int(row), column.decode()), (self.name, self.rights, row, column, answer)
            self.cells += 1

    async def get(self, path: str) -> httpx.Response:
        answer = await self.client.get(path)
        self.check(answer)
        return answer

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        answer = await self.client.post(path, json=body, headers=headers)
        self.check(answer)
        return answer

    async def scan(self, draw: random.Random) -> None:
        """Scan random columns with a random condition in a random way; each row of the answer must be expected."""
        columns = None if draw.random() < 0.3 else draw.sample(COLUMNS, draw.randint(1, 3))
        filters = draw.choice([[], [], [{"column": "id", "op": "<", "value": 15}], self.probe(draw)])
        params = {"columns": columns, "filters": filters}
        body = {
            "inputs": ["wh:db.cells"],
            "transform": {"executor": "scan@v1", "params": params},
            "name": draw.choice([None, f"{self.name}/{draw.randint(0, 2)}", "shared"]),
            "refresh": draw.random() < 0.2,
        }
        await self.post(
            "/v1/artifacts/explain-materialize", {k: v for k, v in body.items() if k != "refresh"}
        )
        expected = self.expected(columns, filters)
        if draw.random() < 0.3:
            answer = await self.post("/v1/materialize", body, Accept=ARROW)
        else:
            made = await self.post(
                "/v1/materialize", body | {"mode": draw.choice(["stream", "stream", "artifact"])}
            )
            if made.status_code == 200 and (url := made.json()["stream_url"]):
                answer = await self.get(url)
                self.note(made.json())
            else:
                self.note(made.json())
                answer = made
        if expected is None:
            assert answer.status_code in (400, 404), answer.text
            self.refusals += 1
        elif answer.headers["content-type"] == ARROW:
            assert 200 == answer.status_code
            found = pa.ipc.open_stream(answer.content).read_all().to_pylist()
            assert sorted(map(repr, expected)) == sorted(map(repr, found))  # the newest file comes first

    def probe(self, draw: random.Random) -> list[dict[str, Any]]:
        """Send conditions whose answers could reveal a foreign cell; the conditions contain no token."""
        name = draw.choice(TEXTS)
        begins = f"cell-{draw.randrange(ROWS)}-{name}-"
        return [
            {"column": name, "op": ">=", "value": begins},
            {"column": name, "op": "<", "value": f"{begins}z"},
        ]

    def expected(
        self, columns: list[str] | None, filters: list[dict[str, Any]]
    ) -> list[dict[str, Any]] | None:
        shown = self.rights.shown()
        wanted = shown if columns is None else columns
        used = {*wanted, *(one["column"] for one in filters)}
        if not used <= set(shown) or not shown:
            return None
        value = lambda row, name: row if name == "id" else token(row, name)  # noqa: E731  # it is what it says
        return [
            {name: value(row, name) for name in wanted}
            for row in range(ROWS)
            if all(self.rights.may(row, name) for name in used)
            and all(
                value(row, one["column"]) >= one["value"]
                if one["op"] == ">="
                else value(row, one["column"]) < one["value"]
                for one in filters
            )
        ]

    def note(self, made: dict[str, Any]) -> None:
        """Record all addresses for the other principal to try."""
        if "artifact_uri" not in made:
            return
        artifact_id, _, version = made["artifact_uri"].removeprefix("strata://artifact/").partition("@v=")
        base = f"/v1/artifacts/{artifact_id}/v/{version}"
        self.paths += [base, f"{base}/data", f"{base}/lineage", f"{base}/dependents"]
        self.paths += [url for url in (made["stream_url"],) if url]
        self.paths += [f"/v1/builds/{made['build_id']}"] if made["build_id"] else []


LISTS = (
    "/v1/artifacts",
    "/v1/artifacts/stats",
    "/v1/names",
    "/v1/names/shared",
    "/v1/artifacts/names/shared/status",
    "/v1/artifacts/names/ana/0/status",
    "/openapi.json",
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_nobody_is_served_a_cell_that_is_not_granted_to_them(
    settings: Settings, warehouse: Warehouse, seed: int
) -> None:
    """Two principals with changing rules get no foreign cell in scans, results, streams, lineage or errors."""
    made = warehouse.create(table(0, ROWS // 2), "db.cells", **{"write.parquet.row-group-limit": "5"})
    made.append(table(ROWS // 2, ROWS // 2))
    draw = random.Random(seed)
    async with (
        running(attrs.evolve(settings, acl_config=Policy())) as server,
        server.client(**identity("ana", "team-a")) as first,
        server.client(**identity("eve", "team-a")) as second,
        server.client(**identity("root", "team-a", "admin:*")) as root,
    ):
        people = [Person("ana", first), Person("eve", second)]
        for _ in range(4):
            await round_of(server, people, root, draw)
    assert all(person.cells for person in people)
    assert any(person.refusals for person in people)


async def round_of(
    server: Running, people: list[Person], root: httpx.AsyncClient, draw: random.Random
) -> None:
    """Draw new rights for both principals, then let each request everything ever made by either."""
    rules = [Rule("root", "admin/**")]
    for person in people:
        person.rights = Rights.drawn(draw)
        rules += person.rights.rules(person.name)
    server.service.authorizer.policy = Policy(allow=tuple(rules))
    for _ in range(8):
        if draw.random() < 0.2:
            assert 200 == (await root.post("/v1/cache/clear")).status_code
        await draw.choice(people).scan(draw)
    everywhere = [path for person in people for path in person.paths]
    for person in people:
        for path in (*draw.sample(everywhere, min(30, len(everywhere))), *LISTS):
            await person.get(path)


def test_a_cell_in_arrow_bytes_is_found() -> None:
    """The search finds a cell in uncompressed Arrow bytes, so the test can fail."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table(3, 1).schema) as writer:
        writer.write_table(table(3, 1))
    assert [(b"3", b"a"), (b"3", b"b"), (b"3", b"c")] == TOKEN.findall(sink.getvalue().to_pybytes())
