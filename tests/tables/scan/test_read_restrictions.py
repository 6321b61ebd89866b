"""Read restrictions of a REST catalog: each expression and each action, and a refusal of all that is unknown."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa
import pytest
from pyiceberg.types import StringType
from rest_catalog import RestServer, rest_server

from strata.outcomes import Reason, Refused
from strata.tables import (
    Catalogs,
    CellGrants,
    Filter,
    Grant,
    LoadedTable,
    may_see,
    parse_scan_params,
    plan_files,
    read_alike,
    resolve_scan,
)

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("region", pa.string()),
        ("amount", pa.float64()),
        ("price", pa.decimal128(9, 2)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("raw", pa.binary()),
        ("who", pa.struct([("name", pa.string()), ("age", pa.int32())])),
        ("tags", pa.list_(pa.string())),
        ("flag", pa.bool_()),
    ]
)
IDS = {name: at for at, name in enumerate(SCHEMA.names, 1)}
NAME, AGE, TAG = 11, 12, 13
AT = dt.datetime(2024, 7, 15, 12, 30, tzinfo=dt.UTC)
ROWS = [
    {
        "id": 1,
        "region": "EU",
        "amount": 1.5,
        "price": Decimal("14.20"),
        "day": AT.date(),
        "at": AT,
        "raw": b"\x01\x02",
        "who": {"name": "prashant010696@gmail.com", "age": 30},
        "tags": ["a"],
        "flag": True,
    },
    {"id": 2, "region": "EU-west", "amount": math.nan, "who": {"name": None, "age": None}, "flag": False},
    {"id": 3, "region": "US", "amount": -2.0, "price": Decimal("1.00"), "who": None},
    {"id": 4, "region": None, "amount": None},
]


@pytest.fixture
def rest(warehouse) -> Iterator[RestServer]:
    warehouse.create(SCHEMA)
    warehouse.append([dict.fromkeys(SCHEMA.names) | row for row in ROWS])
    with rest_server(warehouse.catalog) as server:
        yield server


@pytest.fixture
def ours(rest: RestServer) -> Iterator[Catalogs]:
    properties = {"prod": {"type": "rest", "uri": rest.uri}}
    catalogs = Catalogs(warehouses={}, catalogs=properties, any_file_warehouse=False, secret=b"s" * 32)
    yield catalogs
    catalogs.close()


@pytest.fixture
def read(warehouse, rest, ours):
    """Return a function that scans under restrictions; it returns the rows, or the refusal."""

    def scan(condition=None, actions=None, *, grants=None, **params):
        found = {"required-row-filter": condition, "required-column-projections": actions}
        rest.more = {"read-restrictions": found}
        table = ours.load(ours.resolve("prod:db.t"))
        assert isinstance(table, LoadedTable), table
        resolved = resolve_scan(table, parse_scan_params(params), grants)
        return resolved if isinstance(resolved, Refused) else warehouse.run(plan_files(resolved))

    return scan


def ids(found):
    assert isinstance(found, pa.Table), found
    return sorted(found["id"].to_pylist())


def literal(kind, term, value):
    return {"type": kind, "term": term, "value": value}


def act(action, field_id):
    return {"action": action, "field-id": field_id}


EU = literal("eq", "region", "EU")
US = literal("eq", "region", "US")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (True, [1, 2, 3, 4]),
        (False, []),
        ({"type": "true"}, [1, 2, 3, 4]),
        ({"type": "false"}, []),
        ({"type": "literal", "value": False}, []),
        (EU, [1]),
        (literal("not-eq", "region", "EU"), [2, 3]),
        (literal("lt", "id", 2), [1]),
        (literal("lt-eq", "id", 2), [1, 2]),
        (literal("gt", "id", 3), [4]),
        (literal("gt-eq", "id", 3), [3, 4]),
        ({"type": "in", "term": "region", "values": ["EU", "US"]}, [1, 3]),
        ({"type": "not-in", "term": "region", "values": ["EU", "US"]}, [2]),
        (literal("starts-with", "region", "EU"), [1, 2]),
        (literal("not-starts-with", "region", "EU"), [3]),
        ({"type": "is-null", "term": "region"}, [4]),
        ({"type": "not-null", "term": "region"}, [1, 2, 3]),
        ({"type": "is-nan", "term": "amount"}, [2]),
        ({"type": "not-nan", "term": "amount"}, [1, 3]),
        ({"type": "and", "left": EU, "right": literal("eq", "id", 1)}, [1]),
        ({"type": "and", "left": EU, "right": US}, []),
        ({"type": "or", "left": EU, "right": US}, [1, 3]),
        ({"type": "or", "left": {"type": "and", "left": EU, "right": US}, "right": US}, [3]),
        ({"type": "or", "left": {"type": "false"}, "right": US}, [3]),
        ({"type": "or", "left": {"type": "true"}, "right": US}, [1, 2, 3, 4]),
        ({"type": "not", "child": EU}, [2, 3]),
        ({"type": "not", "child": {"type": "not", "child": EU}}, [1]),
        ({"type": "not", "child": {"type": "or", "left": EU, "right": US}}, [2]),
        ({"type": "not", "child": {"type": "and", "left": EU, "right": US}}, [1, 2, 3]),
        ({"type": "not", "child": {"type": "is-null", "child": "region"}}, [1, 2, 3]),
        ({"type": "not", "child": literal("starts-with", "region", "EU")}, [3]),
        ({"type": "not", "child": {"type": "in", "term": "region", "values": ["EU"]}}, [2, 3]),
        ({"type": "not", "child": True}, []),
        (literal("eq", {"type": "reference", "term": "region"}, "EU"), [1]),
        (literal("eq", {"type": "transform", "transform": "identity", "term": "region"}, "EU"), [1]),
        (
            {
                "type": "eq",
                "left": {"type": "reference", "id": IDS["region"]},
                "right": {"type": "literal", "value": "EU", "data-type": "string"},
            },
            [1],
        ),
        (
            {"type": "lt", "left": {"type": "literal", "value": 3}, "right": {"type": "reference", "id": 1}},
            [4],
        ),
        (literal("eq", "price", "14.20"), [1]),
        (literal("gt-eq", "day", "2024-07-15"), [1]),
        (literal("eq", "at", "2024-07-15T12:30:00.000000+00:00"), [1]),
        (literal("eq", "raw", "0102"), [1]),
        (literal("eq", "flag", value=False), [2]),
        (literal("eq", "who.age", 30), [1]),
    ],
)
def test_each_expression_keeps_the_rows_for_which_it_is_true(read, condition, expected):
    """A row for which it is false or unknown is left out, also under ``not`` (specification, rule 1)."""
    assert expected == ids(read(condition, columns=["id"]))
    assert expected == ids(read(condition)), "the filter's columns need not be projected"
    assert len(expected) == read(condition, columns=[]).num_rows


SECRET = "sec-ret-value"


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        (literal("similar-to", "region", SECRET), "the expression 'similar-to'"),
        ({"type": "and", "left": EU, "right": {"type": "xor"}}, "the expression 'xor'"),
        (literal("eq", {"type": "transform", "transform": "year", "term": "day"}, 4), "the term 'year'"),
        (literal("eq", {"type": "apply", "term": "day"}, 4), "the term 'apply'"),
        (literal("eq", SECRET, 1), "a column that the table does not have"),
        (literal("eq", {"type": "reference", "id": 999}, 1), "a column that the table does not have"),
        (literal("eq", "tags.element", SECRET), "inside a list or map"),
        (literal("eq", "tags", SECRET), "a column of this type"),
        (literal("eq", "id", SECRET), "a value of another type"),
        (literal("eq", "id", None), "a value of another type"),
        (literal("eq", "raw", "zz"), "a value of another type"),
        (literal("starts-with", "id", 1), "'starts-with' for a column of this type"),
        ({"type": "is-nan", "term": "region"}, "'is-nan' for a column of this type"),
        ({"type": "eq", "term": "region", "value": "x", "collation": "de"}, "'eq' in an unknown form"),
        ({"type": "eq", "left": "region", "right": {"type": "reference", "id": 2}}, "other than a value"),
        ({"type": "not", "child": EU, "term": 1}, "not in an unknown form"),
        ({"type": "true", "unless": 1}, "'true' in an unknown form"),
        ({}, "a filter of an unknown form"),
        ("region = 'EU'", "a filter of an unknown form"),
        ({"type": SECRET.upper()}, "an expression"),
    ],
)
def test_a_filter_that_is_not_known_is_refused_by_name_and_without_its_values(read, condition, named):
    """Fewer or more rows than the catalog means would be wrong; its values are not for the caller."""
    refused = read(condition, columns=["id"])
    assert isinstance(refused, Refused), refused
    assert (Reason.UNSUPPORTED, "unsupported_read_restriction") == (refused.reason, refused.code)
    assert named in refused.detail or named == "an expression"
    assert SECRET not in refused.detail.lower()


def test_a_filter_of_any_size_is_bounded(read):
    """Its normal form may be exponentially larger than itself, and its nesting deeper than the stack."""
    pair = {"type": "and", "left": EU, "right": {"type": "and", "left": US, "right": US}}
    wide = pair
    for _ in range(12):
        wide = {"type": "and", "left": {"type": "or", "left": wide, "right": EU}, "right": pair}
    deep = EU
    for _ in range(200):
        deep = {"type": "not", "child": deep}
    for condition in ({"type": "or", "left": wide, "right": US}, deep):
        refused = read(condition)
        assert isinstance(refused, Refused)
        assert Reason.UNSUPPORTED is refused.reason


def test_an_older_snapshot_without_the_filters_column_is_read_as_it_has_nulls(warehouse, read):
    """The column's default there is null, for which a comparison is unknown."""
    first = warehouse.table().current_snapshot().snapshot_id
    with warehouse.table().update_schema() as change:
        change.add_column("level", StringType())
    assert [] == ids(read(literal("eq", "level", "x"), columns=["id"], snapshot_id=first))
    assert [] == ids(read(literal("not-eq", "level", "x"), columns=["id"], snapshot_id=first))
    assert [1, 2, 3, 4] == ids(read({"type": "is-null", "term": "level"}, columns=["id"], snapshot_id=first))


