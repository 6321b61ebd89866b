"""What a caller finds: the tables it may read, their columns, snapshots and sizes, and no trace of others."""

from __future__ import annotations

import sqlite3
from typing import Any

import attrs
import httpx
import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType, StructType
from rest_catalog import rest_server
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.tenants.discovery import listing

A, B, EVE = identity("ana", "team-a"), identity("bob", "team-b"), identity("eve", "team-a")
ODD = (
    *("db.50%", "db.a b", "db.*", "db._", "db.**", 'db.say "hi"', "a.b.c.deep", "db.übung", "db.x%2Ey"),
    *("db.#?&=+", "db.'; DROP"),
)
MOTO = "moto.server"


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def pages(client: httpx.AsyncClient, key: str, path: str, **query: Any) -> list[list[Any]]:
    """Return the pages of a listing."""
    found = []
    while True:
        page = await get(client, path, **query)
        found.append(page[key])
        if page["next_page_token"] is None:
            return found
        query["page_token"] = page["next_page_token"]


def names(tables: list[dict[str, Any]]) -> list[str]:
    return [".".join((*one["namespace"], one["name"])) for one in tables]


def many(warehouse: Warehouse, namespaces: int, tables: int) -> None:
    """Put names into the catalog's file as a writer would, with no table behind them."""
    rows = [
        ("strata", f"ns{at:04}", f"t{name:02}", "file:///nowhere", "TABLE")
        for at in range(namespaces)
        for name in range(tables)
    ]
    with sqlite3.connect(warehouse.path / "catalog.db") as file:
        file.executemany(
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location,"
            " iceberg_type) VALUES (?, ?, ?, ?, ?)",
            rows,
        )


async def test_tables_with_odd_names_are_listed_and_each_uri_reads_its_own_rows(
    server: Running, warehouse: Warehouse
) -> None:
    """Nested namespaces and names with spaces, quotes, wildcards and escapes are found, described and scanned."""
    for at, name in enumerate(ODD):
        warehouse.catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
        warehouse.catalog.create_table(name, schema=numbers(1).schema).append(numbers(1, start=at))
    async with server.client() as client:
        listed = (await get(client, "/v1/tables"))["tables"]
        assert sorted(ODD) == sorted(names(listed))
        assert {("wh", "table")} == {(one["catalog"], one["kind"]) for one in listed}
        for one in listed:
            at = ODD.index(names([one])[0])
            assert [at] == (await fetch(client, scan(one["uri"])))["id"].to_pylist()
            described = await get(client, "/v1/tables/describe", uri=one["uri"])
            assert (one["uri"], one["namespace"], 1) == (
                described["uri"],
                described["namespace"],
                described["rows"],
            )


async def test_a_name_with_a_dot_is_written_in_quotes(server: Running, warehouse: Warehouse) -> None:
    """A table `b.c` of namespace `a` and a table `c` of namespace `a.b` are two."""
    for namespace, name, start in (("a", "b.c", 5), ("a.b", "c", 7)):
        warehouse.catalog.create_namespace_if_not_exists(namespace)
        made = warehouse.create(numbers(1, start=start), f"tmp{start}.t")
        with sqlite3.connect(warehouse.path / "catalog.db") as file:
            file.execute(
                "UPDATE iceberg_tables SET table_namespace = ?, table_name = ? WHERE metadata_location = ?",
                (namespace, name, made.metadata_location),
            )
    async with server.client() as client:
        listed = (await get(client, "/v1/tables"))["tables"]
        assert ['wh:a."b.c"', "wh:a.b.c"] == [one["uri"] for one in listed]
        assert [["a"], ["a", "b"]] == [one["namespace"] for one in listed]
        assert [[5], [7]] == [(await fetch(client, scan(one["uri"])))["id"].to_pylist() for one in listed]


async def test_pages_join_to_the_whole_listing(server: Running, warehouse: Warehouse) -> None:
    """Pages of any length have each table once, in order, and a view is listed as one."""
    many(warehouse, 7, 3)
    with sqlite3.connect(warehouse.path / "catalog.db") as file:
        file.execute("UPDATE iceberg_tables SET iceberg_type = 'VIEW' WHERE table_name = 't01'")
        file.execute("UPDATE iceberg_tables SET iceberg_type = NULL WHERE table_name = 't02'")
    expected = [f"ns{at:04}.t{name:02}" for at in range(7) for name in range(3)]
    async with server.client() as client:
        for limit in (1, 2, 7, 20, 21, 22, 1000):
            found = await pages(client, "tables", "/v1/tables", limit=limit)
            assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
            assert expected == names([one for page in found for one in page])
        assert ["table", "view", "table"] * 7 == [one["kind"] for page in found for one in page]
        one = await pages(client, "tables", "/v1/tables", namespace="ns0003", limit=2)
        assert [["ns0003.t00", "ns0003.t01"], ["ns0003.t02"]] == [names(page) for page in one]
        searched = await pages(client, "tables", "/v1/tables", q="S0003.T0", limit=1)
        assert expected[9:12] == names([one for page in searched for one in page])
        assert [] == (await get(client, "/v1/tables", namespace="nothing"))["tables"]
        assert [] == (await get(client, "/v1/tables", namespace="ns%", q="_"))["tables"]


