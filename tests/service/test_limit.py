"""A scan with a limit returns exactly the first rows of the scan without one, and reads no further."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign.maker import Maker
from pyiceberg.expressions import EqualTo
from service_kit import ARROW, Running, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.readers import READERS

FILES, ROWS = 4, 50
ALL = FILES * ROWS
LIMITS = (0, 1, 7, ROWS - 1, ROWS, ROWS + 1, ALL - 1, ALL, ALL + 1, 2**63 - 1)
SMALL_GROUPS = {"write.parquet.row-group-limit": "16"}


def table(warehouse: Warehouse) -> Any:
    """Make a table of several files, each of several row groups."""
    made = warehouse.create(numbers(ROWS), **SMALL_GROUPS)
    for at in range(1, FILES):
        made.append(numbers(ROWS, start=at * ROWS))
    return made


def file_of(made: Any, id_: int) -> Path:
    """Return the data file that has the row with an id."""
    made.refresh()
    paths = (Path(unquote(urlsplit(task.file.file_path).path)) for task in made.scan().plan_files())
    return next(path for path in paths if id_ in pq.read_table(path)["id"].to_pylist())


PARAMS: tuple[dict[str, Any], ...] = (
    {},
    {"columns": ["name"]},
    {"columns": []},
    {"filters": [{"column": "id", "op": ">=", "value": 5}]},
    {"columns": ["value"], "filters": [{"column": "id", "op": "in", "value": [3, 60, 61, 170]}]},
    {"columns": [], "filters": [{"column": "id", "op": "<", "value": 120}]},
)


@pytest.mark.parametrize("order", [(None, *LIMITS), (*LIMITS, None)])
@pytest.mark.parametrize("params", PARAMS)
async def test_a_limit_gives_the_first_rows(
    server: Running, warehouse: Warehouse, params: dict[str, Any], order: tuple[int | None, ...]
) -> None:
    """Out of files and out of the cache; and what a limited scan leaves in the cache is whole."""
    table(warehouse)
    async with server.client() as client:
        found = {}
        for limit in order:
            more = {} if limit is None else {"limit": limit}
            found[limit] = await fetch(client, scan("wh:db.events", params={**params, **more}))
        whole = found.pop(None)
        assert "filters" in params or ALL == whole.num_rows
        assert whole.num_rows
        for limit, rows in found.items():
            assert min(limit, whole.num_rows) == rows.num_rows
            assert rows.schema == whole.schema
            assert rows.to_pylist() == whole.to_pylist()[:limit]
        # Once more with the cache of all the scans before.
        again = await fetch(client, scan("wh:db.events", params={**params, "limit": 33}, refresh=True))
        assert again.to_pylist() == whole.to_pylist()[:33]
        fresh = await fetch(client, scan("wh:db.events", params=params, refresh=True))
        assert fresh.to_pylist() == whole.to_pylist()


async def test_a_row_group_that_was_read_in_part_is_not_cached(server: Running, warehouse: Warehouse) -> None:
    """A row group of several slices, of which a limited scan read the first, is read anew by the next scan."""
    many = 100_000  # some 3 MiB, in slices of 512 KiB
    warehouse.create(numbers(many))
    async with server.client(**identity(scopes="admin:cache")) as client:
        for filters in (None, [{"column": "id", "op": ">=", "value": 0}]):
            some = scan("wh:db.events", params={"limit": 10, "filters": filters})
            assert [*range(10)] == (await fetch(client, some))["id"].to_pylist()
            build = (await client.post("/v1/materialize", json={**some, "refresh": True})).json()
            await client.get(build["stream_url"])
            assert 0 == (await client.get("/v1/cache/stats")).json()["segments"]
            whole = await fetch(client, scan("wh:db.events", params={"filters": filters}))
            assert [*range(many)] == whole["id"].to_pylist()
            await client.post("/v1/cache/clear")


async def test_a_limit_counts_rows_that_are_not_deleted(server: Running, warehouse: Warehouse) -> None:
    """After deletes there are as many rows as the limit, while there are so many."""
    made = table(warehouse)
    made.delete(EqualTo("id", 0))
    async with server.client() as client:
        whole = await fetch(client, scan("wh:db.events"))
        rows = await fetch(client, scan("wh:db.events", params={"limit": 60}))
    assert (ALL - 1, 60) == (whole.num_rows, rows.num_rows)
    assert rows.to_pylist() == whole.to_pylist()[:60]


@pytest.mark.parametrize("filters", [None, [{"column": "id", "op": ">=", "value": 0}]])
async def test_files_behind_the_limit_are_not_read(
    server: Running, warehouse: Warehouse, filters: list[dict[str, Any]] | None
) -> None:
    """They may even be missing, with a filter too; beyond them the missing file is an error."""
    made = table(warehouse)
    async with server.client() as client:
        whole = (await fetch(client, scan("wh:db.events")))["id"].to_pylist()
        await client.post("/v1/cache/clear", headers=identity(scopes="admin:cache"))
        for path in [file_of(made, whole[at * ROWS]) for at in range(1, FILES)]:
            path.unlink()
        some = {"filters": filters, "limit": 5}
        assert 5 == (await fetch(client, scan("wh:db.events", params=some))).num_rows
        beyond = scan("wh:db.events", params={**some, "limit": ROWS + 1})
        with pytest.raises(httpx.RemoteProtocolError):  # torn after the first rows
            await client.post("/v1/materialize", json=beyond, headers={"Accept": ARROW})


async def test_the_limit_is_part_of_a_results_identity(server: Running, warehouse: Warehouse) -> None:
    """Other limits are other results; no limit is what it was before there were limits."""
    table(warehouse)
    async with server.client() as client:

        async def uri(**params: Any) -> str:
            answer = await client.post("/v1/materialize", json=scan("wh:db.events", params=params))
            body = answer.json()
            await client.get(body["stream_url"])
            return str(body["artifact_uri"])

        assert await uri() == await uri(limit=None)
        assert 3 == len({await uri(), await uri(limit=5), await uri(limit=6)})
        again = await client.post("/v1/materialize", json=scan("wh:db.events", params={"limit": 5}))
        assert again.json()["hit"]
        data = await client.get(again.json()["stream_url"])
        assert "5" == data.headers["X-Arrow-Row-Count"]


@pytest.mark.parametrize("bad", [-1, 2**63, True, 1.0, 1.5, "5", [5], {}])
async def test_a_limit_that_is_no_number_of_rows_is_422(
    server: Running, warehouse: Warehouse, bad: object
) -> None:
    """With its place; nothing is built."""
    table(warehouse)
    async with server.client() as client:
        for path in ("/v1/materialize", "/v1/artifacts/explain-materialize"):
            answer = await client.post(path, json=scan("wh:db.events", params={"limit": bad}))
            assert 422 == answer.status_code
            assert [["body", "transform", "params", "limit"]] == [
                one["loc"] for one in answer.json()["errors"]
            ]


async def test_a_limit_counts_the_rows_that_its_caller_may_read(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Hidden rows before them do not count, and each caller gets its own."""
    table(warehouse)
    policy = Policy(
        allow=(
            Rule("ana", "tables/wh/db/events", rows="id >= 90 and id < 160"),
            Rule("eve", "tables/wh/db/events", columns=("id",)),
        )
    )
    asked = scan("wh:db.events", params={"columns": ["id"], "limit": 60})
    async with running(attrs.evolve(settings, acl_config=policy)) as server:
        async with server.client(**identity("ana")) as ana:
            rows = (await fetch(ana, asked))["id"].to_pylist()
            unlimited = scan("wh:db.events", params={"columns": ["id"]})
            whole = (await fetch(ana, unlimited))["id"].to_pylist()
            assert (60, 70, rows) == (len(rows), len(whole), whole[:60])
        async with server.client(**identity("eve")) as eve:
            rows = (await fetch(eve, asked))["id"].to_pylist()
            assert rows == (await fetch(eve, unlimited))["id"].to_pylist()[:60]


