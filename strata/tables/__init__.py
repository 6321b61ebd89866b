"""Exact Iceberg scans: from a table URI and scan parameters to Arrow record batches, a row group at a time.

The steps, each a function that returns its answer or a :class:`strata.outcomes.Refused`::

    Catalogs.resolve → Catalogs.load → parse_scan_params → resolve_scan → Planning (in steps)
        → expand_file (per file) → RowGroup (per row group, in slices) → finish

Everything is synchronous and thread-safe; what blocks says so. Nothing here knows tenants, caches or HTTP.
"""

from strata.tables.catalogs import Catalogs, LoadedTable, catalog_unavailable
from strata.tables.expand import RowGroupTask, expand_file
from strata.tables.finish import finish
from strata.tables.params import Filter, ScanSpec, parse_scan_params
from strata.tables.plan import FileTask, ScanPlan, segment_schema, too_many_files
from strata.tables.planning import Planning, Step, plan_files, plan_step
from strata.tables.read import RowGroup, read_row_group, read_slice
from strata.tables.refs import TableRef
from strata.tables.resolve import ResolvedScan, resolve_scan
from strata.tables.sizes import FieldKey
from strata.tables.visible import Grant, Visible, may_see

__all__ = [
    "Catalogs",
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
    "Visible",
    "catalog_unavailable",
    "expand_file",
    "finish",
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
