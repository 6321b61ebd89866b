"""What a result is the result of, worked out before anything is read."""

from __future__ import annotations

import attrs

from strata.artifacts import canonical_json, provenance_hash, query_hash
from strata.tables import ResolvedScan, ScanSpec


@attrs.frozen
class Provenance:
    """The identity of one result.

    Attributes:
        key: Hash of tenant, canonical transform and resolved input versions in the caller's order.
        query: The same without the versions: what makes two results versions of one question.
        transform: The canonical transform, as JSON.
        inputs: (URI, version) pairs in the caller's order.
    """

    key: str
    query: str
    transform: str
    inputs: tuple[tuple[str, str], ...]


def scan_provenance(tenant: str, uri: str, executor: str, spec: ScanSpec, scan: ResolvedScan) -> Provenance:
    """Return the provenance of a scan.

    The hash knows the table by its resource name, so two spellings of one table are one result; the
    record keeps the caller's spelling.
    """
    transform = {"executor": executor, "params": spec.canonical()}
    resource = scan.table.ref.resource
    return Provenance(
        key=provenance_hash(tenant, transform, [(resource, scan.version)]),
        # Without the version, but with the view: what others see of the table is another question.
        query=query_hash(tenant, transform, [resource + scan.view]),
        transform=canonical_json(transform),
        inputs=((uri, scan.version),),
    )
