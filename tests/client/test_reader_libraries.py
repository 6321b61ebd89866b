"""Other libraries read results: exactly, with what is pushed down, and never a part of one as the whole."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib
import io
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pytest
import trio
from pyiceberg.catalog.sql import SqlCatalog
from reading_here import read_here
from service_kit import Warehouse, running

from strata.client import StrataClient, TruncatedStreamError
from strata.client.frames.polars_filters import pushed_filters
from strata.config import Settings

URI = "wh:db.odd"
DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
ROWS = 40
NAN = float("nan")

TABLE = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "small": pa.array([None if at % 7 == 0 else at - 20 for at in range(ROWS)], pa.int32()),
        "real": pa.array([[0.0, -0.0, NAN, 1.5, None, float("inf")][at % 6] for at in range(ROWS)]),
        "text": pa.array([None if at % 5 == 0 else f"t{at % 8}é" for at in range(ROWS)]),
        "flag": pa.array([[True, False, None][at % 3] for at in range(ROWS)]),
        "day": pa.array([None if at % 11 == 0 else DAY + dt.timedelta(days=at) for at in range(ROWS)]),
        "moment": pa.array(
            [NOON + dt.timedelta(microseconds=at) for at in range(ROWS)], pa.timestamp("us", "UTC")
        ),
        "local": pa.array(
            [NOON.replace(tzinfo=None) + dt.timedelta(hours=at) for at in range(ROWS)], pa.timestamp("us")
        ),
        "price": pa.array([Decimal(at) / 4 for at in range(ROWS)], pa.decimal128(9, 2)),
        "parts": pa.array([[at, None] for at in range(ROWS)], pa.list_(pa.int64())),
        "raw": pa.array([bytes([at]) for at in range(ROWS)], pa.binary()),
    }
)

Call = Callable[..., Any]


@pytest.fixture
async def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Call]:
    """Return a function that runs another one with a client, in a thread."""
    read_here(monkeypatch)
    path = tmp_path / "warehouse"
    path.mkdir()
    warehouse = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    warehouse.create(TABLE.slice(0, 25), "db.odd").append(TABLE.slice(25))
    settings = Settings(
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
        warehouses={"wh": str(path)},
        log_level="WARNING",
    )
    async with running(settings) as server:

        def with_client(function: Callable[[StrataClient], Any]) -> Any:
            with StrataClient(server.url, transport=httpx.HTTPTransport()) as client:
                return function(client)

        async def thread(function: Callable[[StrataClient], Any]) -> Any:
            return await trio.to_thread.run_sync(partial(with_client, function))

        yield thread


# What of a predicate goes to the server; the rest, and the whole again, is evaluated by Polars.
PREDICATES: tuple[tuple[Any, list[tuple[Any, ...]]], ...] = (
    (pl.col("id") > 30, [("id", ">", 30)]),
    (pl.lit(30) <= pl.col("id"), [("id", ">=", 30)]),
    (pl.col("small") != -3, [("small", "!=", -3)]),
    (pl.col("small") < 2**40, []),  # Polars decides it without reading; not a value of the column's type
    ((pl.col("small") > 0) & (pl.col("text") == "t1é"), [("small", ">", 0), ("text", "=", "t1é")]),
    ((pl.col("small") > 0) | (pl.col("text") == "t1é"), []),
    (pl.col("text") >= "t3", [("text", ">=", "t3")]),
    (pl.col("text").str.starts_with("t1") & (pl.col("id") < 20), [("id", "<", 20)]),
    (pl.col("text").is_null(), [("text", "is null")]),
    (pl.col("small").is_not_null(), [("small", "is not null")]),
    (pl.col("id").is_between(3, 9, closed="left"), [("id", ">=", 3), ("id", "<", 9)]),
    (pl.col("id").is_in([3, 5, 99]), []),
    (pl.col("real") > 1, []),  # NaN is greater in Polars
    (pl.col("real") >= 1, []),
    (pl.col("real") != 1.5, []),  # NaN differs
    (pl.col("real") < 2, [("real", "<", 2.0)]),
    (pl.col("real") == 1.5, [("real", "=", 1.5)]),
    (pl.col("real") == 0, []),  # of both signs
    (pl.col("real").is_nan(), []),
    (pl.col("flag"), [("flag", "=", True)]),
    (~pl.col("flag"), []),
    (pl.col("day") == DAY + dt.timedelta(days=3), [("day", "=", DAY + dt.timedelta(days=3))]),
    (
        pl.col("moment") > NOON + dt.timedelta(microseconds=7),
        [("moment", ">", NOON + dt.timedelta(microseconds=7))],
    ),
    (pl.col("local") <= NOON.replace(tzinfo=None), [("local", "<=", NOON.replace(tzinfo=None))]),
    (pl.col("price") > Decimal("3.25"), []),
    (pl.col("parts").list.len() == 2, []),
    (pl.col("id") > pl.col("small"), []),
)


@pytest.mark.parametrize("at", range(len(PREDICATES)))
def test_what_of_a_predicate_goes_to_the_server(at: int) -> None:
    """Only what is true for each row that Polars keeps; the filters of a lazy query, as it is planned."""
    predicate, expected = PREDICATES[at]
    seen: list[list[Any]] = []

    def source(_columns: Any, pushed: Any, _rows: Any, _size: Any) -> Any:
        seen.append([] if pushed is None else pushed_filters(pushed, TABLE.schema))
        yield frame if pushed is None else frame.filter(pushed)

    frame = pl.from_arrow(TABLE)
    assert isinstance(frame, pl.DataFrame)
    plugin = importlib.import_module("polars.io.plugins")
    found = plugin.register_io_source(source, schema=frame.schema).filter(predicate).collect()
    assert frame.filter(predicate).equals(found, null_equal=True)
    assert [expected] == [
        [(one.column, one.op) if one.value is None else (one.column, one.op, one.value) for one in filters]
        for filters in seen
    ]


async def test_a_lazy_frame_has_the_rows_of_the_table(call: Call) -> None:
    """For each predicate, alone, with columns, and before and after a number of rows."""
    frame = pl.from_arrow(TABLE)
    assert isinstance(frame, pl.DataFrame)

    def compare(client: StrataClient) -> None:
        lazy = client.scan_polars(URI)
        assert frame.schema == lazy.collect_schema()
        for predicate in [predicate for predicate, pushed in PREDICATES if pushed][::2]:
            found = lazy.filter(predicate).collect()
            assert frame.filter(predicate).equals(found.sort("id"), null_equal=True), str(predicate)
        assert ROWS == lazy.select(pl.len()).collect().item()
        assert frame.select("text", "id").equals(lazy.select("text", "id").collect().sort("id"))
        first = client.to_polars(URI, limit=5)
        assert first.equals(lazy.head(5).collect(), null_equal=True)
        after = lazy.head(5).filter(pl.col("id") > 2).collect()
        assert first.filter(pl.col("id") > 2).equals(after, null_equal=True)
        few = client.scan_polars(URI, limit=5)
        assert first.filter(pl.col("id") > 2).equals(few.filter(pl.col("id") > 2).collect(), null_equal=True)
        assert first.head(3).equals(few.head(3).collect(), null_equal=True)
        some = client.scan_polars(URI, columns=["id"], filters=[("id", ">", 3)])
        assert [4, 5] == sorted(some.filter(pl.col("id") < 6).collect()["id"])

    await call(compare)


async def test_columns_and_filters_are_asked_of_the_server(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all rows are sent, to be thrown away here."""
    asked: list[dict[str, Any]] = []
    real = StrataClient.fetch_batches

    def fetch_batches(client: StrataClient, inputs: Any, **options: Any) -> Any:
        asked.append(options)
        return real(client, inputs, **options)

    monkeypatch.setattr(StrataClient, "fetch_batches", fetch_batches)
    await call(lambda client: client.scan_polars(URI).filter(pl.col("id") == 7).select("text").collect())
    assert [["id", "text"]] == [sorted(one["columns"]) for one in asked]
    assert [("id", "=", 7)] == [(one.column, one.op, one.value) for one in asked[0]["filters"]]


