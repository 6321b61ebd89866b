"""Types and Parquet files as other engines write them."""

from __future__ import annotations

import datetime as dt
import json
import struct
import uuid
from decimal import Decimal

import duckdb
import pyarrow as pa

from foreign.cases import Right, case, damaged, refused, rows, where
from foreign.maker import MAPPING, Maker, field, list_of, map_of, struct_of

A, B = (1, "a"), (2, "b")
UTC = dt.UTC
NOON = dt.datetime(2024, 2, 29, 12)  # noqa: DTZ001
EPOCH_JULIAN = 2_440_588
"""The Julian day of 1970-01-01 (Parquet format, "INT96")."""


def named(*entries: dict[str, object]) -> dict[str, str]:
    return {MAPPING: json.dumps(entries)}


def name(number: int, *names: str, fields: list[dict[str, object]] | None = None) -> dict[str, object]:
    found: dict[str, object] = {"field-id": number, "names": list(names)}
    return found | ({"fields": fields} if fields else {})


def one(
    t: Maker,
    kind: object,
    values: list[object],
    arrow: pa.DataType,
    right: list[object] | None = None,
    **options: object,
) -> Right:
    """A table of one column."""
    t.fields = [field(1, "x", kind)]
    t.append(t.parquet(pa.table({"x": pa.array(values, arrow)}), **options))
    return Right([{"x": value} for value in (values if right is None else right)])


@case("Hive 3, migrated", "INT96 times of the years 1 and 9999, cut to microseconds, in files without ids",
      "parquet-testing: int96_from_spark")  # fmt: skip
def int96(t: Maker) -> Right:
    t.fields = [field(1, "at", "timestamp")]
    t.properties = named(name(1, "at"))
    moments = [(-719_162, 0), (19_782, 43_200_000_001_999), (2_932_896, 0)]
    marks = pa.array(range(1, 4), pa.timestamp("ns"))
    file = t.parquet(pa.table({"at": marks}), ids=(), use_deprecated_int96_timestamps=True, compression="none",
                     use_dictionary=False, write_statistics=False)  # fmt: skip
    path = t.folder / "data/00001.parquet"
    content = path.read_bytes()
    for mark, (day, nanos) in enumerate(moments, 1):
        content = content.replace(
            struct.pack("<qi", mark, EPOCH_JULIAN), struct.pack("<qi", nanos, EPOCH_JULIAN + day)
        )
    path.write_bytes(content)
    t.append(file)
    right = [dt.datetime(1, 1, 1), NOON.replace(microsecond=1), dt.datetime(9999, 12, 31)]  # noqa: DTZ001
    return Right(
        [{"at": at} for at in right], ((where("at", "<", "1600-01-01T00:00:00"), [{"at": right[0]}]),)
    )


@case(
    "Spark 3.5",
    "the types of version 2, each with a null",
    "duckdb-iceberg: insert_all_types; impala: iceberg_alltypes_part",
)
def all_types(t: Maker) -> Right:
    number = uuid.UUID("f79c3e09-677c-4bbd-a479-3f349cb785e7")
    table: dict[str, tuple[str, pa.DataType, object]] = {
        "b": ("boolean", pa.bool_(), True), "i": ("int", pa.int32(), -(2**31)), "l": ("long", pa.int64(), 2**63 - 1),
        "f": ("float", pa.float32(), 0.5), "d": ("double", pa.float64(), 0.1), "day": ("date", pa.date32(), dt.date(1969, 12, 31)),
        "t": ("time", pa.time64("us"), dt.time(23, 59, 59, 999_999)), "ts": ("timestamp", pa.timestamp("us"), NOON),
        "s": ("string", pa.string(), "é\U0001f600"), "fix": ("fixed[3]", pa.binary(3), b"\0\1\2"), "bin": ("binary", pa.binary(), b"\0"),
    }  # fmt: skip
    t.fields = [field(at, key, kind) for at, (key, (kind, _, _)) in enumerate(table.items(), 1)]
    t.fields += [field(20, "u", "uuid"), field(21, "tz", "timestamptz"), field(22, "n", "decimal(9, 2)")]
    columns = {key: pa.array([value, None], arrow) for key, (_, arrow, value) in table.items()}
    columns |= {"u": pa.array([number.bytes, None], pa.binary(16)), "tz": pa.array([NOON, None], pa.timestamp("us", "UTC")),
                "n": pa.array([Decimal("-1.25"), None], pa.decimal128(9, 2))}  # fmt: skip
    t.append(t.parquet(pa.table(columns), ids=[*range(1, 12), 20, 21, 22]))
    full = {key: value for key, (_, _, value) in table.items()}
    full |= {"u": number, "tz": NOON.replace(tzinfo=UTC), "n": Decimal("-1.25")}
    return Right(
        [full, dict.fromkeys(full)],
        ((where("b", "=", value=True), [full]), (where("bin", "is null"), [dict.fromkeys(full)])),
    )


