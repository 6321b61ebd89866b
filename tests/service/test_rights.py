"""Access rules on artifacts, names, streams and transforms; lineage; warming the cache."""

from __future__ import annotations

import json
from typing import Any

import attrs
import httpx
import pytest
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings

ALL = (Rule("*", "tables/**"), Rule("*", "admin/**"))
ANA, EVE = identity("ana", "team-a"), identity("eve", "team-a")


def use(server: Running, *deny: Rule, allow: tuple[Rule, ...] = ALL) -> None:
    server.service.authorizer.policy = Policy(deny, allow)


async def named(client: httpx.AsyncClient, uri: str, name: str, **params: Any) -> str:
    """Make a result with a name; return its path."""
    await fetch(client, scan(uri, name=name, params=params))
    hit = (await client.post("/v1/materialize", json=scan(uri, name=name, params=params))).json()
    assert hit["hit"]
    return hit["stream_url"].removesuffix("/data")


@pytest.fixture
async def three(server: Running, warehouse: Warehouse) -> dict[str, str]:
    """Return the paths of three named results of two tables, made by ana."""
    warehouse.create(numbers(10))
    warehouse.create(numbers(10), "db.open")
    async with server.client(**ANA) as ana:
        return {
            "secret/plan": await named(ana, warehouse.uri(), "secret/plan"),
            "secret/ids": await named(ana, warehouse.uri(), "secret/ids", columns=["id"]),
            "open": await named(ana, warehouse.uri("db.open"), "open"),
        }


async def test_counts_are_of_what_the_caller_may_read(server: Running, three: dict[str, str]) -> None:
    """Lists, totals, pages, statistics and names count no denied result."""
    use(server, Rule("eve", "tables/*/db/events"))
    async with server.client(**ANA) as ana, server.client(**EVE) as eve:
        all_of_it = (await ana.get("/v1/artifacts")).json()
        assert (3, 3) == (all_of_it["total_count"], len(all_of_it["artifacts"]))
        part = (await eve.get("/v1/artifacts")).json()
        assert (1, 1) == (part["total_count"], len(part["artifacts"]))
        assert 0 == (await eve.get("/v1/artifacts?name_prefix=secret")).json()["total_count"]
        assert [] == (await eve.get("/v1/artifacts?offset=1")).json()["artifacts"]
        sizes = {one["artifact_id"]: one["byte_size"] for one in all_of_it["artifacts"]}
        stats = (await eve.get("/v1/artifacts/stats")).json()
        [mine] = part["artifacts"]
        assert (1, {"ready": 1}) == (stats["total_artifacts"], stats["by_state"])
        assert sizes[mine["artifact_id"]] == stats["total_bytes"]
        assert ["open"] == [one["name"] for one in (await eve.get("/v1/names")).json()["names"]]


async def test_a_listing_has_the_same_pages_with_rules_as_without(
    server: Running, three: dict[str, str]
) -> None:
    """Rules that deny nothing change no listing and no error."""
    queries = (
        "limit=2",
        "limit=2&offset=2",
        "sort=byte_size&order=asc",
        "state=failed",
        "name_prefix=secret",
        "since=2000-01-01",
        "state=nothing",
        "sort=nothing",
    )
    async with server.client(**ANA) as ana:
        before = [
            (await ana.get(f"/v1/artifacts?{query}", headers={"X-Request-ID": "x"})).content
            for query in queries
        ]
        use(server)
        after = [
            (await ana.get(f"/v1/artifacts?{query}", headers={"X-Request-ID": "x"})).content
            for query in queries
        ]
    assert before == after


async def test_many_results_are_listed_whole(server: Running, warehouse: Warehouse, monkeypatch) -> None:
    """More results than one batch are all listed."""
    monkeypatch.setattr("strata.tenants.results.listing.CHUNK", 2)
    warehouse.create(numbers(3))
    use(server)
    async with server.client(**ANA) as ana:
        for number in range(5):
            body = scan(warehouse.uri(), params={"filters": [{"column": "id", "op": ">", "value": number}]})
            await fetch(ana, body)
            await ana.post("/v1/materialize", json=body)
        found = (await ana.get("/v1/artifacts?limit=2&offset=2&sort=artifact_id")).json()
        assert (5, 2) == (found["total_count"], len(found["artifacts"]))
        assert 5 == (await ana.get("/v1/artifacts/stats")).json()["total_artifacts"]


