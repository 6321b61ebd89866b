"""Metadata files, snapshots and references as engines and releases since 2019 have written them."""

from __future__ import annotations

import pyarrow as pa

from foreign.cases import Right, case, damaged, refused, rows, where
from foreign.maker import MAPPING, START_MS, Maker, field, part

A, B, C = (1, "a"), (2, "b"), (3, "c")


@case("Spark 2.4, Iceberg 0.7", "version 1: snapshots name their manifests themselves, partition fields have no ids, entries no counts",
      "duckdb-iceberg: iceberg_v1_deprecated, no-optional-manifest-keys")  # fmt: skip
def snapshots_name_manifests(t: Maker) -> Right:
    t.version = 1
    t.spec = [part(2, 1000, "identity", "s")]
    one = t.rows(A) | {"partition": {"s": "a"}}
    two = t.rows(B) | {"partition": {"s": "b"}}
    optional = ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts", "lower_bounds",
                "upper_bounds", "key_metadata", "split_offsets", "sort_order_id")  # fmt: skip
    t.snapshot(t.manifest(one, drop=optional), t.manifest(two, drop=optional), inline=True, schema=None)
    [plain] = [dict(one) for one in t.spec]
    del plain["field-id"]
    t.write(schemas=..., current_schema_id=..., partition_specs=..., default_spec_id=..., last_partition_id=...,
            partition_spec=[plain], sort_orders=..., default_sort_order_id=...)  # fmt: skip
    return Right(rows(A, B), ((where("s", "=", "b"), rows(B)),))


@case("Spark 2.4, Iceberg 0.8", "version 1: a manifest list of three fields",
      "iceberg-rust: simple_manifest_list_v1")  # fmt: skip
def manifest_list_of_three_fields(t: Maker) -> Right:
    t.version = 1
    t.snapshot(t.manifest(t.rows(A, B)), fields=(500, 501, 502))
    return Right(rows(A, B))


@case("Java library", "version 1: one schema and no list of schemas", "iceberg-rust: TableMetadataV1Valid")
def one_schema(t: Maker) -> Right:
    t.version = 1
    t.append(t.rows(A))
    t.write(schemas=..., current_schema_id=...)
    return Right(rows(A))


@case("Spark 3.0", "version 1: a snapshot without a schema id, older than the current schema",
      "duckdb-iceberg: iceberg_v1_deprecated, no-snapshot-schema-id")  # fmt: skip
def snapshot_without_schema(t: Maker) -> Right:
    t.version = 1
    first = t.snapshot(t.manifest(t.rows(A)), schema=None)
    t.evolve(*t.fields, field(3, "later", "int"))
    right = [{"id": 1, "s": "a", "later": None}]
    return Right(right, (({"snapshot_id": first}, right),))


