"""Read restrictions of a REST catalog through the whole service: results, caches and artifacts under them."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import httpx
import pytest
from rest_catalog import RestServer, rest_server
from service_kit import Warehouse, fetch, identity, numbers, running, scan

from strata import acl
from strata.config import Settings

FEW = {"required-row-filter": {"type": "lt", "term": "id", "value": 3}}
FEWER = {"required-row-filter": {"type": "lt", "term": "id", "value": 2}}
MASKED = {"required-column-projections": [{"action": "mask-to-fixed-value", "field-id": 3}]}
TABLE = scan("prod:db.events")


@pytest.fixture
def rest(warehouse: Warehouse) -> Iterator[RestServer]:
    warehouse.create(numbers(10))
    with rest_server(warehouse.catalog) as server:
        yield server


@pytest.fixture(params=["no rules", "rules"])
def on_rest(request: pytest.FixtureRequest, settings: Settings, rest: RestServer) -> Settings:
    catalogs = {
        alias: {"type": "rest", "uri": rest.uri, "token": f"token-of-{alias}"} for alias in ("prod", "audit")
    }
    everything = acl.Policy(allow=(acl.Rule(principal="*", resource="**"),))
    rules = everything if request.param == "rules" else None
    return attrs.evolve(settings, catalogs=catalogs, acl_config=rules)


def restrict(rest: RestServer, found: object) -> None:
    rest.more = {"read-restrictions": found}


async def listed(client: httpx.AsyncClient) -> int:
    return (await client.get("/v1/artifacts")).json()["total_count"]


async def test_a_restriction_that_appears_hides_what_was_read_before(
    on_rest: Settings, rest: RestServer
) -> None:
    """The older result looks like one that does not exist; the same request gives the restricted rows."""
    async with running(on_rest) as server, server.client() as client:
        first = (await client.post("/v1/materialize", json=TABLE)).json()
        assert 10 == (await fetch(client, TABLE)).num_rows
        hit = (await client.post("/v1/materialize", json=TABLE)).json()
        assert hit["hit"]
        restrict(rest, FEW)
        same = {"X-Request-ID": "r"}
        gone = await client.get(hit["stream_url"], headers=same)
        missing = await client.get("/v1/artifacts/none/v/1/data", headers=same)
        assert (404, missing.content) == (gone.status_code, gone.content)
        assert 404 == (await client.get(hit["stream_url"].removesuffix("/data"))).status_code
        assert 404 == (await client.get(first["stream_url"])).status_code
        assert 0 == await listed(client)

        assert [0, 1, 2] == (await fetch(client, TABLE))["id"].to_pylist()
        again = (await client.post("/v1/materialize", json=TABLE)).json()
        assert again["hit"]
        assert hit["artifact_uri"] != again["artifact_uri"]
        assert 1 == await listed(client)
        rest.more = {}
        assert 10 == (await fetch(client, TABLE)).num_rows
        assert 404 == (await client.get(again["stream_url"])).status_code


async def test_a_restriction_that_changes_between_two_requests_ends_the_promise_of_a_stream(
    on_rest: Settings, rest: RestServer
) -> None:
    """The stream was promised under another filter, and its rows are not the caller's any more."""
    restrict(rest, FEW)
    async with running(on_rest) as server, server.client() as client:
        promised = (await client.post("/v1/materialize", json=TABLE)).json()
        restrict(rest, FEWER)
        assert 404 == (await client.get(promised["stream_url"])).status_code
        assert [0, 1] == (await fetch(client, TABLE))["id"].to_pylist()


async def test_a_receipt_is_of_the_restrictions_that_its_result_was_made_under(
    on_rest: Settings, rest: RestServer
) -> None:
    """Its policy hash is another one under others; with the result, its receipt is like one that does not exist."""
    same = {"X-Request-ID": "r"}
    async with running(on_rest) as server, server.client() as client:
        found = []
        for restrictions, rows in (({}, 10), (FEW, 3), (FEWER, 2), (FEW | MASKED, 3)):
            restrict(rest, restrictions)
            data = (await client.post("/v1/materialize", json=TABLE)).json()["stream_url"]
            whole = await client.get(data)
            receipt = await client.get(whole.headers["X-Strata-Receipt"])
            assert (200, rows) == (receipt.status_code, receipt.json()["rows"])
            assert "required" not in receipt.text
            found.append((whole.headers["X-Strata-Receipt"], receipt.json()["policy_hash"]))
        assert 4 == len({policy for _, policy in found})
        missing = await client.get("/v1/artifacts/none/v/1/receipt", headers=same)
        for path, _ in found[:-1]:
            gone = await client.get(path, headers=same)
            assert (404, missing.content) == (gone.status_code, gone.content)


async def test_what_one_identity_of_a_catalog_may_read_is_never_served_to_another(
    on_rest: Settings, rest: RestServer
) -> None:
    """Two aliases ask with two tokens; they share cached row groups of the files, and neither rows nor results."""
    rest.of_caller = {"Bearer token-of-prod": {"read-restrictions": FEW | MASKED}}
    audit = scan("audit:db.events")
    async with running(on_rest) as server, server.client(**identity(scopes="admin:cache")) as client:
        for _ in range(2):
            whole, part = await fetch(client, audit), await fetch(client, TABLE)
            assert numbers(10).to_pylist() == whole.to_pylist()
            assert numbers(3).drop_columns("name").to_pylist() == part.drop_columns("name").to_pylist()
            assert ["XXXXXXXX"] * 3 == part["name"].to_pylist()
        narrow = scan("prod:db.events", params={"columns": ["name"]})
        assert ["XXXXXXXX"] * 3 == (await fetch(client, narrow))["name"].to_pylist(), "from the cache"
        uris = {
            (await client.post("/v1/materialize", json=one)).json()["artifact_uri"] for one in (audit, TABLE)
        }
        assert 2 == len(uris)


