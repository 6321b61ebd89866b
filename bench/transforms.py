"""Measure transforms: the start of a build, queries beside bare DuckDB, their neighbours, and large builds.

Scenes:

- ``start``: one query after another over a result of one row, with a rest between them; each is a build of
  its own. The time is from the request to the last byte of the result.
- ``queries``: an aggregate over the large table, and a join of two, with inputs that are results already,
  beside the same query in DuckDB on the same Arrow stream in a memory-mapped file, with as many threads; and
  the bytes that the process of the aggregate reads besides the mapped file.
- ``neighbours``: tenant B fetches a small finished result, alone and while tenant A runs four heavy queries.
- ``large``: a transform that returns its input of ``--large-rows`` rows, on ``strata executor``, by request
  and answer and by signed URLs: the most memory that server and executor grow by.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import duckdb
import figures
import pyarrow as pa
import servers
import tables
import wire
import workload

MS = 1e-3
MB = 1e6
AIM_START_MS = 15.0
AIM_RATIO = 1.3
EXTRA_SECONDS = 0.030
AIM_P99 = 3.0
AIM_GROWTH_MB = 64.0
AIM_COPIED = 0.01
HEAVY = 4
WARM_UP = 5
"""Builds that the scene ``start`` does not count."""

PAUSE = 0.1
"""Seconds between two builds of the scene ``start``."""

READINGS = 5
"""Queries of which at least one must be seen while it runs."""

END_SECONDS = 10.0
"""Seconds to wait for the end of a query's process after its result."""

TICK = 0.05
"""Seconds between two readings of a process's memory."""

SETTINGS = "transform_memory_bytes = 1073741824\n"

CONFIG = """
[tool.strata.transforms]
enabled = true
[[tool.strata.transforms.registry]]
ref = "duckdb_sql@v1"
timeout_seconds = 3000
"""

EXECUTOR = """
[tool.strata.transforms]
enabled = true
[[tool.strata.transforms.registry]]
ref = "duckdb_sql@v1"
executor_url = "{url}"
timeout_seconds = 3000
{more}
"""

AGGREGATE = (
    "SELECT city, count(*) AS n, sum(value) AS s, max(ratio) AS m FROM input0 GROUP BY city ORDER BY city"
)
JOIN = (
    "SELECT a.city, count(*) AS n, sum(b.value) AS s FROM input0 AS a JOIN input1 AS b ON a.id = b.id "
    "GROUP BY a.city ORDER BY a.city"
)
HEAVY_SQL = (
    "SELECT count(*) AS n FROM (SELECT a.label, b.value + {n} AS v "
    "FROM input0 AS a JOIN input0 AS b ON a.id = b.id ORDER BY v)"
)


def build(
    connection: wire.Connection, sql: str, inputs: Sequence[str], *, keep: bool = False
) -> tuple[float, wire.Reply]:
    """Run a query and read its result; returns the seconds and the reply.

    Raises:
        WireError: If the server refuses.
    """
    body = {"inputs": [*inputs], "transform": {"executor": "duckdb_sql@v1", "params": {"sql": sql}}}
    began = time.perf_counter()
    answer = connection.post("/v1/materialize", body)
    if answer.status != 200:
        raise wire.WireError(f"materialize: {answer.status} {answer.body[:300]!r}")
    reply = connection.get(answer.json()["stream_url"], keep=keep)
    if reply.status != 200:
        raise wire.WireError(f"the stream: {reply.status} {reply.body[:300]!r}")
    return reply.last_byte - began, reply


def artifact_of(connection: wire.Connection, sql: str, inputs: Sequence[str]) -> str:
    """Build a result and return its URI."""
    body = {"inputs": [*inputs], "transform": {"executor": "duckdb_sql@v1", "params": {"sql": sql}}}
    while True:
        found = connection.post("/v1/materialize", body).json()
        if found["hit"]:
            return str(found["artifact_uri"])
        connection.get(found["stream_url"])


@attrs.define
class Watched:
    """The resident memory of processes, mapped files included: at first, and the most that they had."""

    pids: dict[str, int]
    first: dict[str, float] = attrs.field(factory=dict)
    most: dict[str, float] = attrs.field(factory=dict)

    def look(self) -> None:
        """Read the memory of each."""
        for name, pid in self.pids.items():
            found = _resident(pid)
            self.first.setdefault(name, found)
            self.most[name] = max(self.most.get(name, 0.0), found)


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0.0


