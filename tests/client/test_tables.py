"""What clients say about tables, blocking and awaited, against a server; and where they find the server."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import trio
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Running, Warehouse, identity, numbers, running

from strata.acl import Policy, Rule
from strata.client import AsyncStrataClient, Column, StrataClient, StrataError, wire
from strata.client.tables import type_text
from strata.config import Settings
from strata.config.sources import load_settings

URI = "wh:db.events"
POLICY = Policy(
    deny=(Rule("ana", "tables/wh/db/secret"),),
    allow=(Rule("ana", "tables/wh/db/*"), Rule("eve", "tables/wh/db/events", columns=("id",))),
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    path = tmp_path / "warehouse"
    path.mkdir()
    warehouse = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    made = warehouse.create(numbers(10))
    made.append(numbers(10, start=10))
    made.manage_snapshots().create_tag(made.snapshots()[0].snapshot_id, "v1").commit()
    warehouse.create(numbers(1), "db.secret")
    settings = Settings(
        deployment_mode="service",
        auth_mode="trusted_proxy",
        proxy_token=TOKEN,
        multi_tenant_enabled=True,
        require_tenant_header=True,
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
        warehouses={"wh": str(path)},
        acl_config=POLICY,
        log_level="WARNING",
    )
    async with running(settings) as found:
        yield found


Call = Callable[..., Any]


@pytest.fixture(params=["blocking", "awaited"])
def call(request: pytest.FixtureRequest, server: Running) -> Call:
    """Return a function that calls a client's method by name, as a principal."""

    def block(who: str, method: str, *args: Any, **options: Any) -> Any:
        with StrataClient(server.url, headers=identity(who)) as client:
            return getattr(client, method)(*args, **options)

    async def blocking(method: str, *args: Any, who: str = "ana", **options: Any) -> Any:
        return await trio.to_thread.run_sync(partial(block, who, method, *args, **options))

    async def awaited(method: str, *args: Any, who: str = "ana", **options: Any) -> Any:
        async with AsyncStrataClient(server.url, headers=identity(who)) as client:
            return await getattr(client, method)(*args, **options)

    return blocking if request.param == "blocking" else awaited


async def test_what_there_is_to_read_is_listed(call: Call) -> None:
    """Catalogs, tables and names, as values."""
    assert [("wh", "warehouse")] == [(one.name, one.type) for one in await call("catalogs")]
    (table,) = await call("tables")
    assert (URI, ("db",), "events", "table") == (table.uri, table.namespace, table.name, table.kind)
    assert (table,) == await call("tables", "wh", "db", text="EVENT")
    assert () == await call("tables", text="nothing")
    assert () == await call("names")
    made = await call("materialize", URI, mode="artifact", name="daily", columns=["id"])
    await call("wait", made.build_id)
    (name,) = await call("names")
    assert ("daily", 1) == (name.name, name.version)


async def test_a_table_is_described(call: Call) -> None:
    """Columns, size, snapshots and refs; of an older version, too."""
    columns = await call("schema", URI)
    assert Column(1, "id", "long", required=False) == columns[0]
    assert ["id", "value", "name"] == [one.name for one in columns]
    assert ["id"] == [one.name for one in await call("schema", URI, who="eve")]
    found = await call("describe", URI)
    assert (20, 2, False) == (found.rows, found.files, found.restricted)
    assert 10 == (await call("describe", URI, ref="v1")).rows
    latest, first = await call("snapshots", URI)
    assert (found.snapshot_id, first.snapshot_id) == (latest.snapshot_id, latest.parent_id)
    refs = {one.name: one.snapshot_id for one in await call("refs", URI)}
    assert {"main": latest.snapshot_id, "v1": first.snapshot_id} == refs
    assert 10 == (await call("describe", URI, snapshot_id=first.snapshot_id)).rows


async def test_first_rows_and_counts_are_exact(call: Call) -> None:
    """With a filter, a version, and for a caller of some columns."""
    whole = await call("fetch", URI)
    assert whole.slice(0, 3).equals(await call("head", URI, 3))
    assert 10 == (await call("head", URI)).num_rows
    assert 20 == await call("count", URI) == await call("count", URI, who="eve")
    assert 10 == await call("count", URI, ref="v1")
    assert 5 == await call("count", URI, filters=[("id", "<", 5)])
    assert 7 == await call("count", URI, limit=7)


async def test_a_result_has_its_lineage_and_its_end(call: Call) -> None:
    """What it was made of, whether it is current, and who may remove it."""
    made = await call("materialize", URI, mode="artifact", name="daily", columns=["id"])
    await call("wait", made.build_id)
    found = await call("lineage", "strata://name/daily")
    assert (made.artifact_uri, (URI,)) == (found.artifact_uri, found.direct_inputs)
    assert 0 == (await call("dependents", made.artifact_uri)).total_count
    status = await call("status", "daily")
    assert (made.artifact_uri, False) == (status.artifact_uri, status.is_stale)
    over = await call("cancel", made)
    assert (False, "ready") == (over.cancelled, over.state)
    with pytest.raises(StrataError, match="403"):
        await call("delete", made.artifact_uri)


