"""Cell grants: every cell of every answer compared with the plainest evaluation of the grants."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import attrs
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType, StructType

from strata.outcomes import Reason, Refused
from strata.tables import (
    CellGrants,
    Filter,
    Grant,
    TableRef,
    may_see,
    parse_scan_params,
    plan_files,
    resolve_scan,
)
from strata.tables.scan.schema_index import SchemaIndex

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "region", StringType(), required=False),
    NestedField(3, "pay", LongType(), required=False),
    NestedField(
        4,
        "who",
        StructType(
            NestedField(5, "name", StringType(), required=False),
            NestedField(6, "mail", StringType(), required=False),
        ),
        required=False,
    ),
)
LEAVES = ("id", "region", "pay", "who.name", "who.mail", "kind")
FILTERS = (
    Filter("region", "=", "EU"),
    Filter("region", "!=", "EU"),
    Filter("region", "not in", ("EU", "US")),
    Filter("pay", ">", 30),
    Filter("kind", "=", "new"),
    Filter("kind", "!=", "new"),
    Filter("kind", "is null"),
    Filter("who.name", "in", ("n1", "n2", "n3")),
)


def rows_of(start: int, count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": at,
            "region": (None, "EU", "US", "AP")[at % 4],
            "pay": None if at % 7 == 0 else at,
            "who": {"name": f"n{at % 5}", "mail": f"m{at}"},
        }
        | more
        for at in range(start, start + count)
    ]


@pytest.fixture
def staff(warehouse):
    """Write two files, the first without the column ``kind``, and one deleted row."""
    warehouse.create(SCHEMA, row_group=10)
    warehouse.append(rows_of(0, 25))
    (first,) = warehouse.data_files()
    with warehouse.table().update_schema() as change:
        change.add_column("kind", StringType())
    warehouse.append(rows_of(25, 25, kind="new"))
    warehouse.delete_positions({first: [3]})
    return warehouse


def value(row: dict[str, Any], leaf: str) -> Any:
    for name in leaf.split("."):
        row = row[name]
    return row


def holds(condition: Filter, row: dict[str, Any]) -> bool:
    """Evaluate a rule's condition plainly: null satisfies no comparison."""
    have = value(row, condition.column)
    if condition.op == "is null":
        return have is None
    if have is None:
        return False
    return {
        "=": lambda: have == condition.value,
        "!=": lambda: have != condition.value,
        ">": lambda: have > condition.value,
        "in": lambda: have in condition.value,
        "not in": lambda: have not in condition.value,
    }[condition.op]()


def granted(visible: CellGrants, row: dict[str, Any], leaf: str) -> bool:
    return any(
        (grant.columns is None or leaf in grant.columns or leaf.partition(".")[0] in grant.columns)
        and all(holds(condition, row) for condition in grant.filters)
        for grant in visible.grants
    )


def draw_visible(draw: random.Random) -> CellGrants:
    grants = []
    for _ in range(draw.choice([1, 1, 2, 3])):
        names = draw.sample([*LEAVES, "who", "gone"], draw.randint(1, 4))
        columns = None if draw.random() < 0.3 else frozenset(names)
        grants.append(Grant(columns, tuple(draw.sample(FILTERS, draw.choice([0, 1, 1, 2])))))
    return CellGrants(tuple(grants))


def answer(staff, spec, visible):
    table = staff.catalogs.load(TableRef("wh", ("db",), "t"))
    scan = resolve_scan(table, spec, visible)
    return scan if isinstance(scan, Refused) else staff.run(plan_files(scan)).to_pylist()


