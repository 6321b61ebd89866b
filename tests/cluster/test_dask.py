"""``python@v1`` on a Dask cluster of two workers on the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from distributed import Client
from flight_tables import FlightTables, read_rows
from service_kit import running
from sidecar_kit import executor, run, write_package
from structlog.testing import capture_logs

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection
from strata.executor.protocol.client import Executor, ExecutorError
from strata.executor.sidecar.builds import DaskEngine

FUNCTIONS = """
import os, pathlib, time
import dask
import pyarrow as pa
from distributed import get_worker

@dask.delayed
def totals_of(part, by):
    return part.group_by(by).aggregate([([], "count_all"), ("distance", "sum")])

@dask.delayed
def merged(parts, by):
    whole = pa.concat_tables(parts).group_by(by)
    return whole.aggregate([("count_all", "sum"), ("distance_sum", "sum")]).sort_by(by)

def totals(inputs, params):
    return merged([totals_of(part, params["by"]) for part in inputs["input0"]], params["by"])

@dask.delayed
def place_of(part, directory, number, count):
    (pathlib.Path(directory) / f"at-{number}").touch()
    while len([*pathlib.Path(directory).glob("at-*")]) < count:
        time.sleep(0.01)  # a worker has one thread: all run at once
    return pa.table({"worker": [get_worker().address], "rows": [part.num_rows]})

def places(inputs, params):
    parts = inputs["input0"]
    return [place_of(one, params["directory"], number, len(parts)) for number, one in enumerate(parts)]

@dask.delayed
def waited(directory, number):
    (pathlib.Path(directory) / f"begun-{number}").touch()
    while not (pathlib.Path(directory) / "go").exists():
        time.sleep(0.01)
    return pa.table({"n": [number]})

def waits(inputs, params):
    return [waited(params["directory"], number) for number in range(8)]

@dask.delayed
def made(kind, number):
    if kind == "raises":
        raise ValueError(f"the value of part {number}")
    if kind == "raises its own":
        raise type("Row_s3cr3t", (Exception,), {})("gone")
    if kind == "dies":
        os._exit(1)
    if kind == "no rows":
        return number
    return pa.table({f"n{number}": [number]})

def mixed(inputs, params):
    return [pa.table({"n": ["7"]}), dask.delayed(pa.table)({"n": ["8"]})]

def faulty(inputs, params):
    if params["kind"] == "nothing":
        return 5
    if params["kind"] == "too large":
        return pa.table({"n": [len(bytearray(64 << 30))]})
    return [made(params["kind"], number) for number in range(2)]
