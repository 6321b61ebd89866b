"""Tables that Spark writes, as statements of its SQL: ``{t}`` is the table's name."""

from __future__ import annotations

import attrs

KINDS = (
    "id BIGINT, b BOOLEAN, i INT, f FLOAT, d DOUBLE, n DECIMAL(9, 2), m DECIMAL(18, 4), h DECIMAL(38, 10), "
    "day DATE, tz TIMESTAMP, ts TIMESTAMP_NTZ, s STRING, x BINARY"
)
FILLED = """INSERT INTO {t} VALUES
 (1, true, 1, 1.5F, 0.1D, 1.25BD, 1.2345BD, 0.0000000001BD, DATE '2024-02-29', TIMESTAMP '2024-02-29 12:00:00.000001 UTC', TIMESTAMP_NTZ '2024-02-29 12:00:00.000001', 'a', X'00'),
 (2, false, -2147483648, -0.0F, -0.0D, -9999999.99BD, -99999999999999.9999BD, -9999999999999999999999999999.9999999999BD, DATE '1582-10-04', TIMESTAMP '1582-10-04 23:59:59.999999 UTC', TIMESTAMP_NTZ '1582-10-04 23:59:59.999999', '', X''),
 (3, null, null, null, null, null, null, null, null, null, null, null, null),
 (4, true, 2147483647, CAST('NaN' AS FLOAT), CAST('NaN' AS DOUBLE), 9999999.99BD, 99999999999999.9999BD, 9999999999999999999999999999.9999999999BD, DATE '9999-12-31', TIMESTAMP '9999-12-31 23:59:59.999999 UTC', TIMESTAMP_NTZ '9999-12-31 23:59:59.999999', 'é😀', X'ff00'),
 (5, false, 0, CAST('Infinity' AS FLOAT), CAST('-Infinity' AS DOUBLE), 0BD, 0BD, 0BD, DATE '1969-12-31', TIMESTAMP '1969-12-31 23:59:59.999999 UTC', TIMESTAMP_NTZ '1969-12-31 23:59:59.999999', 'ab', X'7f')"""
ALL_NULL = f"INSERT INTO {{t}} VALUES (6{', null' * 12})"
LETTERS = "INSERT INTO {t} SELECT id, concat(substr('abcde', 1 + id % 5, 1), id) FROM range(12)"
MORE_LETTERS = "INSERT INTO {t} SELECT id, concat(substr('abcde', 1 + id % 5, 1), id) FROM range(12, 24)"
MERGE_ON_READ = "'write.delete.mode'='merge-on-read', 'write.update.mode'='merge-on-read', 'write.merge.mode'='merge-on-read'"


@attrs.frozen
class Written:
    """A table of Spark.

    Attributes:
        what: What is in it, as a sentence without a full stop.
        statements: The statements that make it, in order.
        fails: A column that Spark itself cannot read in an older snapshot.
    """

    what: str
    statements: tuple[str, ...]
    fails: str = ""


def _create(columns: str, *, by: str = "", version: int = 2, properties: str = "") -> str:
    partitioned = f" PARTITIONED BY ({by})" if by else ""
    more = f", {properties}" if properties else ""
    return (
        f"CREATE TABLE {{t}} ({columns}) USING iceberg{partitioned} "
        f"TBLPROPERTIES ('format-version'='{version}'{more})"
    )


def _kinds(what: str, *, by: str = "", version: int = 2, properties: str = "") -> Written:
    create = _create(KINDS, by=by, version=version, properties=properties)
    return Written(what, (create, FILLED, ALL_NULL))


