"""Scan a table of catalogs end to end, without a server."""

from strata.outcomes import Refused
from strata.tables import (
    Catalogs,
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
