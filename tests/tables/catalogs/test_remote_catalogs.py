"""Clients of remote catalogs: how a configuration selects one, and how files are opened."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from rest_catalog import rest_server

from strata.tables.catalogs.remote_catalogs import OperatorsRestCatalog, open_catalog

SCHEMA = pa.schema([("id", pa.int64())])


@pytest.mark.parametrize("given", [{"type": "rest"}, {"type": "REST"}, {}])
def test_a_rest_catalog_is_known_by_its_type_or_its_address(warehouse, given):
    """The kind of catalog is inferred as pyiceberg does."""
    with rest_server(warehouse.catalog) as rest:
        assert isinstance(open_catalog("prod", {**given, "uri": rest.uri}), OperatorsRestCatalog)


def test_pyicebergs_own_configuration_of_a_rest_catalog_is_kept(warehouse, monkeypatch):
    """A token may come from the environment; Strata's own configuration takes precedence."""
    with rest_server(warehouse.catalog) as rest:
        monkeypatch.setenv("PYICEBERG_CATALOG__PROD__TOKEN", "from-the-environment")
        monkeypatch.setenv("PYICEBERG_CATALOG__PROD__URI", "http://127.0.0.1:9")
        open_catalog("prod", {"type": "rest", "uri": rest.uri})
        assert [("/v1/config", "Bearer from-the-environment")] == rest.asked


def test_tables_of_a_metastore_are_opened_with_the_operators_properties(warehouse):
    """The SQLite catalog stands for Glue, Hive and DynamoDB, which open files in the same way."""
    warehouse.create(SCHEMA, properties={"s3.endpoint": "http://elsewhere"})
    properties = {"type": "sql", "uri": f"sqlite:///{warehouse.directory}/catalog.db", "s3.region": "mine"}
    theirs = load_catalog("strata", **properties)
    assert isinstance(theirs, SqlCatalog)
    assert "http://elsewhere" == theirs.load_table("db.t").io.properties["s3.endpoint"]
    theirs.close()

    ours = open_catalog("strata", properties)
    table = ours.load_table("db.t")
    assert type(table.io) is PyArrowFileIO
    assert "s3.endpoint" not in table.io.properties
    assert "mine" == table.io.properties["s3.region"]
    ours.close()


def test_a_catalog_class_of_the_operators_own_is_taken_as_it_is(warehouse):
    """A catalog class that the operator configures is used without changes."""
    properties = {
        "py-catalog-impl": "pyiceberg.catalog.sql.SqlCatalog",
        "uri": f"sqlite:///{warehouse.directory}/catalog.db",
    }
    opened = open_catalog("strata", properties)
    assert type(opened) is SqlCatalog
    opened.close()
