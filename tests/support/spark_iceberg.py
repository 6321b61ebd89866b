"""Spark with Java's Iceberg, from packages of PyPI: write tables, and ask for their rows."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import re
import time
from collections.abc import Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

CATALOG = "lake"
JARS = "snowpark_connect_deps_iceberg"
"""The package of PyPI that holds Iceberg's runtime for Spark."""

Row = dict[str, Any]


def runtime_jar() -> Path:
    """Return Iceberg's runtime for the Scala that pyspark's package has."""
    folder = Path(importlib.import_module(JARS).__path__[0]) / "jars"
    (jar,) = folder.glob("iceberg-spark-runtime-3.5_2.12-*.jar")
    return jar


class SparkLake:
    """A warehouse of tables that Spark writes: ``lake.db.NAME`` in SQL.

    Attributes:
        folder: Its directory.
        session: The session of pyspark, whose zone is UTC.
    """

    def __init__(self, folder: Path) -> None:
        from pyspark.sql import SparkSession  # noqa: PLC0415  # of this session's environment only

        # pyspark gives times in the zone of the process, and listens where it is told only.
        os.environ |= {"TZ": "UTC", "SPARK_LOCAL_IP": "127.0.0.1"}
        time.tzset()
        self.folder = folder
        options = {
            "spark.jars": str(runtime_jar()),
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            f"spark.sql.catalog.{CATALOG}": "org.apache.iceberg.spark.SparkCatalog",
            f"spark.sql.catalog.{CATALOG}.type": "hadoop",
            f"spark.sql.catalog.{CATALOG}.warehouse": str(folder),
            f"spark.sql.catalog.{CATALOG}.cache-enabled": "false",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.warehouse.dir": str(folder / "spark"),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        builder = SparkSession.builder.master("local[1]")
        for name, value in options.items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()
        self.session.sparkContext.setLogLevel("ERROR")

    def close(self) -> None:
        """End the Java process."""
        self.session.stop()

    def run(self, statement: str) -> None:
        """Run a statement to its end."""
        self.session.sql(statement).collect()

    def make(self, name: str, statements: Sequence[str]) -> None:
        """Make a table by statements, where ``{t}`` is its name and ``{hive}`` that of one in Spark's own catalog."""
        for one in statements:
            self.run(one.format(t=f"{CATALOG}.db.{name}", hive=f"spark_catalog.default.{name}"))

    def columns(self, name: str) -> list[tuple[str, Any]]:
        """Return the columns of a table with their types of Spark."""
        fields = self.session.table(f"{CATALOG}.db.{name}").schema.fields
        return [(field.name, field.dataType) for field in fields]

    def rows(self, query: str) -> list[Row]:
        """Return the rows of a query, in the form of :func:`foreign.rows.rows_of`."""
        found = self.session.sql(query)
        fields = found.schema.fields
        return [
            {field.name: _plain(value, field.dataType) for field, value in zip(fields, row, strict=True)}
            for row in found.collect()
        ]

    def java_table(self, name: str) -> Any:
        """Return Iceberg's own table, for what Spark's SQL has no words for."""
        jvm = self.session._jvm  # pyspark's way to Java
        assert jvm is not None
        return jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(
            self.session._jsparkSession,
            f"{CATALOG}.db.{name}",
        )

    def metadata_file(self, name: str) -> Path:
        """Return the current metadata file of a table."""
        files = (self.folder / "db" / name / "metadata").glob("v*.metadata.json")
        return max(files, key=lambda path: int(re.findall(r"\d+", path.name)[0]))


def _plain(value: Any, kind: Any) -> Any:
    """Return a value of Spark as pyarrow has it: structs as dicts, maps as pairs, times with their zone."""
    if value is None:
        return None
    match kind.typeName():
        case "struct":
            pairs = zip(kind.fields, value, strict=True)
            return {field.name: _plain(one, field.dataType) for field, one in pairs}
        case "array":
            return [_plain(one, kind.elementType) for one in value]
        case "map":
            return [(_plain(k, kind.keyType), _plain(v, kind.valueType)) for k, v in value.items()]
        case "timestamp":
            return value.replace(tzinfo=dt.UTC)
        case "binary":
            return bytes(value)
        case "decimal":  # 1.00E-10 of a scale of 10
            return value.quantize(Decimal(1).scaleb(-kind.scale), context=Context(prec=kind.precision))
    return value
