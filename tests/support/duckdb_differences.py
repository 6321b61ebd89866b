"""What DuckDB's Iceberg extension does otherwise than the specification says, by table of :mod:`foreign`."""

from __future__ import annotations

import attrs

EQUAL = "the same"
REFUSES = "refuses"
ENDS = "ends its process"
OTHER_ROWS = "other rows"
NEITHER = "neither"


@attrs.frozen
class Difference:
    """A known difference.

    Attributes:
        what: What DuckDB does.
        cause: Why, with the section of the specification.
        wrong: The engine that is wrong by the specification.
    """

    what: str
    cause: str
    wrong: str = "DuckDB"


KNOWN = {
    "snapshots_name_manifests": Difference(
        REFUSES, "Snapshots, manifests: version 1 may name manifests in place of a list of them"
    ),
    "manifest_list_of_three_fields": Difference(
        REFUSES, "Manifest Lists: all fields but three are optional in version 1; an internal error"
    ),
    "one_schema": Difference(REFUSES, "Table Metadata: version 1 may have `schema` without `schemas`"),
    "packed_hadoop": Difference(REFUSES, "Table Metadata: v1.gz.metadata.json, which is taken for a folder"),
    "packed_zstd": Difference(REFUSES, "Snowflake writes such; the specification knows gzip only", NEITHER),
    "statistics_of_presto": Difference(
        REFUSES, "statistics without a size: a member that a scan does not need is required"
    ),
    "version_four": Difference(OTHER_ROWS, "Format Versioning: a reader must refuse a version that it does not know"),
    "version_unknown": Difference(OTHER_ROWS, "Format Versioning: a reader must refuse a version that it does not know"),
    "a_view": Difference(OTHER_ROWS, "View Specification: the metadata is a view's, which is no table"),
    "upper_case": Difference(
        OTHER_ROWS, "names differ in case only, and SQL of DuckDB has no such columns", NEITHER
    ),
    "odd_names": Difference(REFUSES, "Snapshots, summary: the operation is demanded, which version 1 has not"),
    "unknown_operation": Difference(REFUSES, "Snapshots, summary: a scan does not need the operation"),
    "unknown_sort_order": Difference(REFUSES, "Sorting: a scan does not need the order"),
    "broken_mapping": Difference(REFUSES, "Column Projection: files with ids do not need the name mapping"),
    "zstd_manifests": Difference(REFUSES, "Avro, Optional Codecs: zstandard"),
    "nested_column_only_in_manifest": Difference(
        ENDS, "the manifest names a field `st.b`, which Avro forbids", NEITHER
    ),
    "unknown_transform": Difference(REFUSES, "Partition Transforms: an unknown transform must be ignored"),
    "several_sources": Difference(REFUSES, "Partitioning: version 3 has `source-ids` of several columns"),
    "unknown_spec": Difference(REFUSES, "Manifests: the manifest's header holds its spec"),
    "missing_partition_value": Difference(
        OTHER_ROWS, "Manifests, field 102: the table lacks what is required, which DuckDB does not look at", NEITHER
    ),
    "unknown_codec": Difference(ENDS, "DuckDB has no error for it", NEITHER),
    "positions_with_rows": Difference(
        REFUSES, "Position Delete Files: the row may be there; an internal error"
    ),
    "of_one_partition": Difference(
        OTHER_ROWS, "Scan Planning: an equality delete applies to its own partition only"
    ),
    "dropped_key": Difference(ENDS, "Equality Delete Files: columns of older schemas are keys, too"),
    "widened_key": Difference(REFUSES, "Schema Evolution: keys are widened as columns are; an internal error"),
    "no_current_schema": Difference(ENDS, "DuckDB has no error for it", NEITHER),
    "no_schemas": Difference(ENDS, "DuckDB has no error for it", NEITHER),
    "nanoseconds_in_files": Difference(
        OTHER_ROWS, "no such file is in the specification; DuckDB cuts towards 1970, Strata down", NEITHER
    ),
    "unknown_type": Difference(REFUSES, "Primitive Types: `unknown` of version 3"),
    "by_name": Difference(OTHER_ROWS, "Column Projection: each name of a field in the mapping is its name"),
    "no_mapping": Difference(
        OTHER_ROWS,
        "Column Projection: by its letter all columns are null, as DuckDB says; Java's library takes them by their "
        "place; Strata refuses to choose",
        NEITHER,
    ),
    "wrong_count": Difference(
        OTHER_ROWS, "Manifests, field 103: the table contradicts itself, which DuckDB does not look at", NEITHER
    ),
}  # fmt: skip
"""What differs, by the name of the table, with the section of the specification."""
