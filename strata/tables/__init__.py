"""Exact Iceberg scans: from a table URI and scan parameters to Arrow record batches, a row group at a time.

The steps, each a function that returns its answer or a :class:`strata.outcomes.Refused`::

    Catalogs.resolve → Catalogs.load → parse_scan_params → resolve_scan → Planning (in steps)
        → expand_file (per file) → RowGroup (per row group, in slices) → apply_residual

Everything is synchronous and thread-safe; blocking functions are marked so. Nothing here depends on
tenants, the shard cache or HTTP.
"""

from strata.tables.catalogs.loading import Catalogs, LoadedTable, catalog_unavailable
from strata.tables.catalogs.refs import TableRef
from strata.tables.plan.model import FileTask, ScanPlan, segment_schema, too_many_files
from strata.tables.plan.planner import Planning, Step, plan_files, plan_step
from strata.tables.plan.sizes import FieldKey
from strata.tables.read.expand import RowGroupTask, expand_file
from strata.tables.read.residual import apply_residual
from strata.tables.read.row_group import RowGroup, read_row_group, read_slice
from strata.tables.scan.cell_grants import CellGrants, Grant, may_see
from strata.tables.scan.params import Filter, ScanSpec, parse_scan_params
from strata.tables.scan.resolve import ResolvedScan, resolve_scan

__all__ = [
    "Catalogs",
    "CellGrants",
    "FieldKey",
    "FileTask",
    "Filter",
    "Grant",
    "LoadedTable",
    "Planning",
    "ResolvedScan",
    "RowGroup",
    "RowGroupTask",
    "ScanPlan",
    "ScanSpec",
    "Step",
    "TableRef",
    "apply_residual",
    "catalog_unavailable",
    "expand_file",
    "may_see",
    "parse_scan_params",
    "plan_files",
    "plan_step",
    "read_row_group",
    "read_slice",
    "resolve_scan",
    "segment_schema",
    "too_many_files",
]
