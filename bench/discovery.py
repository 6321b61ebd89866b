"""Measure pages of a listing of 100,000 tables in 2,000 namespaces, and how long other requests wait beside.

The tables are names only: in the SQLite file of a warehouse, and on a REST catalog of this process, which
answers from memory. Each run has a new server. The aim is a page in 100 ms, and beside it no other request
of the same server later than 50 ms, the longest that a task may hold the event loop.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, urlsplit

import figures
import servers
import wire
from pyiceberg.catalog.sql import SqlCatalog

MS = 1e-3
MOST_PAGE_MS = 100.0
MOST_BESIDE_MS = 50.0
PAUSE_SECONDS = 0.01
"""Time between two requests beside the pages."""

CATALOG = """
[tool.strata.catalogs.rest]
type = "rest"
uri = "{uri}"
"""


def namespace(number: int) -> str:
    """Return the name of a namespace."""
    return f"ns{number:04}"


def fill(warehouse: Path, namespaces: int, tables: int) -> None:
    """Make a warehouse's catalog, and put names into it as a writer would, with no table behind them."""
    warehouse.mkdir(parents=True)
    catalog = SqlCatalog("strata", uri=f"sqlite:///{warehouse / 'catalog.db'}", warehouse=str(warehouse))
    catalog.close()
    rows = [
        ("strata", namespace(at), f"t{name:02}", "file:///nowhere", "TABLE")
        for at in range(namespaces)
        for name in range(tables)
    ]
    with sqlite3.connect(warehouse / "catalog.db") as file:
        file.executemany(
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location,"
            " iceberg_type) VALUES (?, ?, ?, ?, ?)",
            rows,
        )


@contextmanager
def rest_catalog(namespaces: int, tables: int) -> Iterator[str]:
    """Serve the same names as an Iceberg REST catalog on loopback; yields its URL."""
    names = {"namespaces": [[namespace(at)] for at in range(namespaces)]}

    def answer(path: str, query: str) -> object:
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["v1", "config"]:
                return {"defaults": {}, "overrides": {}}
            case ["v1", "namespaces"]:
                return {"namespaces": []} if "parent" in query else names
            case ["v1", "namespaces", one, "tables"]:
                return {"identifiers": [{"namespace": [one], "name": f"t{at:02}"} for at in range(tables)]}
        return {"identifiers": []}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the name is http.server's
            parts = urlsplit(self.path)
            data = json.dumps(answer(parts.path, parts.query)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            with suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Beside:
    """Asks a server for its caller, again and again, in a thread."""

    def __init__(self, target: servers.Target) -> None:
        self.milliseconds: list[float] = []
        self._target = target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._target.connect() as connection:
            over = False
            while not over:  # once at least, however soon the pages are there
                began = time.perf_counter()
                connection.get("/v1/me")
                self.milliseconds.append((time.perf_counter() - began) / MS)
                over = self._stop.wait(PAUSE_SECONDS)


def pages(connection: wire.Connection, query: str, most: int) -> tuple[list[float], int]:
    """Return the milliseconds of each page of a listing, up to ``most`` pages, and the tables on them."""
    found, tables, token = [], 0, ""
    while len(found) < most:
        began = time.perf_counter()
        reply = connection.get(f"/v1/tables?{query}{token}", keep=True)
        found.append((time.perf_counter() - began) / MS)
        if reply.status != 200:
            raise wire.WireError(f"a page was answered with {reply.status}: {reply.body[:200]!r}")
        page = reply.json()
        tables += len(page["tables"])
        if page["next_page_token"] is None:
            break
        token = "&page_token=" + quote(page["next_page_token"])
    return found, tables


def measure(scratch: Path, runs: int, namespaces: int, tables: int, most: int) -> list[figures.Figure]:
    """Measure each listing ``runs`` times: the 99th percentile of its pages, and of requests beside them."""
    warehouse = scratch / "warehouse"
    fill(warehouse, namespaces, tables)
    size = min(100, namespaces * tables)
    last = namespace(namespaces - 1)
    listings = {
        f"warehouse, pages of {size}": (f"catalog=bench&limit={size}", size * most),
        "warehouse, one namespace": (f"catalog=bench&namespace={last}", tables),
        f"REST catalog, pages of {size}": (f"catalog=rest&limit={size}", size * most),
        "REST catalog, one namespace": (f"catalog=rest&namespace={last}", tables),
    }
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in listings}
    with rest_catalog(namespaces, tables) as uri:
        for run in range(runs):
            more = CATALOG.format(uri=uri)
            with (
                servers.strata(scratch / f"run-{run}", warehouse, more=more) as target,
                target.connect() as connection,
            ):
                for name, (query, wanted) in listings.items():
                    with Beside(target) as beside:
                        milliseconds, listed = pages(connection, query, most)
                    if listed != min(wanted, namespaces * tables):
                        raise wire.WireError(f"{name}: {listed} tables in place of {wanted}")
                    found[name][0].append(_most(milliseconds))
                    found[name][1].append(_most(beside.milliseconds))
            print(f"run {run + 1} of {runs} done", file=sys.stderr)
    lines = []
    for name, (listed_in, waited) in found.items():
        lines += [
            figures.Figure(name, "100 ms", "ms", listed_in, [MOST_PAGE_MS] * runs, 1, "≤"),
            figures.Figure(f"beside: {name}", "50 ms", "ms", waited, [MOST_BESIDE_MS] * runs, 1, "≤"),
        ]
    return lines


def _most(milliseconds: Sequence[float]) -> float:
    """Return the 99th percentile; of few values the largest."""
    if len(milliseconds) < 2:
        return max(milliseconds, default=0.0)
    return statistics.quantiles(milliseconds, n=100, method="inclusive")[98]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="nox -s bench_discovery --", description=__doc__.partition("\n")[0])
    figures.add_options(parser)
    parser.add_argument("--namespaces", type=int, default=2000, help="namespaces (%(default)s)")
    parser.add_argument("--tables", type=int, default=50, help="tables of each namespace (%(default)s)")
    parser.add_argument("--pages", type=int, default=200, help="most pages of a listing (%(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="strata-bench-") as scratch:
        lines = measure(Path(scratch), options.runs, options.namespaces, options.tables, options.pages)
    return figures.report(lines, options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except wire.WireError as error:
        sys.exit(f"bench: {error}")
