"""Checks of the demo's server, over real HTTP and against pyiceberg's own reader."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import duckdb
import httpx
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from strata.client import RetryPolicy, StrataClient, StrataError
from strata.client.answers import CacheStats
from strata.client.filters import FilterLike
from strata.demo import notebook
from strata.demo.dataset import ALIAS, TAG, DataSet
from strata.demo.errors import CheckFailedError, require

T = TypeVar("T")

FLIGHTS = f"{ALIAS}:nyc.flights"
INTERNAL = f"{ALIAS}:internal.delays"
TABLES = ("nyc.weather", "nyc.planes", "nyc.airports", "nyc.airlines")

_BLIZZARD: list[FilterLike] = [("month", "=", 2), ("day", "in", [8, 9]), ("dep_time", "is null")]
_PATIENCE = httpx.Timeout(10.0, read=30.0)
_KEPT_SECONDS = 10.0
_RETRY = RetryPolicy(attempts=5, total_seconds=15)


@attrs.frozen
class Beside:
    """Something to compare a time with: what gave the same rows, and its seconds."""

    what: str
    seconds: float


PYICEBERG = "pyiceberg in this process"


@attrs.frozen
class Check:
    """Result of one check.

    Attributes:
        name: What the server should do.
        passed: Whether it did.
        detail: What was observed.
        seconds: Measured times by what was timed.
        beside: For each of them, what else gives the same rows, and its time on the same machine.
    """

    name: str
    passed: bool
    detail: str
    seconds: Mapping[str, float] = attrs.field(factory=dict)
    beside: Mapping[str, Beside] = attrs.field(factory=dict)


@attrs.define
class _Bench:
    """Clients and catalog of one check, and its measured times."""

    user: StrataClient
    admin: StrataClient
    other: StrataClient
    anonymous: StrataClient
    catalog: SqlCatalog
    seconds: dict[str, float] = attrs.field(factory=dict)
    beside: dict[str, Beside] = attrs.field(factory=dict)

    def compared(self, times: Sequence[str], call: Callable[[], T], who: str = PYICEBERG) -> T:
        """Return the rows that another reader gives, with its time beside those named."""
        begun = time.perf_counter()
        result = call()
        self.beside |= dict.fromkeys(times, Beside(who, time.perf_counter() - begun))
        return result

    def timed(self, what: str, call: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = call()
        self.seconds[what] = time.perf_counter() - begun
        return result

    def table(self, identifier: str) -> Table:
        return self.catalog.load_table(identifier)

    def rows(self, identifier: str, **scan: Any) -> pa.Table:
        # The types of to_arrow() depend on the files' contents; those of the batch reader are the table's.
        return self.table(identifier).scan(**scan).to_arrow_batch_reader().read_all()


def run_checks(
    data: DataSet,
    *,
    user_url: str,
    admin_url: str,
    url: str,
    other_headers: Mapping[str, str],
    announce: Callable[[str], None],
) -> Iterator[Check]:
    """Check the running server; blocking, so not for the server's own thread.

    Args:
        data: The tables that the server serves.
        user_url: Address of the port with the identity ``demo-user``.
        admin_url: Address of the port with the identity ``demo-admin``.
        url: Address of the server itself.
        other_headers: Identity headers of a user of a second tenant.
        announce: Called with the name of each check before it begins.

    Yields:
        The result of each check.
    """

    def client(address: str, headers: Mapping[str, str] | None = None) -> StrataClient:
        # An explicit transport: a proxy of the environment must not be used for 127.0.0.1.
        transport = httpx.HTTPTransport()
        return StrataClient(address, headers=headers, timeout=_PATIENCE, retry=_RETRY, transport=transport)

    with (
        client(user_url) as user,
        client(admin_url) as admin,
        client(url, other_headers) as other,
        client(url) as anonymous,
        data.catalog() as catalog,
    ):
        for check in _CHECKS:
            name = (check.__doc__ or "").rstrip(".")
            announce(name)
            bench = _Bench(user, admin, other, anonymous, catalog)
            try:
                passed, detail = True, check(bench)
            except Exception as error:  # noqa: BLE001 - any failure is the result of this check
                text = str(error) if isinstance(error, (CheckFailedError, StrataError)) else repr(error)
                passed, detail = False, text
            yield Check(name, passed, detail, bench.seconds, bench.beside)


def _exact_cold(bench: _Bench) -> str:
    """A cold scan returns exactly the table's rows."""
    bench.admin.clear_cache()
    found = bench.timed("cold scan", lambda: bench.user.fetch(FLIGHTS, refresh=True))
    expected = bench.compared(["cold scan"], lambda: bench.rows("nyc.flights"))
    _same_rows(expected, found)
    return f"{_count(found)}, {_size(found)}, equal to pyiceberg's"


