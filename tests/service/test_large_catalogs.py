"""Catalogs of thousands of namespaces are listed page by page, each page with a few requests to the catalog."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from rest_catalog import rest_server
from service_kit import Warehouse, running

from strata.config import Settings

MOTO = "moto.server"
ACCOUNT = "123456789012"
ODD = ("50%", "a b", "*", "_", "**", 'say "hi"', "übung", "x%2Ey", "#?&=+")
PAGE_SECONDS = 0.1
"""Seconds in which a page must be answered."""

MEASURED = 30

Namespace = tuple[str, ...]


def names_of(namespaces: int, tables: int) -> dict[Namespace, list[str]]:
    """Return namespaces with their tables; every tenth one is inside another, and the odd names come first."""
    found: dict[Namespace, list[str]] = {("!odd",): sorted(ODD)}
    for at in range(namespaces):
        levels = (f"ns{at:05}",) if at % 10 else (f"ns{at:05}", "inner")
        found[levels] = [f"t{name:03}" for name in range(tables)]
    return found


@attrs.define
class Names:
    """As much of a catalog as a REST server needs to list it."""

    tables: dict[Namespace, list[str]]

    def list_namespaces(self, above: Namespace = ()) -> list[Namespace]:
        depth = len(above)
        return sorted({one[: depth + 1] for one in self.tables if one[:depth] == above and len(one) > depth})

    def list_tables(self, namespace: Namespace) -> list[Namespace]:
        return [(*namespace, name) for name in self.tables.get(namespace, [])]


@contextmanager
def in_rest(
    tables: dict[Namespace, list[str]], _place: Path
) -> Iterator[tuple[dict[str, Any], Callable[[], int]]]:
    catalog: Any = Names(tables)
    with rest_server(catalog) as rest:
        yield {"type": "rest", "uri": rest.uri}, lambda: len(rest.asked)


@contextmanager
def in_sql(
    tables: dict[Namespace, list[str]], place: Path
) -> Iterator[tuple[dict[str, Any], Callable[[], int]]]:
    path = place / "names.db"
    SqlCatalog("lake", uri=f"sqlite:///{path}", warehouse=str(place)).close()
    rows = [
        ("lake", ".".join(levels), name, "file:///nowhere", "TABLE")
        for levels, found in tables.items()
        for name in found
    ]
    with sqlite3.connect(path) as file:
        file.executemany(
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, iceberg_type)"
            " VALUES (?, ?, ?, ?, ?)",
            rows,
        )
    yield {"type": "sql", "uri": f"sqlite:///{path}"}, lambda: 0


@contextmanager
def in_glue(
    tables: dict[Namespace, list[str]], place: Path
) -> Iterator[tuple[dict[str, Any], Callable[[], int]]]:
    """Databases of Glue, which have no others inside."""
    moto = pytest.importorskip(MOTO, reason="moto is a test dependency")
    from moto.glue.models import glue_backends  # noqa: PLC0415  # a second of imports

    asked = []
    backend = glue_backends[ACCOUNT]["us-east-1"]
    backend.reset()
    for levels, names in tables.items():
        database = ".".join(levels)
        backend.create_database(database, {"Name": database})
        for name in names:
            backend.create_table(database, name, {"Name": name, "Parameters": {"table_type": "ICEBERG"}})
    service = moto.ThreadedMotoServer("127.0.0.1", 0)
    service.start()
    real = {name: getattr(backend, name) for name in ("get_databases", "get_tables")}
    try:
        for name, method in real.items():
            setattr(
                backend, name, lambda *args, _method=method, **more: asked.append(1) or _method(*args, **more)
            )
        host, port = service.get_host_and_port()
        keys = {"glue.access-key-id": "testing", "glue.secret-access-key": "testing", "glue.id": ACCOUNT}
        yield (
            {
                "type": "glue",
                "glue.endpoint": f"http://{host}:{port}",
                "glue.region": "us-east-1",
                "warehouse": f"file://{place}",
            }
            | keys,
            lambda: len(asked),
        )
    finally:
        for name in real:
            delattr(backend, name)
        service.stop()
        backend.reset()


CATALOGS = {"rest": in_rest, "sql": in_sql, "glue": in_glue}


async def listed(
    settings: Settings,
    properties: dict[str, Any],
    asked: Callable[[], int],
    limit: int,
    later: int | None = None,
) -> tuple[list[str], list[float], list[int]]:
    """Return the names of all pages, and of each page its seconds and the requests to the catalog.

    The first :data:`MEASURED` pages have ``limit`` tables, the others ``later``.
    """
    changed = attrs.evolve(settings, warehouses={}, catalogs={"lake": properties})
    names, seconds, requests = [], [], []
    async with running(changed) as server, server.client() as client:
        query: dict[str, Any] = {"limit": limit}
        while True:
            before, began = asked(), time.perf_counter()
            answer = await client.get("/v1/tables", params=query)
            seconds.append(time.perf_counter() - began)
            requests.append(asked() - before)
            assert 200 == answer.status_code, answer.text
            page = answer.json()
            names += [".".join((*one["namespace"], one["name"])) for one in page["tables"]]
            if page["next_page_token"] is None:
                return names, seconds, requests
            query["page_token"] = page["next_page_token"]
            if later is not None and len(seconds) == MEASURED:
                query["limit"] = later


@pytest.mark.parametrize("kind", CATALOGS)
async def test_each_page_of_a_large_catalog_takes_a_few_requests(
    kind: str, settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Pages join to the whole, nested namespaces and odd names included; requests do not grow with the catalog."""
    tables = names_of(40, 4)
    with CATALOGS[kind](tables, tmp_path) as (properties, asked):
        names, _, requests = await listed(settings, properties, asked, limit=60)
    expected = [".".join((*levels, name)) for levels in tables for name in tables[levels]]
    assert sorted(expected) == sorted(names)
    assert max(requests) <= 70, requests


@pytest.mark.nightly
@pytest.mark.parametrize("kind", CATALOGS)
async def test_each_page_of_100000_tables_is_answered_at_once(
    kind: str, settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """2,000 namespaces of 50 tables: half of the pages within 100 ms, and no step holds the loop."""
    tables = names_of(2000, 50)
    with CATALOGS[kind](tables, tmp_path) as (properties, asked):
        names, seconds, requests = await listed(settings, properties, asked, limit=100, later=1000)
    assert 100_000 + len(ODD) == len(set(names)) == len(names)
    middle = sorted(seconds[:MEASURED])[MEASURED // 2]
    assert middle < PAGE_SECONDS, (middle, seconds[0], seconds[-1], max(seconds), max(requests[:MEASURED]))
