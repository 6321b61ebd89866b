"""``sql@v1`` of a server on Daft: in the process of a build, and on a Ray cluster of two nodes on the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import duckdb
import httpx
import pyarrow as pa
import pytest
import trio
from flight_tables import FLIGHT_INPUTS, FlightTables, read_rows
from pyiceberg.types import StringType
from service_kit import Warehouse, identity, running
from sidecar_kit import executor

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection
from strata.executor.cluster.ray_address import LOOPBACK_ONLY
from strata.executor.sidecar.builds import DaftEngine

SECONDS = 580
"""Seconds that a build may take: Ray starts a dozen Python processes for each."""

FLIGHTS = pa.table(
    {
        "carrier": pa.array(["AA", "UA", "DL", "AA", None] * 200),
        "distance": pa.array(range(1000), pa.int64()),
        "delay": pa.array([i / 7 for i in range(1000)]),
    }
)
CARRIERS = pa.table({"carrier": ["AA", "UA", "DL"], "name": ["American", "United", "Delta"]})
JOIN = (
    "SELECT c.name, count(*) AS n, sum(f.distance) AS miles, max(f.delay) AS worst "
    "FROM input0 AS f JOIN input1 AS c ON f.carrier = c.carrier GROUP BY c.name ORDER BY c.name"
)


def right(sql: str) -> list[tuple]:
    with duckdb.connect() as bare:
        bare.register("input0", FLIGHTS)
        bare.register("input1", CARRIERS)
        return bare.sql(sql).fetchall()


def query(sql: str, *inputs: str) -> dict:
    return {
        "inputs": list(inputs or ("wh:db.flights", "wh:db.carriers")),
        "transform": {"executor": "sql@v1", "params": {"sql": sql}},
    }


def with_daft(settings: Settings, url: str, token: Path) -> Settings:
    token.write_text("secret")
    entry = RegisteredTransform(
        "sql@v1", url, token_file=str(token), tables="reference", timeout_seconds=SECONDS
    )
    return attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=(entry,)))


async def ready(client: httpx.AsyncClient) -> int:
    return (await client.get("/v1/artifacts/stats")).json()["by_state"].get("ready", 0)


async def test_tables_are_read_by_reference_where_that_is_exact(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Nothing is scanned by the server; a table that is not read exactly is sent as rows, with equal answers."""
    warehouse.create(FLIGHTS, "db.flights")
    carriers = warehouse.create(CARRIERS, "db.carriers")
    async with executor(tmp_path / "builds", daft=DaftEngine(), seconds=SECONDS) as served:
        settings = with_daft(settings, served.url, tmp_path / "token")
        async with running(settings) as service, service.client() as client:
            assert right(JOIN) == await read_rows(client, query(JOIN))
            assert 1 == await ready(client)  # the result alone
            with carriers.update_schema() as update:
                update.add_column("country", StringType())
            assert right(JOIN) == await read_rows(client, query(JOIN))
            assert 4 == await ready(client)  # two scans and the second result
            refused = await client.post(
                "/v1/materialize", json=query("SELECT * FROM read_parquet('/etc/passwd')")
            )
            told = await client.get(refused.json()["stream_url"])
            assert (400, "UnsupportedQuery") == (told.status_code, told.json()["error"])
        assert [] == [*(tmp_path / "builds").iterdir()]


BY_AIRLINE = (
    "SELECT a.name, count(*) AS n, sum(f.distance) AS miles, max(f.arr_delay) AS worst "
    "FROM input0 AS f JOIN input1 AS a ON f.carrier = a.carrier GROUP BY a.name ORDER BY a.name"
)
BY_MONTH = (
    "SELECT origin, month, count(*) AS n, count(dep_time) AS flown, min(dep_time) AS earliest FROM input0 "
    "WHERE distance BETWEEN 500 AND 2000 GROUP BY origin, month ORDER BY origin, month"
)
PAIRS = (
    "SELECT a.carrier, count(*) AS n, max(b.distance) AS miles FROM input0 AS a JOIN input0 AS b "
    "ON a.tailnum = b.tailnum AND a.month = b.month GROUP BY a.carrier ORDER BY a.carrier"
)
"""Of all flights of an aircraft in a month."""