def _kept(bench: _Bench) -> CacheStats:
    """Wait until the cold scan's segments are cached, which is shortly after its result is complete."""
    deadline = time.monotonic() + _KEPT_SECONDS
    while not (found := bench.admin.cache_stats()).segments and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _exact_cached(bench: _Bench) -> str:
    """A cached scan and the finished result return the same rows."""
    expected = bench.compared(["cached scan", "finished result"], lambda: bench.rows("nyc.flights"))
    before = _kept(bench)
    found = bench.timed("cached scan", lambda: bench.user.fetch(FLIGHTS, refresh=True))
    _same_rows(expected, found)
    columns = ["carrier", "origin", "dest", "distance"]
    narrow = bench.timed("fewer columns, cached", lambda: bench.user.fetch(FLIGHTS, columns=columns))
    fields = tuple(columns)
    narrow_expected = bench.compared(
        ["fewer columns, cached"], lambda: bench.rows("nyc.flights", selected_fields=fields)
    )
    _same_rows(narrow_expected.select(columns), narrow)
    after = bench.admin.cache_stats()
    require(after.hits > before.hits, "the cache was not used")
    require(after.misses == before.misses, "cached data was read again")
    where = bench.user.materialize(FLIGHTS)
    require(where.hit, "an existing result was not found")
    again = bench.timed("finished result", lambda: bench.user.read(where))
    _same_rows(expected, again)
    return f"{_count(found)} from {after.hits - before.hits} reads of the cache; the finished result again"


def _exact_filtered(bench: _Bench) -> str:
    """Filters with typed values are exact to the row, and columns are in request order."""
    since = dt.datetime(2013, 7, 4, 9, tzinfo=dt.UTC)
    columns = ["carrier_name", "tailnum", "time_hour", "dep_delay"]
    found = bench.timed(
        "filtered scan",
        lambda: bench.user.fetch(
            FLIGHTS,
            columns=columns,
            filters=[
                ("time_hour", ">=", since),
                ("carrier", "in", ["UA", "B6"]),
                ("dep_delay", ">", 60),
                ("tailnum", "is not null"),
            ],
        ),
    )
    where = (
        f"time_hour >= '{since.isoformat()}' and carrier in ('UA', 'B6') "
        "and dep_delay > 60 and tailnum is not null"
    )
    expected = bench.compared(
        ["filtered scan"],
        lambda: bench.rows("nyc.flights", row_filter=where, selected_fields=tuple(columns)),
    )
    _same_rows(expected.select(columns), found)  # pyiceberg answers in the table's order
    require(found.num_rows > 0, "the filter found nothing")
    return f"{_count(found)} of flights since 4 July, over an hour late"


def _exact_others(bench: _Bench) -> str:
    """Every other table is exact, with rewritten files and renamed columns."""
    rows = 0
    for identifier in TABLES:
        found = bench.user.fetch(f"{ALIAS}:{identifier}")
        _same_rows(bench.rows(identifier), found)
        rows += found.num_rows
    return f"{rows:,} rows of {', '.join(TABLES)}"


