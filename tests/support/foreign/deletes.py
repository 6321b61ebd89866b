"""Delete files and deletion vectors as other engines write them (specification, "Row-level Deletes")."""

from __future__ import annotations

import pyarrow as pa

from foreign.cases import Right, case, refused, rows
from foreign.maker import Maker, field, part

A, B, C, D = (1, "a"), (2, "b"), (3, "c"), (4, "d")


def _keys(**columns: list[object]) -> pa.Table:
    return pa.table(
        {
            name: pa.array(values, pa.int64() if name == "id" else pa.string())
            for name, values in columns.items()
        }
    )


@case("Impala", "version 2 without deletes", "impala: iceberg_v2_no_deletes")
def no_deletes(t: Maker) -> Right:
    t.append(t.rows(A, B))
    return Right(rows(A, B))


@case("Impala", "position deletes of two files in one", "impala: iceberg_v2_delete_positional")
def positions(t: Maker) -> Right:
    one, two = t.rows(A, B), t.rows(C, D)
    made = t.manifest(one, two)
    t.snapshot(made)
    t.snapshot(made, t.manifest(t.position_deletes([(one, 1), (two, 0)]), content=1))
    return Right(rows(A, D), (({"snapshot_id": 101}, rows(A, B, C, D)),))


@case(
    "Flink",
    "position deletes that hold the deleted rows, their columns in another order",
    "specification, Position Delete Files",
)
def positions_with_rows(t: Maker) -> Right:
    one = t.rows(A, B)
    deleted = pa.table(
        {"row": pa.array([{"id": 1, "s": "a"}]), "pos": pa.array([0]), "file_path": [one["file_path"]]}
    )
    ids = (2147483544, 1, 2, 2147483545, 2147483546)
    t.snapshot(t.manifest(one), t.manifest(t.parquet(deleted, ids=ids) | {"content": 1}, content=1))
    return Right(rows(B))


@case(
    "Java library",
    "position deletes that are not in order, and some twice",
    "specification, Position Delete Files",
)
def unordered_positions(t: Maker) -> Right:
    one = t.rows(A, B, C)
    t.snapshot(t.manifest(one), t.manifest(t.position_deletes([(one, 2), (one, 0), (one, 2)]), content=1))
    return Right(rows(B))


@case("Flink", "position deletes of the commit that added their rows apply", "pgcolumnar: issues 643 and 645")
def positions_of_one_commit(t: Maker) -> Right:
    one = t.rows(A, B)
    t.snapshot(t.manifest(one), t.manifest(t.position_deletes([(one, 0)]), content=1))
    return Right(rows(B))


@case(
    "Flink",
    "equality deletes of the commit that added their rows do not apply",
    "pgcolumnar: issues 643 and 645",
)
def upsert(t: Maker) -> Right:
    old = t.manifest(t.rows((1, "old"), B))
    t.snapshot(old)
    t.snapshot(
        old, t.manifest(t.rows((1, "new"))), t.manifest(t.equality_deletes(_keys(id=[1]), [1]), content=1)
    )
    return Right(rows((1, "new"), B))


@case("Impala", "equality deletes by one column", "impala: iceberg_v2_delete_equality")
def equality(t: Maker) -> Right:
    old = t.manifest(t.rows(A, B), t.rows(C))
    t.snapshot(old)
    t.snapshot(old, t.manifest(t.equality_deletes(_keys(s=["b", "c"]), [2]), content=1))
    return Right(rows(A))


@case(
    "Impala",
    "equality deletes by different columns in one snapshot",
    "impala: iceberg_v2_delete_different_equality_ids",
)
def different_keys(t: Maker) -> Right:
    old = t.manifest(t.rows(A, B, C))
    t.snapshot(old)
    t.snapshot(
        old,
        t.manifest(
            t.equality_deletes(_keys(id=[1]), [1]), t.equality_deletes(_keys(s=["c"]), [2]), content=1
        ),
    )
    return Right(rows(B))


@case(
    "Impala",
    "equality deletes by two columns, the second one first",
    "impala: iceberg_v2_delete_equality_multi_eq_ids",
)
def two_keys(t: Maker) -> Right:
    old = t.manifest(t.rows(A, (1, "b"), B))
    t.snapshot(old)
    t.snapshot(old, t.manifest(t.equality_deletes(_keys(s=["b"], id=[1]), [2, 1]), content=1))
    return Right(rows(A, B))


@case("Impala", "equality deletes of nulls: null equals null", "impala: iceberg_v2_delete_equality_nulls")
def null_keys(t: Maker) -> Right:
    old = t.manifest(t.rows(A, (2, None), (3, None)))
    t.snapshot(old)
    t.snapshot(old, t.manifest(t.equality_deletes(_keys(s=[None]), [2]), content=1))
    return Right(rows(A))


