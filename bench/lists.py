"""Measure how long pages of long lists hold the server's event loop: tenants, results, tables.

10,000 tenants, all live; 100,000 results of one tenant, without access rules and with some; 2,000 tables of a
warehouse, all and found by a word. Each list is read as the pages of the browser read it, to its end or up to
``--pages`` pages, in a server of its own, which notes every step of a task (``steps.py``). The figure is the
longest step of a list, garbage collection included; the aim is 10 ms.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import attrs
import discovery
import figures
import servers
import wire

MOST_MS = 10.0
NAMESPACE = 100
"""Tables of a namespace."""

PROGRAM = Path(__file__).with_name("steps.py")

RULES = """
[tool.strata.acl_config]
default = "deny"
[[tool.strata.acl_config.deny]]
principal = "*"
resource = "tables/bench/ns0000/t07"
[[tool.strata.acl_config.allow]]
principal = "bench"
resource = "**"
"""


@attrs.frozen
class Listing:
    """A list, as a page of the browser asks for it.

    Attributes:
        name: Its name in the figures.
        path: Its address, with the page's own ``limit``.
        key: The field of an answer that has the lines.
        following: The field of an answer that has where the next page begins.
        parameter: The parameter that says it.
        lines: How many lines there are.
    """

    name: str
    path: str
    key: str
    following: str
    parameter: str
    lines: int


def listings(tenants: int, results: int, tables: int) -> Iterator[Listing]:
    """Yield the lists, each with what a page of the browser asks for."""
    yield Listing("tenants", "/v1/admin/tenants?limit=50", "tenants", "next", "after", tenants + 1)
    yield from (
        Listing(name, f"/v1/artifacts?limit=50{more}", "artifacts", "next_page_token", "page_token", results)
        for name, more in (("results", ""), ("results, largest first", "&sort=byte_size&order=desc"))
    )
    found = sum(1 for at in range(tables) if "ns0001" in place(at))
    yield from (
        Listing(name, f"/v1/tables?limit=200{more}", "tables", "next_page_token", "page_token", lines)
        for name, more, lines in (("tables", "", tables), ("tables, by a word", "&q=NS0001", found))
    )


def place(number: int) -> str:
    """Return the namespace and the name of a table."""
    return f"{discovery.namespace(number // NAMESPACE)}.t{number % NAMESPACE:02}"


def fill(directory: Path, tenants: int, results: int, tables: int) -> None:
    """Put results into a server's database: many of one tenant, of all tables; one of each other tenant."""
    (file,) = (path for path in directory.rglob("*") if _is_database(path))
    now = time.time()

    def rows() -> Iterator[tuple[object, ...]]:
        for number in range(results + tenants):
            tenant = "bench" if number < results else name_of(number - results)
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            inputs = json.dumps({f"bench:{place(number % max(1, tables))}": f"file:///nowhere/{number}"})
            spec = json.dumps({"executor": "scan@v1", "params": {"limit": number}})
            size = (number * 7919) % 1_000_003
            yield (
                tenant, digest[:32], 1, "ready", digest, digest, spec, inputs, now - number, "{}", number,
                size, digest,
            )  # fmt: skip

    names = (
        "tenant, artifact_id, version, state, provenance_hash, query_hash, transform_spec, input_versions,"
        " created_at, arrow_schema, row_count, byte_size, content_sha256"
    )
    with closing(sqlite3.connect(file, timeout=60)) as database, database:
        database.executemany(f"INSERT INTO artifacts ({names}) VALUES ({', '.join('?' * 13)})", rows())


def _is_database(path: Path) -> bool:
    """Whether a file is an SQLite database with results."""
    if not path.is_file() or path.suffix not in {".db", ".sqlite"}:
        return False
    with closing(sqlite3.connect(path, timeout=60)) as database:
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'artifacts'"
        return bool(database.execute(query).fetchone()[0])


def name_of(number: int) -> str:
    """Return the id of a tenant."""
    return f"team-{number:05}"


