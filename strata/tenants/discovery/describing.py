"""Describe a table, and list its snapshots, branches and tags, and history, as its caller may read it.

A table that the caller may not read is answered as a missing one, after the work for a missing one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import attrs

from strata.auth import Principal
from strata.outcomes import RefusalError, Refused
from strata.tables import (
    CellGrants,
    LoadedTable,
    ResolvedScan,
    TableDescription,
    describe_table,
    known_of_summary,
    parse_scan_params,
    resolve_scan,
)
from strata.tenants import discovery_messages as m
from strata.tenants.builds.runner import Builder
from strata.tenants.shared.authorizer import TABLE_NOT_FOUND, table_resource
from strata.tenants.shared.resources import Resources

T = TypeVar("T")

_PARAMS = ("body", "transform", "params")


@attrs.define(eq=False)
class TableDescriber:
    """Answers questions about one table to callers of one tenant.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        builder: Plans scans; the plan of a description is remembered for the scan that follows.
    """

    tenant: str
    resources: Resources
    builder: Builder

    async def describe(self, question: m.DescribeTable) -> m.TableDescribed | Refused:
        """Describe a table."""
        spec = parse_scan_params({**question.version, "columns": []})
        if isinstance(spec, Refused):
            return _of_query(spec)

        def look(
            table: LoadedTable, visible: CellGrants | None
        ) -> tuple[TableDescription, ResolvedScan | Refused] | Refused:
            found = describe_table(table, spec, visible)
            return found if isinstance(found, Refused) else (found, resolve_scan(table, spec, visible))

        found = await self._read(question.principal, question.uri, look)
        if isinstance(found, Refused):
            return _of_query(found)
        description, scan = found
        return m.TableDescribed(description, await self._size(scan, question.principal))

    async def _size(self, scan: ResolvedScan | Refused, principal: Principal) -> m.TableSize:
        """Return the size by the manifests; nothing of hidden rows, nor the bytes of hidden columns."""
        if isinstance(scan, Refused) or scan.row_limited:
            return m.TableSize()
        try:
            plan = await self.builder.plan(scan, principal.id)
        except RefusalError:  # too many files, or a manifest that cannot be read: a scan is refused with it
            return m.TableSize()
        nbytes = None if scan.restricted else plan.totals.nbytes
        return m.TableSize(plan.exact_rows, nbytes, len(plan.files))

    async def snapshots(self, question: m.ListSnapshots) -> m.SnapshotList | Refused:
        """List the snapshots of a table, the newest first."""

        def look(table: LoadedTable, visible: CellGrants | None) -> m.SnapshotList:
            behind = question.behind
            hides = visible is not None or table.restrictions is not None
            found = (
                one
                for one in table.metadata.snapshots
                if behind is None or (one.timestamp_ms, one.snapshot_id) < behind
            )
            page = heapq.nlargest(
                question.limit + 1, found, key=lambda one: (one.timestamp_ms, one.snapshot_id)
            )
            infos = tuple(
                m.SnapshotInfo(
                    snapshot_id=one.snapshot_id,
                    parent_id=one.parent_snapshot_id,
                    sequence_number=one.sequence_number or 0,
                    timestamp_ms=one.timestamp_ms,
                    schema_id=one.schema_id,
                    summary=None if hides else _summary(table, one.snapshot_id),
                )
                for one in page[: question.limit]
            )
            return m.SnapshotList(infos, len(page) > question.limit)

        return await self._read(question.principal, question.uri, look)

    async def refs(self, question: m.ListRefs) -> m.RefList | Refused:
        """List the branches and tags of a table in the order of their names."""

        def look(table: LoadedTable, _visible: CellGrants | None) -> m.RefList:
            names = (name for name in table.metadata.refs if name > question.behind)
            page = heapq.nsmallest(question.limit + 1, names)
            found = ((name, table.metadata.refs[name]) for name in page[: question.limit])
            infos = tuple(
                m.RefInfo(
                    name=name,
                    kind=ref.snapshot_ref_type.value,
                    snapshot_id=ref.snapshot_id,
                    max_ref_age_ms=ref.max_ref_age_ms,
                    max_snapshot_age_ms=ref.max_snapshot_age_ms,
                    min_snapshots_to_keep=ref.min_snapshots_to_keep,
                )
                for name, ref in found
            )
            return m.RefList(infos, len(page) > question.limit)

        return await self._read(question.principal, question.uri, look)

    async def history(self, question: m.ListHistory) -> m.HistoryList | Refused:
        """List the changes of a table's current snapshot, the latest first."""

        def look(table: LoadedTable, _visible: CellGrants | None) -> m.HistoryList:
            behind = question.behind
            entries = {(one.timestamp_ms, one.snapshot_id) for one in table.metadata.snapshot_log}
            page = heapq.nlargest(
                question.limit + 1, (one for one in entries if behind is None or one < behind)
            )
            ancestors = set(_ancestors(table))
            found = tuple(
                m.HistoryEntry(moment, snapshot_id, snapshot_id in ancestors)
                for moment, snapshot_id in page[: question.limit]
            )
            return m.HistoryList(found, len(page) > question.limit)

        return await self._read(question.principal, question.uri, look)

    async def _read(
        self, principal: Principal, uri: str, look: Callable[[LoadedTable, CellGrants | None], T | Refused]
    ) -> T | Refused:
        """Return what ``look`` finds in a table's metadata, by the rules of this moment; in the work pool."""
        authorizer, catalogs = self.resources.authorizer, self.resources.catalogs
        while True:
            policy = authorizer.policy
            ref = catalogs.resolve(uri)
            if isinstance(ref, Refused):
                return _of_query(ref)
            ref = catalogs.asked_by(ref, principal.tenant, principal.id)
            access = authorizer.reading(principal, table_resource(ref))
            if not access.allowed:
                if not authorizer.hide:
                    return authorizer.forbidden("read")
                ref = self.resources.tables.stand_in(ref)
            table: LoadedTable | Refused | None = catalogs.peek(ref)
            if table is None:
                table = await self.resources.tables.load(self.tenant, ref)
            if isinstance(table, Refused):
                return table
            if not access.allowed:
                return TABLE_NOT_FOUND  # a table of the random name exists after all
            call = partial(look, table, access.visible)
            found = await self.resources.compute(self.tenant, principal.id, call)
            if authorizer.policy is policy:
                return found


def _of_query(refused: Refused) -> Refused:
    """Return a refusal whose place is in the query, not in the body of a scan."""
    loc = refused.loc
    if loc[:2] == ("body", "inputs"):
        loc = ("query", "uri")
    elif loc[:3] == _PARAMS:
        loc = ("query", *loc[3:])
    return attrs.evolve(refused, loc=loc)


def _summary(table: LoadedTable, snapshot_id: int) -> dict[str, str]:
    known = table.summaries.get(snapshot_id)
    if known is None:
        snapshot = table.metadata.snapshot_by_id(snapshot_id)
        summary = None if snapshot is None else snapshot.summary
        if summary is not None:
            noted = {**summary.additional_properties, "operation": summary.operation.value}
            known = known_of_summary(noted)
    return dict(known or {})


def _ancestors(table: LoadedTable) -> Iterator[int]:
    """Yield the current snapshot and those that it was made of, as far as the metadata names them."""
    parents = {one.snapshot_id: one.parent_snapshot_id for one in table.metadata.snapshots}
    following = table.metadata.current_snapshot_id
    while following is not None and following in parents:
        yield following
        following = parents.pop(following)