@case("Spark 3.5", "decimals as INT32 and INT64", "parquet-testing: int32_decimal, int64_decimal")
def decimals_as_integers(t: Maker) -> Right:
    t.fields = [field(1, "x", "decimal(9, 2)"), field(2, "y", "decimal(18, 0)")]
    x, y = Decimal("-9999999.99"), Decimal("9" * 18)
    data = pa.table({"x": pa.array([x], pa.decimal128(9, 2)), "y": pa.array([y], pa.decimal128(18, 0))})
    t.append(t.parquet(data, store_decimal_as_integer=True))
    return Right([{"x": x, "y": y}], ((where("x", "<", "__decimal__:0"), [{"x": x, "y": y}]),))


@case("Impala", "decimals as bytes of a fixed size", "parquet-testing: fixed_length_decimal")
def decimals_as_fixed(t: Maker) -> Right:
    values = [Decimal("-1.50"), Decimal("9" * 36 + ".99")]
    found = one(t, "decimal(38, 2)", values, pa.decimal128(38, 2))
    return Right(found.rows, ((where("x", "<", "__decimal__:0"), [{"x": values[0]}]),))


@case("Arrow", "decimals of 32 and 64 bits by the file's hint", "specification, Parquet")
def small_decimals(t: Maker) -> Right:
    return one(t, "decimal(5, 2)", [Decimal("1.25"), None], pa.decimal32(5, 2), store_decimal_as_integer=True)


@case("Java library", "an int that is a long by now, a float that is a double, a decimal with more digits",
      "iceberg-rust: interop/update_schema/update_type_promotion")  # fmt: skip
def promoted(t: Maker) -> Right:
    t.fields = [field(1, "i", "int"), field(2, "f", "float"), field(3, "d", "decimal(5, 2)")]
    old = pa.table(
        {
            "i": pa.array([-1], pa.int32()),
            "f": pa.array([0.1], pa.float32()),
            "d": pa.array([Decimal("1.25")], pa.decimal128(5, 2)),
        }
    )
    t.append(
        t.parquet(old)
        | {"lower_bounds": {1: struct.pack("<i", -1)}, "upper_bounds": {1: struct.pack("<i", -1)}}
    )
    t.evolve(field(1, "i", "long"), field(2, "f", "double"), field(3, "d", "decimal(12, 2)"))
    right = [{"i": -1, "f": 0.10000000149011612, "d": Decimal("1.25")}]
    t.snapshot(*t.listed())
    return Right(right, ((where("i", "=", -1), right), (where("f", ">", 0.1), right)))


@case("Spark 4.0", "version 3: a date that is a timestamp by now", "specification, Schema Evolution")
def date_promoted(t: Maker) -> Right:
    t.version = 3
    t.fields = [field(1, "d", "date")]
    t.append(t.parquet(pa.table({"d": pa.array([dt.date(2024, 2, 29)])})))
    t.evolve(field(1, "d", "timestamp"))
    t.snapshot(*t.listed())
    return Right([{"d": NOON.replace(hour=0)}])


@case(
    "Spark 4.0",
    "version 3: a required column with a default in older files",
    "iceberg-rust: interop/update_schema/add_required_with_default_and_update_default",
)
def default(t: Maker) -> Right:
    t.version = 3
    t.append(t.rows(A))
    t.evolve(*t.fields, field(3, "x", "int", required=True, **{"initial-default": 7, "write-default": 9}))
    t.snapshot(*t.listed())
    right = [{"id": 1, "s": "a", "x": 7}]
    return Right(right, ((where("x", "=", 7), right), (where("x", "=", 9), [])))


@case(
    "Spark 4.0",
    "version 3: a default inside a struct that is null in older files",
    "specification, Default values",
)
def nested_default(t: Maker) -> Right:
    t.version = 3
    t.fields = [field(1, "st", struct_of(field(2, "a", "int")))]
    kind = pa.struct([("a", pa.int32())])
    t.append(t.parquet(pa.table({"st": pa.array([{"a": 1}, None], kind)}), ids=(1, 2)))
    t.evolve(field(1, "st", struct_of(field(2, "a", "int"), field(3, "b", "int", **{"initial-default": 5}))))
    t.snapshot(*t.listed())
    full = {"st": {"a": 1, "b": 5}}
    return Right(
        [full, {"st": None}], ((where("st.b", "=", 5), [full]), (where("st.b", "is null"), [{"st": None}]))
    )


