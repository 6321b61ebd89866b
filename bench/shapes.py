"""Measure cold scans of hard shapes beside pyiceberg's own ``to_arrow()`` on the same files.

Strata's time includes HTTP and keeping the result. Each run has a new server, on empty directories, which has
answered one request for another table; pyiceberg has a process of its own, which has done the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import figures
import servers
import shape_tables
import wire
import workload
from shape_tables import NAMESPACE, SHAPES

MS = 1e-3
MOST_FIRST_BYTE_MS = 60.0
MOST_BEYOND_MS = 30.0


class Pyiceberg:
    """The baseline's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def seconds_and_rows(self, table: str, columns: Sequence[str] | None) -> tuple[float, int]:
        """Return how long it took to read a table, and its rows."""
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        pipe.write(json.dumps([f"{NAMESPACE}.{table}", columns]) + "\n")
        pipe.flush()
        seconds, rows = json.loads(answers.readline())
        return seconds, rows


@contextmanager
def pyiceberg(warehouse: Path) -> Iterator[Pyiceberg]:
    """Run the baseline, warmed up."""
    command = [sys.executable, str(Path(__file__).with_name("bare_pyiceberg.py")), str(warehouse)]
    # A plain interpreter of its own: nothing of this process is in its way.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        found = Pyiceberg(process)
        found.seconds_and_rows("warm_up", None)
        yield found
        assert process.stdin is not None
        process.stdin.close()


def measure(warehouse: Path, scratch: Path, runs: int, only: Sequence[str]) -> list[figures.Figure]:
    """Measure each shape ``runs`` times, directly after its baseline."""
    ours: defaultdict[str, list[float]] = defaultdict(list)
    theirs: defaultdict[str, list[float]] = defaultdict(list)
    first: defaultdict[str, list[float]] = defaultdict(list)
    shapes = [shape for shape in SHAPES if not only or shape.table in only]
    for run in range(runs):
        base = scratch / f"run-{run}"
        with (
            servers.strata(base, warehouse) as target,
            target.connect() as connection,
            pyiceberg(warehouse) as baseline,
        ):
            workload.settle(connection, _uri(warehouse, "warm_up"), workload.FULL)
            for shape in shapes:
                seconds, rows = baseline.seconds_and_rows(shape.table, shape.params.get("columns"))
                uri = _uri(warehouse, shape.table)
                found = workload.scan(connection, uri, shape.params, keep=run == 0)
                if found.hit:
                    raise wire.WireError(f"the scan of {shape.name} was a hit")
                if run == 0 and (got := workload.rows_of(found.body)) != rows:
                    raise wire.WireError(f"{shape.name}: {got} rows where pyiceberg has {rows}")
                ours[shape.name].append(found.total / MS)
                theirs[shape.name].append(seconds / MS)
                first[shape.name].append(found.first_byte / MS)
                workload.settle(connection, uri, shape.params)  # its commit is not the next one's time
        print(f"run {run + 1} of {runs} done", file=sys.stderr)
    return [
        line
        for shape in shapes
        for line in (
            _figure(shape, ours[shape.name], theirs[shape.name]),
            figures.Figure(
                f"first byte: {shape.name}",
                "60 ms",
                "ms",
                first[shape.name],
                [MOST_FIRST_BYTE_MS] * runs,
                1,
                "≤",
            ),
        )
    ]


def _figure(shape: shape_tables.Shape, ours: list[float], theirs: list[float]) -> figures.Figure:
    if shape.aim is not None:
        return figures.Figure(shape.name, "pyiceberg to_arrow()", "ms", ours, theirs, shape.aim, "≤")
    bound = [one + MOST_BEYOND_MS for one in theirs]
    return figures.Figure(shape.name, "pyiceberg to_arrow() + 30 ms", "ms", ours, bound, 1, "≤")


def _uri(warehouse: Path, table: str) -> str:
    return f"file://{warehouse}#{NAMESPACE}.{table}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="nox -s bench_shapes --", description=__doc__.partition("\n")[0])
    figures.add_options(parser)
    parser.add_argument("--data", type=Path, help="where to keep the tables (a temporary directory)")
    tables = sorted({shape.table for shape in SHAPES})
    parser.add_argument(
        "--table", action="append", default=[], choices=tables, help="only this one; repeatable"
    )
    parser.add_argument("--divide", type=int, default=1, help="write so much smaller tables (%(default)s)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strata-bench-")))
        warehouse = (options.data or scratch / "warehouse").resolve()
        print("writing the tables", file=sys.stderr)
        shape_tables.generate(warehouse, options.divide)
        lines = measure(warehouse, scratch, options.runs, options.table)
    return figures.report(lines, options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except wire.WireError as error:
        sys.exit(f"bench: {error}")
