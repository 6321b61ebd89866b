"""Scan a table of catalogs end to end, without a server."""

from collections.abc import Mapping

import pyarrow as pa

from strata.outcomes import Refused
from strata.tables import (
    Catalogs,
    apply_residual,
    expand_file,
    parse_scan_params,
    plan_files,
    read_row_group,
    resolve_scan,
)


def scanned(catalogs: Catalogs, name: str) -> list | Refused:
    """Return the rows of the whole table, or the first refusal."""
    table = catalogs.load(catalogs.resolve(name))
    if isinstance(table, Refused):
        return table
    plan = plan_files(resolve_scan(table, parse_scan_params({})))
    if isinstance(plan, Refused):
        return plan
    rows: list = []
    for file in plan.files:
        tasks = expand_file(plan, file)
        if isinstance(tasks, Refused):
            return tasks
        for task in tasks:
            batches = read_row_group(plan, task, batch_rows=10)
            if isinstance(batches, Refused):
                return batches
            rows += [row for batch in batches for row in batch.to_pylist()]
    return rows


def scan_table(catalogs: Catalogs, name: str, params: Mapping[str, object]) -> pa.Table | Refused:
    """Return what a scan returns, or the first refusal."""
    table = catalogs.load(catalogs.resolve(name))
    if isinstance(table, Refused):
        return table
    scan = resolve_scan(table, parse_scan_params(params))
    plan = scan if isinstance(scan, Refused) else plan_files(scan)
    if isinstance(plan, Refused):
        return plan
    batches: list[pa.RecordBatch] = []
    for file in plan.files:
        tasks = expand_file(plan, file)
        if isinstance(tasks, Refused):
            return tasks
        for task in tasks:
            read = read_row_group(plan, task, batch_rows=1000)
            if isinstance(read, Refused):
                return read
            batches += apply_residual(plan, task, read)
    return pa.Table.from_batches(batches, schema=plan.scan.arrow_schema)
