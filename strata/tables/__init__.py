"""Exact Iceberg scans: from a table URI and scan parameters to Arrow record batches, a row group at a time.

The steps, each a function that returns its answer or a :class:`strata.outcomes.Refused`::

    Catalogs.resolve → Catalogs.load → parse_scan_params → resolve_scan → Planning (in steps)
        → expand_file (per file) → RowGroup (per row group, in slices) → apply_residual

Everything is synchronous and thread-safe; blocking functions are marked so. Nothing here depends on
tenants, the shard cache or HTTP.
"""

from strata.tables.catalogs.listing import KnownNamespaces, Listed, Part, Place, list_part
from strata.tables.catalogs.loading import Catalogs, LoadedTable, catalog_unavailable
from strata.tables.catalogs.metadata_file import known_of_summary
from strata.tables.catalogs.refs import TableRef, split_name, table_uri
from strata.tables.files.footer_check import FOOTER_CHECK
from strata.tables.files.footers import is_local
from strata.tables.plan.model import FileTask, PlannedFiles, ScanPlan, segment_schema, too_many_files
from strata.tables.plan.planner import Planning, Step, plan_files, plan_step
from strata.tables.plan.sizes import FieldKey, leaves_of
from strata.tables.read.expand import RowGroupTask, expand_file
from strata.tables.read.residual import apply_residual
from strata.tables.read.row_group import RowGroup, prefetch, read_row_group, read_slice
from strata.tables.scan.cell_grants import (
    CALLER,
    CellGrants,
    Grant,
    may_see,
    read_alike,
    snapshot_of,
    view_of,
)
from strata.tables.scan.describe import TableDescription, describe_table
from strata.tables.scan.params import Filter, ScanSpec, is_wide, parse_scan_params
from strata.tables.scan.resolve import ResolvedScan, resolve_scan, resolves_at_once

__all__ = [
    "CALLER",
    "FOOTER_CHECK",
    "Catalogs",
    "CellGrants",
    "FieldKey",
    "FileTask",
    "Filter",
    "Grant",
    "KnownNamespaces",
    "Listed",
    "LoadedTable",
    "Part",
    "Place",
    "PlannedFiles",
    "Planning",
    "ResolvedScan",
    "RowGroup",
    "RowGroupTask",
    "ScanPlan",
    "ScanSpec",
    "Step",
    "TableDescription",
    "TableRef",
    "apply_residual",
    "catalog_unavailable",
    "describe_table",
    "expand_file",
    "is_local",
    "is_wide",
    "known_of_summary",
    "leaves_of",
    "list_part",
    "may_see",
    "parse_scan_params",
    "plan_files",
    "plan_step",
    "prefetch",
    "read_alike",
    "read_row_group",
    "read_slice",
    "resolve_scan",
    "resolves_at_once",
    "segment_schema",
    "snapshot_of",
    "split_name",
    "table_uri",
    "too_many_files",
    "view_of",
]
