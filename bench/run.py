"""Measure a Strata server against bare libraries, side by side in one run; print a table of ratios.

Each run measures each figure once, directly followed by its baseline, so that other load on the machine
affects both; the table has the median of the runs' ratios.

*Cold* means: a server process started on empty cache and artifact directories, which has answered one request
for another table, as large as one file of the measured one, so that Python's imports and the first touch of
memory are excluded; the baseline has decoded every file once before. With ``--against`` the
process cannot be restarted; *cold* then means ``POST /v1/cache/clear`` (scope ``admin:cache``) and ``refresh:
true``. ``refresh`` alone would not be cold: it builds again, from cached segments. The page cache is warm for
both sides: the baseline reads every file once before anything is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median

import attrs
import bare
import figures
import servers
import tables
import wire
import workload

import strata

ROWS = 5_000_000
MB = 1e6
MS = 1e-3
APPENDED = "after an append of one file"
FIRST_GROUPS = 5
"""Files whose first row group is decoded for one figure; the time of a single one varies too much."""


@attrs.frozen
class Job:
    """The work to measure.

    Attributes:
        uri: The table.
        files: The table's files, if this machine can read them.
        warm_up: Another table to scan first, when there is one.
        runs: Number of runs.
        pairs: Small requests per run.
        threads: Threads of the bare baseline: as many as the server has cores.
    """

    uri: str
    files: tables.ScanFiles | None
    warm_up: str | None
    runs: int
    pairs: int
    threads: int


class Bench:
    """Collects samples by name.

    Args:
        job: The work to measure.
        scratch: A directory for servers and baselines.
        remote: The server to measure; None: a new local one for each run.
        warehouse: Directory of the local server's tables.
    """

    def __init__(self, job: Job, scratch: Path, remote: servers.Target | None, warehouse: Path) -> None:
        self._job = job
        self._scratch = scratch
        self._remote = remote
        self._warehouse = warehouse
        self._samples: defaultdict[str, list[float]] = defaultdict(list)
        self._result = b""
        self._small = b""
        self._scanner: servers.Target | None = None

    def measure(self) -> list[figures.Figure]:
        """Measure all figures ``runs`` times."""
        job = self._job
        with ExitStack() as stack:
            if job.files is not None:
                bare.decode_and_encode(job.files.paths, job.threads)
                listing = json.dumps([str(path) for path in job.files.paths]).encode()
                base, threads = self._scratch / "bare-scan", str(job.threads)
                self._scanner = stack.enter_context(servers.bare("bare_scan", listing, base, threads))
                self._bare_scans()
            baselines: tuple[servers.Target, servers.Target] | None = None
            for number in range(job.runs):
                with self._server(number) as target, target.connect() as connection:
                    self._cold(connection)
                    if baselines is None:
                        self._take_results(connection)
                        base = self._scratch / "baselines"
                        baselines = (
                            stack.enter_context(servers.bare("bare_socket", self._result, base)),
                            stack.enter_context(servers.bare("bare_quart", self._small, base)),
                        )
                        self._result = b""
                    workload.settle(connection, job.uri, workload.SMALL)
                    self._cached(connection, *baselines)
                    if job.files is not None:
                        self._others(connection, job.files)
                    if self._remote is None and job.files is not None and job.files.before is not None:
                        self._appended(target, job.files, job.files.before)
                print(f"run {number + 1} of {job.runs} done", file=sys.stderr)
        return self._figures()

    @contextmanager
    def _server(self, number: int) -> Iterator[servers.Target]:
        if self._remote is not None:
            with self._remote.connect() as connection:
                workload.clear_cache(connection)
            yield self._remote
            return
        with (
            tempfile.TemporaryDirectory(prefix=f"run-{number}-", dir=self._scratch) as base,
            servers.strata(Path(base), self._warehouse) as target,
        ):
            yield target

    def _cold(self, connection: wire.Connection) -> None:
        job, samples = self._job, self._samples
        if job.warm_up is not None:
            workload.settle(connection, job.warm_up, workload.FULL)
        cold = workload.scan(connection, job.uri, workload.FULL, refresh=self._remote is not None)
        if cold.hit:
            raise wire.WireError("the cold scan was a hit")
        samples["cold"].append(cold.size / MB / cold.total)
        samples["first byte"].append(cold.first_byte / MS)
        samples["first rows"].append(cold.first_rows / MS)
        workload.settle(
            connection, job.uri, workload.FULL
        )  # the server's commit must not slow down the baseline
        if job.files is not None:
            samples["bare decode"].append(
                cold.size / MB / bare.decode_and_encode(job.files.paths, job.threads)
            )
            for kind, seconds in self._bare_scans().items():
                samples[kind].append(cold.size / MB / seconds)
            firsts = [bare.first_row_group(path) for path in job.files.paths[:FIRST_GROUPS]]
            samples["row group"].append(median(firsts) / MS)

    def _bare_scans(self) -> dict[str, float]:
        """Return the seconds in which bare threads decode, encode and send all rows, and also write them."""
        assert self._scanner is not None
        with self._scanner.connect() as baseline:
            return {
                f"bare {what}": workload.seconds_of_get(baseline, f"/{what}") for what in ("send", "keep")
            }

    def _take_results(self, connection: wire.Connection) -> None:
        """Write the bytes that the baselines serve, and check that they are the table's rows."""
        job = self._job
        self._result = workload.scan(connection, job.uri, workload.FULL, keep=True).body
        rows = workload.rows_of(self._result)
        if job.files is not None and rows != job.files.rows:
            raise wire.WireError(f"the result has {rows} rows where the table has {job.files.rows}")
        workload.settle(connection, job.uri, workload.SMALL)
        self._small = workload.scan(connection, job.uri, workload.SMALL, keep=True).body

    def _cached(
        self, connection: wire.Connection, bare_socket: servers.Target, bare_quart: servers.Target
    ) -> None:
        job, samples = self._job, self._samples
        with bare_socket.connect() as baseline:
            hit = workload.scan(connection, job.uri, workload.FULL)
            samples["cached"].append(hit.size / MB / hit.total)
            samples["bare socket"].append(hit.size / MB / workload.seconds_of_get(baseline))
            samples["copy"].append(hit.size / MB / bare.copy_seconds(hit.size))
            rebuilt = workload.scan(connection, job.uri, workload.FULL, refresh=True)
            samples["rebuilt"].append(rebuilt.size / MB / rebuilt.total)
            workload.settle(connection, job.uri, workload.FULL)
        with bare_quart.connect() as baseline:
            samples["pairs"].append(workload.pairs_per_second(connection, job.uri, workload.SMALL, job.pairs))
            samples["gets"].append(workload.gets_per_second(baseline, job.pairs))

    def _others(self, connection: wire.Connection, files: tables.ScanFiles) -> None:
        """Measure scans that are new, whose segments are cached."""
        columns, filtered = workload.OTHERS
        work = {columns: (workload.COLUMNS, None), filtered: (None, workload.ABOVE)}
        for name, params in workload.OTHERS.items():
            found = workload.scan(connection, self._job.uri, params, refresh=True)
            self._samples[name].append(found.total / MS)
            workload.settle(connection, self._job.uri, params)
            seconds = bare.decode_and_encode(files.paths, self._job.threads, *work[name])
            self._samples[f"bare {name}"].append(seconds / MS)

    def _appended(self, target: servers.Target, files: tables.ScanFiles, before: int) -> None:
        """Measure a scan after an append, as another tenant, which has the segments of before alone."""
        other = attrs.evolve(target, headers={**target.headers, "X-Tenant-ID": "bench-append"})
        with other.connect() as connection:
            workload.settle(connection, self._job.uri, {"snapshot_id": before})
            found = workload.scan(connection, self._job.uri, workload.FULL)
            self._samples[APPENDED].append(found.total / MS)
            workload.settle(connection, self._job.uri, workload.FULL)
        seconds = bare.decode_and_encode(files.paths, self._job.threads)
        self._samples[f"bare {APPENDED}"].append(seconds / MS)

    def _figures(self) -> list[figures.Figure]:
        of, threads = self._samples, self._job.threads
        decode = f"bare pyarrow decode + encode, {threads} threads"
        raw = "bare trio socket, same bytes and chunks"
        group = "bare pyarrow, first row group"
        bounds = [
            figures.Figure(f"no server, {what}", decode, "MB/s", of[kind], of["bare decode"])
            for what, kind in (("only sent", "bare send"), ("written and sent", "bare keep"))
            if of[kind]
        ]
        cached = [
            figures.Figure(name, "bare pyarrow, from the files", "ms", of[name], of[f"bare {name}"])
            for name in (*workload.OTHERS, APPENDED)
            if of[name]
        ]
        return [
            figures.Figure(
                "cold full scan", decode, "MB/s", of["cold"], of["bare decode"], 0.8, bound=of["bare send"]
            ),
            *bounds,
            figures.Figure("cached full scan", raw, "MB/s", of["cached"], of["bare socket"], 0.7),
            figures.Figure("memory copy of the result", raw, "MB/s", of["copy"], of["bare socket"]),
            figures.Figure("rebuilt from cached segments", raw, "MB/s", of["rebuilt"], of["bare socket"]),
            *cached,
            figures.Figure("first byte, cold", group, "ms", of["first byte"], of["row group"], 2, "≤"),
            figures.Figure("first rows, cold", group, "ms", of["first rows"], of["row group"], 2, "≤"),
            figures.Figure(
                "small materialize + fetch", "bare Quart-Trio GET", "/s", of["pairs"], of["gets"], 0.3
            ),
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    options = _parser().parse_args(arguments)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strata-bench-")))
        warehouse = (options.data or scratch / "warehouse").resolve()
        if options.table is None:
            print(f"writing {options.rows:,} rows", file=sys.stderr)
            tables.generate(warehouse, options.rows)
        uri = options.table or tables.uri_of(warehouse)
        files = tables.files_of(uri)
        job = Job(
            uri,
            files,
            tables.uri_of(warehouse, tables.WARM_UP) if options.table is None else None,
            options.runs,
            options.pairs,
            os.cpu_count() or 1,
        )
        remote = servers.Target(options.against, dict(options.header)) if options.against else None
        lines = Bench(job, scratch, remote, warehouse).measure()
    about = {
        "rows": files.rows if files else None,
        "python": platform.python_version(),
        "strata": strata.__version__,
        "libraries": {name: version(name) for name in ("pyarrow", "trio", "quart", "hypercorn")},
        "against": options.against,
    }
    return figures.report(lines, options, about)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("a header is NAME: VALUE")
    return name.strip(), value.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description="Measure a Strata server.")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the generated table (%(default)s)")
    figures.add_options(parser)
    parser.add_argument("--pairs", type=int, default=500, help="small requests a run (%(default)s)")
    parser.add_argument("--data", type=Path, help="where to keep the generated table (a temporary directory)")
    other = parser.add_argument_group("another server of the same wire contract")
    other.add_argument("--against", metavar="URL", help="measure this server instead of a fresh local one")
    other.add_argument("--header", action="append", default=[], type=_header, metavar="NAME: VALUE")
    other.add_argument(
        "--table",
        metavar="URI",
        help="measure this table instead of a generated one; it needs the columns id and value, and is "
        "compared with bare pyarrow if it is a file:// warehouse that can be read from here",
    )
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except wire.WireError as error:
        sys.exit(f"bench: {error}")