TABLES: dict[str, Written] = {
    "kinds": _kinds("each plain type, with extremes, nulls and NaN"),
    "kinds_v1": _kinds("each plain type in format version 1", version=1),
    "no_statistics": _kinds("no statistics of columns", properties="'write.metadata.metrics.default'='none'"),
    "cut_statistics": _kinds(
        "texts and bytes cut after one character in the statistics, packed metadata",
        properties="'write.metadata.metrics.default'='truncate(1)', 'write.metadata.compression-codec'='gzip'",
    ),
    "by_text": _kinds("partitions of the first character of a text", by="truncate(1, s)"),
    "by_number": _kinds("partitions of numbers cut to tens, below zero too", by="truncate(10, i)"),
    "by_decimal": Written(
        "partitions of decimals and long numbers cut, below zero too",
        (
            _create(
                "id BIGINT, n DECIMAL(9, 2), h DECIMAL(38, 10)",
                by="truncate(50, n), truncate(7, h), truncate(3, id)",
            ),
            (
                "INSERT INTO {t} SELECT id, CAST(id AS DECIMAL(9, 2)) / 4, CAST(id AS DECIMAL(38, 10)) / 1000000000 "
                "FROM range(-5, 6) UNION ALL SELECT null, null, null"
            ),
        ),
    ),
    "by_bytes": _kinds("partitions of the first byte", by="truncate(1, x)"),
    "by_value": _kinds("partitions by values of six types", by="b, i, n, day, s, x"),
    "by_float": _kinds("partitions by floating-point numbers, NaN and zeros too", by="f, d"),
    "by_moment": _kinds("partitions by moments", by="tz, ts"),
    "by_years": _kinds("partitions by years", by="years(day), years(tz), years(ts)"),
    "by_months": _kinds("partitions by months", by="months(day), months(tz), months(ts)"),
    "by_days": _kinds("partitions by days", by="days(tz), days(ts)"),
    "by_days_v1": _kinds("partitions by days in format version 1", by="days(tz), days(ts)", version=1),
    "by_hours": _kinds("partitions by hours", by="hours(tz), hours(ts)"),
    "by_bucket": _kinds(
        "buckets of each type that has them",
        by=", ".join(f"bucket(3, {name})" for name in ("id", "i", "n", "h", "day", "tz", "ts", "s", "x")),
    ),
    "codecs": Written(
        "a file of each codec that Spark has, Bloom filters, and data pages of version 2",
        (
            _create("id BIGINT, s STRING", properties="'write.parquet.bloom-filter-enabled.column.s'='true'"),
            *(
                one
                for codec in ("gzip", "snappy", "zstd", "uncompressed", "lz4_raw")
                for one in (
                    f"ALTER TABLE {{t}} SET TBLPROPERTIES ('write.parquet.compression-codec'='{codec}')",
                    LETTERS,
                )
            ),
            "ALTER TABLE {t} SET TBLPROPERTIES ('write.parquet.page-version'='v2')",
            LETTERS,
        ),
    ),
    "nested": Written(
        "structs, lists and maps, whose inner fields were renamed, added, dropped and widened",
        (
            _create(
                "id BIGINT, st STRUCT<a: INT, b: STRING, c: STRUCT<x: FLOAT>>, l ARRAY<INT>, "
                "m MAP<STRING, BIGINT>, ls ARRAY<STRUCT<a: INT, b: STRING>>, ms MAP<INT, STRUCT<a: INT>>"
            ),
            (
                "INSERT INTO {t} VALUES "
                "(1, named_struct('a', 1, 'b', 'x', 'c', named_struct('x', 1.5F)), array(1, null), map('k', 1L, 'l', null), "
                "array(named_struct('a', 1, 'b', 'y'), null), map(1, named_struct('a', 1))), "
                "(2, null, null, null, null, null), "
                "(3, named_struct('a', null, 'b', null, 'c', null), array(), map(), array(), map(2, null))"
            ),
            "ALTER TABLE {t} ADD COLUMN st.n DATE",
            "ALTER TABLE {t} ADD COLUMN ls.element.n DECIMAL(5, 1)",
            "ALTER TABLE {t} ADD COLUMN ms.value.n STRING",
            "ALTER TABLE {t} RENAME COLUMN st.b TO z",
            "ALTER TABLE {t} ALTER COLUMN st.a TYPE BIGINT",
            "ALTER TABLE {t} ALTER COLUMN st.c.x TYPE DOUBLE",
            "ALTER TABLE {t} ALTER COLUMN l.element TYPE BIGINT",
            "ALTER TABLE {t} ALTER COLUMN ls.element.a TYPE BIGINT",
            "ALTER TABLE {t} DROP COLUMN ls.element.b",
            "ALTER TABLE {t} ALTER COLUMN st.n FIRST",
            (
                "INSERT INTO {t} VALUES (4, named_struct('n', DATE '2024-01-01', 'a', 3000000000L, 'z', 'new', "
                "'c', named_struct('x', 0.1D)), array(3000000000L), map('k', 2L), "
                "array(named_struct('a', 3000000000L, 'n', 1.5BD)), map(1, named_struct('a', 2, 'n', 'new')))"
            ),
        ),
    ),
    "evolved": Written(
        "columns renamed, moved, widened, and one dropped and added again under its name",
        (
            _create("id BIGINT, i INT, f FLOAT, n DECIMAL(9, 2), s STRING, gone STRING"),
            "INSERT INTO {t} VALUES (1, 1, 1.5F, 1.25BD, 'a', 'x'), (2, null, null, null, null, null)",
            "ALTER TABLE {t} ALTER COLUMN i TYPE BIGINT",
            "ALTER TABLE {t} ALTER COLUMN f TYPE DOUBLE",
            "ALTER TABLE {t} ALTER COLUMN n TYPE DECIMAL(30, 2)",
            "ALTER TABLE {t} RENAME COLUMN s TO text",
            "ALTER TABLE {t} DROP COLUMN gone",
            "ALTER TABLE {t} ADD COLUMN gone INT",
            "ALTER TABLE {t} ALTER COLUMN text FIRST",
            (
                "INSERT INTO {t} (id, i, f, n, text, gone) "
                "VALUES (3, 3000000000, 0.1D, 1234567890123456789.25BD, 'b', 3)"
            ),
            "ALTER TABLE {t} RENAME COLUMN text TO i2",
            "ALTER TABLE {t} RENAME COLUMN i TO s",
        ),
    ),
    "deleted": Written(
        "rows deleted and changed by position deletes, of a table without partitions",
        (
            _create("id BIGINT, s STRING", properties=MERGE_ON_READ),
            LETTERS,
            MORE_LETTERS,
            "DELETE FROM {t} WHERE id % 3 = 0",
            "UPDATE {t} SET s = 'changed' WHERE id IN (1, 13)",
            "DELETE FROM {t} WHERE s = 'changed' AND id = 1",
            (
                "MERGE INTO {t} AS old USING (SELECT id, 'merged' AS s FROM range(10, 30, 5)) AS u ON old.id = u.id "
                "WHEN MATCHED AND u.id = 20 THEN DELETE WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
            ),
        ),
    ),
    "deleted_in_partitions": Written(
        "position deletes of a whole partition, and of files by the partitioning before it changed",
        (
            _create(
                "id BIGINT, s STRING",
                by="truncate(1, s)",
                properties=f"{MERGE_ON_READ}, 'write.delete.granularity'='partition'",
            ),
            LETTERS,
            "DELETE FROM {t} WHERE id IN (0, 6, 7)",
            "ALTER TABLE {t} ADD PARTITION FIELD bucket(2, id)",
            MORE_LETTERS,
            "DELETE FROM {t} WHERE id IN (1, 12, 13, 18)",
        ),
    ),
    "rewritten": Written(
        "rows deleted and changed by writing files anew",
        (
            _create("id BIGINT, s STRING", by="truncate(1, s)"),
            LETTERS,
            MORE_LETTERS,
            "DELETE FROM {t} WHERE id % 3 = 0",
            "UPDATE {t} SET s = 'changed' WHERE id IN (1, 13)",
            "INSERT OVERWRITE {t} VALUES (100, 'e100')",
        ),
    ),
    "compacted": Written(
        "deletes, then files, delete files and manifests compacted",
        (
            _create("id BIGINT, s STRING", properties=MERGE_ON_READ),
            LETTERS,
            MORE_LETTERS,
            "DELETE FROM {t} WHERE id % 3 = 0",
            "CALL lake.system.rewrite_position_delete_files(table => '{t}', options => map('rewrite-all', 'true'))",
            "CALL lake.system.rewrite_data_files(table => '{t}', options => map('rewrite-all', 'true'))",
            "DELETE FROM {t} WHERE id % 3 = 1",
            "CALL lake.system.rewrite_manifests('{t}')",
        ),
    ),
    "evolved_partitions": Written(
        "partition fields added, replaced and dropped",
        (
            _create("id BIGINT, s STRING, day DATE"),
            "INSERT INTO {t} VALUES (1, 'a', DATE '2024-01-01'), (2, 'b', null)",
            "ALTER TABLE {t} ADD PARTITION FIELD s",
            "INSERT INTO {t} VALUES (3, 'a', DATE '2024-01-02'), (4, null, DATE '1969-12-31')",
            "ALTER TABLE {t} REPLACE PARTITION FIELD s WITH truncate(1, s) AS cut",
            "ALTER TABLE {t} ADD PARTITION FIELD months(day)",
            "INSERT INTO {t} VALUES (5, 'ab', DATE '1969-11-30'), (6, 'c', null)",
            "ALTER TABLE {t} DROP PARTITION FIELD cut",
            "ALTER TABLE {t} ADD PARTITION FIELD days(day)",
            "INSERT INTO {t} VALUES (7, 'b', DATE '2024-01-03')",
            "ALTER TABLE {t} RENAME COLUMN s TO z",
            "INSERT INTO {t} VALUES (8, 'd', DATE '2024-01-04')",
        ),
    ),
    "evolved_partitions_v1": Written(
        "partition fields of format version 1, where dropped ones become void, then version 2",
        (
            _create("id BIGINT, s STRING, k INT", by="s, bucket(2, id)", version=1),
            "INSERT INTO {t} VALUES (1, 'a', 1), (2, null, 2)",
            "ALTER TABLE {t} DROP PARTITION FIELD s",
            "ALTER TABLE {t} ADD PARTITION FIELD k",
            "INSERT INTO {t} VALUES (3, 'a', 1), (4, 'b', null)",
            "ALTER TABLE {t} ALTER COLUMN k TYPE BIGINT",
            "INSERT INTO {t} VALUES (5, 'c', 3000000000)",
            f"ALTER TABLE {{t}} SET TBLPROPERTIES ('format-version'='2', {MERGE_ON_READ})",
            "DELETE FROM {t} WHERE id IN (1, 4)",
        ),
        fails="k",  # a partition value is handed over as a long where the snapshot's column is an int
    ),
    "refs": Written(
        "a branch with rows of its own, a tag, a rollback, and columns that changed between them",
        (
            _create("id BIGINT, s STRING"),
            "INSERT INTO {t} VALUES (1, 'a')",
            "ALTER TABLE {t} CREATE TAG first",
            "ALTER TABLE {t} CREATE BRANCH side",
            "INSERT INTO {t}.branch_side VALUES (2, 'side')",
            "ALTER TABLE {t} ADD COLUMN n INT",
            "ALTER TABLE {t} RENAME COLUMN s TO text",
            "INSERT INTO {t} VALUES (3, 'c', 3)",
            "ALTER TABLE {t} CREATE TAG second",
            "INSERT INTO {t} VALUES (4, 'd', 4)",
            "CALL lake.system.set_current_snapshot(table => '{t}', ref => 'second')",
        ),
    ),
    "expired": Written(
        "older snapshots expired, and metadata files deleted after commits",
        (
            _create(
                "id BIGINT, s STRING",
                properties="'write.metadata.delete-after-commit.enabled'='true', "
                "'write.metadata.previous-versions-max'='1'",
            ),
            LETTERS,
            MORE_LETTERS,
            "DELETE FROM {t} WHERE id < 5",
            (
                "CALL lake.system.expire_snapshots(table => '{t}', older_than => TIMESTAMP '9999-01-01 00:00:00', "
                "retain_last => 1)"
            ),
        ),
    ),
    "added_files": Written(
        "files of Hive's layout with INT96 times, added without being written anew",
        (
            (
                "CREATE TABLE {hive} (id BIGINT, tz TIMESTAMP, n DECIMAL(9, 2), p INT, q STRING) USING parquet "
                "PARTITIONED BY (p, q)"
            ),
            (
                "INSERT INTO {hive} VALUES (1, TIMESTAMP '1969-12-31 23:59:59.999999 UTC', 1.25BD, 1, 'a b'), "
                "(2, TIMESTAMP '9999-12-31 00:00:00 UTC', -1BD, 2, 'c/d%'), (3, null, null, null, null)"
            ),
            _create("id BIGINT, tz TIMESTAMP, n DECIMAL(9, 2), p INT, q STRING", by="p, q"),
            "CALL lake.system.add_files(table => '{t}', source_table => '{hive}')",
            "ALTER TABLE {t} RENAME COLUMN id TO number",
            "ALTER TABLE {t} ADD COLUMN later STRING",
        ),
    ),
    "small_groups": Written(
        "many row groups and pages in a file",
        (
            _create(
                "id BIGINT, s STRING",
                properties="'write.parquet.row-group-size-bytes'='1', 'write.parquet.page-size-bytes'='64', "
                "'write.parquet.row-group-check-min-record-count'='7', "
                "'write.parquet.row-group-check-max-record-count'='7'",
            ),
            "INSERT INTO {t} SELECT id, CASE WHEN id % 7 < 3 THEN repeat('x', id) END FROM range(100)",
        ),
    ),
    "sorted": Written(
        "a sort order, and a column that is required",
        (
            _create("id BIGINT NOT NULL, s STRING"),
            "ALTER TABLE {t} WRITE ORDERED BY s DESC NULLS LAST, bucket(4, id)",
            LETTERS,
            "ALTER TABLE {t} ALTER COLUMN id DROP NOT NULL",
            "INSERT INTO {t} VALUES (null, null)",
        ),
    ),
    "vectors": Written(
        "version 3: deletion vectors, more than one of a file, in partitions that changed",
        (
            _create("id BIGINT, s STRING", by="truncate(1, s)", version=3, properties=MERGE_ON_READ),
            LETTERS,
            "DELETE FROM {t} WHERE id IN (0, 6, 7)",
            "ALTER TABLE {t} DROP PARTITION FIELD truncate(1, s)",
            MORE_LETTERS,
            "DELETE FROM {t} WHERE id IN (1, 5, 12, 13, 18)",
            "UPDATE {t} SET s = 'changed' WHERE id IN (2, 14)",
        ),
    ),
    "vectors_after_positions": Written(
        "position deletes of version 2, then deletion vectors of version 3",
        (
            _create("id BIGINT, s STRING", properties=MERGE_ON_READ),
            LETTERS,
            "DELETE FROM {t} WHERE id IN (0, 6, 7)",
            "ALTER TABLE {t} SET TBLPROPERTIES ('format-version'='3')",
            MORE_LETTERS,
            "DELETE FROM {t} WHERE id IN (1, 12)",
        ),
    ),
    "lineage": Written(
        "version 3: row ids that a compaction and changed rows keep in columns of the files",
        (
            _create("id BIGINT, s STRING", version=3),
            LETTERS,
            "UPDATE {t} SET s = 'changed' WHERE id IN (2, 14)",
            MORE_LETTERS,
            "CALL lake.system.rewrite_data_files(table => '{t}', options => map('rewrite-all', 'true'))",
            (
                "MERGE INTO {t} AS old USING (SELECT id, 'merged' AS s FROM range(10, 30, 5)) AS u ON old.id = u.id "
                "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
            ),
        ),
    ),
    "kinds_v3": _kinds("version 3: each plain type, in buckets", by="bucket(2, id)", version=3),
}
"""Tables by name; Spark says what is in them."""


@attrs.frozen
class Made:
    """A table that Java's library makes, since Spark's SQL has no words for it.

    Attributes:
        what: What is in it.
        answer: What Strata answers.
    """

    what: str
    answer: str


VERSION_3 = {
    "defaults": Made("columns of five types with a default for older rows", "as Spark"),
    "decimal_default": Made("a decimal with a default for older rows", "by hand: Spark cannot read it"),
    "nested_default": Made("a field of a struct with a default", "as Spark"),
    "nanoseconds": Made("`timestamp_ns` and `timestamptz_ns`", "as Java's library: Spark refuses them"),
    "variant": Made("a `variant`", "501 with its name; the other columns are read"),
    "unknown": Made("a column of type `unknown`", "null"),
}
"""Tables of version 3 that ``tests/oracles/test_version_3.py`` makes."""