async def test_a_catalog_of_a_hundred_thousand_tables_is_listed_page_by_page(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Among 2,000 namespaces of 50 tables, all, one namespace, and the one table that a caller may read are found."""
    many(warehouse, 2000, 50)
    policy = Policy(allow=(Rule("ana", "tables/wh/*/*"), Rule("eve", "tables/wh/ns1999/t49")))
    async with running(attrs.evolve(settings, acl_config=policy)) as server:
        async with server.client(**A) as ana:
            first = await get(ana, "/v1/tables", limit=1000)
            assert "ns0019.t49" == names(first["tables"])[-1]
            second = await get(ana, "/v1/tables", limit=1000, page_token=first["next_page_token"])
            assert "ns0020.t00" == names(second["tables"])[0]
            last = await get(ana, "/v1/tables", namespace="ns1999")
            assert (50, None) == (len(last["tables"]), last["next_page_token"])
        async with server.client(**EVE) as eve:
            only = await get(eve, "/v1/tables", limit=1)
            assert (["ns1999.t49"], None) == (names(only["tables"]), only["next_page_token"])


async def test_a_page_tells_nothing_of_tables_that_its_reader_may_not_read(
    settings: Settings, warehouse: Warehouse, tmp_path: Any
) -> None:
    """With hidden tables a listing, its pages and tokens are those of a catalog without them."""
    shown, hidden = [f"db.s{at}" for at in range(6)], [f"db.h{at}" for at in range(40)]
    other = tmp_path / "other"
    other.mkdir()
    bare = Warehouse(
        other, load_catalog("strata", type="sql", uri=f"sqlite:///{other}/catalog.db", warehouse=str(other))
    )
    for name in shown:
        warehouse.create(numbers(1), name)
        bare.create(numbers(1), name)
    for name in hidden:
        warehouse.create(numbers(1), name)
    policy = Policy(allow=(Rule("*", "tables/wh/db/s*"),))
    guarded = attrs.evolve(settings, acl_config=policy)
    without = attrs.evolve(guarded, warehouses={"wh": str(other)}, artifact_dir=str(tmp_path / "2"))
    found = []
    for one in (guarded, without):
        async with running(one) as server, server.client(**{**EVE, "X-Request-ID": "same"}) as eve:
            answers = [await eve.get("/v1/tables", params={"limit": limit}) for limit in (1, 3, 5, 6, 7)]
            tokens = [answer.json()["next_page_token"] for answer in answers]
            answers += [
                await eve.get("/v1/tables", params={"limit": 2, "page_token": token})
                for token in tokens
                if token
            ]
            found.append([(answer.status_code, answer.content) for answer in answers])
    assert found[0] == found[1]


async def test_a_catalog_that_is_not_for_a_caller_is_answered_as_one_that_there_is_not(
    settings: Settings, warehouse: Warehouse
) -> None:
    """It is not among the catalogs, is 404 by name, and that it does not answer is not seen."""
    warehouse.create(numbers(1))
    dead = {"type": "rest", "uri": "http://127.0.0.1:9"}
    policy = Policy(
        deny=(Rule("eve", "tables/dead/*/*"),),
        allow=(Rule("*", "tables/wh/db/*"), Rule("*", "tables/dead/db/*", tenant="team-a")),
    )
    changed = attrs.evolve(settings, acl_config=policy, catalogs={"dead": dead})
    async with running(changed) as server:
        for who in (EVE, B):
            async with server.client(**{**who, "X-Request-ID": "same"}) as client:
                catalogs = await get(client, "/v1/catalogs")
                assert {"catalogs": [{"name": "wh", "type": "warehouse"}]} == catalogs
                assert ["db.events"] == names((await get(client, "/v1/tables"))["tables"])
                hidden = await client.get("/v1/tables", params={"catalog": "dead"})
                missing = await client.get("/v1/tables", params={"catalog": "none"})
                assert (404, hidden.content) == (missing.status_code, missing.content)
        async with server.client(**A) as ana:
            assert ["dead", "wh"] == [one["name"] for one in (await get(ana, "/v1/catalogs"))["catalogs"]]
            failed = await ana.get("/v1/tables")
            assert (503, "The catalog dead is unavailable") == (failed.status_code, failed.json()["detail"])
            assert ["db.events"] == names((await get(ana, "/v1/tables", catalog="wh"))["tables"])


TABLE_ROUTES = tuple(f"/v1/tables/{what}" for what in ("describe", "snapshots", "refs", "history"))


async def test_a_hidden_table_is_byte_for_byte_a_missing_one(
    settings: Settings, warehouse: Warehouse
) -> None:
    """On each route about a table, by either spelling of its URI."""
    warehouse.create(numbers(1), "db.secret")
    policy = Policy(deny=(Rule("eve", "tables/wh/db/secret"),), allow=(Rule("*", "tables/**"),))
    async with (
        running(attrs.evolve(settings, acl_config=policy)) as server,
        server.client(**{**EVE, "X-Request-ID": "same"}) as eve,
    ):
        for route in TABLE_ROUTES:
            answers = [
                await eve.get(route, params={"uri": uri})
                for uri in ("wh:db.secret", "wh:db.absent", warehouse.uri("db.secret"), "nowhere:db.secret")
            ]
            assert {404} == {answer.status_code for answer in answers}
            assert 1 == len({answer.content for answer in answers})


def people(warehouse: Warehouse) -> None:
    """Make a table with two snapshots, a nested column, docs, a partition field and properties."""
    schema = Schema(
        NestedField(1, "id", LongType(), required=True, doc="A number"),
        NestedField(2, "region", StringType()),
        NestedField(
            3,
            "home",
            StructType(NestedField(4, "city", StringType()), NestedField(5, "salary", LongType())),
        ),
        identifier_field_ids=[1],
    )
    warehouse.catalog.create_namespace_if_not_exists("db")
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "region"))
    table = warehouse.catalog.create_table(
        "db.people",
        schema,
        partition_spec=spec,
        properties={
            "write.format.default": "parquet",
            "comment": "All people",
            "s3.secret-access-key": "s3cr3t",
            "write.metadata.metrics.column.salary": "none",
        },
    )
    for region in ("EU", "US"):
        rows = [{"id": 1, "region": region, "home": {"city": "x", "salary": 5}}]
        table.append(pa.Table.from_pylist(rows, schema=schema.as_arrow()))
    with table.update_schema() as update:
        update.add_column("age", LongType())
    first, second = (one.snapshot_id for one in table.snapshots())
    table.manage_snapshots().create_tag(first, "v1").create_branch(second, "audit").commit()


async def test_a_table_is_described_in_whole_to_a_caller_of_all_of_it(
    server: Running, warehouse: Warehouse
) -> None:
    """Columns with ids, types, docs and keys, partition fields, safe properties and the exact size."""
    people(warehouse)
    table = warehouse.catalog.load_table("db.people")
    async with server.client() as client:
        found = await get(client, "/v1/tables/describe", uri="wh:db.people")
        old = await get(client, "/v1/tables/describe", uri="wh:db.people", ref="v1")
    schema = found["schema"]
    assert [1, 2, 3, 6] == [field["id"] for field in schema["fields"]]
    assert {"id": 1, "name": "id", "required": True, "type": "long", "doc": "A number"} == schema["fields"][0]
    assert ["city", "salary"] == [field["name"] for field in schema["fields"][2]["type"]["fields"]]
    assert [1] == schema["identifier-field-ids"]
    assert Schema.model_validate(schema).as_struct() == table.schema().as_struct()
    partition = {"field-id": 1000, "name": "region", "source-id": 2, "transform": "identity"}
    assert [partition] == found["partition_spec"]
    assert {"comment": "All people", "write.format.default": "parquet"} == found["properties"]
    nbytes = sum(task.file.file_size_in_bytes for task in table.scan().plan_files())
    assert (2, nbytes, 2, False) == (found["rows"], found["bytes"], found["files"], found["restricted"])
    assert str(table.current_snapshot().snapshot_id) == found["snapshot_id"]
    assert ([1, 2, 3], 1) == ([field["id"] for field in old["schema"]["fields"]], old["rows"])


async def test_a_description_has_nothing_of_columns_and_rows_that_are_not_granted(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Hidden columns are not named, also not by properties; hidden rows are not counted."""
    people(warehouse)
    policy = Policy(
        allow=(
            Rule("ana", "tables/wh/db/people", columns=("id", "home.city")),
            Rule("eve", "tables/wh/db/people", rows="region = 'EU'"),
        )
    )
    async with running(attrs.evolve(settings, acl_config=policy)) as server:
        async with server.client(**A) as ana:
            answer = await ana.get("/v1/tables/describe", params={"uri": "wh:db.people"})
            found = answer.json()
            assert ["id", "home"] == [field["name"] for field in found["schema"]["fields"]]
            assert ["city"] == [field["name"] for field in found["schema"]["fields"][1]["type"]["fields"]]
            assert ([], 2, None, 2, True) == (
                *(found[key] for key in ("partition_spec", "rows", "bytes", "files", "restricted")),
            )
            assert {"write.format.default": "parquet"} == found["properties"]
            assert not [word for word in ("salary", "region", "age", "s3cr3t", "All") if word in answer.text]
            listed = await get(ana, "/v1/tables/snapshots", uri="wh:db.people")
            assert [None, None] == [one["summary"] for one in listed["snapshots"]]
        async with server.client(**EVE) as eve:
            found = await get(eve, "/v1/tables/describe", uri="wh:db.people")
            assert [None, None, None, True] == [
                found[key] for key in ("rows", "bytes", "files", "restricted")
            ]
            assert ["region"] == [one["name"] for one in found["partition_spec"]]


async def test_snapshots_refs_and_history_are_paged_lists(server: Running, warehouse: Warehouse) -> None:
    """Pages of one join to the whole list, as pyiceberg has it."""
    people(warehouse)
    table = warehouse.catalog.load_table("db.people")
    ids = [str(one.snapshot_id) for one in table.snapshots()]
    uri = "wh:db.people"
    async with server.client() as client:
        for limit in (1, 2, 5):
            found = await pages(client, "snapshots", "/v1/tables/snapshots", uri=uri, limit=limit)
            snapshots = [one for page in found for one in page]
            assert ids[::-1] == [one["snapshot_id"] for one in snapshots]
            refs = await pages(client, "refs", "/v1/tables/refs", uri=uri, limit=limit)
            history = await pages(client, "history", "/v1/tables/history", uri=uri, limit=limit)
            assert ids[::-1] == [one["snapshot_id"] for page in history for one in page]
        assert [ids[0], None] == [one["parent_id"] for one in snapshots]
        assert {"operation": "append", "total-records": "2"}.items() <= snapshots[0]["summary"].items()
        kinds = [(one["name"], one["type"], one["snapshot_id"]) for page in refs for one in page]
        assert [("audit", "branch", ids[1]), ("main", "branch", ids[1]), ("v1", "tag", ids[0])] == kinds
        assert {True} == {one["is_current_ancestor"] for page in history for one in page}


@pytest.mark.parametrize(
    ("path", "query", "place"),
    [
        ("/v1/catalogs", {"x": "1"}, "x"),
        ("/v1/tables", {"limit": "0"}, "limit"),
        ("/v1/tables", {"limit": "1001"}, "limit"),
        ("/v1/tables", {"q": ""}, "q"),
        ("/v1/tables", {"q": "x" * 257}, "q"),
        ("/v1/tables", {"namespace": "a..b"}, "namespace"),
        ("/v1/tables", {"namespace": 'a."b'}, "namespace"),
        ("/v1/tables", {"page_token": "WzEsMiwzXQ"}, "page_token"),
        ("/v1/tables", {"page_token": "W10"}, "page_token"),
        ("/v1/tables", {"page_token": "!"}, "page_token"),
        ("/v1/tables/describe", {}, "uri"),
        ("/v1/tables/describe", {"uri": "nothing"}, "uri"),
        ("/v1/tables/describe", {"uri": "wh:db.events", "snapshot_id": "x"}, "snapshot_id"),
        ("/v1/tables/describe", {"uri": "wh:db.events", "snapshot_id": "1", "ref": "x"}, "ref"),
        ("/v1/tables/snapshots", {"uri": "wh:db.events", "page_token": "WzFd"}, "page_token"),
    ],
)
async def test_a_bad_parameter_is_a_400_that_names_it(
    server: Running, warehouse: Warehouse, path: str, query: dict[str, str], place: str
) -> None:
    """Nothing is ignored."""
    warehouse.create(numbers(1))
    async with server.client() as client:
        answer = await client.get(path, params=query)
    assert (400, [["query", place]]) == (
        answer.status_code,
        [error["loc"] for error in answer.json()["errors"]],
    )


async def test_an_unknown_snapshot_is_named_as_the_fault(server: Running, warehouse: Warehouse) -> None:
    """404 with the place in the query."""
    warehouse.create(numbers(1))
    async with server.client() as client:
        answer = await client.get("/v1/tables/describe", params={"uri": "wh:db.events", "ref": "no"})
    assert (404, "The table has no such branch or tag") == (answer.status_code, answer.json()["detail"])
    assert [["query", "ref"]] == [error["loc"] for error in answer.json()["errors"]]


async def test_a_rest_catalog_is_listed_with_nested_namespaces_and_views(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Pages join to the whole listing; namespaces of which a caller may read nothing are not even asked for."""
    for name in ("a.t", "a.b.t", "a.b.u", "b.t"):
        warehouse.catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
        warehouse.catalog.create_table(name, schema=numbers(1).schema)
    expected = ["a.t", "a.v", "a.b.t", "a.b.u", "b.t"]
    policy = Policy(allow=(Rule("ana", "tables/prod/*/*"), Rule("eve", "tables/prod/a.b/u")))
    with rest_server(warehouse.catalog) as rest:
        rest.views[("a",)] = ["v"]
        rest.endpoints = [
            f"GET /v1/{{prefix}}/namespaces{rest_of}"
            for rest_of in ("", "/{namespace}/tables", "/{namespace}/views", "/{namespace}/tables/{table}")
        ]
        prod = {"type": "rest", "uri": rest.uri}
        changed = attrs.evolve(settings, acl_config=policy, warehouses={}, catalogs={"prod": prod})
        async with running(changed) as server:
            async with server.client(**A) as ana:
                for limit in (1, 2, 4, 5, 6):
                    found = await pages(ana, "tables", "/v1/tables", limit=limit)
                    assert expected == names([one for page in found for one in page])
                views = [one["name"] for page in found for one in page if one["kind"] == "view"]
                assert ["v"] == views
                assert {"prod:a.b.t", "prod:a.t"} <= {one["uri"] for page in found for one in page}
                assert ["a.b.t", "a.b.u"] == names((await get(ana, "/v1/tables", namespace="a.b"))["tables"])
            rest.asked.clear()
            async with server.client(**EVE) as eve:
                assert ["a.b.u"] == names((await get(eve, "/v1/tables", limit=1))["tables"])
            assert ["/v1/namespaces/a%1Fb/tables"] == [
                path for path, _ in rest.asked if path.endswith("/tables")
            ]


async def test_a_silent_catalog_holds_up_no_other_tenants_listing(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing of it ends at its deadline with 504, and the other tenant's listing of it is answered."""
    warehouse.create(numbers(1))
    monkeypatch.setattr(listing, "SECONDS", 0.3)
    with rest_server(warehouse.catalog) as rest:
        prod = {"type": "rest", "uri": rest.uri}
        changed = attrs.evolve(settings, warehouses={}, catalogs={"prod": prod})
        async with running(changed) as server, server.client(**A) as ana, server.client(**B) as bob:
            rest.go.clear()
            late = await ana.get("/v1/tables")
            assert (504, "listing_timeout") == (late.status_code, late.json()["error"])
            rest.go.set()
            assert ["db.events"] == names((await get(bob, "/v1/tables"))["tables"])


async def test_a_glue_catalog_is_listed(
    settings: Settings, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of Glue, as moto has it, are found by database and name."""
    moto = pytest.importorskip(MOTO, reason="moto is a test dependency")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    service = moto.ThreadedMotoServer("127.0.0.1", 0)
    service.start()
    try:
        host, port = service.get_host_and_port()
        glue = {
            "type": "glue",
            "glue.endpoint": f"http://{host}:{port}",
            "glue.region": "us-east-1",
            "warehouse": f"file://{tmp_path}/lake",
        }
        made = load_catalog("lake", **glue)
        for name in ("db1.a", "db1.b", "db2.a"):
            made.create_namespace_if_not_exists(name.partition(".")[0])
            made.create_table(name, schema=numbers(1).schema)
        changed = attrs.evolve(settings, warehouses={}, catalogs={"lake": glue})
        async with running(changed) as server, server.client() as client:
            assert [{"name": "lake", "type": "glue"}] == (await get(client, "/v1/catalogs"))["catalogs"]
            found = await pages(client, "tables", "/v1/tables", limit=2)
            assert [["db1.a", "db1.b"], ["db2.a"]] == [names(page) for page in found]
            described = await get(client, "/v1/tables/describe", uri="lake:db2.a")
            assert (3, 0) == (len(described["schema"]["fields"]), described["rows"])
    finally:
        service.stop()