@case("Impala", "equality and position deletes of one file", "impala: iceberg_v2_delete_both_eq_and_pos")
def both(t: Maker) -> Right:
    one = t.rows(A, B, C)
    old = t.manifest(one)
    t.snapshot(old)
    t.snapshot(
        old, t.manifest(t.position_deletes([(one, 0)]), t.equality_deletes(_keys(id=[3]), [1]), content=1)
    )
    return Right(rows(B))


@case("Impala", "equality deletes by several keys, position deletes, and rows added again",
      "impala: iceberg_v2_delete_pos_and_multi_eq_ids")  # fmt: skip
def added_again(t: Maker) -> Right:
    one = t.rows(A, B, C)
    old = t.manifest(one)
    t.snapshot(old)
    first = t.manifest(
        t.equality_deletes(_keys(id=[1]), [1]), t.equality_deletes(_keys(s=["b"], id=[2]), [2, 1]), content=1
    )
    t.snapshot(old, first)
    again = t.manifest(t.rows(A, B))
    t.snapshot(old, first, again)
    t.snapshot(old, first, again, t.manifest(t.position_deletes([(one, 2)]), content=1))
    return Right(rows(A, B), (({"snapshot_id": 102}, rows(C)),))


@case(
    "Impala",
    "equality deletes of one partition leave the others",
    "impala: iceberg_v2_delete_equality_partitioned; duckdb-iceberg: issue 1240",
)
def of_one_partition(t: Maker) -> Right:
    t.fields = [field(1, "id", "long"), field(2, "s", "string")]
    t.spec = [part(2, 1000, "identity", "s")]
    old = t.manifest(
        t.rows((1, "a")) | {"partition": {"s": "a"}}, t.rows((1, "b")) | {"partition": {"s": "b"}}
    )
    t.snapshot(old)
    t.snapshot(old, t.manifest(t.equality_deletes(_keys(id=[1]), [1]) | {"partition": {"s": "b"}}, content=1))
    return Right(rows((1, "a")))


@case("Impala", "equality deletes without a partition apply to all, whatever the spec",
      "impala: iceberg_v2_delete_equality_partition_evolution; duckdb-iceberg: issue 1274")  # fmt: skip
def of_all_partitions(t: Maker) -> Right:
    old = t.manifest(t.rows(A, B))
    t.repartition(part(2, 1000, "identity", "s"))
    new = t.manifest(t.rows((1, "c")) | {"partition": {"s": "c"}})
    t.snapshot(old, new)
    t.snapshot(old, new, t.manifest(t.equality_deletes(_keys(id=[1]), [1]), content=1, spec=0))
    return Right(rows(B))


@case(
    "Java library",
    "equality deletes of a spec whose fields are all void apply to all",
    "iceberg: issue 14678",
)
def of_a_void_spec(t: Maker) -> Right:
    t.version = 2
    t.spec = [part(2, 1000, "identity", "s")]
    old = t.manifest(t.rows(A) | {"partition": {"s": "a"}})
    t.repartition(part(2, 1000, "void", "s"))
    t.snapshot(old)
    t.snapshot(
        old, t.manifest(t.equality_deletes(_keys(id=[1]), [1]) | {"partition": {"s": None}}, content=1)
    )
    return Right([])


@case(
    "Impala",
    "equality deletes by a column that is younger than the data",
    "impala: iceberg_v2_equality_delete_schema_evolution",
)
def younger_key(t: Maker) -> Right:
    old = t.manifest(t.rows(A))
    t.evolve(*t.fields, field(3, "nr", "int"))
    data = pa.table({"id": [2, 3], "s": ["b", "c"], "nr": pa.array([7, None], pa.int32())})
    new = t.manifest(t.parquet(data))
    t.snapshot(old, new)
    keys = pa.table({"nr": pa.array([None], pa.int32())})
    t.snapshot(old, new, t.manifest(t.equality_deletes(keys, [3]), content=1))
    return Right([{"id": 2, "s": "b", "nr": 7}])


@case("Flink", "equality deletes by a column that was dropped later", "specification, Equality Delete Files")
def dropped_key(t: Maker) -> Right:
    old = t.manifest(t.rows(A, B))
    t.snapshot(old)
    deletes = t.manifest(t.equality_deletes(_keys(s=["a"]), [2]), content=1)
    t.evolve(field(1, "id", "long"))
    t.snapshot(old, deletes)
    return Right([{"id": 2}])


