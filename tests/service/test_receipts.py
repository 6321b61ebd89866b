"""Receipts of results: rows, bytes, SHA-256, snapshot and policy, for those who may read the result."""

from __future__ import annotations

import hashlib

import attrs
import pyarrow as pa
import trio
from service_kit import ARROW, Warehouse, identity, numbers, running, scan

from strata import acl
from strata.client import AsyncStrataClient
from strata.config import Settings

EVENTS = acl.Rule(principal="ana", resource="tables/wh/*/*")
PART = acl.Rule(
    principal="eve",
    resource="tables/wh/db/events",
    columns=frozenset({"id"}),
    rows="id < 3",
)


async def test_a_receipt_is_that_of_the_bytes_that_were_read(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Each way to read a result names it, also before the result is committed."""
    table = warehouse.create(numbers(1000))
    async with running(settings) as server, server.client() as client:
        direct = await client.post("/v1/materialize", json=scan("wh:db.events"), headers={"Accept": ARROW})
        path = direct.headers["X-Strata-Receipt"]
        receipt = (await client.get(path)).json()  # at once: it waits for the commit
        assert {
            "artifact_uri": direct.headers["X-Strata-Artifact-Uri"],
            "rows": 1000,
            "bytes": len(direct.content),
            "sha256": hashlib.sha256(direct.content).hexdigest(),
            "policy_hash": None,
        } == {key: receipt[key] for key in receipt if key != "inputs"}
        (made_of,) = receipt["inputs"]
        assert ("wh:db.events", str(table.current_snapshot().snapshot_id)) == (
            made_of["uri"],
            made_of["snapshot_id"],
        )
        hit = (await client.post("/v1/materialize", json=scan("wh:db.events"))).json()
        finished = await client.get(hit["stream_url"])
        assert (path, direct.content) == (finished.headers["X-Strata-Receipt"], finished.content)


async def test_a_receipt_tells_nothing_of_hidden_rows(settings: Settings, warehouse: Warehouse) -> None:
    """It counts what its caller has; another caller's result has none, byte for byte as a missing one."""
    table = warehouse.create(numbers(50))
    policy = acl.Policy(allow=(EVENTS, PART))
    async with running(attrs.evolve(settings, acl_config=policy)) as server:
        found = {}
        for principal in ("ana", "eve"):
            async with server.client(**identity(principal)) as client:
                whole = await client.post(
                    "/v1/materialize", json=scan("wh:db.events"), headers={"Accept": ARROW}
                )
                rows = pa.ipc.open_stream(whole.content).read_all().num_rows
                receipt = (await client.get(whole.headers["X-Strata-Receipt"])).json()
                found[principal] = (whole.headers["X-Strata-Receipt"], receipt)
                assert (rows, len(whole.content)) == (receipt["rows"], receipt["bytes"])
        assert (50, 3) == (found["ana"][1]["rows"], found["eve"][1]["rows"])
        assert found["ana"][1]["policy_hash"] != found["eve"][1]["policy_hash"]
        async with server.client(**identity("eve")) as eve:
            same = {"X-Request-ID": "r"}
            hidden = await eve.get(found["ana"][0], headers=same)
            missing = await eve.get("/v1/artifacts/none/v/1/receipt", headers=same)
            assert (404, missing.content) == (hidden.status_code, hidden.content)
            table.append(numbers(10, start=100))
            before = found["eve"][1]
            again = await eve.post("/v1/materialize", json=scan("wh:db.events"), headers={"Accept": ARROW})
            after = (await eve.get(again.headers["X-Strata-Receipt"])).json()
            same_for_eve = ("rows", "bytes", "sha256", "policy_hash")
            assert [before[key] for key in same_for_eve] == [after[key] for key in same_for_eve]


async def test_the_client_proves_each_result(settings: Settings, warehouse: Warehouse) -> None:
    """A built result by its receipt, a finished one by its entity tag; many at once."""
    warehouse.create(numbers(100))
    async with running(settings) as server:

        async def read(limit: int) -> None:
            async with AsyncStrataClient(server.url, headers=identity()) as client:
                for _ in range(2):
                    found = await client.fetch("wh:db.events", filters=[("id", "<", limit)])
                    assert limit == found.num_rows

        async with trio.open_nursery() as nursery:
            for limit in range(1, 9):
                nursery.start_soon(read, limit)


async def test_a_version_that_does_not_exist_has_no_receipt(settings: Settings, warehouse: Warehouse) -> None:
    """Each version has its own."""
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:
        promised = (await client.post("/v1/materialize", json=scan("wh:db.events"))).json()
        assert 200 == (await client.get(promised["stream_url"])).status_code
        address = promised["artifact_uri"].removeprefix("strata://artifact/").replace("@v=1", "/v/")
        found = [(await client.get(f"/v1/artifacts/{address}{one}/receipt")).status_code for one in (1, 2)]
        assert [200, 404] == found
