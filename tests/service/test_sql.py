"""SQL over tables and results, over HTTP: what it returns, who may run it, and what its errors say."""

from __future__ import annotations

from pathlib import Path

import attrs
import duckdb
import httpx
import pyarrow as pa
import pytest
import trio
from log_watch import MARK
from service_kit import Warehouse, fetch, identity, numbers, running, scan

from strata.acl import CompiledPolicy, Policy, Rule
from strata.artifacts import BLOB_GONE
from strata.artifacts.blobs.store import BLOB_UNREADABLE
from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection
from strata.outcomes import Refused

REGISTRY = TransformSection(enabled=True, registry=(RegisteredTransform("duckdb_sql@*"),))


def sql(query: str, *inputs: str, **more: object) -> dict:
    """Return a materialize body; ``params`` are further parameters of the query."""
    params = {"sql": query, **more.pop("params", {})}
    return {"inputs": [*inputs], "transform": {"executor": "duckdb_sql@v1", "params": params}, **more}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return attrs.evolve(settings, transforms=REGISTRY)


async def artifact_of(client: httpx.AsyncClient, body: dict) -> dict:
    """Materialize, wait for the end, and return the answer to the same request: a hit."""
    await fetch(client, body)
    found = await client.post("/v1/materialize", json=body)
    assert found.json()["hit"], found.text
    return found.json()