async def test_principals_with_one_identity_of_a_catalog_share_its_results(
    on_rest: Settings, rest: RestServer
) -> None:
    """The restrictions are those of the server's credentials, which all principals of the catalog use."""
    restrict(rest, FEW)
    async with running(on_rest) as server:
        async with server.client(**identity("ana")) as ana:
            assert 3 == (await fetch(ana, TABLE)).num_rows
        async with server.client(**identity("eve")) as eve:
            answer = (await eve.post("/v1/materialize", json=TABLE)).json()
            assert answer["hit"]
            assert 3 == (await fetch(eve, TABLE)).num_rows
        async with server.client(**identity("bob", "team-b")) as bob:
            assert not (await bob.post("/v1/materialize", json=TABLE)).json()["hit"]


async def test_a_restriction_that_is_not_known_is_a_refusal_that_names_it(
    on_rest: Settings, rest: RestServer
) -> None:
    """It is 501 for each request, also where a result was made before; another table is read."""
    async with running(on_rest) as server, server.client() as client:
        await fetch(client, TABLE)
        restrict(rest, {"required-column-projections": [{"action": "blur", "field-id": 3}]})
        refused = await client.post("/v1/materialize", json=TABLE)
        assert (501, "unsupported_read_restriction") == (refused.status_code, refused.json()["error"])
        assert "'blur'" in refused.json()["detail"]
        explained = await client.post("/v1/artifacts/explain-materialize", json=TABLE)
        assert 501 == explained.status_code


async def test_no_number_of_an_answer_counts_hidden_rows(on_rest: Settings, rest: RestServer) -> None:
    """Neither headers nor the artifact's record differ for another number of hidden rows."""
    restrict(rest, FEW | MASKED)
    async with running(on_rest) as server, server.client() as client:
        promised = (await client.post("/v1/materialize", json=TABLE)).json()
        data = await client.get(promised["stream_url"])
        assert data.headers.get("X-Arrow-Row-Count") in {None, "3"}
        assert "ready" == (await client.get(f"/v1/builds/{promised['build_id']}")).json()["state"]
        address = promised["artifact_uri"].removeprefix("strata://artifact/").replace("@v=", "/v/")
        record = (await client.get(f"/v1/artifacts/{address}")).json()
        assert (3, len(data.content)) == (record["row_count"], record["byte_size"])
        assert "XXXXXXXX" not in record["input_versions"]
        assert "lt" not in record["input_versions"]


async def test_each_query_with_a_salt_is_built_anew(on_rest: Settings, rest: RestServer) -> None:
    """A hit would be another query's hashes."""
    action = {"action": "sha-256-query-local", "field-id": 1}
    restrict(rest, {"required-column-projections": [action]})
    async with running(on_rest) as server, server.client() as client:
        first, second = (await fetch(client, TABLE))["id"], (await fetch(client, TABLE))["id"]
        assert set(first.to_pylist()).isdisjoint(second.to_pylist())
        named = (await client.post("/v1/materialize", json=TABLE | {"name": "hashed"})).json()
        await client.get(named["stream_url"])
        assert "ready" == (await client.get(f"/v1/builds/{named['build_id']}")).json()["state"]
        status = await client.get("/v1/artifacts/names/hashed/status")
        assert status.json()["is_stale"] is False, "the salt is no version of the table"


async def test_a_description_says_that_a_table_is_restricted_and_not_by_what(
    on_rest: Settings, rest: RestServer
) -> None:
    """Nor how many rows and bytes there are: those are of hidden rows, too."""
    async with running(on_rest) as server, server.client() as client:
        asked = {"params": {"uri": "prod:db.events"}}
        whole = (await client.get("/v1/tables/describe", **asked)).json()
        assert (False, 10) == (whole["restricted"], whole["rows"])
        restrict(rest, FEW)
        part = await client.get("/v1/tables/describe", **asked)
        assert (True, None, None) == tuple(part.json()[key] for key in ("restricted", "rows", "bytes"))
        assert "required-row-filter" not in part.text
        listed = (await client.get("/v1/tables/snapshots", **asked)).json()["snapshots"]
        assert [None] == [one["summary"] for one in listed]


async def test_a_listing_asks_the_catalog_once_for_all_results_of_a_table(
    on_rest: Settings, rest: RestServer, warehouse: Warehouse
) -> None:
    """Also where it does not answer: then none of them is shown."""
    table = warehouse.catalog.load_table("db.events")
    async with running(on_rest) as server, server.client() as client:
        for number in range(4):
            await fetch(client, TABLE)
            table.append(numbers(1, start=100 + number))
        for status, shown in ((None, 4), (503, 0)):
            rest.status = status
            before = len(rest.asked)
            assert shown == await listed(client)
            assert 1 == len(rest.asked) - before