"""

CLUSTER = """
import sys
from distributed import LocalCluster
with LocalCluster(
    n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit="2GiB"
) as cluster:
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@attrs.frozen
class DaskCluster:
    """A cluster of two workers on the loopback.

    Attributes:
        address: Of its scheduler.
        site: The directory with the functions.
    """

    address: str
    site: Path

    def tasks(self) -> int:
        """Return how many tasks and results the scheduler knows, once it has both workers; blocking."""
        with Client(self.address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


@pytest.fixture(scope="module")
def dask_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Start a scheduler and two workers that have the functions' package."""
    site = tmp_path_factory.mktemp("site") / "packages"
    write_package(
        site, "functions_on_dask", FUNCTIONS, "strata.dask", ("totals", "places", "waits", "mixed", "faulty")
    )
    # A task that ends its worker is not tried on others.
    more = {"PYTHONPATH": str(site), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=os.environ | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as nodes:
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        address = nodes.stdout.readline().strip()
        assert address.startswith("tcp://127.0.0.1:"), "the cluster did not start"
        yield DaskCluster(address, site)
        nodes.stdin.close()


@pytest.fixture
def dask_cluster(dask_nodes: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> DaskCluster:
    """Return the cluster, with its functions installed here, too."""
    monkeypatch.syspath_prepend(str(dask_nodes.site))
    return dask_nodes


RIGHT = "SELECT carrier, count(*) AS n, sum(distance) AS miles FROM input0 GROUP BY carrier ORDER BY carrier"


async def test_a_function_runs_on_both_workers_with_duckdbs_answer(
    settings: Settings, flights: FlightTables, tmp_path: Path, dask_cluster: DaskCluster
) -> None:
    """Over the demo's flights, two builds at once; all that they had on the cluster is gone afterwards."""
    (tmp_path / "token").write_text("secret")
    calls = {
        "totals": {"function": "totals@v1", "params": {"by": "carrier"}},
        "places": {"function": "places@v1", "params": {"directory": str(tmp_path / "marks")}},
    }
    (tmp_path / "marks").mkdir()
    found: dict[str, list[tuple]] = {}
    async with executor(tmp_path / "builds", dask=DaskEngine(dask_cluster.address)) as served:
        entry = RegisteredTransform("python@v1", served.url, token_file=str(tmp_path / "token"))
        settings = attrs.evolve(
            settings,
            warehouses={"demo": str(flights.warehouse)},
            transforms=TransformSection(enabled=True, registry=(entry,)),
        )
        async with running(settings) as service, trio.open_nursery() as nursery:

            async def ask(name: str) -> None:
                transform = {"executor": "python@v1", "params": calls[name]}
                async with service.client() as client:
                    body = {"inputs": ["demo:nyc.flights"], "transform": transform}
                    found[name] = await read_rows(client, body)

            for name in calls:
                nursery.start_soon(ask, name)
        assert [] == [*(tmp_path / "builds").iterdir()]
    assert flights.right(RIGHT) == found["totals"]
    assert 2 == len({worker for worker, _ in found["places"]})
    assert flights.rows[0].num_rows == sum(rows for _, rows in found["places"])
    assert 0 == await trio.to_thread.run_sync(dask_cluster.tasks)


async def test_a_function_may_have_computed_a_part_itself(tmp_path: Path, dask_cluster: DaskCluster) -> None:
    """Its rows are in the order of the list."""
    async with executor(tmp_path / "builds", dask=DaskEngine(dask_cluster.address)) as served:
        assert ["7", "8"] == (await run(served, "python@v1", function="mixed@v1"))["n"].to_pylist()


FAULTS = {
    "raises": ("ValueError", r"the value of part [01]", "ValueError"),
    "raises its own": ("Row_s3cr3t", "gone", "FunctionError"),
    "dies": ("WorkerEnded", r"ended every worker that ran it \(1\).*memory", "WorkerEnded"),
    "no rows": ("TypeError", "a part of the result is a int, and no table", "TypeError"),
    "other columns": ("TypeError", "the parts of the result have different columns", "TypeError"),
    "nothing": ("TypeError", "a function returns a Dask object, a table, or a list", "TypeError"),
    "too large": ("MemoryError", None, "MemoryError"),
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_function_that_fails_says_why(tmp_path: Path, dask_cluster: DaskCluster, kind: str) -> None:
    """A worker's exception is the answer; the log has no name that the function made up."""
    code, sentence, logged_code = FAULTS[kind]
    async with executor(tmp_path / "builds", dask=DaskEngine(dask_cluster.address)) as served:
        with capture_logs() as logged, pytest.raises(ExecutorError, match=sentence) as caught:
            await run(served, "python@v1", function="faulty@v1", params={"kind": kind})
        assert (code, True) == (caught.value.code, caught.value.own)
        assert [logged_code] == [one["code"] for one in logged if one["event"] == "build failed"]
        assert [] == [*(tmp_path / "builds").iterdir()]
    assert 0 == await trio.to_thread.run_sync(dask_cluster.tasks)


@pytest.mark.parametrize("how", ["cancelled", "late"])
async def test_a_build_that_is_cancelled_or_late_leaves_nothing(
    tmp_path: Path, dask_cluster: DaskCluster, how: str
) -> None:
    """No process, file or place here, no task or rows there; the tasks that wait are never begun."""
    (tmp_path / "marks").mkdir()
    seconds = 20.0 if how == "late" else 300.0
    async with executor(
        tmp_path / "builds", dask=DaskEngine(dask_cluster.address), seconds=seconds
    ) as served:

        async def build() -> None:
            with pytest.raises(
                ExecutorError, match="cancelled" if how == "cancelled" else "within 20 seconds"
            ):
                await run(
                    served,
                    "python@v1",
                    "b1",
                    function="waits@v1",
                    params={"directory": str(tmp_path / "marks")},
                )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(build)
            with trio.fail_after(60):
                while not [*(tmp_path / "marks").iterdir()]:  # noqa: ASYNC110  # files have no event
                    await trio.sleep(0.01)
            if how == "cancelled":
                await Executor(served.url, "secret").cancel("b1")
        assert {} == served.app.running
        assert (0, []) == (served.app.runner._dask.running, [*(tmp_path / "builds").iterdir()])
        with trio.fail_after(60):
            while await trio.to_thread.run_sync(dask_cluster.tasks):  # noqa: ASYNC110  # as above
                await trio.sleep(0.01)
        (tmp_path / "marks" / "go").touch()  # ends the tasks that workers had begun
        found = await run(
            served, "python@v1", function="places@v1", params={"directory": str(tmp_path / "marks")}
        )
        assert [3] == found["rows"].to_pylist()
    assert 2 >= len([*(tmp_path / "marks").glob("begun-*")])  # of eight


async def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, dask_cluster: DaskCluster) -> None:
    """Without its address; the log has the code."""
    async with executor(tmp_path / "builds", dask=DaskEngine("tcp://127.0.0.1:9")) as served:
        with capture_logs() as logged, pytest.raises(ExecutorError, match="does not answer") as caught:
            await run(served, "python@v1", function="places@v1")
    assert "ClusterUnreachable" == caught.value.code
    assert "127.0.0.1" not in str(caught.value)
    assert ["ClusterUnreachable"] == [one["code"] for one in logged if one["event"] == "build failed"]
