"""Open the files of tables as a scan would, and tell which of them could not be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from strata.config import Settings
from strata.outcomes import Refused
from strata.readers import expand_in_reader
from strata.tables import Catalogs, ScanPlan, TableRef, parse_scan_params, plan_files, resolve_scan
from strata.tables.catalogs.listing import Place, list_part

FILE_SECONDS: Final = 60.0
"""Seconds for a reader process to read the footer of a data file; then the file counts as unreadable."""

LISTED: Final = 500
"""Tables of a catalog that one request lists."""


def look_at_tables(settings: Settings, names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each table, or data file of one, that a scan could not read. Blocking.

    Of each table the metadata and the manifests of its current snapshot are read, and the footer of each data
    file, in a process that a damaged file may end; no rows are. Readers have to be started before.

    Args:
        settings: The settings, without problems.
        names: Table URIs, and aliases of warehouses and catalogs, which stand for all of their tables.
    """
    catalogs = Catalogs(
        warehouses={alias: Path(text).expanduser() for alias, text in settings.warehouses.items()},
        catalogs=settings.catalogs,
        any_file_warehouse=settings.deployment_mode == "personal",
        callers=settings.catalog_callers,
    )
    try:
        for name in names:
            if name.partition(":")[0] in settings.catalog_callers:
                yield f"{name}: its catalog is queried as the caller, and this command has none"
                continue
            if name in settings.warehouses or name in settings.catalogs:
                yield from _all_tables(catalogs, name)
                continue
            ref = catalogs.resolve(name)
            if isinstance(ref, Refused):
                yield f"{name}: {told(ref)}"
            else:
                yield from _one_table(catalogs, ref, name)
    finally:
        catalogs.close()


def _all_tables(catalogs: Catalogs, alias: str) -> Iterator[str]:
    behind: Place | None = Place()
    while behind is not None:
        part = list_part(catalogs, TableRef(alias, ("-",), "-"), namespace=None, behind=behind, most=LISTED)
        if isinstance(part, Refused):
            yield f"{alias}: {told(part)}"
            return
        for one in part.found:
            if one.kind == "table":
                ref = one.ref
                yield from _one_table(catalogs, ref, f"{alias}:{'.'.join(ref.namespace)}.{ref.table}")
        behind = part.following


def _one_table(catalogs: Catalogs, ref: TableRef, name: str) -> Iterator[str]:
    plan = _planned(catalogs, ref)
    if isinstance(plan, Refused):
        yield f"{name}: {told(plan)}"
        return
    for file in plan.files:
        tasks = expand_in_reader(plan, file, FILE_SECONDS)
        if isinstance(tasks, Refused):
            yield f"{name}: {told(tasks)}"


def _planned(catalogs: Catalogs, ref: TableRef) -> ScanPlan | Refused:
    table, params = catalogs.load(ref), parse_scan_params({})
    if isinstance(table, Refused):
        return table
    assert not isinstance(params, Refused)
    scan = resolve_scan(table, params)
    return scan if isinstance(scan, Refused) else plan_files(scan)


def told(refused: Refused) -> str:
    """Return what a refusal says, with its code as in the log and the metrics."""
    return f"{refused.detail} ({refused.code or refused.reason.value})."