@pytest.mark.parametrize("seed", range(6))
def test_no_cell_is_seen_that_is_not_granted_and_every_row_is_that_is(staff, seed: int) -> None:
    """Random grants against random projections and filters."""
    every = [row for row in (rows_of(25, 25, kind="new") + rows_of(0, 25, kind=None)) if row["id"] != 3]
    assert staff.rows({"columns": ["id"]}) == [{"id": row["id"]} for row in every]
    draw = random.Random(seed)
    refused = shown = 0
    for _ in range(40):
        visible = draw_visible(draw)
        columns = None if draw.random() < 0.3 else draw.sample(LEAVES, draw.randint(0, 3))
        filters = draw.sample(("id", "pay", "region"), draw.choice([0, 0, 1]))
        params: dict[str, Any] = {
            "columns": columns,
            "filters": [{"column": name, "op": "is not null"} for name in filters],
        }
        found = answer(staff, parse_scan_params(params), visible)
        anywhere = [
            leaf
            for leaf in LEAVES
            if any(
                grant.columns is None or leaf in grant.columns or leaf.partition(".")[0] in grant.columns
                for grant in visible.grants
            )
        ]
        used = [*(anywhere if columns is None else columns), *filters]
        if not set(used) <= set(anywhere):
            assert isinstance(found, Refused)
            assert Reason.BAD_REQUEST is found.reason
            assert found.detail.startswith("Bad scan parameter: unknown column ")
            refused += 1
            continue
        kept = [
            row
            for row in every
            if all(value(row, name) is not None for name in filters)
            and (
                all(granted(visible, row, leaf) for leaf in used)
                if used
                else any(granted(visible, row, leaf) for leaf in LEAVES)
            )
        ]
        leaves = anywhere if columns is None else columns
        if leaves:
            assert [[value(row, leaf) for leaf in leaves] for row in kept] == [
                [value(row, leaf) for leaf in leaves] for row in found
            ]
            names = {leaf.partition(".")[0] for leaf in leaves}
            assert all(names == set(row) for row in found)
            parts = {leaf.partition(".")[2] for leaf in leaves if leaf.startswith("who.")}
            assert all(parts == set(row["who"]) for row in found if parts)
        shown += bool(kept)
    assert refused
    assert shown


def test_a_hidden_column_is_the_same_as_none(staff) -> None:
    """The refusal is identical, in the projection and in a filter."""
    visible = CellGrants((Grant(frozenset({"id"})),))
    for place in (
        lambda name: {"columns": [name]},
        lambda name: {"filters": [{"column": name, "op": "is null"}]},
    ):
        hidden = answer(staff, parse_scan_params(place("pay")), visible)
        missing = answer(staff, parse_scan_params(place("day")), visible)
        assert isinstance(hidden, Refused)
        assert hidden.detail.replace("pay", "day") == missing.detail
        assert (hidden.reason, hidden.code, hidden.loc) == (missing.reason, missing.code, missing.loc)


def test_a_hidden_column_stays_hidden_under_the_name_it_had(staff) -> None:
    """Rules name columns of the current schema; older snapshots are read by field id."""
    old = staff.table().current_snapshot().snapshot_id
    with staff.table().update_schema() as change:
        change.rename_column("pay", "salary")
    with staff.table().update_schema() as change:
        change.add_column("pay", LongType())
    staff.append(rows_of(50, 1, kind="new"))
    visible = CellGrants((Grant(frozenset({"id", "pay"})),))
    at_that_time = answer(staff, parse_scan_params({"snapshot_id": old}), visible)
    assert {"id"} == set(at_that_time[0])
    refused = answer(staff, parse_scan_params({"snapshot_id": old, "columns": ["pay"]}), visible)
    assert isinstance(refused, Refused)
    assert {"id", "pay"} == set(answer(staff, parse_scan_params({}), visible)[0])


def test_a_rule_that_does_not_fit_the_table_grants_nothing(staff) -> None:
    """A condition on a missing column, or of another type, grants no row."""
    for condition in (Filter("gone", "=", 1), Filter("pay", "=", "much")):
        visible = CellGrants((Grant(None, (condition,)),))
        assert [] == answer(staff, parse_scan_params({}), visible)
        assert isinstance(answer(staff, parse_scan_params({"columns": ["id"]}), visible), Refused)


def test_a_result_is_read_by_those_who_would_get_the_same(staff) -> None:
    """Leaves used and clauses decide, not the principal that made the result."""
    table = staff.catalogs.load(TableRef("wh", ("db",), "t"))
    eu, us = (Filter("region", "=", where) for where in ("EU", "US"))
    mine = CellGrants((Grant(frozenset({"id", "pay"}), (eu,)),))

    def reads(made_by: CellGrants | None, reader: CellGrants, params: dict[str, Any]) -> bool:
        scan = resolve_scan(table, parse_scan_params(params), made_by)
        return may_see(scan.version, reader, table.metadata, table.ref.resource)

    few = {"columns": ["id"]}
    assert reads(mine, mine, few)
    assert reads(mine, CellGrants((*mine.grants, *mine.grants)), few)
    assert reads(
        mine, CellGrants((Grant(frozenset({"id"}), (eu,)), Grant(frozenset({"region"}), (us,)))), few
    )
    assert not reads(mine, CellGrants((Grant(frozenset({"id"}), (us,)),)), few)
    assert not reads(mine, CellGrants((Grant(frozenset({"id"}), (eu,)),)), {"columns": ["id", "pay"]})
    assert not reads(
        mine,
        CellGrants(
            (
                Grant(
                    frozenset({"id", "pay"}),
                ),
            )
        ),
        few,
    ), "it has more rows to see"
    assert not reads(None, mine, few), "made of all rows"
    assert not reads(mine, CellGrants(()), few)