@case(
    "Flink",
    "equality deletes by an int of a column that is a long by now",
    "specification, Schema Evolution and Equality Delete Files",
)
def widened_key(t: Maker) -> Right:
    t.fields = [field(1, "id", "int")]
    old = t.manifest(t.parquet(pa.table({"id": pa.array([1, 2], pa.int32())})))
    t.snapshot(old)
    deletes = t.manifest(t.equality_deletes(pa.table({"id": pa.array([1], pa.int32())}), [1]), content=1)
    t.evolve(field(1, "id", "long"))
    t.snapshot(old, deletes)
    t.snapshot(old, deletes, t.manifest(t.parquet(pa.table({"id": [5_000_000_000]}))))
    return Right([{"id": 2}, {"id": 5_000_000_000}], (({"snapshot_id": 102}, [{"id": 2}]),))


@case(
    "Spark 3.5",
    "position deletes of a file that a compaction has removed",
    "impala: iceberg_spark_compaction_with_dangling_delete",
)
def dangling(t: Maker) -> Right:
    gone, new = t.rows(A, B), t.rows(B)
    deletes = t.manifest(t.position_deletes([(gone, 0)]), content=1)
    t.snapshot(t.manifest(gone), deletes)
    t.snapshot(t.manifest(gone | {"status": 2}), t.manifest(new), deletes)
    return Right(rows(B))


@case(
    "Spark 4.0",
    "version 3: two deletion vectors in one Puffin file",
    "duckdb-iceberg: multi_blob_deletion_vectors",
)
def vectors(t: Maker) -> Right:
    t.version = 3
    one, two = t.rows(A, B), t.rows(C, D)
    t.snapshot(t.manifest(one, two), t.manifest(*t.vectors((one, [0]), (two, [1])), content=1))
    return Right(rows(B, C))


@case(
    "Spark 4.0",
    "a deletion vector takes the place of older position deletes",
    "duckdb-iceberg: partition_stats_v3_deletion_vectors",
)
def vector_instead(t: Maker) -> Right:
    one = t.rows(A, B, C)
    old = t.manifest(one)
    deletes = t.manifest(t.position_deletes([(one, 0)]), content=1)
    t.snapshot(old, deletes)
    t.version = 3
    t.snapshot(old, deletes, t.manifest(*t.vectors((one, [0, 2])), content=1))
    return Right(rows(B), (({"snapshot_id": 101}, rows(B, C)),))


@case(
    "Java library",
    "a deletion vector of no position, and one of all of them",
    "iceberg: empty-position-index.bin; iceberg-rust: dense-range.bin",
)
def empty_and_full_vectors(t: Maker) -> Right:
    t.version = 3
    one, two = t.rows(A, B), t.rows(*((at, "x") for at in range(10, 200)))
    t.snapshot(t.manifest(one, two), t.manifest(*t.vectors((one, []), (two, range(190))), content=1))
    return Right(rows(A, B))


@case(
    "Java library",
    "a deletion vector with positions beyond 32 bits, which no row has",
    "iceberg: 64mapspreadvals.bin; iceberg-rust: spanning-keys.bin",
)
def far_positions(t: Maker) -> Right:
    t.version = 3
    one = t.rows(A, B)
    t.snapshot(t.manifest(one), t.manifest(*t.vectors((one, [1, 1 << 33, (1 << 40) + 5])), content=1))
    return Right(rows(A))


@case("Spark 3.5", "position deletes in ORC", "impala: iceberg_v2_no_deletes_orc")
def orc_deletes(t: Maker) -> Right:
    one = t.rows(A)
    t.snapshot(
        t.manifest(one), t.manifest(t.position_deletes([(one, 0)]) | {"file_format": "ORC"}, content=1)
    )
    return Right(
        refused("The table cannot be read exactly: delete file 00003.parquet is ORC, not Parquet or Puffin")
    )


@case("Impala", "data files in ORC", "impala: airports_orc, iceberg_v2_no_deletes_orc")
def orc(t: Maker) -> Right:
    t.append(t.rows(A) | {"file_format": "ORC"})
    return Right(refused("The table cannot be read exactly: data file 00001.parquet is ORC, not Parquet"))


@case("Impala", "data files in Avro", "impala: iceberg_avro_only")
def avro_only(t: Maker) -> Right:
    t.append(t.rows(A) | {"file_format": "AVRO"})
    return Right(refused("The table cannot be read exactly: data file 00001.parquet is AVRO, not Parquet"))


@case("Impala", "data files in Avro and in Parquet", "impala: iceberg_avro_mixed")
def avro_mixed(t: Maker) -> Right:
    t.append(t.rows(A))
    t.append(t.rows(B) | {"file_format": "AVRO"})
    return Right(
        refused("The table cannot be read exactly: data file 00003.parquet is AVRO, not Parquet"),
        (({"snapshot_id": 101}, rows(A)),),
    )
