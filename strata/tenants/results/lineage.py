"""Lineage: the inputs of a result, its dependents, and whether it is stale."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from strata.artifacts import ArtifactRecord
from strata.auth import Principal
from strata.outcomes import Refused
from strata.tables import CellGrants, Grant, ScanSpec, resolve_scan
from strata.tables.scan.cell_grants import READ, VIEW, read_alike
from strata.tenants import messages as m
from strata.tenants.results.listing import visible_dependents
from strata.tenants.results.read import ARTIFACT_NOT_FOUND, NAME_NOT_FOUND, Reader
from strata.tenants.shared.artifact_inputs import artifact_of, shown_version
from strata.tenants.shared.artifact_inputs import uri_of as artifact_uri
from strata.tenants.shared.authorizer import table_resource
from strata.tenants.shared.resources import Resources

MOST_NODES: Final = 1000
"""Most nodes of one answer; further ones are left out, with ``truncated`` in the answer."""

_SCAN: Final = "scan@v1"

Found: TypeAlias = "ArtifactRecord | Literal['table', 'redacted']"
"""An input as the caller sees it: an artifact, a table, or redacted."""


def uri_of(record: ArtifactRecord) -> str:
    """Return the URI of an artifact's version."""
    return artifact_uri(record.artifact_id, record.version)


def node_of(record: ArtifactRecord) -> m.Node:
    """Return an artifact as a node."""
    made = json.loads(record.transform_spec).get("executor")
    return m.Node(uri_of(record), "artifact", record.artifact_id, record.version, made, record.created_at)


@attrs.define(eq=False)
class _Graph:
    """A lineage under construction."""

    root: ArtifactRecord
    nodes: dict[str, m.Node] = attrs.field(init=False)
    edges: dict[m.Edge, None] = attrs.field(factory=dict)
    direct: dict[str, None] = attrs.field(factory=dict)
    hidden: dict[str, str] = attrs.field(factory=dict)
    truncated: bool = False

    def __attrs_post_init__(self) -> None:
        self.nodes = {uri_of(self.root): node_of(self.root)}

    def add(self, record: ArtifactRecord, uri: str, version: str, found: Found) -> ArtifactRecord | None:
        """Add an input of a result; returns the input if it is an artifact that is new to the graph."""
        shown, seen = uri, found
        if found == "redacted":
            shown = self.hidden.setdefault(uri, f"redacted:{len(self.hidden) + 1}")
        new = shown not in self.nodes
        if new and len(self.nodes) >= MOST_NODES:
            self.truncated = True
            return None
        if new:
            self.nodes[shown] = node_of(seen) if isinstance(seen, ArtifactRecord) else m.Node(shown, seen)
        known = shown_version(uri, version)
        self.edges[m.Edge(shown, uri_of(record), None if found == "redacted" else known)] = None
        if record is self.root:
            self.direct[shown] = None
        return found if new and isinstance(found, ArtifactRecord) else None


async def trace(root: ArtifactRecord, look: Callable[[str], Awaitable[Found]], max_depth: int) -> m.Lineage:
    """Follow a result's inputs, breadth first, each once, and none behind a redacted one.

    Args:
        root: The result.
        look: Returns an input as the caller sees it, by URI.
        max_depth: Most steps from the result.
    """
    graph, level, depth = _Graph(root), [root], 0
    while level and depth < max_depth:
        following: list[ArtifactRecord] = []
        for record in level:
            for uri, version in record.inputs.items():
                further = graph.add(record, uri, version, await look(uri))
                if further is not None:
                    following.append(further)
        depth += any(record.inputs for record in level)
        level = following
    nodes, edges = tuple(graph.nodes.values()), tuple(graph.edges)
    return m.Lineage(root, nodes, edges, depth, tuple(graph.direct), graph.truncated)


@attrs.define(eq=False)
class LineageReader:
    """Answers questions on inputs and dependents of results, for one tenant, within the caller's rights."""

    tenant: str
    resources: Resources
    reader: Reader

    async def lineage(self, question: m.GetLineage) -> m.Lineage | Refused:
        """Follow the inputs of an artifact the caller may read."""
        who = question.principal
        root = await self.reader.readable(who, question.artifact_id, question.version)
        if root is None:
            return ARTIFACT_NOT_FOUND

        async def look(uri: str) -> Found:
            named = artifact_of(uri)
            if named is None:
                return "table" if self._sees_table(who, uri) else "redacted"
            record = await self.reader.readable(who, *named)
            return "redacted" if record is None else record

        return await trace(root, look, question.max_depth)

    def _sees_table(self, principal: Principal, uri: str) -> bool:
        ref = self.resources.catalogs.resolve(uri)
        if isinstance(ref, Refused):
            return False
        return self.resources.authorizer.reading(principal, table_resource(ref)).allowed

    async def dependents(self, question: m.GetDependents) -> m.Dependents | Refused:
        """Find the dependents of an artifact; only those the caller may read are found and counted."""
        who = question.principal
        root = await self.reader.readable(who, question.artifact_id, question.version)
        if root is None:
            return ARTIFACT_NOT_FOUND
        found, total = await visible_dependents(self.resources, self.tenant, who, uri_of(root), MOST_NODES)
        return m.Dependents(root, tuple(node_of(record) for record in found), total)

    async def status(self, question: m.GetNameStatus) -> m.NameStatus | Refused:
        """Compare the inputs of a named result with their present versions."""
        named = await self.reader.named(question.principal, question.name)
        if named is None:
            return NAME_NOT_FOUND
        name, record = named
        changed = []
        for uri, version in record.inputs.items():
            current = await self._current(question.principal, uri, version, record)
            if current != version:
                changed.append(m.ChangedInput(uri, version, current))
        return m.NameStatus(name, record, tuple(changed))

    async def _current(
        self, principal: Principal, uri: str, version: str, record: ArtifactRecord
    ) -> str | None:
        """Return the version an input would have in the same transform now; None if it is gone."""
        if artifact_of(uri) is not None:
            return version  # versions of artifacts never change
        ref = self.resources.catalogs.resolve(uri)
        if isinstance(ref, Refused):
            return None
        ref = self.resources.catalogs.asked_by(ref, principal.tenant, principal.id)
        table = self.resources.catalogs.peek(ref)
        if table is None:
            loaded = await self.resources.tables.load(self.tenant, ref)
            if isinstance(loaded, Refused):
                return None
            table = loaded
        # The view is the caller's own right, which was checked; the rest identifies the rows.
        head, marker, view = version.partition(VIEW)
        # A version with a view has keyed digests: of any view, here that of all cells.
        everything = CellGrants((Grant(None),), self.resources.authorizer.secret) if marker else None
        scan = resolve_scan(table, _choice(json.loads(record.transform_spec)), everything)
        if isinstance(scan, Refused):
            return None
        now = scan.version.partition(VIEW)[0]
        demanded = None if table.restrictions is None else table.restrictions.digest
        if read_alike(version, demanded, ref.caller):  # but for the salt, which is each query's own
            now = now.partition(READ)[0] + "".join(head.partition(READ)[1:])
        return now + marker + view


def _choice(transform: Mapping[str, object]) -> ScanSpec:
    """Return a scan of no columns of the snapshot that a transform chose."""
    params = transform.get("params")
    if transform.get("executor") != _SCAN or not isinstance(params, dict):
        return ScanSpec(columns=())
    at, moment = params.get("as_of"), None
    if isinstance(at, str):
        moment = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=int(at) // 1000)
    return ScanSpec(columns=(), snapshot_id=params.get("snapshot_id"), ref=params.get("ref"), as_of=moment)