@contextmanager
def watching(**pids: int) -> Iterator[Watched]:
    """Read the memory of processes until the end of the block."""
    found, stop = Watched(pids), threading.Event()
    found.look()

    def run() -> None:
        while not stop.wait(TICK):
            found.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def start(base: Path, warehouse: Path, count: int) -> list[figures.Figure]:
    """Measure the start of a build: of a query of one row, when the build before it is committed."""
    served = servers.strata(base / "start", warehouse, settings=SETTINGS, more=CONFIG)
    with served as target, target.connect() as connection:
        one = artifact_of(connection, "SELECT 1 AS n FROM input0 LIMIT 1", [tables.uri_of(warehouse)])
        seconds = []
        for number in range(WARM_UP + count):
            sql = f"SELECT n + {number} AS m FROM input0"
            seconds.append(build(connection, sql, [one])[0])
            artifact_of(connection, sql, [one])
            time.sleep(PAUSE)
    median = statistics.median(seconds[WARM_UP:]) / MS
    return [figures.Figure("warm start of a build", "15 ms", "ms", [median], [AIM_START_MS], 1.0, "≤")]


def queries(base: Path, warehouse: Path, runs: int, threads: int) -> list[figures.Figure]:
    """Measure an aggregate and a join beside bare DuckDB."""
    uri, found = tables.uri_of(warehouse), []
    settings = f"{SETTINGS}transform_threads = {threads}\n"
    served = servers.strata(base / "queries", warehouse, settings=settings, more=CONFIG)
    with served as target, target.connect() as connection:
        whole = artifact_of(connection, "SELECT * FROM input0", [uri])
        path = base / "whole.arrow"
        read, _, version = whole.removeprefix("strata://artifact/").partition("@v=")
        path.write_bytes(connection.get(f"/v1/artifacts/{read}/v/{version}/data", keep=True).body)
        for name, sql, inputs in (("aggregate", AGGREGATE, 1), ("join", JOIN, 2)):
            ours, bare = [], []
            for number in range(runs + 1):
                text = f"{sql} LIMIT {10_000 + number}"
                ours.append(build(connection, text, [whole] * inputs)[0])
                bare.append(in_duckdb(path, text, inputs, threads) + EXTRA_SECONDS / AIM_RATIO)
            against = f"DuckDB, and {EXTRA_SECONDS / MS:.0f} ms"
            ours, bare = [one / MS for one in ours[1:]], [one / MS for one in bare[1:]]
            found.append(figures.Figure(name, against, "ms", ours, bare, AIM_RATIO, "≤"))
        read: list[int] = []
        for number in range(20_000, 20_000 + READINGS):
            with reading(target.pid or 0) as read:
                build(connection, f"{AGGREGATE} LIMIT {number}", [whole])
            if read:
                break
        else:
            raise wire.WireError("no process of a query was seen")
        size = path.stat().st_size
    label = f"read by a query's process besides {size / MB:.0f} MB of mapped file"
    most = size * AIM_COPIED / MB
    found.append(figures.Figure(label, "1 %", "MB", [max(read) / MB], [most], 1.0, "≤"))
    return found


@contextmanager
def reading(pid: int) -> Iterator[list[int]]:
    """Collect the bytes that processes below another one, which end within the block, read by system calls.

    None is collected of a process that begins and ends between two looks.
    """
    found: list[int] = []
    stop, first = threading.Event(), _read_by_family(pid)
    last = dict(first)

    def run() -> None:
        while not stop.wait(TICK / 10):
            last.update(_read_by_family(pid))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        until = time.monotonic() + END_SECONDS
        while not (ended := set(last).difference(_read_by_family(pid))) and time.monotonic() < until:
            time.sleep(TICK)
        found.extend(last[one] - first.get(one, 0) for one in ended)


def _read_by_family(pid: int) -> dict[int, int]:
    """Return the bytes that a process and all below it have read, by id."""
    found, waiting = {}, [pid]
    while waiting:
        one = waiting.pop()
        with suppress(OSError):
            lines = Path(f"/proc/{one}/io").read_text().splitlines()
            found[one] = next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def in_duckdb(path: Path, sql: str, inputs: int, threads: int) -> float:
    """Return the seconds of a query in DuckDB on a memory-mapped Arrow stream."""
    began = time.perf_counter()
    with duckdb.connect(config={"threads": threads}) as bare, pa.memory_map(str(path)) as source:
        rows = pa.ipc.open_stream(source).read_all()
        for index in range(inputs):
            bare.register(f"input{index}", rows)
        bare.sql(sql).to_arrow_table()
        return time.perf_counter() - began


