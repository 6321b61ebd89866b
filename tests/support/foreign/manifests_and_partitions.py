"""Manifests, partition specs and their evolution, and bounds, as other engines write them."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal

import pyarrow as pa

from foreign import avro
from foreign.cases import Right, case, refused, rows, where
from foreign.maker import Maker, field, optional, pack, part, struct_of

A, B, C, D = (1, "a"), (2, "b"), (3, "c"), (4, "d")


def _with(t: Maker, pair: tuple[int, str | None], **partition: object):
    return t.rows(pair) | {"partition": partition}


@case("Flink", "manifests and their list packed with Snappy", "Avro specification, Optional Codecs")
def snappy_manifests(t: Maker) -> Right:
    t.snapshot(t.manifest(t.rows(A, B), codec="snappy"), codec="snappy")
    return Right(rows(A, B))


@case("Spark 3.5", "manifests packed with Zstandard", "Avro specification, Optional Codecs")
def zstd_manifests(t: Maker) -> Right:
    t.snapshot(t.manifest(t.rows(A, B), codec="zstandard"), codec="zstandard")
    return Right(rows(A, B))


@case(
    "Go library",
    "manifests without a codec in their header, of one entry a block",
    "Avro specification, Object Container Files",
)
def blocks_of_one(t: Maker) -> Right:
    t.snapshot(t.manifest(t.rows(A), t.rows(B), t.rows(C), codec="null", per_block=1), codec="null")
    return Right(rows(A, B, C))


@case(
    "Spark 3.5",
    "after a compaction: entries that are deleted, and entries that exist already",
    "specification, Manifests",
)
def compacted(t: Maker) -> Right:
    gone, kept = t.rows(A), t.rows(B)
    new = t.rows(A, C)
    t.snapshot(t.manifest(gone | {"status": 2}, kept | {"status": 0}, sequence=1), t.manifest(new))
    return Right(rows(A, B, C))


@case("Netflix 2019", "fields of a data file that no release has any more", "iceberg: OldManifestFileV1")
def unknown_fields(t: Maker) -> Right:
    odd = {"type": "array", "items": {"type": "record", "name": "odd", "fields": [{"name": "x", "type": "string", "field-id": 900}]}, "element-id": 901}  # fmt: skip
    extra = [
        ({"name": "file_ordinal", "type": optional("int"), "field-id": 106}, 7),
        ({"name": "sort_columns", "type": optional({"type": "array", "items": "int", "element-id": 112}), "field-id": 107}, [1, 2]),
        ({"name": "zz_odd", "type": odd, "field-id": 902}, [{"x": "y"}]),
    ]  # fmt: skip
    t.version = 1
    t.snapshot(t.manifest(t.rows(A), extra=extra))
    return Right(rows(A))


@case(
    "Java library",
    "version 2 with the manifests of version 1 from before the upgrade",
    "specification, Sequence Number Inheritance",
)
def upgraded(t: Maker) -> Right:
    old = t.manifest(t.rows(A, B), version=1) | {"sequence_number": 0, "min_sequence_number": 0}
    keys = pa.table({"id": [1]})
    t.snapshot(old)
    t.snapshot(old, t.manifest(t.equality_deletes(keys, [1]), content=1))
    return Right(rows(B), (({"snapshot_id": 101}, rows(A, B)),))


@case("Spark 3.5", "partition values of two decimals whose Avro type is defined once and then named",
      "iceberg-rust: repeated-decimal-type-definitions")  # fmt: skip
def repeated_type(t: Maker) -> Right:
    t.fields = [field(1, "a", "decimal(9, 2)"), field(2, "b", "decimal(9, 2)")]
    t.spec = [part(1, 1000, "identity", "a"), part(2, 1001, "identity", "b")]
    kind = pa.decimal128(9, 2)
    low, high = Decimal("1.50"), Decimal("-2.25")
    file = t.parquet(pa.table({"a": pa.array([low], kind), "b": pa.array([high], kind)}))
    defined = {
        "type": "fixed",
        "name": "decimal_9_2",
        "size": 4,
        "logicalType": "decimal",
        "precision": 9,
        "scale": 2,
    }
    named = {"type": "record", "name": "r102", "fields": [
        {"name": "a", "type": optional(defined), "field-id": 1000},
        {"name": "b", "type": ["null", "decimal_9_2"], "field-id": 1001},
    ]}  # fmt: skip
    t.partition_schema = named
    values = {"a": (150).to_bytes(4, "big"), "b": (-225).to_bytes(4, "big", signed=True)}
    t.append(file | {"partition": values})
    right = [{"a": low, "b": high}]
    return Right(
        right, ((where("b", "=", "__decimal__:-2.25"), right), (where("a", "=", "__decimal__:-2.25"), []))
    )


@case("Java library", "version 1: a removed partition field is void, and its values stay null",
      "iceberg-rust: interop/update_partition_spec/remove_field_v1_void")  # fmt: skip
def void_field(t: Maker) -> Right:
    t.version = 1
    t.spec = [part(2, 1000, "identity", "s")]
    first = t.manifest(_with(t, A, s="a"))
    t.repartition(part(2, 1000, "void", "s"))
    t.snapshot(first, t.manifest(_with(t, B, s=None)))
    return Right(rows(A, B), ((where("s", "=", "b"), rows(B)), (where("s", "is null"), [])))


@case("Java library", "version 2: a partition field is removed and added again with its old id",
      "iceberg-rust: interop/update_partition_spec/delete_then_readd, field_id_recycling")  # fmt: skip
def readded_field(t: Maker) -> Right:
    t.spec = [part(2, 1000, "identity", "s")]
    made = [t.manifest(_with(t, A, s="a"))]
    t.repartition()
    made.append(t.manifest(t.rows(B)))
    t.repartition(part(1, 1001, "bucket[4]", "b"), part(2, 1000, "identity", "s2"))
    made.append(t.manifest(_with(t, C, b=2, s2="c")))
    t.snapshot(*made)
    return Right(rows(A, B, C), tuple((where("s", "=", one[1]), rows(one)) for one in (A, B, C)))


@case(
    "Flink",
    "partition values in another order than the fields of the spec",
    "specification, Manifests, field 102",
)
def other_order(t: Maker) -> Right:
    t.fields = [field(1, "x", "string"), field(2, "y", "string")]
    t.spec = [part(2, 1001, "identity", "y"), part(1, 1000, "identity", "x")]
    file = t.parquet(pa.table({"x": ["p"], "y": ["q"]})) | {"partition": {"x": "p", "y": "q"}}
    made = t.manifest(file)
    t.spec.reverse()
    t.snapshot(made)
    return Right(
        [{"x": "p", "y": "q"}], ((where("x", "=", "p"), [{"x": "p", "y": "q"}]), (where("x", "=", "q"), []))
    )


@case(
    "Trino",
    "two truncating partition fields of one column, whose names meet",
    "trino: iceberg/conflict_truncate",
)
def two_truncates(t: Maker) -> Right:
    t.spec = [part(2, 1000, "truncate[1]", "s_trunc"), part(2, 1001, "truncate[3]", "s_trunc_3")]
    t.append(
        _with(t, (1, "a"), s_trunc="a", s_trunc_3="a"), _with(t, (2, "abcd"), s_trunc="a", s_trunc_3="abc")
    )
    return Right(
        rows((1, "a"), (2, "abcd")),
        ((where("s", ">", "abc"), rows((2, "abcd"))), (where("s", "=", "a"), rows((1, "a")))),
    )


@case("Impala", "files of an unpartitioned time beside those of an identity and a bucket",
      "impala: iceberg_legacy_partition_schema_evolution; iceberg-rust: example_table_metadata_v2_partition_evolution")  # fmt: skip
def evolved_spec(t: Maker) -> Right:
    made = [t.manifest(t.rows(A, B))]
    t.repartition(part(2, 1000, "identity", "s"))
    made.append(t.manifest(_with(t, (3, "b"), s="b")))
    t.repartition(part(2, 1001, "bucket[8]", "s_bucket"))
    # murmur3 of "iceberg" is 1210000089 (specification, Appendix B), modulo 8: 1
    made.append(t.manifest(_with(t, (4, "iceberg"), s_bucket=1)))
    t.snapshot(*made)
    right = rows(A, B, (3, "b"), (4, "iceberg"))
    return Right(
        right, ((where("s", "=", "b"), rows(B, (3, "b"))), (where("s", "=", "iceberg"), rows((4, "iceberg"))))
    )


@case("Hive, migrated", "files without the partition column, whose value is in the manifest only",
      "duckdb-iceberg: partition_values_missing_from_files, shared_source")  # fmt: skip
def column_only_in_manifest(t: Maker) -> Right:
    t.spec = [part(2, 1000, "identity", "s")]
    one = t.parquet(pa.table({"id": [1]}), ids=(1,), name="data/s=a/f.parquet") | {"partition": {"s": "a"}}
    two = t.parquet(pa.table({"id": [2]}), ids=(1,), name="data/s=__HIVE_DEFAULT_PARTITION__/f.parquet") | {
        "partition": {"s": None}
    }
    t.append(one, two)
    return Right(
        rows(A, (2, None)), ((where("s", "=", "a"), rows(A)), (where("s", "is null"), rows((2, None))))
    )


@case("Hive, migrated", "files without a field of a struct, whose value is in the manifest only",
      "duckdb-iceberg: partition_values_missing_from_files, nested_source")  # fmt: skip
def nested_column_only_in_manifest(t: Maker) -> Right:
    t.fields = [
        field(1, "id", "long"),
        field(2, "st", struct_of(field(3, "a", "int"), field(4, "b", "string"))),
    ]
    t.spec = [part(4, 1000, "identity", "st.b")]
    structs = pa.array([{"a": 5}, None], pa.struct([("a", pa.int32())]))
    t.append(t.parquet(pa.table({"id": [1, 2], "st": structs}), ids=(1, 2, 3)) | {"partition": {"st.b": "x"}})
    return Right([{"id": 1, "st": {"a": 5, "b": "x"}}, {"id": 2, "st": None}])


@case(
    "Spark 3.5",
    "partitions of a double: null, NaN, -0.0 and a value that 32 bits cannot hold",
    "iceberg-python: issue 3808",
)
def double_partitions(t: Maker) -> Right:
    t.fields = [field(1, "id", "long"), field(2, "d", "double")]
    t.spec = [part(2, 1000, "identity", "d")]
    values = [None, math.nan, -0.0, 0.1]
    t.append(*(
        t.parquet(pa.table({"id": [at], "d": pa.array([value], pa.float64())})) | {"partition": {"d": value}}
        for at, value in enumerate(values)
    ))  # fmt: skip
    right = [{"id": at, "d": value} for at, value in enumerate(values)]
    return Right(
        right,
        (
            (where("d", "=", 0.1), right[3:]),
            (where("d", "is null"), right[:1]),
            (where("d", "=", 0.0), right[2:3]),
        ),
    )


MOMENTS = [dt.datetime(1969, 12, 31, 23, 59), dt.datetime(1970, 1, 1), dt.datetime(2024, 2, 29, 12)]  # noqa: DTZ001
HOURS = [-1, 0, 474_780]
DAYS = [-1, 0, 19_782]
MONTHS = [-1, 0, 649]
YEARS = [-1, 0, 54]


def _times(t: Maker, transform: str, values: list[int], zone: str | None = None) -> Right:
    t.fields = [field(1, "id", "long"), field(2, "at", "timestamptz" if zone else "timestamp")]
    t.spec = [part(2, 1000, transform, "p")]
    moments = [one.replace(tzinfo=dt.UTC) for one in MOMENTS] if zone else MOMENTS
    t.append(*(
        t.parquet(pa.table({"id": [at], "at": pa.array([one], pa.timestamp("us", zone))})) | {"partition": {"p": value}}
        for at, (one, value) in enumerate(zip(moments, values, strict=True))
    ))  # fmt: skip
    right = [{"id": at, "at": one} for at, one in enumerate(moments)]
    end = "+00:00" if zone else ""
    asks = (
        (where("at", "<", f"1970-01-01T00:00:00{end}"), right[:1]),
        (where("at", ">=", f"1970-01-01T00:00:00{end}"), right[1:]),
        (where("at", "=", f"2024-02-29T12:00:00{end}"), right[2:]),
    )
    return Right(right, asks)


@case("Impala", "partitions by hour, before and after 1970", "impala: iceberg_timestamp_part")
def by_hour(t: Maker) -> Right:
    return _times(t, "hour", HOURS)


@case(
    "Impala",
    "partitions by day of a time with zone, before and after 1970",
    "impala: iceberg_timestamptz_part",
)
def by_day(t: Maker) -> Right:
    return _times(t, "day", DAYS, "UTC")


@case("Trino", "partitions by month, before and after 1970", "specification, Partition Transforms")
def by_month(t: Maker) -> Right:
    return _times(t, "month", MONTHS)


@case("Spark 2.4", "partitions by year, numbered by the old rule: times before 1970 are in the year after",
      "specification, Partition Transforms")  # fmt: skip
def by_year_old(t: Maker) -> Right:
    """Releases before 0.14 rounded towards zero, so that 1969 was 0 or -1."""
    return _times(t, "year", [0, *YEARS[1:]])


@case("DuckDB", "buckets of a time of day", "duckdb-iceberg: bucket_partitioned_time_for_insert")
def bucket_of_time(t: Maker) -> Right:
    t.fields = [field(1, "id", "long"), field(2, "at", "time")]
    t.spec = [part(2, 1000, "bucket[16]", "p")]
    # 22:31:08 hashes to -662762989 (specification, Appendix B); (h & 0x7fffffff) % 16 = 3
    at = dt.time(22, 31, 8)
    t.append(
        t.parquet(pa.table({"id": [1], "at": pa.array([at], pa.time64("us"))})) | {"partition": {"p": 3}}
    )
    right = [{"id": 1, "at": at}]
    return Right(right, ((where("at", "=", "22:31:08"), right), (where("at", "=", "22:31:09"), [])))


@case(
    "Spark 3.5",
    "texts cut in bounds: the upper one is raised, or absent where it cannot be",
    "specification, Manifests, fields 125 and 128",
)
def cut_bounds(t: Maker) -> Right:
    first = t.rows((1, "abcdefghijklmnopqrstuvwxyz")) | {
        "lower_bounds": {2: b"abcdefghijklmnop"},
        "upper_bounds": {2: b"abcdefghijklmnoq"},
    }
    top = "\U0010ffff" * 17
    second = t.rows((2, top)) | {"lower_bounds": {2: ("\U0010ffff" * 16).encode()}, "upper_bounds": {}}
    t.append(first, second)
    return Right(
        rows((1, "abcdefghijklmnopqrstuvwxyz"), (2, top)),
        (
            (where("s", "=", top), rows((2, top))),
            (where("s", ">", "abcdefghijklmnopq"), rows((1, "abcdefghijklmnopqrstuvwxyz"), (2, top))),
            (where("s", "<", "abcdefghijklmnopqs"), rows((1, "abcdefghijklmnopqrstuvwxyz"))),
        ),
    )


@case(
    "Spark 3.5",
    "bounds of decimals with 38 digits",
    "duckdb-iceberg: spark_written_upper_lower_hugeint_bounds",
)
def huge_bounds(t: Maker) -> Right:
    t.fields = [field(1, "d", "decimal(38, 0)")]
    low, high = Decimal("-" + "9" * 38), Decimal("9" * 38)
    found = []
    for value in (low, Decimal(0), high):
        number = int(value)
        size = max(1, (number.bit_length() + 8) // 8)
        bound = number.to_bytes(size, "big", signed=True)
        file = t.parquet(pa.table({"d": pa.array([value], pa.decimal128(38, 0))}))
        found.append(file | {"lower_bounds": {1: bound}, "upper_bounds": {1: bound}})
    t.append(*found)
    return Right([{"d": one} for one in (low, Decimal(0), high)],
                 ((where("d", "<", "__decimal__:0"), [{"d": low}]), (where("d", "=", f"__decimal__:{high}"), [{"d": high}])))  # fmt: skip


@case("Spark 3.5", "bounds of fields inside a struct", "duckdb-iceberg: filtering_on_bounds_nested")
def nested_bounds(t: Maker) -> Right:
    t.fields = [field(1, "st", struct_of(field(2, "a", "int")))]
    kind = pa.struct([("a", pa.int32())])
    one = t.parquet(pa.table({"st": pa.array([{"a": 1}, None], kind)}), ids=(1, 2))
    two = t.parquet(pa.table({"st": pa.array([{"a": 9}, {"a": None}], kind)}), ids=(1, 2))
    bound = {value: pack(value, "int") for value in (1, 9)}
    t.append(
        one | {"lower_bounds": {2: bound[1]}, "upper_bounds": {2: bound[1]}, "value_counts": {2: 1}, "null_value_counts": {2: 0}},
        two | {"lower_bounds": {2: bound[9]}, "upper_bounds": {2: bound[9]}, "value_counts": {2: 2}, "null_value_counts": {2: 1}},
    )  # fmt: skip
    return Right(
        [{"st": {"a": 1}}, {"st": None}, {"st": {"a": 9}}, {"st": {"a": None}}],
        (
            (where("st.a", ">", 5), [{"st": {"a": 9}}]),
            (where("st.a", "is null"), [{"st": None}, {"st": {"a": None}}]),
        ),
    )


@case(
    "Java library up to 1.10",
    "bounds of UUIDs in the order of two signed numbers",
    "iceberg: issues 14216, 14500",
)
def uuid_bounds(t: Maker) -> Right:
    t.fields = [field(1, "u", "uuid")]
    values = [(1 << 127).to_bytes(16, "big"), (5).to_bytes(16, "big")]
    file = t.parquet(pa.table({"u": pa.array(values, pa.binary(16))}))
    t.append(file | {"lower_bounds": {1: values[0]}, "upper_bounds": {1: values[1]}})
    text = "00000000-0000-0000-0000-000000000005"
    return Right(
        [{"u": uuid.UUID(bytes=one)} for one in values], ((where("u", "=", text), [{"u": uuid.UUID(text)}]),)
    )


@case(
    "Impala",
    "bounds of doubles with NaN and both zeros",
    "parquet-testing: float16_zeros_and_nans, nan_in_stats",
)
def nan_bounds(t: Maker) -> Right:
    t.fields = [field(1, "d", "double")]
    nan = t.parquet(pa.table({"d": [math.nan, 1.0]})) | {
        "lower_bounds": {1: pack(math.nan, "double")},
        "upper_bounds": {1: pack(math.nan, "double")},
    }
    zero = t.parquet(pa.table({"d": [0.0]})) | {
        "lower_bounds": {1: pack(-0.0, "double")},
        "upper_bounds": {1: pack(-0.0, "double")},
    }
    t.append(nan, zero)
    return Right([{"d": math.nan}, {"d": 1.0}, {"d": 0.0}],
                 ((where("d", "=", 1.0), [{"d": 1.0}]), (where("d", "=", 0.0), [{"d": 0.0}]), (where("d", "<", 0.5), [{"d": 0.0}])))  # fmt: skip


@case(
    "Any", "no counts and no bounds of any column", "specification, Manifests: counts and bounds are optional"
)
def no_statistics(t: Maker) -> Right:
    t.append(
        t.rows(A),
        t.rows((2, None)),
        drop=("value_counts", "null_value_counts", "lower_bounds", "upper_bounds"),
    )
    return Right(
        rows(A, (2, None)), ((where("s", "is null"), rows((2, None))), (where("s", "!=", "x"), rows(A)))
    )


@case(
    "Any",
    "a partition field by a transform that no release has",
    "specification, Partition Transforms: unknown ones are ignored",
)
def unknown_transform(t: Maker) -> Right:
    t.spec = [part(2, 1000, "identity", "s"), part(1, 1001, "zorder", "z")]
    t.append(_with(t, A, s="a", z=1), _with(t, B, s="b", z=2))
    return Right(rows(A, B), ((where("s", "=", "a"), rows(A)), (where("id", "=", 2), rows(B))))


@case(
    "Java library", "version 3: a transform of several columns", "specification, Partition Specs, source-ids"
)
def several_sources(t: Maker) -> Right:
    t.version = 3
    t.spec = [{"source-ids": [1, 2], "field-id": 1000, "transform": "bucket[4]", "name": "p"}]
    t.partition_schema = {
        "type": "record",
        "name": "r102",
        "fields": [{"name": "p", "type": optional("int"), "field-id": 1000}],
    }
    t.append(_with(t, A, p=1), _with(t, B, p=2))
    return Right(rows(A, B), ((where("id", "=", 2), rows(B)),))


@case(
    "DuckDB",
    "a manifest whose spec is not among the table's",
    "duckdb-iceberg: iceberg_v1_deprecated, no-matching-partition-spec",
)
def unknown_spec(t: Maker) -> Right:
    made = t.manifest(t.rows(A)) | {"partition_spec_id": 9}
    t.snapshot(made)
    return Right(rows(A), ((where("id", "=", 1), rows(A)),))


@case("Any", "a manifest without the value of a field of its spec", "specification, Manifests, field 102")
def missing_partition_value(t: Maker) -> Right:
    made = t.manifest(t.rows(A))
    t.spec = [part(2, 1000, "identity", "s")]
    t.snapshot(made)
    return Right(refused("The manifest 00002-m0.avro lacks the values of partition field s"))


@case("Any", "a manifest packed with a codec that Avro does not have", "Avro specification, Optional Codecs")
def unknown_codec(t: Maker) -> Right:
    avro.CODECS["lzo"] = lambda data: data
    t.snapshot(t.manifest(t.rows(A), codec="lzo"))
    del avro.CODECS["lzo"]
    return Right(refused("The table cannot be read exactly: a manifest has the unknown codec 'lzo'"))