@pytest.mark.parametrize(
    ("action", "column", "expected"),
    [
        ("mask-alphanum", "region", ["xx", "xx-xxxx", "xx", None]),
        ("mask-to-fixed-value", "region", ["XXXXXXXX"] * 4),
        ("mask-to-fixed-value", "id", [0] * 4),
        ("mask-to-fixed-value", "amount", [0.0] * 4),
        ("mask-to-fixed-value", "price", [Decimal("0.00")] * 4),
        ("mask-to-fixed-value", "day", [dt.date(1970, 1, 1)] * 4),
        ("mask-to-fixed-value", "at", [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)] * 4),
        ("mask-to-fixed-value", "raw", [b""] * 4),
        ("mask-to-fixed-value", "flag", [False] * 4),
        ("mask-to-fixed-value", "tags", [[]] * 4),
        ("mask-to-fixed-value", "who", [{"name": "XXXXXXXX", "age": 0}] * 4),
        ("replace-with-null", "region", [None] * 4),
        ("replace-with-null", "who", [None] * 4),
        ("show-first-4", "region", ["EU", "EU-wxxx", "US", None]),
        ("show-last-4", "region", ["EU", "xx-west", "US", None]),
        ("truncate-to-year", "day", [dt.date(2024, 1, 1), None, None, None]),
        ("truncate-to-year", "at", [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None, None, None]),
        ("truncate-to-month", "day", [dt.date(2024, 7, 1), None, None, None]),
        ("truncate-to-month", "at", [dt.datetime(2024, 7, 1, tzinfo=dt.UTC), None, None, None]),
        (
            "sha-256-global",
            "region",
            [hashlib.sha256(text).hexdigest() for text in (b"EU", b"EU-west", b"US")] + [None],
        ),
        ("sha-256-global", "raw", [hashlib.sha256(b"\x01\x02").digest(), None, None, None]),
    ],
)
def test_each_action_masks_its_column_and_no_other(read, action, column, expected):
    """The values are the specification's; the type stays, and so does the column beside it."""
    plain = read(columns=[column, "flag"] if column != "flag" else ["id", "flag"])
    found = read(actions=[act(action, IDS[column])], columns=plain.column_names)
    assert expected == found[column].to_pylist()
    assert plain.schema == found.schema
    other = next(name for name in plain.column_names if name != column)
    assert plain[other].to_pylist() == found[other].to_pylist()
    assert expected == read(actions=[act(action, IDS[column])])[column].to_pylist()