def test_the_maker_of_a_result_reads_it_though_the_snapshot_lacks_a_rules_column(staff) -> None:
    """A past error: a result of an older snapshot was judged by the rules that fit the current schema."""
    old = staff.table().current_snapshot().snapshot_id
    with staff.table().update_schema() as change:
        change.add_column("level", LongType())
    table = staff.catalogs.load(TableRef("wh", ("db",), "t"))
    eu, level = Filter("region", "=", "EU"), Filter("level", "=", 1)
    mine = CellGrants((Grant(None, (eu,)), Grant(None, (level,))))
    for params in ({"columns": ["id"], "snapshot_id": old}, {"columns": ["id"]}):
        scan = resolve_scan(table, parse_scan_params(params), mine)
        assert may_see(scan.version, mine, table.metadata, table.ref.resource)
    assert not may_see(scan.version.replace(":2:", ":9:"), mine, table.metadata, table.ref.resource)


def test_a_condition_is_not_found_by_trying_values(staff) -> None:
    """The digests in a version need the store's secret: hashes of every guess, and another secret's, differ."""
    mapping = {"schema.name-mapping.default": '[{"field-id": 1, "names": ["pay"]}]'}
    with staff.table().transaction() as change:
        change.set_properties(mapping)
    table = staff.catalogs.load(TableRef("wh", ("db",), "t"))
    pay = Filter("pay", "<", 7)

    def version(secret: bytes) -> str:
        spec = parse_scan_params({"columns": ["id"]})
        fresh = attrs.evolve(table)  # which remembers no scan: a process has one secret
        return resolve_scan(fresh, spec, CellGrants((Grant(frozenset({"id"}), (pay,)),), secret)).version

    scan = resolve_scan(table, parse_scan_params({"filters": [{"column": "pay", "op": "<", "value": 7}]}))
    [one] = scan.predicates
    form = [[repr([(one.field_id, "<", repr(one.literals))])]]
    guesses = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in (repr(form), *mapping.values())]
    own, other = version(b"a" * 32), version(b"b" * 32)
    assert [len(part) for part in own.split(":")] == [len(part) for part in other.split(":")]
    assert own.split(":")[3] != other.split(":")[3]
    assert own.split("-")[-1] != other.split("-")[-1]
    assert not any(guess in text for guess in guesses for text in (own, other))
    assert repr(CellGrants((), b"secret")) == "CellGrants(grants=())"


def test_a_wide_table_under_column_grants_is_searched_once_and_not_for_every_filter(
    warehouse, monkeypatch
) -> None:
    """Three hundred filters on granted columns index the table's five hundred columns once, in one pass."""
    wide = Schema(*(NestedField(at, f"c{at}", LongType(), required=False) for at in range(1, 501)))
    warehouse.create(wide, "wide")
    visible = CellGrants((Grant(frozenset(f"c{at}" for at in range(1, 401))), Grant(frozenset({"c1"}))))
    made, entered = [], []
    real_schema, real_add = Schema.__init__, SchemaIndex._add

    def counted_schema(self: Schema, *rest: Any, **more: Any) -> None:
        made.append(self)
        real_schema(self, *rest, **more)

    def counted_add(self: SchemaIndex, *rest: Any) -> None:
        entered.append(rest)
        real_add(self, *rest)

    table = warehouse.catalogs.load(TableRef("wh", ("db",), "wide"))
    monkeypatch.setattr(Schema, "__init__", counted_schema)
    monkeypatch.setattr(SchemaIndex, "_add", counted_add)
    for limit in (1, 2):
        filters = [{"column": f"c{at}", "op": ">", "value": limit} for at in range(1, 301)]
        scan = resolve_scan(table, parse_scan_params({"filters": filters}), visible)
        assert 400 == len(scan.schema.fields)
    assert 500 == len(entered)
    assert len(made) <= 8