@case(
    "Hadoop catalog",
    "the metadata file is packed with gzip, named as Hadoop's catalog does",
    "specification, Table Metadata: file naming",
)
def packed_hadoop(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write("v2.metadata.json.gz", packed=True)
    return Right(rows(A))


@case(
    "Java library",
    "the metadata file is packed with gzip, named as other catalogs do",
    "specification, Table Metadata: file naming",
)
def packed(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write("00001-x.gz.metadata.json", packed=True)
    return Right(rows(A))


@case("Rust library", "the metadata file is packed with Zstandard, which is not in the specification",
      "iceberg-rust: TableMetadataV2Valid.zstd")  # fmt: skip
def packed_zstd(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write("v1.zstd.metadata.json")
    path = t.folder / "metadata/v1.zstd.metadata.json"
    path.write_bytes(pa.Codec("zstd").compress(path.read_bytes(), asbytes=True))
    return Right(rows(A))


@case(
    "Presto",
    "statistics with blob types of its own",
    "iceberg: TableMetadataStatisticsFiles; duckdb-iceberg: table_statistics",
)
def statistics_of_presto(t: Maker) -> Right:
    t.append(t.rows(A))
    blob = {
        "type": "presto-sum-data-size-bytes-v1",
        "snapshot-id": 101,
        "fields": ["s"],
        "sequence-number": "1",
    }
    t.write(statistics=[{"snapshot-id": 101, "statistics-path": "gone.puffin", "blob-metadata": [blob]}])
    return Right(rows(A))


@case("Spark 3.5", "partition statistics of a size that is not the file's",
      "duckdb-iceberg: table_partition_statistics_bad_size; iceberg-go: TableMetadataV3WithPartitionStatistics")  # fmt: skip
def partition_statistics(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write(
        partition_statistics=[
            {"snapshot-id": 101, "statistics-path": "gone.parquet", "file-size-in-bytes": -1}
        ]
    )
    return Right(rows(A))


@case("Java library", "version 3 with row lineage", "iceberg: TableMetadataV3RowLineageEnabled")
def row_lineage(t: Maker) -> Right:
    t.version = 3
    t.snapshot(t.manifest(t.rows(A, B) | {"first_row_id": 0}), **{"first-row-id": 0, "added-rows": 2})
    return Right(rows(A, B))


@case("Java library", "version 3 without the next row id", "iceberg: TableMetadataV3MissingNextRowId")
def no_next_row_id(t: Maker) -> Right:
    t.version = 3
    t.append(t.rows(A))
    t.write(next_row_id=...)
    return Right(rows(A))


@case(
    "Java library",
    "version 4, with locations that are relative",
    "iceberg: TableMetadataV4RelativeManifestList",
)
def version_four(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write(format_version=4)
    return Right(refused("The table cannot be read: it has format version 4"))


@case("Java library", "a version that no release has", "iceberg: TableMetadataUnsupportedVersion")
def version_unknown(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write(format_version=99)
    return Right(refused("The table cannot be read: it has format version 99"))


@case("Spark 3.5", "the name is that of a view", "iceberg: ValidViewMetadata")
def a_view(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write(view_uuid="00000000-0000-4000-8000-000000000002")
    return Right(refused("The table cannot be read: it is a view"))


@case(
    "Java library",
    "the current schema is not among the schemas",
    "iceberg: TableMetadataV2CurrentSchemaNotFound",
)
def no_current_schema(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write(current_schema_id=9)
    return Right(damaged("The metadata file v1.metadata.json is missing or damaged"))


@case("Java library", "version 2 without partition specs", "iceberg: TableMetadataV2MissingPartitionSpecs")
def no_specs(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write(partition_specs=...)
    return Right(damaged("The metadata file v1.metadata.json is missing or damaged"))


@case("Java library", "version 2 without schemas", "iceberg-rust: TableMetadataV2MissingSchemas")
def no_schemas(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write(schemas=...)
    return Right(damaged("The metadata file v1.metadata.json is missing or damaged"))


@case(
    "Java library",
    "version 2 without sort orders, which a scan does not need",
    "iceberg: TableMetadataV2MissingSortOrder",
)
def no_sort_orders(t: Maker) -> Right:
    t.append(t.rows(A))
    t.write(sort_orders=..., default_sort_order_id=...)
    return Right(rows(A))


@case(
    "Java library",
    "the current snapshot is -1, which means none",
    "specification, Table Metadata, current-snapshot-id",
)
def snapshot_minus_one(t: Maker) -> Right:
    t.write(current_snapshot_id=-1, snapshots=[])
    return Right([])


@case("Go library", "no snapshot at all", "iceberg-go: TableMetadataV2ValidMinimal")
def no_snapshots(t: Maker) -> Right:
    t.write(snapshots=...)
    return Right([])


@case("Spark 3.5", "rolled back: the current snapshot is not the last one",
      "iceberg-rust: interop/manage_snapshots/rollback_to_ancestor")  # fmt: skip
def rolled_back(t: Maker) -> Right:
    first, second = t.append(t.rows(A)), t.append(t.rows(B))
    t.write(current_snapshot_id=first)
    return Right(rows(A), (({"snapshot_id": str(second)}, rows(A, B)),))


@case("Spark 3.5", "a tag is read with its snapshot's schema, a branch with the table's",
      "iceberg-rust: interop/manage_snapshots/create_branch_and_tag")  # fmt: skip
def branch_and_tag(t: Maker) -> Right:
    first = t.append(t.rows(A))
    t.evolve(field(1, "nr", "long"), field(3, "later", "int"))
    t.append(t.parquet(pa.table({"nr": pa.array([2]), "later": pa.array([5], pa.int32())}), ids=(1, 3)))
    t.refs = {"dev": {"snapshot-id": first, "type": "branch"}, "old": {"snapshot-id": first, "type": "tag"}}
    return Right(
        [{"nr": 1, "later": None}, {"nr": 2, "later": 5}],
        (({"ref": "dev"}, [{"nr": 1, "later": None}]), ({"ref": "old"}, rows(A))),
    )


@case("Trino", "time travel between two commits", "trino: iceberg/timetravel; iceberg-rust: rollback_to_time")
def time_travel(t: Maker) -> Right:
    t.append(t.rows(A))
    t.append(t.rows(B))
    log = [{"snapshot-id": 100 + n, "timestamp-ms": START_MS + n} for n in (1, 2)]
    t.write(snapshot_log=log)
    # 1,700,000,000.001 s after 1970
    return Right(rows(A, B), (({"as_of": "2023-11-14T22:13:20.001+00:00"}, rows(A)),))


@case("Trino", "a materialized view's storage table whose first snapshots have expired",
      "trino: iceberg/materialized_view_expired_snapshots")  # fmt: skip
def expired_snapshots(t: Maker) -> Right:
    t.append(t.rows(A))
    t.append(t.rows(B))
    (t.folder / "metadata/snap-101.avro").unlink()
    t.snapshots.pop(0)
    return Right(rows(A, B))


@case("Java library", "a manifest list that is encrypted", "iceberg-rust: manifest-list-v3-encrypted")
def encrypted_list(t: Maker) -> Right:
    t.version = 3
    t.snapshot(t.manifest(t.rows(A)), **{"key-id": "k"})
    path = t.folder / "metadata/snap-101.avro"
    path.write_bytes(b"AGS1" + bytes(4) + path.read_bytes()[4:])
    t.write(encryption_keys=[{"key-id": "k", "encrypted-key-metadata": "a2V5"}])
    return Right(refused("The manifest list snap-101.avro is encrypted, which is not supported"))


@case(
    "Impala",
    "column names in upper case, beside the same ones in lower case",
    "impala: iceberg_uppercase_col",
)
def upper_case(t: Maker) -> Right:
    t.fields = [field(1, "ID", "long"), field(2, "id", "string")]
    t.append(t.parquet(pa.table({"ID": [1], "id": ["a"]})))
    return Right([{"ID": 1, "id": "a"}], ((where("ID", "=", 1, columns=["id"]), [{"id": "a"}]),))


@case("Impala", "data files of one table in several folders", "impala: iceberg_multiple_storage_locations")
def several_folders(t: Maker) -> Right:
    t.append(t.rows(A, name="../elsewhere/data/f.parquet"), t.rows(B, name="data02/f.parquet"))
    return Right(rows(A, B))


@case("Hadoop catalog", "locations with one slash behind the scheme", "impala: hadoop_catalog_test")
def one_slash(t: Maker) -> Right:
    file = t.rows(A, B)
    t.append(file | {"file_path": file["file_path"].replace("file:///", "file:/")})
    return Right(rows(A, B))


@case(
    "Any",
    "hashed folders of an object store's layout",
    "specification, Table Metadata: files may be anywhere",
)
def hashed_folders(t: Maker) -> Right:
    t.properties = {"write.object-storage.enabled": "true"}
    t.append(t.rows(A, name="data/0101/1100/0011/10101010/s=a%2Fb/x.parquet"))
    return Right(rows(A))


@case("Any", "snapshots whose summary has no operation, and file names with `#`, `?` and `%`",
      "specification, Manifests, field 100")  # fmt: skip
def odd_names(t: Maker) -> Right:
    t.append(t.rows(A, name="data/snow_#1?x=%41.parquet"))
    t.snapshots[0]["summary"] = {"manifests-created": "1"}
    return Right(rows(A))


@case("Any", "an operation that the specification does not have", "specification, Snapshots")
def unknown_operation(t: Maker) -> Right:
    t.append(t.rows(A))
    t.snapshots[0]["summary"] = {"operation": "optimize", "x": "y"}
    return Right(rows(A))


@case("Any", "snapshot ids with 63 bits", "specification, Snapshots")
def long_snapshot_ids(t: Maker) -> Right:
    t.append(t.rows(A))
    number = 9_007_199_254_740_993
    t.snapshots[0]["snapshot-id"] = t.current = number
    return Right(rows(A), (({"snapshot_id": str(number)}, rows(A)), ({"snapshot_id": number}, rows(A))))


@case("Any", "members that no specification has, at every level", "specification, Table Metadata")
def unknown_members(t: Maker) -> Right:
    t.append(t.rows(A))
    t.snapshots[0]["added-by"] = {"x": [1]}
    t.fields[0]["x"] = 1
    t.write(anything={"a": [1, {}]}, indexes=[])
    return Right(rows(A))


@case("Any", "a sort order by a transform that no release has", "specification, Sorting")
def unknown_sort_order(t: Maker) -> Right:
    t.append(t.rows(A))
    order = [{"transform": "zorder", "source-id": 1, "direction": "asc", "null-order": "nulls-first"}]
    t.write(sort_orders=[{"order-id": 1, "fields": order}], default_sort_order_id=1)
    return Right(rows(A))


@case(
    "Hive",
    "a name mapping that is no JSON beside files that have ids",
    "specification, Name Mapping Serialization",
)
def broken_mapping(t: Maker) -> Right:
    t.properties = {MAPPING: "{no"}
    t.append(t.rows(A))
    return Right(rows(A))


@case(
    "Hive",
    "a name mapping that is no JSON, and files that need it",
    "specification, Name Mapping Serialization",
)
def broken_mapping_needed(t: Maker) -> Right:
    t.properties = {MAPPING: "{no"}
    t.append(t.rows(A, ids=()))
    return Right(
        refused(
            "The columns of data file 00001.parquet cannot be matched with the table's: the table's property schema.name-mapping.default is no name mapping"
        )
    )