def test_integers_are_hashed_in_their_own_width(read):
    """Little-endian, and read back as a signed number of the same width."""
    found = read(actions=[act("sha-256-global", IDS["id"]), act("sha-256-global", AGE)])
    digest = hashlib.sha256((1).to_bytes(8, "little")).digest()
    assert int.from_bytes(digest[:8], "little", signed=True) == found["id"][0].as_py()
    digest = hashlib.sha256((30).to_bytes(4, "little")).digest()
    age = int.from_bytes(digest[:4], "little", signed=True)
    assert age == found["who"][0].as_py()["age"]


def test_a_field_of_a_struct_is_masked_and_its_neighbours_are_not(read):
    """A null struct stays null."""
    found = read(actions=[act("mask-alphanum", NAME)], columns=["who"])["who"].to_pylist()
    assert [
        {"name": "xxxxxxxxnnnnnn@xxxxx.xxx", "age": 30},
        {"name": None, "age": None},
        None,
        None,
    ] == found
    assert ["xxxxxxxxnnnnnn@xxxxx.xxx"] == [
        row["who"]["name"]
        for row in read(actions=[act("mask-alphanum", NAME)], columns=["who.name"]).to_pylist()[:1]
    ]


def test_hashes_of_two_queries_have_nothing_in_common(read, ours, rest):
    """The salt is the query's: equal values have equal hashes within it, and its version tells it apart."""
    action = [act("sha-256-query-local", IDS["region"])]
    first, second = (read(actions=action)["region"].to_pylist() for _ in range(2))
    assert 3 == len(set(first) - {None})
    assert set(first) & set(second) == {None}
    table = ours.load(ours.resolve("prod:db.t"))
    one, other = (resolve_scan(table, parse_scan_params({"columns": columns})) for columns in (["id"], []))
    assert one.version != other.version
    assert read_alike(one.version, table.restrictions.digest)
    assert one.masking.salt.hex() not in one.version