async def test_a_reader_is_a_stream_for_each_library(call: Call) -> None:
    """pandas, Polars and DuckDB read it, once."""
    duckdb = importlib.import_module("duckdb")

    def read(client: StrataClient) -> None:
        options: dict[str, Any] = {"columns": ["id"], "filters": [("id", "<", 3)]}
        assert [0, 1, 2] == sorted(client.reader(URI, **options).read_pandas()["id"])
        assert [0, 1, 2] == sorted(pl.from_arrow(client.reader(URI, **options))["id"])
        flights = client.reader(URI, **options)
        assert [(3,)] == duckdb.sql("SELECT sum(id) FROM flights").fetchall()
        assert flights.schema.names == ["id"]

    await call(read)


async def test_a_url_is_read_without_this_client(call: Call) -> None:
    """By Python's own library and pyarrow, and by Polars; of what is finished only."""

    def read(client: StrataClient) -> None:
        made = client.materialize(URI, mode="artifact", columns=["id"], name="ids")
        client.wait(made.build_id or "")
        for source in (client.materialize(URI, columns=["id"]), made.artifact_uri, "strata://name/ids"):
            url = client.url(source)
            with urllib.request.urlopen(url) as answer:
                assert ROWS == pa.ipc.open_stream(answer).read_all().num_rows
            assert ROWS == pl.read_ipc_stream(url).height
        with pytest.raises(ValueError, match="not finished"):
            client.url(made)

    await call(read)


