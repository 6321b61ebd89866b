"""Defaults of columns and fields that a file is older than (Iceberg specification, "Default Values")."""

from __future__ import annotations

import attrs
import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import FloatType, IntegerType, LongType, NestedField, StringType, StructType

from strata.outcomes import Refused
from strata.tables import CellGrants, Filter, Grant, parse_scan_params, plan_files, resolve_scan


def optional(field_id, name, kind, **more):
    return NestedField(field_id, name, kind, required=False, **more)


class Evolved:
    """A table whose current schema is replaced, with defaults that pyiceberg cannot commit yet."""

    def __init__(self, warehouse, *fields):
        self._warehouse = warehouse
        table = warehouse.resolve({}).table
        schema = Schema(*fields, schema_id=99)
        schemas = {"schemas": [*table.metadata.schemas, schema], "current_schema_id": 99}
        self._table = attrs.evolve(table, metadata=table.metadata.model_copy(update=schemas))

    def scan(self, params, grants=None):
        scan = resolve_scan(self._table, parse_scan_params(params), grants)
        assert not isinstance(scan, Refused), scan
        return self._warehouse.run(plan_files(scan))

    def rows(self, params=None, grants=None):
        return self.scan(params or {}, grants).to_pylist()

    def ids(self, column, op, value=None):
        condition = {"column": column, "op": op} | ({} if value is None else {"value": value})
        return [row["id"] for row in self.rows({"columns": ["id"], "filters": [condition]})]


ID = optional(1, "id", LongType())
A = optional(3, "a", IntegerType())
B = optional(9, "b", IntegerType(), initial_default=-1)


@pytest.fixture
def younger_field(warehouse):
    """Return a table whose files have a struct, null in row 2, that lacks its field ``b``, -1 by default."""
    warehouse.create(Schema(ID, optional(2, "st", StructType(A))))
    warehouse.append([{"id": 1, "st": {"a": 1}}, {"id": 2, "st": None}])
    return Evolved(warehouse, ID, optional(2, "st", StructType(A, B)))


def test_a_field_of_a_null_struct_is_null_and_not_its_default(younger_field):
    """Rows and filters agree: only where there is a struct does its younger field have the default."""
    assert [{"id": 1, "st": {"a": 1, "b": -1}}, {"id": 2, "st": None}] == younger_field.rows()
    assert [2] == younger_field.ids("st.b", "is null")
    assert [1] == younger_field.ids("st.b", "is not null")
    assert [1] == younger_field.ids("st.b", "=", -1)
    assert [1] == younger_field.ids("st.b", "in", [-1, 5])
    assert [1] == younger_field.ids("st.b", "<", 0)
    assert [] == younger_field.ids("st.b", "!=", -1)


def test_a_rule_on_a_default_opens_no_row_whose_struct_is_null(younger_field):
    """A row grant on a struct's younger field grants the rows that have the default, alone or in a union."""
    by_default = Grant(None, (Filter("st.b", "=", -1),))
    assert [1] == [row["id"] for row in younger_field.rows({}, CellGrants((by_default,)))]
    by_id = Grant(None, (Filter("id", "=", 7),))
    for columns in (["id"], ["id", "st"]):
        granted = younger_field.rows({"columns": columns}, CellGrants((by_default, by_id)))
        assert [1] == [row["id"] for row in granted]


def test_a_struct_in_a_struct_that_the_file_lacks_is_null(warehouse):
    """The inner struct is null where the outer one is present, so its field has no default."""
    warehouse.create(Schema(ID, optional(2, "st", StructType(A))))
    warehouse.append([{"id": 1, "st": {"a": 1}}, {"id": 2, "st": None}])
    inner = optional(8, "inner", StructType(B))
    table = Evolved(warehouse, ID, optional(2, "st", StructType(A, inner)))
    assert [{"a": 1, "inner": None}, None] == [row["st"] for row in table.rows()]
    assert [1, 2] == table.ids("st.inner.b", "is null")
    assert [] == table.ids("st.inner.b", "=", -1)