@pytest.mark.parametrize(
    ("actions", "named"),
    [
        ([act("blur", 2)], "the action 'blur'"),
        ([act("apply-expression", 2)], "the action 'apply-expression'"),
        ([{"action": "replace-with-null"}], "'replace-with-null' in an unknown form"),
        ([act("replace-with-null", 2) | {"unless": 1}], "'replace-with-null' in an unknown form"),
        ([act("replace-with-null", 2), act("show-last-4", 2)], "two actions for one column"),
        ([act("replace-with-null", IDS["id"])], "for a required column"),
        ([act("mask-alphanum", IDS["id"])], "for a column of another type"),
        ([act("truncate-to-year", IDS["region"])], "for a column of another type"),
        ([act("sha-256-global", IDS["amount"])], "for a column of another type"),
        ([act("mask-to-fixed-value", IDS["who"]), act("mask-alphanum", NAME)], "inside another one"),
        ([act("mask-alphanum", TAG)], "inside a list or map"),
        ([act("replace-with-null", 999)], "a column that the table does not have"),
        (["replace-with-null"], "the action of an unknown form"),
        ("replace-with-null", "of an unknown form"),
    ],
)
def test_an_action_that_cannot_be_applied_is_refused_by_name(read, actions, named):
    """Also where its column is not asked for: the reader must fail, not skip it (specification, rule 5)."""
    refused = read(actions=actions, columns=["flag"])
    assert isinstance(refused, Refused), refused
    assert (Reason.UNSUPPORTED, "unsupported_read_restriction") == (refused.reason, refused.code)
    assert named in refused.detail