# Cut streams.

WHOLE_TABLE = pa.table({"id": pa.array(range(6), pa.int64()), "s": ["a", None, "c", "d", "e", "f"]})


def stream_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


WHOLE = stream_of(WHOLE_TABLE)


def by_pyarrow(data: bytes) -> int:
    return pa.ipc.open_stream(data).read_all().num_rows


def by_pandas(data: bytes) -> int:
    return len(pa.ipc.open_stream(data).read_pandas())


def by_polars(data: bytes) -> int:
    return pl.read_ipc_stream(io.BytesIO(data)).height


def by_duckdb(data: bytes) -> int:
    reader = pa.ipc.open_stream(data)  # noqa: F841  # the query names it
    return importlib.import_module("duckdb").sql("SELECT count(*) FROM reader").fetchall()[0][0]


def by_datafusion(data: bytes) -> int:
    context = importlib.import_module("datafusion").SessionContext()
    return context.from_arrow(pa.ipc.open_stream(data)).count()


def by_nanoarrow(data: bytes) -> int:
    nanoarrow = importlib.import_module("nanoarrow")
    return sum(len(chunk) for chunk in nanoarrow.ArrayStream.from_readable(data).iter_chunks())


def by_arro3(data: bytes) -> int:
    return importlib.import_module("arro3.io").read_ipc_stream(io.BytesIO(data)).read_all().num_rows


ENDS = (176, 464, 712, 960)
"""Bytes up to the ends of the schema and of the batches."""

READERS = {
    "pyarrow": by_pyarrow,
    "pandas": by_pandas,
    "Polars": by_polars,
    "DuckDB": by_duckdb,
}
OTHERS = {"DataFusion": by_datafusion, "nanoarrow": by_nanoarrow, "arro3": by_arro3}
"""Readers that only the nox session `readers` installs."""

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "client.md"