def _deleted(bench: _Bench) -> str:
    """Rows deleted by position are gone, and still readable in an older snapshot."""
    table = bench.table("nyc.flights")
    snapshots = sorted(table.snapshots(), key=lambda snapshot: snapshot.sequence_number or 0)
    now = bench.user.fetch(FLIGHTS, filters=_BLIZZARD)
    before = bench.user.fetch(FLIGHTS, filters=_BLIZZARD, snapshot_id=snapshots[-2].snapshot_id)
    require(now.num_rows == 0, f"{now.num_rows} deleted rows came back")
    require(before.num_rows > 0, "the rows are missing before they were deleted")
    return f"{before.num_rows} flights cancelled by the blizzard: in the snapshot before, not in the last"


def _time_travel(bench: _Bench) -> str:
    """A tag, its snapshot and its time read the same rows, with the schema of that time."""
    table = bench.table("nyc.flights")
    snapshot = table.snapshot_by_name(TAG)
    assert snapshot is not None
    moment = dt.datetime.fromtimestamp(snapshot.timestamp_ms / 1000, dt.UTC)
    expected = bench.compared(
        ["time travel"], lambda: bench.rows("nyc.flights", snapshot_id=snapshot.snapshot_id)
    )
    found = bench.timed("time travel", lambda: bench.user.fetch(FLIGHTS, ref=TAG))
    _same_rows(expected, found)
    _same_rows(expected, bench.user.fetch(FLIGHTS, snapshot_id=snapshot.snapshot_id))
    _same_rows(expected, bench.user.fetch(FLIGHTS, as_of=moment))
    require("carrier_name" not in found.column_names, "a column added later is in an older snapshot")
    return f"{_count(found)} at the tag {TAG}"


_JOIN = """
SELECT a.name, p.manufacturer, count(*) AS flights, avg(f.distance) AS distance
FROM flights f JOIN airlines a USING (carrier) JOIN planes p USING (tailnum)
GROUP BY ALL ORDER BY ALL
"""


def _joined(bench: _Bench) -> str:
    """A SQL query joins three tables, and a second one queries its result."""
    tables = {name: f"{ALIAS}:nyc.{name}" for name in ("flights", "airlines", "planes")}

    def join(name: str) -> pa.Table:
        return bench.user.sql(
            _JOIN, flights=FLIGHTS, airlines=tables["airlines"], planes=tables["planes"], name=name
        ).table

    found = bench.timed("join of three tables", partial(join, "flights_by_maker"))

    def in_process() -> pa.Table:
        with duckdb.connect() as connection:
            for name in tables:
                connection.register(name, bench.rows(f"nyc.{name}"))
            return connection.sql(_JOIN).to_arrow_table()

    who = "pyiceberg and DuckDB in this process"
    expected = bench.compared(["join of three tables"], in_process, who)
    _same_rows(expected, found.replace_schema_metadata(None))
    top = bench.user.sql("SELECT sum(flights) AS n FROM made", made="strata://name/flights_by_maker").table
    require(top["n"].to_pylist() == [sum(expected["flights"].to_pylist())], "the chain has another sum")
    return f"{_count(found)}, equal to DuckDB on pyiceberg's rows; a query of the result adds up"


def _failing(bench: _Bench) -> str:
    """A fault in a query is shown with its place, and what is not registered is refused."""
    refused = _refusal(lambda: bench.user.sql("SELECT carier FROM flights", flights=FLIGHTS), 400)
    lines = (refused.detail or "").splitlines()
    require(any(line.strip() == "^" for line in lines), "the error has no caret")
    body = {"inputs": [FLIGHTS], "transform": {"executor": "python@v1", "params": {}}}
    transport = httpx.HTTPTransport()
    with httpx.Client(base_url=bench.user.base_url, timeout=_PATIENCE, transport=transport) as client:
        answer = client.post("/v1/materialize", json=body)
    require(answer.status_code == httpx.codes.FORBIDDEN, "an unregistered transform was not refused")
    return "\n".join([*lines, f"python@v1: 403 {answer.json()['error']}"])


