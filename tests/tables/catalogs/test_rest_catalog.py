"""Tables of a REST catalog over a real connection: exact rows, opened with the operator's properties only."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from rest_catalog import RestServer, rest_server

from strata.outcomes import Reason, Refused
from strata.tables import Catalogs, LoadedTable, TableRef, parse_scan_params, plan_files, resolve_scan
from strata.tables.files.confined import LocalFileIO

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
REF = TableRef("prod", ("db",), "t")
TOKEN = "secret-token"


@pytest.fixture
def rest(warehouse) -> Iterator[RestServer]:
    with rest_server(warehouse.catalog) as server:
        yield server


@pytest.fixture
def ours(rest: RestServer) -> Iterator[Catalogs]:
    properties = {"type": "rest", "uri": rest.uri, "token": TOKEN, "s3.region": "the-operators"}
    catalogs = Catalogs(warehouses={}, catalogs={"prod": properties}, any_file_warehouse=False)
    yield catalogs
    catalogs.close()


def scanned(warehouse, ours: Catalogs, params: dict) -> pa.Table:
    table = ours.load(ours.resolve("prod:db.t"))
    assert isinstance(table, LoadedTable), table
    spec = parse_scan_params(params)
    assert not isinstance(spec, Refused), spec
    scan = resolve_scan(table, spec)
    assert not isinstance(scan, Refused), scan
    plan = plan_files(scan)
    assert not isinstance(plan, Refused), plan
    rows = warehouse.run(plan)
    assert isinstance(rows, pa.Table), rows
    return rows


def test_a_scan_through_a_rest_catalog_is_what_pyicebergs_own_client_reads(warehouse, rest, ours):
    """Rows are exact with filter, projection and deletes; a commit is noticed by the next load."""
    warehouse.create(SCHEMA, row_group=2)
    warehouse.append([{"id": number, "name": f"n{number}"} for number in range(7)])
    warehouse.delete_positions({warehouse.data_files()[0]: [3, 6]})
    theirs = load_catalog("prod", type="rest", uri=rest.uri).load_table("db.t")
    params = {"columns": ["name"], "filters": [{"column": "id", "op": ">", "value": 1}]}

    expected = theirs.scan(row_filter="id > 1", selected_fields=("name",)).to_arrow()
    assert ["n2", "n4", "n5"] == expected["name"].to_pylist()
    assert expected.to_pylist() == scanned(warehouse, ours, params).to_pylist()

    warehouse.append([{"id": 9, "name": "n9"}])
    assert ["n2", "n4", "n5", "n9"] == sorted(scanned(warehouse, ours, params)["name"].to_pylist())


def test_names_and_the_token_go_to_the_catalog(warehouse, rest, ours):
    """Namespaces are joined by the unit separator, and the token is a bearer token."""
    warehouse.catalog.create_namespace_if_not_exists(("a", "b"))
    warehouse.catalog.create_table(("a", "b", "t"), SCHEMA)
    assert isinstance(ours.load(ours.resolve("prod:a.b.t")), LoadedTable)
    assert ("/v1/namespaces/a%1Fb/tables/t", f"Bearer {TOKEN}") in rest.asked


@pytest.mark.parametrize("uri", ["prod:db.none", "prod:nowhere.t"])
def test_a_table_a_rest_catalog_does_not_have_is_refused_as_any_missing_table(rest, ours, uri):
    """The refusal is the same without the table, without its namespace, and without the catalog."""
    assert ours.resolve("nope:db.t") == ours.load(ours.resolve(uri))


def test_a_dropped_and_recreated_table_is_another_table(warehouse, ours):
    """Its UUID differs, so no result of the old table is found for it."""
    warehouse.create(SCHEMA)
    before = ours.load(REF)
    warehouse.catalog.drop_table("db.t")
    assert Reason.NOT_FOUND is ours.load(REF).reason
    warehouse.create(SCHEMA)
    assert before.uuid != ours.load(REF).uuid


def test_properties_of_a_table_choose_neither_the_file_system_class_nor_where_requests_go(
    warehouse, rest, ours
):
    """Its writers are not the operator; pyiceberg's own client would follow them."""
    warehouse.create(SCHEMA)
    rest.properties = {"py-io-impl": "this.Nothing", "s3.endpoint": "http://elsewhere", "s3.region": "x"}
    with pytest.raises(AttributeError, match="Nothing"):
        load_catalog("prod", type="rest", uri=rest.uri).load_table("db.t")

    table = ours.load(REF)
    assert isinstance(table, LoadedTable)
    assert isinstance(table.io, LocalFileIO)
    assert "s3.endpoint" not in table.io.properties
    assert "the-operators" == table.io.properties["s3.region"]
    assert "http://elsewhere" == table.metadata.properties["s3.endpoint"], "they stay the table's properties"


def test_what_the_catalog_vends_for_a_table_opens_its_files(warehouse, rest, ours):
    """Its configuration overrides the operator's; credentials of the longest prefix override both."""
    warehouse.create(SCHEMA)
    rest.config = {"s3.region": "vended", "s3.access-key-id": "config"}
    rest.credentials = [
        {"prefix": "file", "config": {"s3.access-key-id": "short"}},
        {"prefix": "file://", "config": {"s3.access-key-id": "longest"}},
        {"prefix": "s3://", "config": {"s3.access-key-id": "other"}},
    ]
    table = ours.load(REF)
    assert isinstance(table, LoadedTable)
    assert ("vended", "longest") == tuple(
        table.io.properties[key] for key in ("s3.region", "s3.access-key-id")
    )
    assert "longest" not in repr(table)


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_rest_catalog_that_refuses_is_unavailable_and_its_words_are_not_repeated(
    warehouse, rest, ours, status
):
    """The catalog's message may contain anything; the refusal names the alias only."""
    warehouse.create(SCHEMA)
    rest.status = status
    refused = ours.load(REF)
    assert isinstance(refused, Refused)
    assert Reason.UNAVAILABLE is refused.reason
    assert "The catalog prod is unavailable" == refused.detail
    assert "secret" not in repr(refused)


