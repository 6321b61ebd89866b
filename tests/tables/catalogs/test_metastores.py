"""Glue and Hive: which file holds a table's metadata; the file is read as any other."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyiceberg.exceptions import NoSuchTableError

from strata.outcomes import Reason, Refused
from strata.tables import Catalogs, LoadedTable, TableRef

SCHEMA = pa.schema([("id", pa.int64())])
REF = TableRef("prod", ("db",), "t")


class Glue:
    """As much of pyiceberg's Glue catalog as a load needs."""

    def __init__(self, tables):
        self.tables, self.properties = tables, {"s3.region": "the-operators"}

    def _get_glue_table(self, database_name, table_name):
        try:
            return self.tables[database_name, table_name.lower()]
        except KeyError:
            raise NoSuchTableError("secret-message") from None

    def close(self):
        pass


class Hive(Glue):
    """The same for Hive, whose entries are objects."""

    def __getattribute__(self, name):
        if name == "_get_glue_table":
            raise AttributeError(name)
        return super().__getattribute__(name)

    @property
    def _client(self):
        return nullcontext()

    def _get_hive_table(self, _client, database, name):
        found = Glue._get_glue_table(self, database, name)
        return SimpleNamespace(
            dbName=found["DatabaseName"], tableName=found["Name"], parameters=found["Parameters"]
        )


@pytest.fixture(params=[Glue, Hive])
def ours(request, warehouse):
    warehouse.create(SCHEMA)
    warehouse.append([{"id": 1}])
    location = warehouse.table().metadata_location

    def entry(name, **parameters):
        return {"DatabaseName": "db", "Name": name, "Parameters": parameters}

    tables = {
        ("db", "t"): entry("t", table_type="ICEBERG", metadata_location=location),
        ("db", "csv"): entry("csv", table_type="EXTERNAL_TABLE"),
    }
    catalogs = Catalogs(warehouses={}, catalogs={"prod": {"type": "glue"}}, any_file_warehouse=False)
    catalogs._remote["prod"] = request.param(tables)
    return catalogs


def test_a_metastores_table_is_loaded_from_its_metadata_file(ours, warehouse):
    """It is opened with the operator's properties, and the parsed file is cached."""
    table = ours.load(REF)
    assert isinstance(table, LoadedTable), table
    assert warehouse.table().metadata_location == table.metadata_location
    assert "the-operators" == table.io.properties["s3.region"]
    assert table is ours.load(REF)


def test_a_metastores_name_in_another_case_is_missing(ours):
    """These catalogs fold case; access rules match the name as written."""
    assert ours.load(TableRef("prod", ("db",), "none")) == ours.load(TableRef("prod", ("db",), "T"))


def test_a_metastores_table_of_another_format_is_named(ours):
    """It is neither missing nor an outage."""
    refused = ours.load(TableRef("prod", ("db",), "csv"))
    assert isinstance(refused, Refused)
    assert Reason.UNSUPPORTED is refused.reason
    assert "no Iceberg table" in refused.detail