async def test_progress_of_a_result_is_a_line(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows and bytes, each with its total once the result is finished."""
    await call("fetch", URI)
    await call("materialize", URI, mode="artifact")
    capsys.readouterr()
    await call("fetch", URI, progress=True)
    assert re.search(r"^20 of 20 rows, [0-9.]+ kB of [0-9.]+ kB$", capsys.readouterr().err, re.MULTILINE)


async def test_results_become_frames(call: Call) -> None:
    """Rows are those of the scan, in pandas, Polars and DuckDB."""
    options = {"columns": ["id"], "filters": [("id", "<", 2)]}
    for method in ("to_pandas", "to_polars"):
        assert [0, 1] == sorted((await call(method, URI, **options))["id"])
    assert [(0,), (1,)] == (await call("to_duckdb", URI, **options)).order("id").fetchall()


async def test_a_table_that_is_not_there_is_an_error_with_the_servers_sentence(call: Call) -> None:
    """A hidden one and a missing one alike."""
    for uri in ("wh:db.secret", "wh:db.absent"):
        for method in ("schema", "snapshots", "refs", "count", "head"):
            with pytest.raises(StrataError) as caught:
                await call(method, uri)
            assert (404, "Table not found") == (caught.value.status, caught.value.detail)


async def test_why_is_a_sentence(call: Call) -> None:
    """It names the caller as the server knows it, and tells a hidden table as a missing one."""
    assert "ana of tenant team-a may read all of wh:db.events." == (await call("why", URI)).sentence
    some = await call("why", URI, who="eve")
    assert (True, True) == (some.readable, some.restricted)
    assert "some columns or rows" in some.sentence
    hidden, missing = [await call("why", f"wh:db.{name}") for name in ("secret", "absent")]
    assert hidden.sentence == missing.sentence.replace("absent", "secret")
    assert not hidden.readable


def test_a_type_is_one_line() -> None:
    """Nested types are written out."""
    city = {"name": "city", "type": "string"}
    kind = {
        "type": "map",
        "key": "string",
        "value": {"type": "list", "element": {"type": "struct", "fields": [city]}},
    }
    assert "map<string, list<struct<city: string>>>" == type_text(kind)


class Recorder(httpx.BaseTransport):
    """Answers every request, and keeps it."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return httpx.Response(200, json={"catalogs": []})


def test_the_environment_has_the_address_and_the_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go together: headers, which may be secrets, are not sent to an address of the caller's own."""
    monkeypatch.setenv("STRATA_CLIENT_URL", "http://one.test/base")
    monkeypatch.setenv("STRATA_CLIENT_HEADERS", "Authorization: Bearer a:b\n\n X-Tenant-ID:team ")
    recorder = Recorder()
    for url, headers in ((None, {"X-Tenant-ID": "mine"}), ("http://two.test", {})):
        with StrataClient(url, headers=headers, transport=recorder) as client:
            client.catalogs()
    first, second = recorder.seen
    assert "http://one.test/base/v1/catalogs" == str(first.url)
    assert ("Bearer a:b", "mine") == (first.headers["Authorization"], first.headers["X-Tenant-ID"])
    assert ("two.test", False) == (second.url.host, "Authorization" in second.headers)


def test_without_an_environment_the_address_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of `strata serve`."""
    monkeypatch.delenv("STRATA_CLIENT_URL", raising=False)
    assert "http://127.0.0.1:8765" == wire.address()


@pytest.mark.parametrize("text", ["secret", "A B: c", "A: b\x07c", ": c"])
def test_a_line_that_is_no_header_is_refused_and_not_repeated(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a secret."""
    monkeypatch.setenv("STRATA_CLIENT_HEADERS", f"X-Tenant-ID: a\n{text}")
    with pytest.raises(ValueError, match="STRATA_CLIENT_HEADERS: header 2") as caught:
        StrataClient()
    assert text not in str(caught.value)


def test_variables_of_the_client_are_no_settings_of_a_server(tmp_path: Path) -> None:
    """A shell may have both."""
    environ = {"STRATA_CLIENT_URL": "http://x", "STRATA_CLIENT_HEADERS": "A: b", "STRATA_PORT": "1234"}
    assert 1234 == load_settings(config_file=None, environ=environ, options={}, cwd=tmp_path).settings.port


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what else there is."""
    from strata.client.frames import conversions  # noqa: PLC0415  # only this test needs it

    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="polars is not installed here"):
        conversions.as_polars(pa.table({"a": [1]}))