async def test_a_deny_rule_on_a_name_hides_the_name_everywhere(
    server: Running, three: dict[str, str]
) -> None:
    """The name is missing in resolving, lists, status, explain and prefixes; the result itself can be read."""
    use(server, Rule("eve", "artifacts/secret/**"))
    async with server.client(**EVE) as eve:
        for path in ("/v1/names/{}", "/v1/artifacts/names/{}/status"):
            hidden, missing = [
                await eve.get(path.format(name), headers={"X-Request-ID": "x"})
                for name in ("secret/plan", "secret/none")
            ]
            assert 404 == hidden.status_code
            assert missing.content == hidden.content
        assert 404 == (await eve.get("/v1/names/secret//plan")).status_code
        assert ["open"] == [one["name"] for one in (await eve.get("/v1/names")).json()["names"]]
        assert 0 == (await eve.get("/v1/artifacts?name_prefix=secret")).json()["total_count"]
        assert 200 == (await eve.get(three["secret/plan"])).status_code
        explained = [
            (await eve.post("/v1/artifacts/explain-materialize", json=scan("wh:db.open", name=name))).json()
            for name in ("secret/plan", "secret/none")
        ]
        assert explained[1] == explained[0]


async def test_a_name_is_written_only_where_no_rule_denies_it(server: Running, three: dict[str, str]) -> None:
    """A denied name is 403, whether or not it exists, and nothing is built."""
    use(server, Rule("eve", "artifacts/secret/**", action="write"))
    async with server.client(**EVE) as eve, server.client(**ANA) as ana:
        answers = [
            await eve.post(
                "/v1/materialize", json=scan("wh:db.open", name=name), headers={"X-Request-ID": "x"}
            )
            for name in ("secret/plan", "secret/none", "secret//plan")
        ]
        assert [403] * 3 == [answer.status_code for answer in answers]
        assert 1 == len({answer.content for answer in answers})
        assert "access_denied" == answers[0].json()["error"]
        assert (
            three["secret/plan"].split("/")[3]
            in (await ana.get("/v1/names/secret/plan")).json()["artifact_uri"]
        )
        assert 200 == (await eve.post("/v1/materialize", json=scan("wh:db.open", name="mine"))).status_code


async def test_a_deny_rule_on_artifacts_closes_records_bytes_builds_and_lineage(
    server: Running, three: dict[str, str], warehouse: Warehouse
) -> None:
    """The rule applies by id, to the principals that it names."""
    artifact_id = three["open"].split("/")[3]
    async with server.client(**EVE) as eve, server.client(**ANA) as ana:
        made = (
            await eve.post(
                "/v1/materialize", json=scan("wh:db.open", mode="artifact", params={"columns": ["id"]})
            )
        ).json()
        while "ready" != (await eve.get(f"/v1/builds/{made['build_id']}")).json()["state"]:
            pass
        use(server, Rule("eve", "artifacts/**"))
        paths = [three["open"] + tail for tail in ("", "/data", "/lineage", "/dependents")]
        for path in (*paths, f"/v1/builds/{made['build_id']}", "/v1/names/open"):
            assert (404, 200) == ((await eve.get(path)).status_code, (await ana.get(path)).status_code), path
        assert 0 == (await eve.get("/v1/artifacts")).json()["total_count"]
        use(server, Rule("eve", f"artifacts/{artifact_id}"))
        assert [404] * 4 == [(await eve.get(path)).status_code for path in paths]
        assert 200 == (await eve.get(three["secret/plan"])).status_code


async def test_a_deny_rule_on_streams_or_transforms_holds(server: Running, three: dict[str, str]) -> None:
    """A denied stream is answered as missing, a denied transform as not registered."""
    body = scan("wh:db.open", params={"columns": []})
    async with server.client(**EVE) as eve:
        url = (await eve.post("/v1/materialize", json=body)).json()["stream_url"]
        use(server, Rule("eve", "streams/*"))
        assert 404 == (await eve.get(url)).status_code
        use(server, Rule("eve", "artifacts/**"))  # its bytes are those of the result
        assert 404 == (await eve.get(url)).status_code
        use(server)
        assert 200 == (await eve.get(url)).status_code
        use(server, Rule("eve", "transforms/scan@*", action="run"))
        unknown = {**body, "transform": {"executor": "nothing@v1", "params": {}}}
        denied, missing = [
            await eve.post("/v1/materialize", json=one, headers={"X-Request-ID": "x"})
            for one in (body, unknown)
        ]
        assert (403, "transform_not_allowed") == (denied.status_code, denied.json()["error"])
        assert missing.content == denied.content


