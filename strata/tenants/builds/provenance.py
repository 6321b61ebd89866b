"""Compute the identity of a result, before any data is read."""

from __future__ import annotations

import attrs

from strata.artifacts import canonical_json, provenance_hash, query_hash
from strata.tables import ResolvedScan, ScanSpec


@attrs.frozen
class Provenance:
    """The identity of one result.

    Attributes:
        key: Hash of tenant, canonical transform and resolved input versions in the caller's order.
        query: Hash without the input versions: results that share it are versions of one query.
        transform: The canonical transform, as JSON.
        inputs: (URI, version) pairs in the caller's order.
    """

    key: str
    query: str
    transform: str
    inputs: tuple[tuple[str, str], ...]


def scan_provenance(tenant: str, uri: str, executor: str, spec: ScanSpec, scan: ResolvedScan) -> Provenance:
    """Return the provenance of a scan.

    The hashes name the table by its resource name, so that two spellings of its URI share one result;
    ``inputs`` keeps the caller's spelling.
    """
    transform = {"executor": executor, "params": spec.canonical()}
    resource = scan.table.ref.resource
    return Provenance(
        key=provenance_hash(tenant, transform, [(resource, scan.version)]),
        # The view (the caller's columns and rows) is part of the query: another view is another query.
        query=query_hash(tenant, transform, [resource + scan.view]),
        transform=canonical_json(transform),
        inputs=((uri, scan.version),),
    )