@case("Spark 4.0", "version 3: times with nanoseconds", "duckdb-iceberg: bucket_partitioned_timestamp_ns")
def nanoseconds(t: Maker) -> Right:
    t.version = 3
    t.fields = [field(1, "id", "long"), field(2, "x", "timestamp_ns")]
    t.append(t.parquet(pa.table({"id": [1, 2], "x": pa.array([1, 1_000_000_001], pa.timestamp("ns"))})))
    condition = where("x", ">", "1970-01-01T00:00:01", columns=["id"])
    epoch = dt.datetime(1970, 1, 1)  # noqa: DTZ001
    right = [{"id": 1, "x": (epoch, 1)}, {"id": 2, "x": (epoch.replace(second=1), 1)}]
    return Right(right, ((condition, [{"id": 2}]),))


@case("pandas", "nanoseconds in the files of a column of microseconds", "specification, Parquet")
def nanoseconds_in_files(t: Maker) -> Right:
    return one(
        t,
        "timestamp",
        [1_001_999, -1],
        pa.timestamp("ns"),
        [NOON.replace(1970, 1, 1, 0, microsecond=1001), NOON.replace(1969, 12, 31, 23, 59, 59, 999_999)],
    )


@case("Flink", "milliseconds in the files of a column of microseconds", "Parquet format, Logical Types")
def milliseconds(t: Maker) -> Right:
    return one(t, "timestamp", [NOON, None], pa.timestamp("ms"))


@case("Spark 4.0", "version 3: a column of unknown type is null", "specification, Primitive Types")
def unknown_type(t: Maker) -> Right:
    t.version = 3
    t.fields = [field(1, "id", "long"), field(2, "u", "unknown")]
    t.append(t.parquet(pa.table({"id": [1]})))
    return Right([{"id": 1, "u": None}])


@case(
    "Spark 4.0",
    "version 3: a variant beside other columns",
    "iceberg-go: shredded_variant; parquet-testing: shredded_variant",
)
def variant(t: Maker) -> Right:
    t.version = 3
    t.fields = [field(1, "id", "long"), field(2, "v", "variant")]
    kind = pa.struct(
        [pa.field("metadata", pa.binary(), nullable=False), pa.field("value", pa.binary(), nullable=False)]
    )
    values = pa.array([{"metadata": b"\1\0\0", "value": b"\x0c\7"}], kind)
    t.append(t.parquet(pa.table({"id": [1], "v": values}), ids=(1, 2, None, None)))
    return Right(
        refused("Column 'v' cannot be read: its type is variant. Leave it out of the columns."),
        (({"columns": ["id"]}, [{"id": 1}]), (where("id", "=", 1, columns=["id"]), [{"id": 1}])),
    )


@case(
    "Spark 4.0",
    "version 3: a geometry beside other columns",
    "iceberg-go: geo/crs-default.parquet; parquet-testing: geospatial",
)
def geometry(t: Maker) -> Right:
    t.version = 3
    t.fields = [field(1, "id", "long"), field(2, "g", "geometry(srid:4326)"), field(3, "h", "geography")]
    t.append(t.parquet(pa.table({"id": [1], "g": [b"\1"], "h": [b"\1"]})))
    return Right(
        refused("Column 'g' cannot be read: its type is geometry(srid:4326). Leave it out of the columns."),
        (
            ({"columns": ["id"]}, [{"id": 1}]),
            (
                {"columns": ["h"]},
                refused(
                    "The data file 00001.parquet does not fit the table's schema: its column 'h' is binary, the table's geography: Cannot promote an binary to geography"
                ),
            ),
        ),
    )


@case(
    "Java library",
    "columns renamed, moved, dropped, and one added under a dropped one's name",
    "iceberg-rust: interop/update_schema/rename_and_move",
)
def evolved(t: Maker) -> Right:
    t.append(t.rows(A))
    t.evolve(field(3, "s", "int"), field(1, "nr", "long"))
    t.append(t.parquet(pa.table({"nr": [2], "s": pa.array([5], pa.int32())}), ids=(1, 3)))
    return Right(
        [{"s": None, "nr": 1}, {"s": 5, "nr": 2}],
        (({"snapshot_id": 101}, rows(A)), (where("s", "=", 5), [{"s": 5, "nr": 2}])),
    )