async def test_a_build_that_failed_tells_nothing_to_whom_the_rules_deny_it(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A stream of a failed, denied build is not found; its error is not shown."""
    warehouse.create(numbers(2000))
    body = scan(warehouse.uri(), params={"filters": [{"column": "value", "op": ">=", "value": 0.5}]})
    async with (
        running(attrs.evolve(settings, max_response_bytes=4096)) as server,
        server.client(**EVE) as eve,
    ):
        url = (await eve.post("/v1/materialize", json=body)).json()["stream_url"]
        assert 413 == (await eve.get(url)).status_code
        use(server, Rule("eve", "tables/**"))
        assert 404 == (await eve.get(url)).status_code


async def test_lineage_of_a_scan_is_its_table(
    server: Running, three: dict[str, str], warehouse: Warehouse
) -> None:
    """Lineage of a scan has its table, in the wire contract's form."""
    async with server.client(**ANA) as ana:
        record = (await ana.get(three["open"])).json()
        found = (await ana.get(three["open"] + "/lineage")).json()
        uri = f"strata://artifact/{record['artifact_id']}@v=1"
        table = warehouse.uri("db.open")
        version = json.loads(record["input_versions"])[table]
        assert {
            "artifact_uri": uri,
            "artifact_id": record["artifact_id"],
            "version": 1,
            "nodes": [
                {
                    "uri": uri,
                    "artifact_id": record["artifact_id"],
                    "version": 1,
                    "type": "artifact",
                    "transform_ref": "scan@v1",
                    "created_at": record["created_at"],
                },
                {
                    "uri": table,
                    "artifact_id": None,
                    "version": None,
                    "type": "table",
                    "transform_ref": None,
                    "created_at": None,
                },
            ],
            "edges": [{"from_uri": table, "to_uri": uri, "input_version": version}],
            "depth": 1,
            "direct_inputs": [table],
            "truncated": False,
        } == found
        none = (await ana.get(three["open"] + "/dependents")).json()
        assert {
            "artifact_uri": uri,
            "artifact_id": record["artifact_id"],
            "version": 1,
            "dependents": [],
            "total_count": 0,
        } == none
        assert 400 == (await ana.get(three["open"] + "/lineage?max_depth=0")).status_code
        assert 400 == (await ana.get(three["open"] + "/lineage?depth=1")).status_code


async def test_dependents_are_found_and_counted_within_rights(server: Running, three: dict[str, str]) -> None:
    """Dependents contain and count only results that the caller may read."""
    record_id = three["open"].split("/")[3]
    metadata = server.service.registry.resources.metadata
    for number in (1, 2):
        metadata.begin_build(
            "team-a",
            build_id=f"b{number}",
            provenance_hash=f"{number}" * 64,
            query_hash="q",
            transform_spec=json.dumps({"executor": "sql@v1", "params": {}}),
            input_versions=[(f"strata://artifact/{record_id}@v={number}", "x")],
            executor_ref="sql@v1",
            name=None,
        )
    async with server.client(**ANA) as ana:
        found = (await ana.get(three["open"] + "/dependents")).json()
        assert (1, ["1" * 32]) == (found["total_count"], [one["artifact_id"] for one in found["dependents"]])
        use(server, Rule("ana", f"artifacts/{'1' * 32}"))
        assert 0 == (await ana.get(three["open"] + "/dependents")).json()["total_count"]


async def test_a_name_is_stale_when_its_table_has_moved_on(server: Running, warehouse: Warehouse) -> None:
    """A name is stale after a commit or a lost table, unless its result is pinned to a snapshot, tag or time."""
    table = warehouse.create(numbers(3))
    snapshot = table.current_snapshot()
    pinned = {"snapshot_id": snapshot.snapshot_id}
    async with server.client(**ANA) as ana:
        await named(
            ana, warehouse.uri(), "daily", columns=["id"], filters=[{"column": "id", "op": "<", "value": 2}]
        )
        await named(ana, warehouse.uri(), "pinned", **pinned)
        fresh = (await ana.get("/v1/artifacts/names/daily/status")).json()
        assert (False, None, []) == (fresh["is_stale"], fresh["stale_reason"], fresh["changed_inputs"])
        assert ("daily", "ready", 1) == (fresh["name"], fresh["state"], fresh["version"])
        table.append(numbers(3, start=3))
        stale = (await ana.get("/v1/artifacts/names/daily/status")).json()
        [change] = stale["changed_inputs"]
        assert (True, warehouse.uri()) == (stale["is_stale"], change["input_uri"])
        assert (
            fresh["input_versions"] == stale["input_versions"] == {change["input_uri"]: change["old_version"]}
        )
        assert change["new_version"] != change["old_version"]
        assert stale["stale_reason"].startswith("1 of 1 inputs changed since ")
        body = scan(
            warehouse.uri(),
            name="daily",
            params={"columns": ["id"], "filters": [{"column": "id", "op": "<", "value": 2}]},
        )
        explained = (await ana.post("/v1/artifacts/explain-materialize", json=body)).json()
        assert explained["changed_inputs"] == stale["changed_inputs"]
        assert not (await ana.get("/v1/artifacts/names/pinned/status")).json()["is_stale"]
        warehouse.catalog.drop_table("db.events")
        gone = (await ana.get("/v1/artifacts/names/daily/status")).json()
        assert [None] == [one["new_version"] for one in gone["changed_inputs"]]
        assert 404 == (await ana.get("/v1/artifacts/names/nothing/status")).status_code


ADMIN = identity("root", "team-a", "admin:cache")


async def test_warming_reads_what_a_scan_then_finds(server: Running, warehouse: Warehouse) -> None:
    """Warming caches the segments of a scan; repeated, it reads nothing."""
    warehouse.create(numbers(40), **{"write.parquet.row-group-limit": "10"})
    body = {"tables": [{"table": warehouse.uri(), "columns": ["id", "value"]}]}
    async with server.client(**ADMIN) as root, server.client(**ANA) as ana:
        first = (await root.post("/v1/cache/warm", json=body)).json()
        again = (await root.post("/v1/cache/warm", json=body)).json()
        groups = first["row_groups"]
        assert (4, 0, 4) == (groups, first["cached_before"], first["cached"])
        assert (4, 4, 4) == (again["row_groups"], again["cached_before"], again["cached"])
        assert [{"table": warehouse.uri(), "row_groups": 4, "cached_before": 4, "cached": 4}] == again[
            "tables"
        ]
        before = (await root.get("/v1/cache/stats")).json()
        await fetch(
            ana,
            scan(
                warehouse.uri(),
                params={"columns": ["id"], "filters": [{"column": "value", "op": ">", "value": 0.5}]},
            ),
        )
        after = (await root.get("/v1/cache/stats")).json()
        assert after["hits"] > before["hits"]
        assert after["misses"] == before["misses"]


async def test_warming_after_a_clear_reads_again_although_the_result_is_there(
    server: Running, warehouse: Warehouse
) -> None:
    """After a clear, warming reads again although the result is ready."""
    warehouse.create(numbers(10))
    body = {"tables": [{"table": warehouse.uri()}]}
    async with server.client(**ADMIN) as root:
        await root.post("/v1/cache/warm", json=body)
        await root.post("/v1/cache/clear")
        found = (await root.post("/v1/cache/warm", json=body)).json()
    assert (0, 1) == (found["cached_before"], found["cached"])


async def test_warming_asks_the_rules_for_every_table_before_it_reads_any(
    server: Running, warehouse: Warehouse
) -> None:
    """A denied table is answered as a missing one, and nothing is cached."""
    warehouse.create(numbers(10))
    warehouse.create(numbers(10), "db.open")
    use(server, Rule("root", "tables/*/db/events"))

    async def warm(root: httpx.AsyncClient, *tables: str) -> httpx.Response:
        body = {"tables": [{"table": warehouse.uri(table)} for table in tables]}
        return await root.post("/v1/cache/warm", json=body, headers={"X-Request-ID": "x"})

    async with server.client(**ADMIN) as root, server.client(**ANA) as ana:
        denied, missing = await warm(root, "db.open", "db.events"), await warm(root, "db.open", "db.nothing")
        assert (404, denied.content) == (missing.status_code, missing.content)
        assert 0 == (await root.get("/v1/cache/stats")).json()["segments"]
        assert 200 == (await warm(root, "db.open")).status_code
        assert 403 == (await ana.post("/v1/cache/warm", json={"tables": []})).status_code
        assert 422 == (await root.post("/v1/cache/warm", json={"tables": []})).status_code
        unknown = {"tables": [{"table": warehouse.uri("db.open"), "columns": ["gone"]}]}
        assert 400 == (await root.post("/v1/cache/warm", json=unknown)).status_code
        use(server, allow=(Rule("*", "tables/**"),))
        assert 403 == (await warm(root, "db.open")).status_code


async def test_warming_reads_only_what_the_caller_may_see(settings: Settings, warehouse: Warehouse) -> None:
    """Warming neither reads hidden columns nor accepts their names."""
    warehouse.create(numbers(10))
    rules = Policy(allow=(Rule("root", "tables/wh/db/events", columns=("id",)), Rule("root", "admin/cache")))
    async with running(attrs.evolve(settings, acl_config=rules)) as server, server.client(**ADMIN) as root:
        assert (
            200
            == (await root.post("/v1/cache/warm", json={"tables": [{"table": warehouse.uri()}]})).status_code
        )
        hidden = {"tables": [{"table": warehouse.uri(), "columns": ["name"]}]}
        gone = {"tables": [{"table": warehouse.uri(), "columns": ["gone"]}]}
        answers = [await root.post("/v1/cache/warm", json=body) for body in (hidden, gone)]
        assert [400, 400] == [answer.status_code for answer in answers]
        assert answers[0].json()["detail"].replace("name", "gone") == answers[1].json()["detail"]
