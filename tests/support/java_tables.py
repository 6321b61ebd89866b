"""Tables of format version 3 that Java's library makes, since Spark's SQL has no words for what is in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from spark_iceberg import CATALOG, SparkLake

_NUMBERS = itertools.count()


class JavaTable:
    """A table of version 3 with a column ``id`` of ints, and the means to change it.

    Attributes:
        types: Java's ``org.apache.iceberg.types.Types``.
        java: Java's packages, for values of its own classes.
    """

    def __init__(self, lake: SparkLake, name: str, columns: str = "id INT") -> None:
        self._lake = lake
        self._name = name
        self.sql = f"{CATALOG}.db.{name}"
        lake.run(f"CREATE TABLE {self.sql} ({columns}) USING iceberg TBLPROPERTIES ('format-version'='3')")
        jvm = lake.session._jvm
        assert jvm is not None
        self.java = jvm
        self._iceberg = jvm.org.apache.iceberg
        self.types = self._iceberg.types.Types

    @property
    def location(self) -> str:
        """Return the location of the current metadata file."""
        return f"file://{self._lake.metadata_file(self._name)}"

    def add(self, name: str, kind: Any, default: Any = None, *, inside: str = "") -> None:
        """Add a column, or a field of the struct ``inside``, with a default for older and for newer rows."""
        change = self._lake.java_table(self._name).updateSchema()
        place = (inside, name) if inside else (name,)
        if default is None:
            change.addColumn(*place, kind)
        else:
            change.addColumn(*place, kind, "", self._iceberg.expressions.Expressions.lit(default))
        change.commit()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append a file that Java's own writer writes, from values of its classes."""
        table = self._lake.java_table(self._name)
        out = table.io().newOutputFile(f"{table.location()}/data/java-{next(_NUMBERS)}.parquet")
        factory = self._iceberg.data.GenericAppenderFactory(table.schema())
        appender = factory.newAppender(out, self._iceberg.FileFormat.PARQUET)
        for row in rows:
            record = self._iceberg.data.GenericRecord.create(table.schema())
            for name, value in row.items():
                record.setField(name, value)
            appender.add(record)
        appender.close()
        file = self._iceberg.DataFiles.builder(table.spec()).withInputFile(out.toInputFile())
        file = file.withMetrics(appender.metrics()).withFormat("parquet").build()
        table.newAppend().appendFile(file).commit()

    def texts(self) -> list[str]:
        """Return the rows that Java's own reader reads, in its form."""
        found = self._iceberg.data.IcebergGenerics.read(self._lake.java_table(self._name)).build().iterator()
        texts = []
        while found.hasNext():
            texts.append(found.next().toString())
        return texts
