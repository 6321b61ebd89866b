"""Apply residual filter, row clauses and masks to a segment's batches, and select the result's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from strata.tables.plan.model import ScanPlan
from strata.tables.read.expand import RowGroupTask
from strata.tables.read.masks import Masks
from strata.tables.read.project import Rows, project_field
from strata.tables.read.row_group import empty_batches
from strata.tables.scan.predicates import Predicate, row_mask


def apply_residual(
    plan: ScanPlan, task: RowGroupTask, batches: Sequence[pa.RecordBatch]
) -> list[pa.RecordBatch]:
    """Filter rows by the remaining predicates and clauses, and select the result's columns in request order.

    Args:
        plan: The scan's plan.
        task: The row group of the batches, with the predicates and clauses to test.
        batches: Batches with the plan's ``segment_fields`` as columns, in the plan's order and types.

    Returns:
        Batches of ``plan.scan.arrow_schema`` without empty ones; the same objects if the plan is a
        passthrough.
    """
    if plan.passthrough:
        return list(batches)
    filtered = [batch for batch in (_filter(plan, task, batch) for batch in batches) if batch.num_rows]
    scan = plan.scan
    if scan.masking is not None:
        masks = Masks(scan.masking)
        # The catalog's filter has seen the values as they are, the request's filters see what the caller may.
        masked = (masks.apply(batch, scan.read_schema) for batch in filtered)
        filtered = [batch for batch in (_filter_masked(plan, batch) for batch in masked) if batch.num_rows]
    return [_select(plan, batch) for batch in filtered]


def _filter_masked(plan: ScanPlan, batch: pa.RecordBatch) -> pa.RecordBatch:
    mask = _all_hold(plan, plan.scan.afterwards, batch)
    return batch if mask is None else batch.filter(mask)


def _filter(plan: ScanPlan, task: RowGroupTask, batch: pa.RecordBatch) -> pa.RecordBatch:
    mask = _all_hold(plan, task.predicates, batch)
    for clause in task.clauses:
        either: Any = None
        for option in clause:
            # A comparison with null is null, which counts as false here: another alternative may hold.
            own = pc.fill_null(_all_hold(plan, option, batch), fill_value=False)
            either = own if either is None else pc.or_(either, own)
        mask = either if mask is None else pc.and_kleene(mask, either)
    if mask is None or mask.true_count == batch.num_rows:
        return batch
    return batch.filter(mask)


def _all_hold(plan: ScanPlan, predicates: Sequence[Predicate], batch: pa.RecordBatch) -> Any:
    """Return a BooleanArray of the rows for which all predicates hold; ``None`` without predicates."""
    mask: Any = None
    for predicate in predicates:
        # Looked up by name: an index of -1 would silently test the last column.
        at = plan.position_of(predicate)
        own = row_mask(predicate, batch.column(at))
        mask = own if mask is None else pc.and_kleene(mask, own)
    return mask


def _select(plan: ScanPlan, batch: pa.RecordBatch) -> pa.RecordBatch:
    scan = plan.scan
    if scan.read_schema is scan.schema:
        return batch
    if not scan.schema.fields:
        return empty_batches(scan.arrow_schema, batch.num_rows, batch.num_rows)[0]
    position = {field.field_id: at for at, field in enumerate(scan.read_schema.fields)}
    columns = []
    for want, arrow in zip(scan.schema.fields, scan.arrow_schema, strict=True):
        at = position[want.field_id]
        have = scan.read_schema.fields[at]
        columns.append(project_field(batch.column(at), have, want, arrow.type, Rows(batch.num_rows)))
    return pa.RecordBatch.from_arrays(columns, schema=scan.arrow_schema)
