"""Compute the identity of a result, before any data is read, from a request under the rules of one moment."""

from __future__ import annotations

import attrs

from strata import acl
from strata.artifacts import ArtifactRecord, canonical_json, provenance_hash, query_hash
from strata.outcomes import Reason, Refused
from strata.tables import LoadedTable, ResolvedScan, ScanSpec, TableRef, resolve_scan, resolves_at_once
from strata.tenants.messages import ChangedInput
from strata.tenants.shared.authorizer import Access

TRANSFORM_NOT_FOUND = Refused(
    Reason.FORBIDDEN,
    "This transform is not registered.",
    "transform_not_allowed",
    loc=("body", "transform", "executor"),
)

ONE_INPUT = Refused(Reason.BAD_REQUEST, "A scan has exactly one input.", "bad_inputs", loc=("body", "inputs"))

MAX_TRANSFORM_BYTES = 1024 * 1024
"""Most bytes of a canonical transform, which is kept with its result; a larger one is refused."""

TRANSFORM_TOO_LARGE = Refused(
    Reason.TOO_LARGE,
    f"The transform has more than {MAX_TRANSFORM_BYTES} bytes in canonical form.",
    "transform_too_large",
    loc=("body", "transform"),
)


_MEANING = ("meaning", "2")
"""What equal queries mean, as part of every key: counted up when the same query gives other rows than before,
so that a result of an older server is not taken for its answer. 2: nulls satisfy no comparison, ``not in``
included, and a null partition value of an absent column is not replaced by the default."""


@attrs.frozen
class Provenance:
    """The identity of one result.

    Attributes:
        key: Keyed hash of tenant, canonical transform and resolved input versions in the caller's order.
        query: Hash without the input versions: results that share it are versions of one query.
        transform: The canonical transform, as JSON.
        inputs: (URI, version) pairs in the caller's order.
    """

    key: str
    query: str
    transform: str
    inputs: tuple[tuple[str, str], ...]


def scan_provenance(secret: bytes, tenant: str, uri: str, executor: str, scan: ResolvedScan) -> Provenance:
    """Return the provenance of a scan, under the store's secret.

    The hashes name the table by its resource name, so that two spellings of its URI share one result;
    ``inputs`` keeps the caller's spelling.
    """
    transform = canonical_json({"executor": executor, "params": scan.spec.canonical()})
    resource = scan.table.ref.resource
    return Provenance(
        key=provenance_hash(secret, tenant, transform, [(resource, scan.version), _MEANING]),
        # The view (the caller's columns and rows) is part of the query: another view is another query.
        query=query_hash(secret, tenant, transform, [resource + scan.view]),
        transform=transform,
        inputs=((uri, scan.version),),
    )


@attrs.frozen(eq=False)
class Lookup:
    """A scan request under the rules of one moment, as far as it is known without a wait.

    Attributes:
        spec: Its parameters.
        ref: Its table; a random name where the caller may not read it.
        access: The caller's rights to the table.
        policy: The rules that gave them.
        resolved: The scan and its identity; None: the table is not loaded.
    """

    spec: ScanSpec
    ref: TableRef
    access: Access
    policy: acl.Policy | None = attrs.field(repr=False)
    resolved: tuple[ResolvedScan, Provenance] | None = attrs.field(default=None, repr=False)


def resolve_at_once(
    lookup: Lookup, table: LoadedTable, *, wide: bool
) -> LoadedTable | ResolvedScan | Refused:
    """Resolve the scan against a table's present metadata; returns the table where that takes longer."""
    if wide or not resolves_at_once(table, lookup.spec, lookup.access.visible):
        return table
    return resolve_scan(table, lookup.spec, lookup.access.visible)


def changes(older: ArtifactRecord, provenance: Provenance) -> tuple[ChangedInput, ...]:
    """Return the inputs whose version differs from that of an older result."""
    before = older.inputs
    return tuple(
        ChangedInput(uri, before.get(uri), version)
        for uri, version in provenance.inputs
        if before.get(uri) != version
    )