def test_an_unknown_kind_of_restriction_is_refused(read, rest, ours):
    """A later version of the specification may restrict in other ways."""
    read()
    for found in ({"required-row-sample": 0.1}, [1], "none", 7):
        rest.more = {"read-restrictions": found}
        refused = resolve_scan(ours.load(ours.resolve("prod:db.t")), parse_scan_params({}))
        assert isinstance(refused, Refused), found
        assert Reason.UNSUPPORTED is refused.reason


@pytest.mark.parametrize("found", [None, {}, {"required-column-projections": []}])
def test_empty_restrictions_are_none(rest, ours, found):
    """Nothing is hidden, and the version is that of an unrestricted table."""
    rest.more = {} if found is None else {"read-restrictions": found}
    table = ours.load(ours.resolve("prod:db.t"))
    assert table.restrictions is None
    scan = resolve_scan(table, parse_scan_params({}))
    assert not scan.restricted
    assert read_alike(scan.version, None)


def test_a_callers_filter_on_a_masked_column_tests_what_the_caller_may_see(read):
    """Otherwise trying values would reveal the hidden ones; the catalog's filter tests the values as they are."""
    masked = [act("mask-alphanum", IDS["region"])]

    def where(op, value=None, condition=None):
        one = {"column": "region", "op": op} | ({} if value is None else {"value": value})
        return ids(read(condition, masked, columns=["id"], filters=[one]))

    assert [] == where("=", "EU")
    assert [1, 3] == where("=", "xx")
    assert [1] == where("=", "xx", condition=EU)
    assert [4] == where("is null")
    nulled = [act("replace-with-null", IDS["who"])]
    one = {"column": "who.age", "op": "=", "value": 30}
    assert [] == ids(read(actions=nulled, columns=["id"], filters=[one]))


def test_a_filter_on_a_masked_column_rules_out_no_file(warehouse, rest, ours):
    """How many files are read would tell which hidden values there are."""
    rest.more = {"read-restrictions": {"required-column-projections": [act("mask-alphanum", IDS["region"])]}}
    table = ours.load(ours.resolve("prod:db.t"))
    params = {"filters": [{"column": "region", "op": "=", "value": "nowhere"}]}
    plan = plan_files(resolve_scan(table, parse_scan_params(params)))
    assert (1, None) == (len(plan.files), plan.exact_rows)
    assert not plan.passthrough


def test_the_operators_own_rules_and_the_catalogs_restrictions_hold_together(read, ours):
    """Rows must satisfy both; a result is read again only under the same ones."""
    grants = CellGrants((Grant(None, (Filter("id", "<=", 2),)),), b"secret")
    condition = literal("starts-with", "region", "EU")
    masked = [act("show-last-4", IDS["region"])]
    assert ["EU", "xx-west"] == read(condition, masked, grants=grants)["region"].to_pylist()
    assert [1] == ids(read(EU, masked, grants=grants, columns=["id"]))
    table = ours.load(ours.resolve("prod:db.t"))
    scan = resolve_scan(table, parse_scan_params({}), grants)
    assert may_see(scan.version, grants, table.metadata, table.ref.resource)
    assert read_alike(scan.version, table.restrictions.digest)
    assert not read_alike(scan.version, None)
    assert not read_alike(scan.version, "0" * 16)


def test_a_digest_tells_nothing_of_the_restrictions_without_the_secret(rest, ours):
    """It differs by table, by restriction and by secret; the representation has none of their words."""
    rest.more = {"read-restrictions": {"required-row-filter": EU}}
    table = ours.load(ours.resolve("prod:db.t"))
    other = Catalogs(
        warehouses={}, catalogs={"prod": {"type": "rest", "uri": rest.uri}}, any_file_warehouse=False
    )
    assert table.restrictions.digest != other.load(table.ref).restrictions.digest
    assert "EU" not in repr(table)
    rest.more = {"read-restrictions": {"required-row-filter": US}}
    assert table.restrictions.digest != ours.load(table.ref).restrictions.digest
    other.close()