async def test_a_query_over_two_tables_returns_what_duckdb_returns(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A join with a window and an aggregate is equal to DuckDB's own answer on the same rows."""
    left, right = numbers(500), numbers(300, start=100)
    warehouse.create(left)
    warehouse.create(right, "db.more")
    query = """
        SELECT id % 7 AS k, count(*) AS n, sum(a.value) AS s, max(max(b.name)) OVER () AS m
        FROM input0 a JOIN extra b USING (id) GROUP BY ALL ORDER BY ALL
    """
    body = sql(query, "wh:db.events", "wh:db.more", params={"input_names": ["events", "extra"]})
    async with running(settings) as server, server.client() as client:
        found = await fetch(client, body)
    with duckdb.connect() as bare:
        bare.register("input0", left)
        bare.register("extra", right)
        expected = bare.sql(query).to_arrow_table()
    assert expected.equals(found.replace_schema_metadata(None))
    assert {b"strata.ordered": b"true"} == found.schema.metadata


async def test_the_same_query_again_is_a_hit_and_a_chain_of_queries_works(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A result, by its URI and by its name, is an input of a further query; lineage and dependents show it."""
    warehouse.create(numbers(100))
    async with running(settings) as server, server.client() as client:
        first = await artifact_of(client, sql("FROM input0 WHERE id < 10", "wh:db.events", name="few"))
        by_uri = sql("SELECT count(*) AS n FROM input0", first["artifact_uri"])
        by_name = sql("SELECT count(*) AS n FROM input0", "strata://name/few")
        assert [{"n": 10}] == (await fetch(client, by_uri)).to_pylist()
        second = (await client.post("/v1/materialize", json=by_name)).json()
        assert second["hit"]
        path = first["artifact_uri"].removeprefix("strata://artifact/").replace("@v=", "/v/")
        dependents = (await client.get(f"/v1/artifacts/{path}/dependents")).json()
        assert [second["artifact_uri"]] == [one["uri"] for one in dependents["dependents"]]
        path = second["artifact_uri"].removeprefix("strata://artifact/").replace("@v=", "/v/")
        lineage = (await client.get(f"/v1/artifacts/{path}/lineage", params={"max_depth": 5})).json()
        assert {"artifact", "table"} == {one["type"] for one in lineage["nodes"]}
        assert all(" " not in one["input_version"] for one in lineage["edges"])
        artifact = (await client.get(f"/v1/artifacts/{path}")).json()
        assert artifact["ordered"] is True  # one row at most
        status = (await client.get("/v1/artifacts/names/few/status")).json()
        assert not status["is_stale"]
        foreseen = await client.post(
            "/v1/artifacts/explain-materialize", json={key: by_uri[key] for key in ("inputs", "transform")}
        )
        assert foreseen.json()["would_hit"], foreseen.text


async def test_a_result_is_ready_in_artifact_mode_and_a_failed_one_says_why(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Polling a build ends in ``ready``, or in ``failed`` with DuckDB's class and message."""
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:

        async def ended(query: str) -> dict:
            body = sql(query, "wh:db.events", mode="artifact")
            build = (await client.post("/v1/materialize", json=body)).json()["build_id"]
            with trio.fail_after(30):
                while True:
                    found = (await client.get(f"/v1/artifacts/builds/{build}")).json()
                    if found["state"] in ("ready", "failed"):
                        return found
                    await trio.sleep(0.01)

        assert "ready" == (await ended("SELECT id FROM input0"))["state"]
        failed = await ended("SELECT\n  idd FROM input0")
        assert ("failed", "BinderException", "duckdb_sql@v1") == (
            failed["state"],
            failed["error_code"],
            failed["executor_ref"],
        )
        assert "LINE 2:   idd FROM input0" in failed["error_message"]
        assert "(line 2, column 3)" in failed["error_message"]


REFUSED = [
    ("SELECT 1 AS a, 2 AS a", "DuplicateColumnException", 'two columns named "a"'),
    ("SELECT 1; SELECT 2", "StatementException", "one SELECT statement"),
    ("CREATE TABLE t (a INT)", "StatementException", "one SELECT statement"),
    ("SELEC 1", "ParserException", "(line 1, column 1)"),
    ("SELECT * FROM nowhere", "CatalogException", "nowhere"),
    ("SELECT CAST(name AS INT) FROM input0", "ConversionException", "Could not convert string … to INT32"),
    ("SELECT error('x' || name) FROM input0", "InvalidInputException", "Invalid Input Error: …"),
    ("SELECT id * 9223372036854775807 FROM input0", "OutOfRangeException", "(… * 9223372036854775807)"),
]


async def test_an_error_of_a_query_is_400_with_its_place_and_without_values(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The reader of the stream is told the class, the text and the place, and no value of any row."""
    warehouse.create(numbers(1000, start=700))
    async with running(settings) as server, server.client() as client:
        for query, code, words in REFUSED:
            begun = (await client.post("/v1/materialize", json=sql(query, "wh:db.events"))).json()
            found = await client.get(begun["stream_url"])
            assert (400, code) == (found.status_code, found.json()["error"]), found.text
            assert words in found.json()["detail"]
            assert MARK not in found.text
            assert str(warehouse.path) not in found.text


async def test_what_is_not_registered_is_403_and_is_not_listed(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Without a registry, another reference, another tenant, a missing scope or a deny rule: nothing runs."""
    warehouse.create(numbers(1))
    entry = RegisteredTransform("duckdb_sql@v?", requires_scope="transforms:run", tenants=("team-a",))
    rules = Policy(deny=(Rule("eve", "transforms/duckdb_sql@*"),), allow=(Rule("*", "tables/**"),))
    settings = attrs.evolve(
        settings, transforms=TransformSection(enabled=True, registry=(entry,)), acl_config=rules
    )
    body = sql("SELECT 1 AS a", "wh:db.events")
    may_run = "transforms:run"
    async with running(settings) as server, server.client() as client:

        async def asked(headers: dict[str, str], ref: str = "duckdb_sql@v1") -> tuple[int, str | None, int]:
            asking = {**body, "transform": {**body["transform"], "executor": ref}}
            answer = await client.post("/v1/materialize", json=asking, headers=headers)
            listed = (await client.get("/v1/transforms", headers=headers)).json()["transforms"]
            return answer.status_code, answer.json().get("error"), len(listed)

        assert (200, None, 1) == await asked(identity("ana", "team-a", may_run))
        assert (403, "insufficient_scope", 0) == await asked(identity("ana", "team-a"))
        assert (403, "transform_not_allowed", 0) == await asked(identity("ana", "team-b", may_run))
        assert (403, "transform_not_allowed", 0) == await asked(identity("eve", "team-a", may_run))
        assert (403, "transform_not_allowed", 1) == await asked(
            identity("ana", "team-a", may_run), "other@v1"
        )
        server.service.take(attrs.evolve(settings, transforms=TransformSection()), None)
        assert (403, "transform_not_allowed", 0) == await asked(identity("ana", "team-a", may_run))


async def test_the_list_has_the_limits_in_effect(settings: Settings) -> None:
    """The lower of two limits is told, with the schema of the parameters."""
    entry = RegisteredTransform("*@*", timeout_seconds=7, max_output_bytes=2048)
    settings = attrs.evolve(
        settings, transforms=TransformSection(enabled=True, registry=(entry,)), transform_threads=3
    )
    async with running(settings) as server, server.client() as client:
        (found,) = (await client.get("/v1/transforms")).json()["transforms"]
    assert ("duckdb_sql@v1", "embedded://local") == (found["ref"], found["executor"])
    assert ["sql"] == found["params_schema"]["required"]
    limits = found["limits"]
    assert (7, 2048, None, 3) == (
        limits["timeout_seconds"],
        limits["max_output_bytes"],
        limits["max_input_bytes"],
        limits["threads"],
    )


async def test_an_input_that_may_not_be_read_looks_as_one_that_is_missing(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A denied table, another tenant's result and a result of a denied table are 404, as what is missing."""
    warehouse.create(numbers(5))
    warehouse.create(numbers(5), "db.hidden")
    rules = Policy(
        deny=(Rule("eve", "tables/wh/db/hidden"),),
        allow=(Rule("*", "tables/**"),),
    )
    query = "SELECT count(*) AS n FROM input0"
    async with running(attrs.evolve(settings, acl_config=rules)) as server, server.client() as client:
        eve, bob = identity("eve"), identity("bob", "team-b")
        hidden = await artifact_of(client, sql(query, "wh:db.events", "wh:db.hidden"))
        chained = await artifact_of(client, sql("FROM input0", hidden["artifact_uri"]))

        async def refused(uri: str, headers: dict[str, str]) -> tuple[int, str]:
            answer = await client.post("/v1/materialize", json=sql(query, uri), headers=headers)
            problem = answer.json()
            return answer.status_code, problem["detail"]

        assert await refused("wh:db.missing", eve) == await refused("wh:db.hidden", eve)
        missing = await refused("strata://artifact/nothing@v=1", eve)
        assert 404 == missing[0]
        for uri in (hidden["artifact_uri"], chained["artifact_uri"]):
            assert missing == await refused(uri, eve)
            assert missing == await refused(uri, bob)
            path = uri.removeprefix("strata://artifact/").replace("@v=", "/v/")
            assert 404 == (await client.get(f"/v1/artifacts/{path}/data", headers=eve)).status_code
            assert 200 == (await client.get(f"/v1/artifacts/{path}/data")).status_code


async def test_equal_grants_share_one_build_and_others_do_not(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The rows that a caller may read are all that the query sees, and part of the result's identity."""
    warehouse.create(numbers(100))

    def rule(who: str, least: int) -> Rule:
        return Rule(who, "tables/wh/db/events", rows=f"id >= {least}")

    settings = attrs.evolve(
        settings, acl_config=Policy(allow=(rule("ana", 90), rule("bob", 90), rule("zoe", 50)))
    )
    body = sql("SELECT count(*) AS n, min(id) AS first FROM input0", "wh:db.events")
    async with running(settings) as server:
        found = {}
        for who in ("ana", "bob", "zoe"):
            async with server.client(**identity(who)) as client:
                found[who] = (await artifact_of(client, body))["artifact_uri"], await fetch(client, body)
        started = server.service.registry.resources.transforms.launcher.started
    assert found["ana"] == found["bob"]
    assert found["ana"][0] != found["zoe"][0]
    assert [{"n": 10, "first": 90}] == found["ana"][1].to_pylist()
    assert [{"n": 50, "first": 50}] == found["zoe"][1].to_pylist()
    assert 2 == started


async def test_two_equal_requests_at_once_run_one_query(settings: Settings, warehouse: Warehouse) -> None:
    """Single-flight holds for queries, as for scans."""
    warehouse.create(numbers(1000))
    body = sql("SELECT sum(id) AS s FROM input0", "wh:db.events")
    async with running(settings) as server, server.client() as client:
        found: list[pa.Table] = []

        async def one() -> None:
            found.append(await fetch(client, body))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)
        launcher = server.service.registry.resources.transforms.launcher
        assert (2, 0) == (launcher.started, launcher.running)  # one looked at the query, one ran it
    assert 8 == len(found)
    assert all([{"s": 499500}] == one.to_pylist() for one in found)


SLOW = "SELECT count(*) AS n FROM range(1000000000) a, range(1000000) b WHERE a.range + b.range = 7"


def left_of(settings: Settings) -> list[str]:
    """Return what is left of queries in the cache directory."""
    return [path.name for path in (Path(settings.cache_dir) / ".spill").glob("*")]


async def nothing_is_left(settings: Settings) -> None:
    """Wait until no query has a directory: one goes soon after its query's answer."""
    with trio.fail_after(10):
        while left_of(settings):  # noqa: ASYNC110  # a process has no event to wait for
            await trio.sleep(0.01)


async def test_a_query_that_takes_too_long_is_killed(settings: Settings, warehouse: Warehouse) -> None:
    """At its deadline the process is gone, with its directory, slot and memory, and the refusal says why."""
    warehouse.create(numbers(1))
    entry = RegisteredTransform("duckdb_sql@*", timeout_seconds=0.5)
    settings = attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=(entry,)))
    async with running(settings) as server, server.client() as client:
        begun = (await client.post("/v1/materialize", json=sql(SLOW, "wh:db.events"))).json()
        found = await client.get(begun["stream_url"])
        assert (504, "transform_timeout") == (found.status_code, found.json()["error"])
        assert "0.5 seconds" in found.json()["detail"]
        resources = server.service.registry.resources
        assert (0, 0) == (resources.transforms.launcher.running, resources.memory.used)
        await nothing_is_left(settings)


async def test_a_query_ends_with_the_rights_and_with_the_tenant(
    settings: Settings, warehouse: Warehouse
) -> None:
    """When its callers may no longer read its inputs, or the tenant is evicted, its process is killed."""
    warehouse.create(numbers(1))
    may, may_not = Policy(allow=(Rule("*", "tables/**"), Rule("*", "admin/**"))), Policy(allow=())
    settings = attrs.evolve(settings, acl_config=may)
    async with running(settings) as server, server.client() as client:
        launcher = server.service.registry.resources.transforms.launcher

        async def begin(query: str) -> str:
            body = sql(query, "wh:db.events", mode="artifact")
            build = (await client.post("/v1/materialize", json=body)).json()["build_id"]
            with trio.fail_after(30):
                while not launcher.running:  # noqa: ASYNC110  # a process has no event to wait for
                    await trio.sleep(0.01)
            return build

        async def is_gone() -> None:
            with trio.fail_after(2 * 5):
                while launcher.running or left_of(settings):  # noqa: ASYNC110  # as above
                    await trio.sleep(0.01)

        build = await begin(SLOW)
        server.service.take_rules(CompiledPolicy(may_not))
        await is_gone()
        server.service.take_rules(CompiledPolicy(may))
        with trio.fail_after(10):
            while True:  # its end is noted after its process has gone
                found = (await client.get(f"/v1/artifacts/builds/{build}")).json()
                if found["state"] != "building":
                    break
        assert ("failed", "rights_changed") == (found["state"], found["error_code"])
        await begin(SLOW + " AND a.range > 0")
        evicted = await client.post(
            "/v1/admin/tenants/team-a/evict", headers=identity("root", "team-a", "admin:*")
        )
        assert 200 == evicted.status_code, evicted.text
        await is_gone()


async def test_a_server_that_stops_leaves_no_process(settings: Settings, warehouse: Warehouse) -> None:
    """A stop ends a running query and the process that forks, and removes the query's directory."""
    warehouse.create(numbers(1))
    async with running(settings) as server, server.client() as client:
        await client.post("/v1/materialize", json=sql(SLOW, "wh:db.events"))
        launcher = server.service.registry.resources.transforms.launcher
        with trio.fail_after(30):
            while True:
                if launcher.running:
                    break
                await trio.sleep(0.01)
        forks = launcher._server
        assert forks is not None
    assert (0, None) == (launcher.running, launcher._server)
    assert forks.returncode is not None
    assert [] == left_of(settings)


async def test_limits_of_bytes_hold_on_real_bytes(settings: Settings, warehouse: Warehouse) -> None:
    """A result and inputs over their limits are 413 that name the limit; just below they pass."""
    warehouse.create(numbers(5000))
    body = sql("SELECT id FROM input0", "wh:db.events")
    async with running(settings) as server, server.client() as client:
        size = len((await client.get((await artifact_of(client, body))["stream_url"])).content)
        whole = len(
            (await client.get((await artifact_of(client, scan("wh:db.events")))["stream_url"])).content
        )

        async def refused(**limits: int) -> tuple[int, str | None]:
            entry = RegisteredTransform("duckdb_sql@*", **limits)
            section = TransformSection(enabled=True, registry=(entry,))
            server.service.take(attrs.evolve(settings, transforms=section), None)
            answer = await client.post("/v1/materialize", json={**body, "refresh": True})
            if answer.status_code == 200:
                answer = await client.get(answer.json()["stream_url"])
            return answer.status_code, answer.json()["error"] if answer.status_code >= 400 else None

        assert (200, None) == await refused(max_output_bytes=size, max_input_bytes=whole)
        assert (413, "response_too_large") == await refused(max_output_bytes=size - 1)
        assert (413, "inputs_too_large") == await refused(max_input_bytes=whole - 1)


async def test_an_input_that_cannot_be_opened_now_is_not_lost(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be opened is 503 and stays; one that is gone is built again by the next request."""
    warehouse.create(numbers(4))
    query = "SELECT count(*) + {} AS n FROM input0"
    async with running(settings) as server, server.client() as client:
        whole = await artifact_of(client, scan("wh:db.events"))
        blobs = server.service.registry.resources.blobs

        async def answered(number: int, refused: Refused | None) -> int:
            with monkeypatch.context() as patched:
                if refused is not None:
                    patched.setattr(type(blobs), "open_reader", lambda *_: refused)
                begun = await client.post("/v1/materialize", json=sql(query.format(number), "wh:db.events"))
                if begun.status_code != 200:
                    return begun.status_code
                return (await client.get(begun.json()["stream_url"])).status_code

        assert 503 == await answered(1, BLOB_UNREADABLE)
        assert 200 == await answered(2, None)
        again = (await client.post("/v1/materialize", json=scan("wh:db.events"))).json()
        assert (True, whole["artifact_uri"]) == (again["hit"], again["artifact_uri"])
        await nothing_is_left(settings)
        assert 500 == await answered(3, BLOB_GONE)
        assert 200 == await answered(4, None)


async def test_the_order_of_inputs_is_part_of_the_identity(settings: Settings, warehouse: Warehouse) -> None:
    """f(a, b) and f(b, a) are two results, and so are other names."""
    warehouse.create(numbers(3))
    warehouse.create(numbers(5), "db.more")
    query = "SELECT count(*) AS n FROM input0"
    async with running(settings) as server, server.client() as client:
        found = [
            (await artifact_of(client, sql(query, *inputs, params=params)))["artifact_uri"]
            for inputs, params in (
                (("wh:db.events", "wh:db.more"), {}),
                (("wh:db.more", "wh:db.events"), {}),
                (("wh:db.events", "wh:db.events"), {}),
                (("wh:db.events", "wh:db.more"), {"input_names": ["a", "b"]}),
                (("wh:db.events", "wh:db.more"), {"input_names": ["b", "a"]}),
            )
        ]
    assert 5 == len(set(found))


async def test_an_older_input_makes_a_result_stale(settings: Settings, warehouse: Warehouse) -> None:
    """After an append the query's result is another one, and the old one is stale by name."""
    table = warehouse.create(numbers(3))
    body = sql("SELECT count(*) AS n FROM input0", "wh:db.events", name="count")
    async with running(settings) as server, server.client() as client:
        await artifact_of(client, body)  # with its second request the name is set
        table.append(numbers(2))
        status = (await client.get("/v1/artifacts/names/count/status")).json()
        assert status["is_stale"], status
        assert [{"n": 5}] == (await fetch(client, body)).to_pylist()


async def test_parameters_that_are_wrong_are_400(settings: Settings, warehouse: Warehouse) -> None:
    """An unknown parameter, a wrong query and names that do not fit are refused before anything runs."""
    warehouse.create(numbers(1))
    wrong = [
        {"sql": ""},
        {"sql": 5},
        {"sql": "x" * 100_001},
        {"sql": "SELECT 1", "query": "SELECT 1"},
        {"sql": "SELECT 1", "input_names": ["a", "b"]},
        {"sql": "SELECT 1", "input_names": ["input1"]},
        {"sql": "SELECT 1", "input_names": ['a"; DROP']},
    ]
    async with running(settings) as server, server.client() as client:
        for params in wrong:
            body = {"inputs": ["wh:db.events"], "transform": {"executor": "duckdb_sql@v1", "params": params}}
            answer = await client.post("/v1/materialize", json=body)
            assert 400 == answer.status_code, (params, answer.text)
        answer = await client.post("/v1/materialize", json=sql("SELECT 1 AS a"))
        assert (400, "bad_inputs") == (answer.status_code, answer.json()["error"])
        assert 0 == server.service.registry.resources.transforms.launcher.started


HEAVY = "SELECT sum(s) AS s FROM (SELECT range AS s, md5(range::VARCHAR) m FROM range({}) ORDER BY m)"


async def test_a_query_has_exactly_the_limits_of_its_tenant(settings: Settings, warehouse: Warehouse) -> None:
    """Memory, disk and threads are those of the tenant, at most a thread for each 64 MiB."""
    warehouse.create(numbers(1))
    settings = attrs.evolve(
        settings, transform_memory_bytes=192 << 20, transform_spill_bytes=1 << 30, transform_threads=3
    )
    names = ("memory_limit", "max_temp_directory_size", "threads")
    shown = ", ".join(f"current_setting('{name}')::VARCHAR AS {name}" for name in names)
    async with running(settings) as server, server.client() as client:
        (found,) = (await fetch(client, sql(f"SELECT {shown} FROM input0", "wh:db.events"))).to_pylist()
        assert {"memory_limit": "192.0 MiB", "max_temp_directory_size": "1.0 GiB", "threads": "3"} == found
        small = attrs.evolve(settings, memory_budget_bytes=4 * (128 << 20) * 8 // 5)
        server.service.take(small, None)  # a quarter of the memory for builds: 128 MiB
        again = sql("SELECT current_setting('threads')::INT AS threads FROM input0", "wh:db.events")
        assert [{"threads": 2}] == (await fetch(client, again)).to_pylist()


async def test_a_sort_over_its_memory_spills_and_ends_right(settings: Settings, warehouse: Warehouse) -> None:
    """It uses its directory, which is gone afterwards; without enough of it the query is refused."""
    warehouse.create(numbers(1))
    settings = attrs.evolve(settings, transform_memory_bytes=32 << 20)
    query = sql(HEAVY.format(1_000_000), "wh:db.events")
    async with running(settings) as server, server.client() as client:
        await artifact_of(client, query)
        assert [{"s": 1_000_000 * 999_999 // 2}] == (await fetch(client, query)).to_pylist()
        await nothing_is_left(settings)
        server.service.take(attrs.evolve(settings, transform_spill_bytes=1 << 20), None)
        begun = (await client.post("/v1/materialize", json={**query, "refresh": True})).json()
        refused = await client.get(begun["stream_url"])
        assert (400, "OutOfMemoryException") == (refused.status_code, refused.json()["error"])
        await nothing_is_left(settings)


@pytest.mark.slow
async def test_a_sort_of_ten_times_its_memory_ends_right(settings: Settings, warehouse: Warehouse) -> None:
    """The rows have 640 MB, the query 64 MiB."""
    warehouse.create(numbers(1))
    settings = attrs.evolve(settings, transform_memory_bytes=64 << 20)
    rows = 13_000_000
    async with running(settings) as server, server.client() as client:
        begun = (await client.post("/v1/materialize", json=sql(HEAVY.format(rows), "wh:db.events"))).json()
        found = await client.get(begun["stream_url"], timeout=300)
        assert [{"s": rows * (rows - 1) // 2}] == pa.ipc.open_stream(found.content).read_all().to_pylist()
