"""Valid metadata with parts that are not supported: refused by name, and never called damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

from strata.outcomes import Reason, Refused

SCHEMA = Schema(NestedField(1, "id", LongType()), NestedField(2, "a", StringType()))
ROWS = [{"id": 1, "a": "x"}, {"id": 2, "a": "y"}]


@pytest.fixture
def edited(warehouse):
    """Return a function that rewrites the metadata of a new table of two rows by a change of its JSON."""

    def edit(change):
        warehouse.create(SCHEMA)
        warehouse.append(ROWS)
        path = Path(warehouse.table().metadata_location.removeprefix("file://"))
        metadata = json.loads(path.read_text())
        change(metadata)
        path.write_text(json.dumps(metadata))
        return warehouse

    return edit


def with_field(kind, **more):
    """Return a change to version 3 with a column ``v`` of this type, as another engine's commit."""

    def change(metadata):
        field = {"id": 9, "name": "v", "required": False, "type": kind, **more}
        metadata["schemas"][0]["fields"].append(field)
        metadata.update({"format-version": 3, "next-row-id": 9, "last-column-id": 9})

    return change


def refusal(warehouse, params, *words):
    refused = warehouse.try_scan(params)
    assert isinstance(refused, Refused), refused
    assert Reason.UNSUPPORTED is refused.reason
    for word in words:
        assert word in refused.detail
    assert "damaged" not in refused.detail


NANOS = "2024-02-29T01:02:03.000004005"
INSIDE = {"type": "struct", "fields": [{"id": 10, "name": "x", "required": False, "type": "variant"}]}
KINDS = {
    "variant": (with_field("variant"), "variant"),
    "of tomorrow": (with_field("interval(day)"), "interval(day)"),
    "nested, of tomorrow": (with_field({"type": "set", "of": "int"}), "set"),
    "geometry by Java": (with_field("geometry(srid:3857)"), "geometry(srid:3857)"),
    "inside a struct": (with_field(INSIDE), "variant"),
    "inside a list": (
        with_field({"type": "list", "element-id": 10, "element": "variant", "element-required": False}),
        "variant",
    ),
    "inside a map": (
        with_field(
            {
                "type": "map",
                "key-id": 10,
                "key": "string",
                "value-id": 11,
                "value": "variant",
                "value-required": False,
            }
        ),
        "variant",
    ),
    "a default of nanoseconds": (
        with_field("timestamp_ns", **{"initial-default": NANOS, "write-default": NANOS}),
        "timestamp_ns with a default",
    ),
    "a default of a struct": (
        with_field({"type": "struct", "fields": []}, **{"initial-default": {}}),
        "struct with a default",
    ),
}


@pytest.mark.parametrize("case", KINDS)
def test_a_column_that_cannot_be_read_costs_no_other_column(edited, case):
    """The refusal names it and its type; scans and filters of the other columns do not need it."""
    change, name = KINDS[case]
    warehouse = edited(change)
    refusal(warehouse, {}, "'v'", name)
    refusal(warehouse, {"columns": ["v"]}, "'v'", name)
    refusal(warehouse, {"columns": ["id"], "filters": [{"column": "v", "op": "is null"}]}, "'v'", name)
    assert ROWS == warehouse.rows({"columns": ["id", "a"]})
    assert [2] == warehouse.where("a", "=", "y")


def test_a_default_that_is_supported_stays(edited):
    """Only the default for files from before the column matters to a reader."""
    change = with_field("date", **{"initial-default": "2024-02-29", "write-default": {"of": "tomorrow"}})
    assert [1, 2] == edited(change).where("v", "=", "2024-02-29")


def test_a_transform_of_several_columns_prunes_nothing(edited):
    """Partition specs and sort orders of version 3 may have transforms of many columns ("source-ids")."""

    def change(metadata):
        field = {"source-ids": [1, 2], "field-id": 1000, "name": "p", "transform": "bucket[4]"}
        metadata.update({"format-version": 3, "next-row-id": 9})
        metadata["partition-specs"].append({"spec-id": 1, "fields": [field]})
        order = {"source-ids": [1, 2], "transform": "zorder", "direction": "asc", "null-order": "nulls-first"}
        metadata["sort-orders"].append({"order-id": 1, "fields": [order]})

    warehouse = edited(change)
    assert ROWS == warehouse.rows()
    assert [1] == warehouse.where("id", "=", 1)


def test_an_operation_of_a_later_version_does_not_matter(edited):
    """Which files a snapshot has does not depend on what its writer calls the commit."""
    assert ROWS == edited(lambda one: one["snapshots"][-1]["summary"].update(operation="compact")).rows()


def test_another_format_version_is_refused_by_its_number(edited):
    """A later version may give the same fields another meaning."""
    refusal(edited(lambda one: one.update({"format-version": 4})), {}, "format version 4")


def test_a_view_is_called_a_view(edited):
    """Catalogs list views beside tables."""

    def change(metadata):
        metadata.clear()
        metadata.update({"view-uuid": "fa6506c3-7681-40c8-86dc-e36561f83385", "format-version": 1})

    refusal(edited(change), {}, "view")


@pytest.mark.parametrize("key", ["format-version", "schemas", "partition-specs"])
def test_damaged_metadata_is_called_damaged(edited, key):
    """What is missing is no part of a later version."""
    refused = edited(lambda one: one.pop(key)).try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason
    assert "missing or damaged" in refused.detail
