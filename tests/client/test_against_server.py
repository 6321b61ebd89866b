"""The clients and the server over a socket."""

import datetime as dt
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial

import attrs
import httpx
import pyarrow as pa
import pytest
import trio
from pyiceberg.catalog.sql import SqlCatalog

from strata.client import AsyncStrataClient, QueryResult, StrataClient, StrataError
from strata.client.operations import Query
from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.server import open_service

IDENTITY = {
    "X-Strata-Proxy-Token": "a-token-of-the-tests",
    "X-Strata-Principal": "ann",
    "X-Tenant-ID": "team",
}
MOMENT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ROWS = pa.table(
    {
        "id": pa.array(range(6), pa.int64()),
        "day": [dt.date(2026, 3, 1) + dt.timedelta(days=i) for i in range(6)],
        "at": pa.array([MOMENT + dt.timedelta(hours=i) for i in range(6)], pa.timestamp("us", tz="UTC")),
        "price": pa.array([Decimal(i) / 4 for i in range(6)], pa.decimal128(9, 2)),
        "raw": pa.array([bytes([i]) for i in range(6)], pa.large_binary()),
        "text": pa.array([None, "a", "__date__:2026-03-01", "b", "c", "d"], pa.large_string()),
    }
)
URI = "wh:db.t"


@pytest.fixture
def settings(tmp_path):
    for name in ("warehouse", "artifacts", "cache"):
        (tmp_path / name).mkdir()
    warehouse = tmp_path / "warehouse"
    catalog = SqlCatalog("strata", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=str(warehouse))
    catalog.create_namespace("db")
    catalog.create_table("db.t", ROWS.schema).append(ROWS)
    catalog.engine.dispose()
    return Settings(
        deployment_mode="service",
        auth_mode="trusted_proxy",
        proxy_token=IDENTITY["X-Strata-Proxy-Token"],
        multi_tenant_enabled=True,
        require_tenant_header=True,
        warehouses={"wh": str(warehouse)},
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
    )


@asynccontextmanager
async def running(settings):
    stop = trio.Event()
    async with open_service(settings) as service, trio.open_nursery() as nursery:
        binds = [Bind()]
        (url,) = await nursery.start(partial(serve, service.app, binds, stop=stop.wait, grace=5))
        try:
            yield url
        finally:
            stop.set()


@asynccontextmanager
async def asking(settings, kind):
    """Return a function that calls the client's methods, for either client."""
    async with running(settings) as url:
        if kind == "async":
            async with AsyncStrataClient(
                url, headers=IDENTITY, transport=httpx.AsyncHTTPTransport()
            ) as client:
                yield lambda method, *args, **kwargs: getattr(client, method)(*args, **kwargs)
        else:
            with StrataClient(url, headers=IDENTITY, transport=httpx.HTTPTransport()) as client:

                async def call(method, *args, **kwargs):
                    return await trio.to_thread.run_sync(partial(getattr(client, method), *args, **kwargs))

                yield call


@pytest.fixture(params=["sync", "async"])
def kind(request):
    return request.param