def _denied(bench: _Bench) -> str:
    """A table denied to demo-user looks like a missing one, and demo-admin reads it."""
    denied = _refusal(lambda: bench.user.fetch(INTERNAL), 404)
    missing = _refusal(lambda: bench.user.fetch(f"{ALIAS}:internal.nonesuch"), 404)
    same = (denied.detail, denied.title, denied.error) == (missing.detail, missing.title, missing.error)
    require(same, "a denied table and a missing one can be told apart")
    found = bench.admin.fetch(INTERNAL)
    _same_rows(bench.rows("internal.delays"), found)
    return f"demo-user: 404 {denied.detail!r}; demo-admin: {_count(found)}"


def _scopes(bench: _Bench) -> str:
    """Clearing the cache needs a scope, which cannot be forged through the proxy."""
    forged = {"X-Strata-Scopes": "admin:*", "x_strata_scopes": "admin:*", "X-Strata-Principal": "demo-admin"}
    transport = httpx.HTTPTransport()
    with StrataClient(bench.user.base_url, headers=forged, timeout=_PATIENCE, transport=transport) as forger:
        refused = _refusal(forger.clear_cache, 403)
    _refusal(bench.user.clear_cache, 403)
    bench.admin.clear_cache()
    left = bench.admin.cache_stats()
    require(left.segments == 0, f"{left.segments} segments are left in a cleared cache")
    return f"demo-user: 403 {refused.detail!r}; demo-admin: cleared"


def _unauthenticated(bench: _Bench) -> str:
    """Without the proxy's token every request is refused."""
    refused = _refusal(lambda: bench.anonymous.fetch(FLIGHTS), 401)
    return f"401 {refused.detail!r}"


def _isolated(bench: _Bench) -> str:
    """A second tenant sees none of the first tenant's results."""
    theirs = bench.user.materialize(FLIGHTS)
    require(theirs.hit, "the first tenant's own result is gone")
    require(not bench.other.artifacts().artifacts, "the second tenant lists the first one's artifacts")
    _refusal(lambda: bench.other.artifact(theirs.artifact_uri), 404)
    _refusal(lambda: bench.other.read(theirs), 404)
    require(not bench.other.explain(FLIGHTS).would_hit, "the second tenant hits the first one's result")
    own = bench.other.fetch(f"{ALIAS}:nyc.airlines")
    _same_rows(bench.rows("nyc.airlines"), own)
    listed = bench.other.artifacts().artifacts
    require(len(listed) == 1, f"the second tenant has {len(listed)} artifacts after one scan")
    return "other-team: 0 artifacts, 404 on demo-team's; then its own scan and its own artifact"


def _notebook(bench: _Bench) -> str:
    """A notebook runs in Python and SQL, and its members share one result."""
    return notebook.make_and_run(bench.user, bench.admin)


def _edited(bench: _Bench) -> str:
    """After an edit of a cell, cells are stale as far as values have changed, and no further."""
    return notebook.edit_and_run(bench.user)


_CHECKS = (
    _exact_cold,
    _exact_cached,
    _exact_filtered,
    _exact_others,
    _deleted,
    _time_travel,
    _joined,
    _failing,
    _denied,
    _isolated,
    _scopes,
    _unauthenticated,
    _notebook,
    _edited,
)
CHECK_COUNT = len(_CHECKS)


def _same_rows(expected: pa.Table, found: pa.Table) -> None:
    """Compare schemas, and rows as a multiset, since the order of rows is not specified."""
    require(expected.schema.equals(found.schema), f"other columns or types: {found.schema.names}")
    require(
        expected.num_rows == found.num_rows, f"{found.num_rows} rows, and {expected.num_rows} in the table"
    )
    if expected.equals(found):
        return
    keys = [(name, "ascending") for name in expected.column_names]
    require(expected.sort_by(keys).equals(found.sort_by(keys)), "other rows than the table's")


def _refusal(call: Callable[[], object], status: int) -> StrataError:
    try:
        call()
    except StrataError as error:
        require(error.status == status, f"{error.status} instead of {status}: {error.detail}")
        return error
    raise CheckFailedError(f"the request was answered instead of refused with {status}")


def _count(table: pa.Table) -> str:
    return f"{table.num_rows:,} rows, {table.num_columns} columns"


def _size(table: pa.Table) -> str:
    return f"{table.nbytes / 1e6:.0f} MB"
