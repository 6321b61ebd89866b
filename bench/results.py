"""Measure what a finished result costs: look-ups, pages of a listing, and a hit right after the build.

- ``look-ups``: records of results that no request has asked for yet, so that each is one look into the
  metadata store, per second of the server's processor time. With ``--dsn`` on PostgreSQL, too, whose own time
  does not count.
- ``pages``: pages of 100 of a tenant of 100,000 results, beside those of one of 1,000.
- ``hits``: the time to the first byte of a large result that is asked for again as soon as its stream has
  ended, while its commit goes on, beside the same a second later.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import attrs
import figures
import neighbour_clients as clients
import proxies
import servers
import tables
import wire
import workload

MS = 1e-3
ON_SQLITE = 300.0
ON_POSTGRESQL = 150.0
MOST = 1.5
FEW, MANY = "few", "many"
PAGE = 100
PAUSE = 1.0
"""Seconds after which a hit is no more beside its commit."""


@attrs.define
class Samples:
    """Samples of all runs, by what was measured."""

    sqlite: list[float] = attrs.field(factory=list)
    postgresql: list[float] = attrs.field(factory=list)
    of_many: list[float] = attrs.field(factory=list)
    of_few: list[float] = attrs.field(factory=list)
    at_once: list[float] = attrs.field(factory=list)
    later: list[float] = attrs.field(factory=list)


@contextmanager
def connected(target: servers.Target, tenant: str) -> Iterator[wire.Connection]:
    """Connect as a member of a tenant."""
    with servers.Target(target.url, clients.identity(tenant, "ana")).connect() as connection:
        yield connection


def lookups(target: servers.Target, results: int, count: int) -> float:
    """Return how many records of different results the server finds per second of its processor time.

    Raises:
        WireError: If one is not found.
    """
    with connected(target, MANY) as connection:
        connection.get(_record(results - 1))
        began = proxies.seconds_of(target.pid)
        for number in range(count):
            reply = connection.get(_record(number * (results - 1) // count))
            if reply.status != 200:
                raise wire.WireError(f"a record was answered with {reply.status}: {reply.body[:200]!r}")
        return count / (proxies.seconds_of(target.pid) - began)


def _record(number: int) -> str:
    return f"/v1/artifacts/{number:032x}/v/1"


def page_of(target: servers.Target, tenant: str, pages: int) -> float:
    """Return the median milliseconds of a page of a tenant's results.

    Raises:
        WireError: If a page has other than :data:`PAGE` results.
    """
    found, token = [], ""
    with connected(target, tenant) as connection:
        connection.get(f"/v1/artifacts?limit={PAGE}")
        for _ in range(pages):
            began = time.perf_counter()
            reply = connection.get(f"/v1/artifacts?limit={PAGE}{token}", keep=True)
            found.append((time.perf_counter() - began) / MS)
            listed = reply.json()
            if len(listed["artifacts"]) != PAGE:
                raise wire.WireError(f"a page has {len(listed['artifacts'])} results")
            token = "" if (after := listed["next_page_token"]) is None else f"&page_token={quote(after)}"
    return statistics.median(found)


def hits(target: servers.Target, uri: str, rows: int, count: int) -> tuple[float, float]:
    """Return the median milliseconds to the first byte of hits: at once, and a second later.

    Raises:
        WireError: If a result was built again; while its commit goes on, a request joins its build.
    """
    at_once, later = [], []
    with connected(target, FEW) as connection:
        workload.settle(connection, uri, {"limit": rows})
        for number in range(1, count + 1):
            params = {"limit": rows - number}
            built = workload.scan(connection, uri, params)
            for found, pause in ((at_once, 0.0), (later, PAUSE)):
                time.sleep(pause)
                again = workload.scan(connection, uri, params)
                if again.artifact_uri != built.artifact_uri or (pause and not again.hit):
                    raise wire.WireError("a finished result was built again")
                found.append(again.first_byte / MS)
    return statistics.median(at_once), statistics.median(later)


def measure(options: argparse.Namespace, scratch: Path, run: int, samples: Samples) -> None:
    """Measure everything once, on fresh servers."""
    warehouse, uri = scratch / "warehouse", tables.uri_of(scratch / "warehouse")
    base = scratch / f"sqlite-{run}"
    with servers.strata(base, warehouse) as target:
        database = base / "artifacts" / "metadata.db"
        tables.fill_store(database, MANY, uri, options.results)
        tables.fill_store(database, FEW, uri, options.few)
        samples.sqlite.append(lookups(target, options.results, options.count))
        pages = options.few // PAGE
        samples.of_few.append(page_of(target, FEW, pages))
        samples.of_many.append(page_of(target, MANY, pages))
        at_once, later = hits(target, uri, options.rows, options.hits)
        samples.at_once.append(at_once)
        samples.later.append(later)
    if options.dsn is None:
        return
    settings = f'artifact_metadata_dsn = "{options.dsn}"\n'
    with servers.strata(scratch / f"postgresql-{run}", warehouse, settings=settings) as target:
        tables.fill_postgresql(options.dsn, MANY, uri, options.results)
        samples.postgresql.append(lookups(target, options.results, options.count))


def lines_of(samples: Samples) -> list[figures.Figure]:
    """Return the lines of the table."""
    lines = [
        figures.Figure(
            f"look-ups a second of a core, {name}", f"{aim:g}", "/s", found, [aim] * len(found), 1.0
        )
        for name, found, aim in (
            ("SQLite", samples.sqlite, ON_SQLITE),
            ("PostgreSQL", samples.postgresql, ON_POSTGRESQL),
        )
        if found
    ]
    hit, later = "first byte of a hit right after the build", "a second later"
    return [
        *lines,
        figures.Figure("a page of many", "of few", "ms", samples.of_many, samples.of_few, MOST, "≤"),
        figures.Figure(hit, later, "ms", samples.at_once, samples.later, MOST, "≤"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        prog="nox -s bench_results --", description=(__doc__ or "").partition("\n")[0]
    )
    figures.add_options(parser)
    parser.add_argument(
        "--results", type=int, default=100_000, help="results of the one tenant (%(default)s)"
    )
    parser.add_argument("--few", type=int, default=1_000, help="results of the other one (%(default)s)")
    parser.add_argument("--count", type=int, default=5_000, help="look-ups of a run (%(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table (%(default)s)")
    parser.add_argument("--hits", type=int, default=10, help="results that are asked for again (%(default)s)")
    parser.add_argument("--dsn", help="address of an empty PostgreSQL database, which is filled")
    options = parser.parse_args(arguments)
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="strata-bench-") as directory:
        scratch = Path(directory)
        tables.generate(scratch / "warehouse", options.rows)
        for run in range(options.runs):
            measure(options, scratch, run, samples)
            print(f"run {run + 1} of {options.runs} done", file=sys.stderr)
    return figures.report(lines_of(samples), options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except wire.WireError as error:
        sys.exit(f"bench: {error}")