def test_a_rest_catalog_that_does_not_answer_is_given_up(warehouse, rest, ours, monkeypatch):
    """Otherwise a silent catalog would block the worker threads that all tenants share."""
    warehouse.create(SCHEMA)
    assert isinstance(ours.load(REF), LoadedTable)
    monkeypatch.setattr("strata.tables.catalogs.remote_catalogs.PATIENCE", (5.0, 0.05))
    fresh = Catalogs(warehouses={}, catalogs={"prod": {"uri": rest.uri}}, any_file_warehouse=False)
    rest.go.clear()
    refused = fresh.load(REF)
    assert isinstance(refused, Refused)
    assert Reason.UNAVAILABLE is refused.reason
    rest.go.set()
    monkeypatch.undo()
    fresh = Catalogs(warehouses={}, catalogs={"prod": {"uri": rest.uri}}, any_file_warehouse=False)
    assert isinstance(fresh.load(REF), LoadedTable)


@pytest.mark.parametrize("layer", ["defaults", "overrides", "config", "credentials"])
def test_an_answer_of_the_catalog_names_no_class_and_no_other_server(warehouse, rest, ours, layer):
    """Only credentials, the object store's settings and what addresses the catalog are taken from it."""
    warehouse.create(SCHEMA)
    given = {
        "py-io-impl": "this.Nothing",
        "auth": "x",
        "ssl": "x",
        "rest.sigv4-enabled": "true",
        "uri": "http://127.0.0.1:9",
        "s3.endpoint": "http://store.example",
        "s3.session-token": "vended",
    }
    if layer == "credentials":
        rest.credentials = [{"prefix": "file", "config": given}]
    else:
        setattr(rest, layer, given)
    table = ours.load(REF)

    assert isinstance(table, LoadedTable), table
    assert isinstance(table.io, LocalFileIO)
    opened = table.io.properties
    assert ("http://store.example", "vended") == (opened["s3.endpoint"], opened["s3.session-token"])
    assert {"py-io-impl", "ssl", "rest.sigv4-enabled"}.isdisjoint(opened)
    assert "x" != opened.get("auth")
    assert rest.uri == opened["uri"]


@pytest.mark.parametrize(("given", "kept"), [("/catalog", True), ("http://127.0.0.1:9", False)])
def test_a_catalogs_address_stays_on_its_server(warehouse, rest, ours, given, *, kept):
    """A path below the configured address may be named, another server would get the operator's token."""
    rest.overrides = {"uri": f"{rest.uri}{given}" if kept else given, "namespace-separator": "\x1f"}
    ours.load(REF)
    client = ours._catalog(REF)
    assert (rest.overrides["uri"] if kept else rest.uri) == client.uri


def test_a_table_that_the_catalog_forbids_is_refused_as_a_missing_one(warehouse, rest, ours):
    """No later request gets another answer, so it is not one to be repeated; the log names the table."""
    warehouse.create(SCHEMA)
    missing = ours.load(ours.resolve("prod:db.none"))
    rest.status = 403
    assert missing == ours.load(REF)


@pytest.mark.parametrize(
    ("status", "given", "expected"),
    [
        (429, "7", 7),
        (503, "7", 7),
        (503, "0", 1),
        (503, "999999", 3600),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", 1),
        (503, "soon", 5),
        (500, None, 5),
    ],
)
def test_the_time_a_catalog_asks_for_is_passed_on(warehouse, rest, ours, status, given, expected):  # noqa: PLR0917
    """Seconds and dates (RFC 9110, section 10.2.3), within bounds; 5 seconds where it names none."""
    warehouse.create(SCHEMA)
    rest.status, rest.headers = status, {} if given is None else {"Retry-After": given}
    refused = ours.load(REF)
    assert isinstance(refused, Refused)
    assert (Reason.UNAVAILABLE, expected) == (refused.reason, refused.retry_after)


@pytest.mark.parametrize(
    ("metadata", "config", "expected"),
    [
        ({"format-version": 4}, {}, (Reason.UNSUPPORTED, "it has format version 4")),
        ({"view-uuid": "x"}, {}, (Reason.UNSUPPORTED, "it is a view")),
        ({"schemas": 5}, {}, (Reason.DATA_UNREADABLE, "is missing or damaged")),
        ({}, {"scan-planning-mode": "server"}, (Reason.UNSUPPORTED, "demands to plan scans")),
    ],
)
def test_what_a_rest_catalogs_table_has_of_a_later_version_is_named(  # noqa: PLR0917
    warehouse, rest, ours, metadata, config, expected
):
    """Its metadata is read as a metadata file is, not by pyiceberg's own client."""
    warehouse.create(SCHEMA)
    rest.metadata, rest.config = metadata, config
    refused = ours.load(REF)
    assert isinstance(refused, Refused)
    assert expected[0] is refused.reason
    assert expected[1] in refused.detail


def test_statistics_that_only_other_engines_know_do_not_damage_a_rest_catalogs_table(warehouse, rest, ours):
    """They are dropped before pyiceberg's models see them, as those in a metadata file."""
    warehouse.create(SCHEMA)
    warehouse.append([{"id": 1, "name": "a"}])
    rest.metadata = {"statistics": [{"of": "tomorrow"}], "partition-statistics": 7}
    assert [1] == scanned(warehouse, ours, {"columns": ["id"]})["id"].to_pylist()