def neighbours(base: Path, warehouse: Path, seconds: float) -> list[figures.Figure]:
    """Measure the pairs of B alone, and while A runs heavy queries."""
    uri = tables.uri_of(warehouse)
    with servers.strata(base / "neighbours", warehouse, settings=SETTINGS, more=CONFIG) as target:
        b = attrs.evolve(target, headers={**target.headers, "X-Tenant-ID": "b"})
        a = attrs.evolve(target, headers={**target.headers, "X-Tenant-ID": "a"})
        with b.connect() as connection:
            workload.settle(connection, uri, {"columns": ["id"], "limit": 1000})
            alone = _pairs(connection, uri, seconds)
            with a.connect() as first:
                whole = artifact_of(first, "SELECT * FROM input0", [uri])
            stop = threading.Event()
            loud = [threading.Thread(target=_heavy, args=(a, whole, number, stop)) for number in range(HEAVY)]
            for one in loud:
                one.start()
            time.sleep(1)
            beside = _pairs(connection, uri, seconds)
            stop.set()
            for one in loud:
                one.join()
    return [figures.Figure("p99 beside four heavy queries", "alone", "ms", [beside], [alone], AIM_P99, "≤")]


def _heavy(target: servers.Target, uri: str, number: int, stop: threading.Event) -> None:
    with target.connect() as connection:
        count = 0
        while not stop.is_set():
            count += 1
            try:
                build(connection, HEAVY_SQL.format(n=number * 1000 + count), [uri])
            except wire.WireError as error:
                if " 429 " not in f" {error} ":
                    print(f"a heavy query: {error}", file=sys.stderr)
                stop.wait(1)


def _pairs(connection: wire.Connection, uri: str, seconds: float) -> float:
    """Return the 99th percentile, in milliseconds, of pairs at 20 a second."""
    taken, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        taken.append(workload.scan(connection, uri, {"columns": ["id"], "limit": 1000}))
        time.sleep(0.05)
    found = sorted(one.total for one in taken)
    return found[min(len(found) - 1, int(len(found) * 0.99))] / MS


def large(base: Path, rows: int) -> list[figures.Figure]:
    """Measure the memory of a transform that returns a large input."""
    found = []
    warehouse = base / "large-warehouse"
    tables.generate(warehouse, rows)
    options = ("--memory-bytes", str(8 << 30), "--max-input-bytes", str(8 << 30), "--timeout", "3000")
    for transport in ("direct", "signed"):
        port = servers.free_port()
        with servers.executor(base / f"executor-{transport}", "--allow-local-hosts", *options) as worker:
            more = (
                ""
                if transport == "direct"
                else f'transport = "signed"\nstrata_url = "http://127.0.0.1:{port}"'
            )
            config = EXECUTOR.format(url=worker.url, more=more)
            place = base / f"large-{transport}"
            with (
                servers.strata(place, warehouse, more=config, port=port) as target,
                target.connect() as connection,
            ):
                build(connection, "SELECT 1 AS n FROM input0 LIMIT 1", [tables.uri_of(warehouse)])
                with watching(server=target.pid or 0, executor=worker.pid or 0) as watched:
                    _, reply = build(connection, "SELECT * FROM input0", [tables.uri_of(warehouse)])
        for name in ("server", "executor"):
            grown = (watched.most[name] - watched.first[name]) / MB
            label = f"growth of the {name}, {reply.size / MB:.0f} MB in and out, {transport}"
            found.append(figures.Figure(label, "64 MB", "MB", [max(grown, 0.1)], [AIM_GROWTH_MB], 1.0, "≤"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run scenes and print their figures; returns 0."""
    options = _parser().parse_args(arguments)
    results: list[figures.Figure] = []
    with tempfile.TemporaryDirectory(prefix="strata-bench-", dir=options.directory) as directory:
        base = Path(directory)
        warehouse = base / "warehouse"
        warehouse.mkdir()
        tables.generate(warehouse, options.rows)
        scenes: dict[str, Any] = {
            "start": lambda: start(base, warehouse, options.builds),
            "queries": lambda: queries(base, warehouse, options.runs, options.threads),
            "neighbours": lambda: neighbours(base, warehouse, options.seconds),
            "large": lambda: large(base, options.large_rows),
        }
        for name in options.scene or scenes:
            results += scenes[name]()
    if options.json:
        print(json.dumps({"figures": [one.as_json() for one in results]}, indent=2))
    else:
        print(figures.table(results))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scene", action="append", choices=["start", "queries", "neighbours", "large"])
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the table")
    parser.add_argument("--runs", type=int, default=5, help="runs of each query")
    parser.add_argument("--builds", type=int, default=50, help="builds of the scene start")
    parser.add_argument("--threads", type=int, default=2, help="threads of a query")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each half of neighbours")
    parser.add_argument("--large-rows", type=int, default=16_000_000, help="rows of large: a gigabyte")
    parser.add_argument("--directory", help="where the files are")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