async def test_a_result_is_built_found_described_and_read_again(settings, kind):
    """Materialize, wait, read, explain: one artifact, and the rows of the table."""
    async with asking(settings, kind) as ask:
        assert (await ask("explain", URI)).would_build
        pending = await ask("materialize", URI, mode="artifact")
        built = await ask("wait", pending.build_id, 30)
        found = await ask("materialize", URI, mode="artifact")
        artifact = await ask("artifact", found.artifact_uri)

        assert (pending.hit, built.state, found.hit) == (False, "ready", True)
        assert artifact.row_count == 6
        assert artifact.uri == found.artifact_uri
        assert ROWS.equals(await ask("read", found))
        assert ROWS.equals(await ask("read", found.artifact_uri))
        assert ROWS.equals(await ask("fetch", URI))
        assert (await ask("explain", URI)).would_hit
        assert [artifact.artifact_id] == [item.artifact_id for item in (await ask("artifacts")).artifacts]


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        (("day", ">=", dt.date(2026, 3, 5)), [4, 5]),
        (("at", "<", MOMENT + dt.timedelta(hours=2)), [0, 1]),
        (("price", "in", [Decimal("0.25"), Decimal("0.50")]), [1, 2]),
        (("raw", "=", b"\x03"), [3]),
        (("text", "=", "__date__:2026-03-01"), [2]),
        (("text", "is null"), [0]),
        (("id", ">", 99), []),
    ],
)
async def test_typed_filter_values_mean_the_same_on_both_sides(settings, kind, condition, ids):
    """Typed filters are exact to the row; an empty result keeps its columns."""
    async with asking(settings, kind) as ask:
        found = await ask("fetch", URI, columns=["text", "id"], filters=[condition])

    assert ids == sorted(found["id"].to_pylist())
    assert [ROWS.schema.field("text"), ROWS.schema.field("id")] == list(found.schema)


async def test_no_columns_are_rows_without_columns(settings, kind):
    """`columns=[]` returns the number of rows."""
    async with asking(settings, kind) as ask:
        found = await ask("fetch", URI, columns=[], filters=[("id", "<", 4)])

    assert (found.num_rows, found.num_columns) == (4, 0)


async def test_a_refusal_carries_the_servers_own_words(settings, kind):
    """Status, detail, code and request id of the server's problem are those of the client's error."""
    async with asking(settings, kind) as ask:
        with pytest.raises(StrataError) as missing:
            await ask("fetch", "wh:db.nonesuch")
        with pytest.raises(StrataError) as unknown:
            await ask("materialize", URI, columns=["nonesuch"])

    assert (missing.value.status, missing.value.title) == (404, "Not Found")
    assert missing.value.request_id
    assert unknown.value.status == 400
    assert unknown.value.errors[0]["loc"][:4] == ["body", "transform", "params", "columns"]


async def test_who_one_is_to_the_server(settings, kind):
    """Identity, limits, and which requests would be refused and why."""
    async with asking(settings, kind) as ask:
        found = await ask("me")

    assert ("ann", "team", (), "absent") == (found.principal, found.tenant, found.scopes, found.state)
    assert 8 == found.limits["bulk_slots"]["value"]
    assert {"missing_scope", "writes_disabled"} == {check.error for check in found.refused}


async def test_a_query_of_both_clients_returns_rows(settings):
    """Named and numbered inputs can be mixed; the result converts to what a program works with."""
    settings = attrs.evolve(
        settings, transforms=TransformSection(enabled=True, registry=(RegisteredTransform("duckdb_sql@*"),))
    )
    query = "SELECT count(*) AS n, max(t.id) AS most FROM input0 JOIN t USING (id)"
    async with running(settings) as url:
        async with AsyncStrataClient(url, headers=IDENTITY) as client:
            found = await client.sql(query, URI, t=URI, name="joined")
            again = await client.sql("FROM joined", joined="strata://name/joined")
            with pytest.raises(StrataError, match=r"line 1, column 8"):
                await client.sql("SELECT nothing FROM t", t=URI)

        def in_a_thread() -> tuple[QueryResult, pa.Table]:
            with StrataClient(url, headers=IDENTITY) as client:
                same = client.sql(query, URI, t=URI)
                return same, same.to_duckdb().to_arrow_table()

        same, converted = await trio.to_thread.run_sync(in_a_thread)
    expected = [{"n": 6, "most": 5}]
    assert [expected] * 4 == [one.to_pylist() for one in (found.table, again.table, same.table, converted)]
    assert "QueryResult(table=1 rows of 2 columns)" == repr(found)


def test_a_query_of_something_else_is_refused_before_it_is_sent():
    """A mapping in the place of keyword arguments is a mistake that is named."""
    with pytest.raises(TypeError, match="are texts"):
        Query("SELECT 1", ({"t": URI},)).body()  # type: ignore[arg-type]