def outcome(reader: Callable[[bytes], int]) -> str:
    """Return at how many of the cuts a reader returns fewer rows than all, as the page says it."""
    silent = 0
    slow = reader in (by_duckdb, by_datafusion)
    near = {end + beside for end in ENDS for beside in range(-4, 5)}
    for end in [end for end in range(len(WHOLE)) if not slow or end % 16 == 0 or end in near]:
        try:
            rows = reader(WHOLE[:end])
        except Exception:  # noqa: BLE001  # each library has its own
            continue
        silent += rows < WHOLE_TABLE.num_rows
    assert WHOLE_TABLE.num_rows == reader(WHOLE)
    return str(silent)


def documented() -> dict[str, str]:
    """Return the page's table: library, and number of cuts that look like an end."""
    rows = re.findall(r"^\| ([\w.]+) [\d.]+ \| (\d+) of \d+ \|", PAGE.read_text(), re.MULTILINE)
    return dict(rows)


@pytest.mark.parametrize("name", READERS)
def test_what_libraries_make_of_a_cut_stream_is_as_the_page_says(name: str) -> None:
    """A stream of three batches, cut at each byte."""
    assert documented()[name] == outcome(READERS[name])


@pytest.mark.nightly
@pytest.mark.parametrize("name", OTHERS)
def test_what_other_libraries_make_of_a_cut_stream_is_as_the_page_says(name: str) -> None:
    """In the nox session `readers`, which installs them; elsewhere there is nothing to test."""
    module = {"arro3": "arro3.io"}.get(name, name.lower())
    if find_spec(module.partition(".")[0]) is not None:
        assert documented()[name] == outcome(OTHERS[name])


def answering(body: bytes) -> httpx.MockTransport:
    """Return a server whose result is ``body``, with a receipt of the whole."""
    digest = hashlib.sha256(WHOLE).hexdigest()
    receipt = json.dumps({"rows": 6, "bytes": len(WHOLE), "sha256": digest}).encode()
    kind = {"Content-Type": "application/vnd.apache.arrow.stream", "X-Strata-Receipt": "/receipt"}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/receipt":
            return httpx.Response(200, content=receipt)
        return httpx.Response(200, content=body, headers=kind)

    return httpx.MockTransport(answer)


def read_pandas(reader: pa.RecordBatchReader) -> None:
    reader.read_pandas()


def read_polars(reader: pa.RecordBatchReader) -> None:
    pl.from_arrow(reader)


def read_duckdb(reader: pa.RecordBatchReader) -> None:  # the query names it
    importlib.import_module("duckdb").sql("SELECT sum(id) FROM reader").fetchall()


@pytest.mark.parametrize("read", [read_pandas, read_polars, read_duckdb])
def test_through_this_client_a_cut_stream_is_an_error_in_each_library(read: Callable[..., None]) -> None:
    """At each end of a message, where the libraries themselves see nothing, and beside it."""
    ends = [end + beside for end in ENDS for beside in (-8, -3, 0, 3)]
    for end in ends:
        with (
            StrataClient("http://s.test", transport=answering(WHOLE[:end])) as client,
            pytest.raises(Exception, match="end-of-stream marker"),
        ):
            read(client.reader("wh:db.t"))
    shorter = stream_of(WHOLE_TABLE.slice(0, 4))
    with (
        StrataClient("http://s.test", transport=answering(shorter)) as client,
        pytest.raises(Exception, match="not what its receipt says"),
    ):
        read(client.reader("wh:db.t"))
    with StrataClient("http://s.test", transport=answering(WHOLE)) as client:
        read(client.reader("wh:db.t"))


def test_through_this_client_a_lazy_frame_of_a_cut_stream_is_an_error() -> None:
    """Also where Polars has all the rows that it wants to have."""
    with StrataClient("http://s.test", transport=answering(WHOLE[:712])) as client:
        for method in ("fetch", "to_pandas", "to_polars", "to_duckdb", "head"):
            with pytest.raises(TruncatedStreamError):
                getattr(client, method)("wh:db.t")