def test_a_field_of_a_struct_that_the_file_lacks_is_null(warehouse):
    """A struct without a default is null in older files, and with it its fields."""
    warehouse.create(Schema(ID))
    warehouse.append([{"id": 1}])
    table = Evolved(warehouse, ID, optional(8, "st", StructType(B)))
    assert [{"id": 1, "st": None}] == table.rows()
    assert [1] == table.ids("st.b", "is null")
    assert [1] == table.ids("st", "is null")
    assert [] == table.ids("st.b", "=", -1)
    assert [] == table.ids("st.b", "<", 100)
    assert [] == table.ids("st.b", "is not null")


def test_a_partition_value_inside_a_struct_that_the_file_lacks_is_its_fields(warehouse):
    """An identity partition of a struct's field says that the struct is there ("Column Projection")."""
    spec = PartitionSpec(PartitionField(9, 1000, IdentityTransform(), "b"))
    plain = optional(9, "b", IntegerType())
    warehouse.create(Schema(ID, optional(8, "st", StructType(A, plain))), partition_spec=spec)
    field = pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})
    warehouse.add_file(pa.table({"id": [1]}, pa.schema([field])), partition=Record(5))
    assert [{"id": 1, "st": {"a": None, "b": 5}}] == warehouse.rows()
    assert [1] == warehouse.where("st.b", "=", 5)
    assert [] == warehouse.where("st.b", "!=", 5)
    assert [1] == warehouse.where("st.a", "is null")
    assert [] == warehouse.where("st", "is null")


def test_the_default_of_a_float_column_is_a_float(warehouse):
    """A default in JSON has 64 bits, its column 32: filters compare what a file would hold."""
    warehouse.create(Schema(ID))
    warehouse.append([{"id": 1}])
    table = Evolved(warehouse, ID, optional(2, "f", FloatType(), initial_default=0.1))
    assert [{"id": 1, "f": 0.10000000149011612}] == table.rows()
    assert [1] == table.ids("f", "=", 0.1)
    assert [1] == table.ids("f", "<=", 0.1)
    assert [1] == table.ids("f", "in", [0.1, 7])
    assert [] == table.ids("f", "!=", 0.1)
    assert [] == table.ids("f", ">", 0.1)


def test_a_null_partition_value_of_an_absent_column_is_null_and_not_its_default(warehouse):
    """The partition value is present, as null (Iceberg specification, "Column Projection"); filters agree."""
    part = optional(2, "part", IntegerType())
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "part"))
    warehouse.create(Schema(ID, part), partition_spec=spec)
    only_id = pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})])
    for number, value in ((1, None), (2, 5)):
        warehouse.add_file(pa.table({"id": [number]}, schema=only_id), partition=Record(value))
    table = Evolved(warehouse, ID, optional(2, "part", IntegerType(), initial_default=7))

    assert [{"id": 1, "part": None}, {"id": 2, "part": 5}] == sorted(table.rows(), key=lambda row: row["id"])
    assert [1] == table.ids("part", "is null")
    assert [] == table.ids("part", "=", 7)
    assert [2] == table.ids("part", "!=", 7)
    assert [2] == table.ids("part", "not in", [7, 8])


def test_rewriting_the_files_changes_no_answer_of_a_comparison_with_null(warehouse):
    """A file older than a column, one with nulls and their rewrite: ``!=`` and ``not in`` drop unknown rows."""
    warehouse.create(Schema(ID))
    warehouse.append([{"id": 1}, {"id": 2}])
    with warehouse.table().update_schema() as change:
        change.add_column("level", StringType())
    warehouse.append([{"id": 3, "level": "x"}, {"id": 4, "level": "y"}, {"id": 5, "level": None}])
    asked = [
        ("!=", "x", [4]),
        ("not in", ["x"], [4]),
        ("not in", ["x", "z"], [4]),
        ("is null", None, [1, 2, 5]),
    ]

    def answers():
        for op, value, expected in asked:
            condition = {"column": "level", "op": op} | ({} if value is None else {"value": value})
            found = warehouse.scan({"columns": ["id"], "filters": [condition]})
            assert expected == sorted(found["id"].to_pylist()), (op, value)

    answers()
    warehouse.table().overwrite(warehouse.table().scan().to_arrow())
    assert 1 == len(warehouse.data_files())
    answers()
