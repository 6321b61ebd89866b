"""Scan only those columns and rows of a query's tables that the query can need."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import attrs
import pyarrow as pa
import trio

from strata.auth import Principal
from strata.outcomes import RefusalError, Refused
from strata.sandbox.frames import Kind
from strata.sandbox.launcher import SandboxError
from strata.tables import ResolvedScan
from strata.tenants import messages as m
from strata.tenants.builds.materialize import SCAN, Materializer
from strata.tenants.builds.runner import BuildRequest
from strata.tenants.shared.transform_runtime import TransformRuntime
from strata.tenants.transforms.inputs import Input
from strata.transforms.sql_params import SqlSpec

ANALYSIS_SECONDS = 5
"""Most seconds for looking at a query; after that, all columns are read."""


async def narrowed(
    materializer: Materializer,
    looking: trio.CapacityLimiter,
    principal: Principal,
    spec: SqlSpec,
    inputs: Sequence[Input],
) -> tuple[Input, ...]:
    """Return the inputs of a query, with scans of fewer columns and rows where that changes no result.

    Only tables of which the caller may read every cell: with cell grants, the rows of a scan depend on its
    columns. A scan of all columns, or of all rows of those needed, that is finished is used as it is. The
    identity of the query's result is that of the whole inputs either way.

    Args:
        materializer: Resolves the scans.
        looking: Bounds how many queries of the tenant are looked at, each in a process, at once.
        principal: Who asked first.
        spec: The query.
        inputs: Its inputs, in their order.
    """
    scans = [one.scan for one in inputs]
    whole = [one.scan for one in scans if one is not None]
    if len(whole) < len(inputs) or any(one.restricted for one in whole):
        return tuple(inputs)  # the columns of a finished result are in its file
    finished = materializer.finished
    keys = dict.fromkeys(one.provenance.key for one in scans if one is not None)
    have = {key for key in keys if key in materializer.running or await finished.find(key) is not None}
    if len(have) == len(keys):
        return tuple(inputs)
    found = None
    with trio.move_on_after(ANALYSIS_SECONDS):
        async with looking:
            found = await _needed(materializer.resources.transforms, spec, whole)
    if found is None:
        return tuple(inputs)
    uses = Counter(one.uri for one in inputs)
    made: dict[str, Input] = {}
    for one, needed in zip(inputs, found, strict=True):
        if one.uri in made:
            continue
        if one.scan is not None and one.scan.provenance.key in have:
            made[one.uri] = one
        else:
            filters = needed.filters if uses[one.uri] == 1 else ()
            made[one.uri] = await _fewer(materializer, principal, one, needed.columns, filters)
    return tuple(made[one.uri] for one in inputs)


async def _fewer(
    materializer: Materializer,
    principal: Principal,
    one: Input,
    names: Sequence[str],
    filters: Sequence[Mapping[str, object]],
) -> Input:
    """Return an input with a scan of fewer columns, and of fewer rows unless that of all rows is there."""
    narrow = await _narrow(materializer, principal, one, names)
    assert narrow.scan is not None
    key = narrow.scan.provenance.key
    if not filters or key in materializer.running or await materializer.finished.find(key) is not None:
        return narrow
    filtered = await _narrow(materializer, principal, one, names, filters)
    return narrow if filtered is one else filtered


async def _narrow(
    materializer: Materializer,
    principal: Principal,
    one: Input,
    names: Sequence[str],
    filters: Sequence[Mapping[str, object]] = (),
) -> Input:
    scan = one.scan
    assert scan is not None
    params: dict[str, object] = {}
    if len(names) < len(scan.scan.arrow_schema):
        params["columns"] = [*names]
    if filters:
        params["filters"] = [*filters]
    if not params:
        return one
    what = m.Transformation((one.uri,), SCAN, params)
    try:
        found = await materializer.resolve(principal, what)
    except RefusalError:
        return one
    if isinstance(found, Refused) or found[0].version != one.version:
        return one  # the table has changed since; the whole scan still has the requested version
    if found[0].arrow_schema != pa.schema([scan.scan.arrow_schema.field(name) for name in names]):
        return one  # a name that means something else in a scan
    return attrs.evolve(one, scan=BuildRequest(*found, SCAN, None, scan.principal))


@attrs.frozen
class _Needed:
    """What a query can need of an input.

    Attributes:
        columns: The columns that it can touch.
        filters: Conditions that no row fails which the query needs, as parameters of a scan.
    """

    columns: Sequence[str]
    filters: Sequence[Mapping[str, object]]


async def _needed(
    runtime: TransformRuntime, spec: SqlSpec, scans: Sequence[ResolvedScan]
) -> Sequence[_Needed] | None:
    """Return what the query can need, by input; None if that is not certain."""
    schemas = [base64.b64encode(one.arrow_schema.serialize()).decode() for one in scans]
    job = {"sql": spec.sql, "names": spec.names, "schemas": schemas}
    try:
        async with runtime.launcher.process() as process:
            await process.give(job, [])
            missing = json.loads((await process.receive()).payload)
            if missing and runtime.require_walls:
                return None
            frame = await process.receive()
            facts = frame.facts() if frame.kind is Kind.DONE else {}
    except (SandboxError, ValueError):
        return None
    columns = _checked(facts.get("columns"), scans)
    if columns is None:
        return None
    filters = facts.get("filters")
    if not isinstance(filters, list) or len(filters) != len(scans):
        return None
    return [_Needed(*both) for both in zip(columns, filters, strict=True)]


def _checked(columns: object, scans: Sequence[ResolvedScan]) -> Sequence[Sequence[str]] | None:
    """Return what the process said, if it is columns of the scans."""
    if not isinstance(columns, list) or len(columns) != len(scans):
        return None
    for names, scan in zip(columns, scans, strict=True):
        if not isinstance(names, list) or not names:
            return None
        if not set(scan.arrow_schema.names).issuperset(map(str, names)):
            return None
    return columns