async def refusal(client: httpx.AsyncClient, name: str) -> str:
    answer = await client.post("/v1/materialize", json=scan("wh:db.people", params={"columns": [name]}))
    assert 400 == answer.status_code
    return str(answer.json()["detail"])


async def test_an_unknown_column_is_answered_with_the_nearest_names_that_may_be_read(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Never with a hidden one, to which the answer is that to an unknown one."""
    home = pa.struct([("city", pa.string())])
    rows = pa.table(
        {"salary": pa.array([1]), "name": pa.array(["x"]), "home": pa.array([{"city": "y"}], home)}
    )
    warehouse.create(rows, "db.people")
    policy = Policy(
        allow=(Rule("ana", "tables/wh/db/people"), Rule("eve", "tables/wh/db/people", columns=("name",)))
    )
    async with running(attrs.evolve(settings, acl_config=policy)) as server:
        async with server.client(**identity("ana")) as ana:
            assert "unknown column 'Salary'; did you mean 'salary'?" in await refusal(ana, "Salary")
            assert "did you mean 'home.city' or 'home'?" in await refusal(ana, "home.ctiy")
            assert (await refusal(ana, "zzzz")).endswith("unknown column 'zzzz'")
            assert (await refusal(ana, "s" * 2000)).endswith(f"unknown column '{'s' * 128}'")
        async with server.client(**identity("eve")) as eve:
            assert "did you mean 'name'?" in await refusal(eve, "nme")
            for hidden in ("salary", "Salary", "home.city", "home"):
                assert (await refusal(eve, hidden)).endswith(f"unknown column {hidden!r}")


MANIFESTS, FILES_EACH, ROWS_EACH = 100, 20, 6


def many_files(folder: Path, *, deleted: bool = False) -> Maker:
    """Make a table of 2,000 files in 100 manifests; of the files only the first three exist."""
    t = Maker(folder)
    files = []
    for at in range(MANIFESTS * FILES_EACH):
        first = at * ROWS_EACH
        rows = [(first + one, "x") for one in range(ROWS_EACH)]
        known = t.rows(*rows) if at < 3 else t.described(t.folder / f"data/missing-{at}.parquet", ROWS_EACH)
        files.append(known)
    data = [t.manifest(*files[at : at + FILES_EACH]) for at in range(0, len(files), FILES_EACH)]
    t.snapshot(*data)
    if deleted:
        deletes = t.position_deletes([(files[0], 1), (files[0], 2)])
        # Without it a delete file may be of each file, of none of which the rows would count.
        deletes["referenced_data_file"] = files[0]["file_path"]
        t.snapshot(*data, t.manifest(deletes, content=1))
    # Behind the first manifests none can be parsed.
    for one in data[2:]:
        Path(one["manifest_path"].removeprefix("file://")).write_bytes(b"no manifest")
    return t


@pytest.mark.parametrize("deleted", [False, True])
async def test_planning_stops_with_the_files_of_the_limit(
    server: Running, warehouse: Warehouse, *, deleted: bool
) -> None:
    """Of 2,000 files in 100 manifests at most three are expanded, and only the first two manifests can be parsed."""
    made = many_files(warehouse.path / "many", deleted=deleted)
    warehouse.catalog.create_namespace("db")
    warehouse.catalog.register_table("db.many", made.write())
    ids = [0, 3, 4, 5, *range(6, 12)] if deleted else list(range(10))
    async with server.client() as client:
        READERS.prepare()
        for limit, wanted in ((10, ids), (3, ids[:3]), (0, [])):
            before = READERS.steps.copy()
            rows = await fetch(client, scan("wh:db.many", params={"limit": limit}))
            assert wanted == rows["id"].to_pylist()
            steps = READERS.steps - before
            assert steps["footer"] + steps["footers"] <= 3
        whole = await client.post("/v1/materialize", json=scan("wh:db.many"))
        assert (500, True) == (whole.status_code, "-m0.avro is missing or damaged" in whole.text)


async def test_a_limit_is_not_refused_for_the_files_behind_it(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The most files of a scan are counted among those that it reads, whoever asked for what before."""
    made = table(warehouse)
    assert FILES == len(list(made.scan().plan_files()))
    async with running(attrs.evolve(settings, max_tasks_per_scan=1)) as server, server.client() as client:
        for _ in range(2):
            whole = await client.post("/v1/materialize", json=scan("wh:db.events"))
            assert 413 == whole.status_code
            assert 5 == (await fetch(client, scan("wh:db.events", params={"limit": 5}))).num_rows
            more = scan("wh:db.events", params={"limit": ROWS + 1})
            assert 413 == (await client.post("/v1/materialize", json=more)).status_code