CLUSTER = """
import sys, time
import ray
from ray.cluster_utils import Cluster
small = {"num_cpus": 2, "object_store_memory": 100_000_000, "node_ip_address": "127.0.0.1"}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
worker = cluster.add_node(**small)
print(cluster.address, flush=True)
for line in sys.stdin:
    ray.init(address=cluster.address, log_to_driver=False)
    working = False
    while not working:
        time.sleep(0.02)
        actors = ray._private.state.actors().values()
        working = any(a["State"] == "ALIVE" and a["Address"]["NodeID"] == worker.node_id for a in actors)
    cluster.remove_node(worker, allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""
"""Starts two nodes. At a line it waits until something runs on the second, and kills that."""


@attrs.frozen
class RayCluster:
    """A cluster of two nodes on the loopback.

    Attributes:
        address: Of its head.
        process: The process that started it.
    """

    address: str
    process: subprocess.Popen[str]

    def kill_worker(self) -> None:
        """Kill the second node while something runs on it; blocking until it is killed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        assert any("killed" in line for line in self.process.stdout)


@pytest.fixture
def ray_cluster() -> Iterator[RayCluster]:
    """Start two nodes in a process that ends them with the test: Ray lets one process join one cluster."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", **LOOPBACK_ONLY}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=os.environ | quiet,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as nodes:
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        address = next((line.strip() for line in nodes.stdout if line.startswith("127.0.0.1:")), "")
        assert address, "the cluster did not start"
        yield RayCluster(address, nodes)
        nodes.stdin.close()


async def test_two_builds_at_once_on_a_cluster_of_two_nodes(
    settings: Settings, flights: FlightTables, tmp_path: Path, ray_cluster: RayCluster
) -> None:
    """Of two tenants, each a Ray job with a namespace of its own; both answers are DuckDB's."""
    settings = attrs.evolve(settings, warehouses={"demo": str(flights.warehouse)})
    found: dict[str, list[tuple]] = {}
    async with executor(tmp_path / "builds", daft=DaftEngine(ray_cluster.address), seconds=SECONDS) as served:
        settings = with_daft(settings, served.url, tmp_path / "token")
        async with running(settings) as service, trio.open_nursery() as nursery:

            async def ask(who: str, tenant: str, sql: str) -> None:
                async with service.client(**identity(who, tenant)) as client:
                    found[tenant] = await read_rows(client, query(sql, *FLIGHT_INPUTS))

            nursery.start_soon(ask, "ana", "team-a", BY_AIRLINE)
            nursery.start_soon(ask, "bob", "team-b", BY_MONTH)
    assert {"team-a": flights.right(BY_AIRLINE), "team-b": flights.right(BY_MONTH)} == found
    assert (16, 36) == (len(found["team-a"]), len(found["team-b"]))


async def test_a_node_that_is_killed_leaves_the_right_answer_or_a_clear_failure(
    settings: Settings, flights: FlightTables, tmp_path: Path, ray_cluster: RayCluster
) -> None:
    """Never another answer; and the next query runs on the node that is left."""
    settings = attrs.evolve(settings, warehouses={"demo": str(flights.warehouse)})
    async with executor(tmp_path / "builds", daft=DaftEngine(ray_cluster.address), seconds=SECONDS) as served:
        settings = with_daft(settings, served.url, tmp_path / "token")
        async with running(settings) as service, service.client() as client:
            begun = await client.post("/v1/materialize", json=query(PAIRS, *FLIGHT_INPUTS), timeout=SECONDS)
            await trio.to_thread.run_sync(ray_cluster.kill_worker)
            read = await client.get(begun.json()["stream_url"], timeout=SECONDS)
            if 200 == read.status_code:
                found = pa.ipc.open_stream(read.content).read_all().to_pylist()
                assert flights.right(PAIRS) == [tuple(one.values()) for one in found]
            else:
                assert read.json()["error"], read.text
                record = (await client.get(f"/v1/builds/{begun.json()['build_id']}")).json()
                assert "failed" == record["state"]
            assert flights.right(BY_MONTH) == await read_rows(client, query(BY_MONTH, *FLIGHT_INPUTS))
        assert [] == [*(tmp_path / "builds").iterdir()]