@case(
    "Java library",
    "fields added in a struct of a list and in the values of a map",
    "iceberg-rust: interop/update_schema/add_nested_struct_and_map",
)
def nested_evolved(t: Maker) -> Right:
    t.fields = [
        field(1, "l", list_of(2, struct_of(field(3, "a", "int")))),
        field(4, "m", map_of(5, "string", 6, struct_of(field(7, "a", "int")))),
    ]
    inner = pa.struct([("a", pa.int32())])
    data = pa.table(
        {
            "l": pa.array([[{"a": 1}, None], None], pa.list_(inner)),
            "m": pa.array([[("k", {"a": 1})], []], pa.map_(pa.string(), inner)),
        }
    )
    t.append(t.parquet(data, ids=range(1, 8)))
    t.evolve(field(1, "l", list_of(2, struct_of(field(8, "b", "string"), field(3, "a", "int")))),
             field(4, "m", map_of(5, "string", 6, struct_of(field(7, "a", "int"), field(9, "b", "string")))))  # fmt: skip
    t.snapshot(*t.listed())
    return Right(
        [{"l": [{"b": None, "a": 1}, None], "m": [("k", {"a": 1, "b": None})]}, {"l": None, "m": []}]
    )


@case("Hive, migrated", "files without ids: columns by the name mapping, with a second name and one that it does not know",
      "duckdb-iceberg: test_add_files")  # fmt: skip
def by_name(t: Maker) -> Right:
    t.properties = named(name(1, "id", "nr"), name(2, "s"))
    t.append(t.rows(A, ids=()), t.parquet(pa.table({"extra": [9], "nr": [2], "s": ["b"]}), ids=()))
    return Right(rows(A, B), ((where("id", "=", 2), rows(B)),))


@case("Hive, migrated", "files without ids and no name mapping", "specification, Column Projection")
def no_mapping(t: Maker) -> Right:
    t.append(t.rows(A, ids=()))
    return Right(
        refused(
            "The columns of data file 00001.parquet cannot be matched with the table's: the file has no field ids, and the table no property schema.name-mapping.default"
        )
    )


@case("Hive, migrated", "lists and maps whose inner groups have old names, by the name mapping",
      "parquet-testing: old_list_structure, nonnullable.impala")  # fmt: skip
def old_nested_names(t: Maker) -> Right:
    t.fields = [field(1, "l", list_of(2, "long")), field(3, "m", map_of(4, "string", 5, "long"))]
    t.properties = named(
        name(1, "l", fields=[name(2, "element")]), name(3, "m", fields=[name(4, "key"), name(5, "value")])
    )
    data = pa.table(
        {
            "l": pa.array([[1, None], None]),
            "m": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        }
    )
    t.append(t.parquet(data, ids=(), use_compliant_nested_type=False))
    return Right([{"l": [1, None], "m": [("k", 1)]}, {"l": None, "m": None}])


@case(
    "Spark 3.5",
    "six files, each packed with another codec, and a codec in the properties that has no such name",
    "trino: iceberg/invalid_compression_codec",
)
def codecs(t: Maker) -> Right:
    found = ("none", "snappy", "gzip", "brotli", "zstd", "lz4")
    t.properties = {"write.parquet.compression-codec": "none"}
    t.append(*(t.rows((at, codec), compression=codec) for at, codec in enumerate(found)))
    return Right(rows(*enumerate(found)))


@case(
    "parquet-java 1.13",
    "delta encodings, data pages of version 2 and an index of pages",
    "parquet-testing: delta_binary_packed, delta_byte_array, rle_boolean_encoding",
)
def delta_encodings(t: Maker) -> Right:
    t.fields = [
        field(1, "i", "long"),
        field(2, "s", "string"),
        field(3, "b", "binary"),
        field(4, "d", "double"),
    ]
    data = pa.table(
        {"i": [1, -5, 2**62], "s": ["a", "ab", None], "b": [b"x", b"", b"xyz"], "d": [0.1, -0.0, None]}
    )
    encodings = {
        "i": "DELTA_BINARY_PACKED",
        "s": "DELTA_BYTE_ARRAY",
        "b": "DELTA_LENGTH_BYTE_ARRAY",
        "d": "BYTE_STREAM_SPLIT",
    }
    t.append(
        t.parquet(
            data,
            use_dictionary=False,
            column_encoding=encodings,
            data_page_version="2.0",
            write_page_index=True,
        )
    )
    return Right(data.to_pylist(), ((where("i", "<", 0), data.to_pylist()[1:2]),))