def enliven(target: servers.Target, tenants: int) -> None:
    """Have each tenant be live: it asks once."""
    for number in range(tenants):
        headers = {**target.headers, "X-Tenant-ID": name_of(number)}
        with wire.Connection(target.url, headers) as connection:
            reply = connection.get("/v1/artifacts/stats", keep=True)
        if reply.status != 200:
            raise wire.WireError(f"a tenant was answered with {reply.status}: {reply.body[:200]!r}")


def read(connection: wire.Connection, listing: Listing, most: int) -> tuple[int, bool]:
    """Read a list; returns how many lines the pages had that were read, and whether those were all pages."""
    lines, more = 0, ""
    for _ in range(most):
        reply = connection.get(listing.path + more, keep=True)
        if reply.status != 200:
            raise wire.WireError(f"{listing.name}: answered with {reply.status}: {reply.body[:200]!r}")
        page = reply.json()
        lines += len(page[listing.key])
        if page[listing.following] is None:
            return lines, True
        more = f"&{listing.parameter}={quote(str(page[listing.following]))}"
    return lines, False


def longest(file: Path, began: float, ended: float) -> tuple[float, str]:
    """Return the milliseconds of the longest step between two moments, and the name of its task."""
    found = (0.0, "")
    for line in file.read_text().splitlines():
        at, milliseconds, task = line.split(" ", 2)
        if began <= float(at) <= ended:
            found = max(found, (float(milliseconds), task))
    return found


def measure(scratch: Path, options: argparse.Namespace) -> list[figures.Figure]:
    """Measure each list in each run."""
    sizes = (options.tenants, options.results, options.tables)
    warehouse = scratch / "warehouse"
    discovery.fill(warehouse, max(1, options.tables // NAMESPACE), min(NAMESPACE, options.tables))
    found: dict[str, list[float]] = {}
    for run in range(options.runs):
        for rules in ("", RULES):
            base = scratch / f"run-{run}{'-rules' if rules else ''}"
            steps = base.with_suffix(".steps")
            steps.touch()
            settings = f"max_tenants = {options.tenants + 10}\ntenant_idle_seconds = 86400"
            with servers.strata(
                base, warehouse, settings=settings, more=rules, program=(str(PROGRAM), str(steps))
            ) as target:
                fill(base, *sizes)
                if not rules:
                    enliven(target, options.tenants)
                for listing in listings(*sizes):
                    if rules and listing.name == "tenants":
                        continue  # an operator's, whatever the rules
                    name = f"{listing.name}, with access rules" if rules else listing.name
                    with target.connect() as connection:
                        began = time.perf_counter()
                        lines, whole = read(connection, listing, options.pages)
                        ended = time.perf_counter()
                    if whole and not rules and lines != listing.lines:
                        raise wire.WireError(f"{name}: {lines} lines in place of {listing.lines}")
                    held, task = longest(steps, began, ended)
                    print(f"{name}: {held:.1f} ms in {task or 'no task'}", file=sys.stderr)
                    found.setdefault(name, []).append(held)
        print(f"run {run + 1} of {options.runs} done", file=sys.stderr)
    return [
        figures.Figure(name, "10 ms", "ms", steps, [MOST_MS] * options.runs, 1, "≤")
        for name, steps in found.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="nox -s bench_lists --", description=__doc__.partition("\n")[0])
    figures.add_options(parser)
    parser.add_argument("--tenants", type=int, default=10_000, help="live tenants (%(default)s)")
    parser.add_argument("--results", type=int, default=100_000, help="results of one tenant (%(default)s)")
    parser.add_argument("--tables", type=int, default=2_000, help="tables (%(default)s)")
    parser.add_argument("--pages", type=int, default=250, help="most pages of a list (%(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="strata-bench-") as scratch:
        lines = measure(Path(scratch), options)
    return figures.report(lines, options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except wire.WireError as error:
        sys.exit(f"bench: {error}")