@case("Spark 3.5", "a file of one row a row group, with dictionaries", "impala: iceberg_lineitem_multiblock")
def many_row_groups(t: Maker) -> Right:
    pairs = [(at, f"t{at % 3}") for at in range(20)]
    t.append(t.rows(*pairs, row_group_size=1))
    return Right(rows(*pairs), ((where("id", ">=", 18), rows(*pairs[18:])),))


@case("Flink", "a file without rows", "specification, Manifests, field 103")
def no_rows(t: Maker) -> Right:
    empty = t.parquet(pa.table({"id": pa.array([], pa.int64()), "s": pa.array([], pa.string())}))
    t.append(empty, t.rows(A))
    return Right(rows(A))


@case("DuckDB", "a file by DuckDB's own writer, with ids", "duckdb-iceberg: insert_all_types")
def by_duckdb(t: Maker) -> Right:
    t.fields = [
        field(1, "id", "long"),
        field(2, "s", "string"),
        field(3, "l", list_of(4, "int")),
        field(5, "u", "uuid"),
    ]
    path = t.path("data/duckdb.parquet")
    number = "f79c3e09-677c-4bbd-a479-3f349cb785e7"
    query = f"SELECT 1::BIGINT AS id, 'a' AS s, [1, NULL]::INT[] AS l, '{number}'::UUID AS u"
    ids = "{id: 1, s: 2, l: {__duckdb_field_id: 3, element: 4}, u: 5}"
    with duckdb.connect() as engine:
        engine.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, FIELD_IDS {ids}, PARQUET_VERSION v2)")
    t.append(t.described(path, 1))
    return Right([{"id": 1, "s": "a", "l": [1, None], "u": uuid.UUID(number)}])


@case("pandas", "a column that the writer had as a category", "specification, Parquet")
def category(t: Maker) -> Right:
    data = pa.table({"id": [1, 2], "s": pa.array(["a", "b"]).dictionary_encode()})
    t.append(t.parquet(data, ids=()))
    t.properties = named(name(1, "id"), name(2, "s"))
    return Right(rows(A, B), ((where("s", "=", "b"), rows(B)),))


@case(
    "PyIceberg",
    "large texts and lists by the file's hint, and a zone that is not UTC",
    "specification, Parquet",
)
def large_types(t: Maker) -> Right:
    t.fields = [field(1, "s", "string"), field(2, "at", "timestamptz")]
    data = pa.table(
        {
            "s": pa.array(["a"], pa.large_string()),
            "at": pa.array([NOON.replace(tzinfo=UTC)], pa.timestamp("us", "America/New_York")),
        }
    )
    t.append(t.parquet(data))
    return Right([{"s": "a", "at": NOON.replace(tzinfo=UTC)}])


@case("Any", "a data file with an encrypted footer", "parquet-testing: encrypt_columns_and_footer")
def encrypted_file(t: Maker) -> Right:
    file = t.rows(A)
    path = t.folder / "data/00001.parquet"
    path.write_bytes(path.read_bytes()[:-4] + b"PARE")
    t.append(file)
    return Right(refused("The data file 00001.parquet is encrypted, which is not supported"))


@case("Any", "a record count that is not the file's", "specification, Manifests, field 103")
def wrong_count(t: Maker) -> Right:
    t.append(t.rows(A) | {"record_count": 2})
    return Right(
        damaged("The data file 00001.parquet has 1 rows, but the table's manifest says 2"),
        (
            (
                where("id", "=", 9),
                damaged("The data file 00001.parquet has 1 rows, but the table's manifest says 2"),
            ),
        ),
    )


@case("Any", "a data file that is gone", "specification, Manifests, field 100")
def gone(t: Maker) -> Right:
    t.append(t.rows(A))
    (t.folder / "data/00001.parquet").unlink()
    return Right(damaged("The data file 00001.parquet is missing or damaged"))


@case("Hive", "a column of another type than the table's", "specification, Schema Evolution")
def other_type(t: Maker) -> Right:
    t.append(t.parquet(pa.table({"id": ["x"], "s": ["a"]})))
    return Right(
        refused(
            "The data file 00001.parquet does not fit the table's schema: its column 'id' is string, the table's long: Cannot promote an string to long"
        ),
        (({"columns": ["s"]}, [{"s": "a"}]),),
    )
