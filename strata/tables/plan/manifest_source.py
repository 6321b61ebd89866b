"""Where a plan's manifests are parsed: in this process, or where another implementation has them parsed.

The contract gives parts, so that a planning can rest between them whatever a table's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

import attrs
from pyiceberg.manifest import ManifestFile

from strata.tables.catalogs.loading import LoadedTable
from strata.tables.plan.manifests import Entry, first_manifests, read_entries, read_manifests

T = TypeVar("T")

PART = 128
"""Most entries of a part."""


@attrs.frozen
class EntriesPart:
    """Entries of one manifest, in file order.

    Attributes:
        manifest: Index of the manifest in the request.
        entries: The entries, at most :data:`PART`; None for one of a deleted file.
    """

    manifest: int
    entries: Sequence[Entry | None]


class ManifestSource(Protocol):
    """Parses manifest lists and manifests; every step of its iterators is blocking.

    Attributes:
        together: Most manifests of one request.
    """

    @property
    def together(self) -> int:
        """See the attributes."""

    def manifests(self, table: LoadedTable, manifest_list: str) -> Iterator[Sequence[ManifestFile]]:
        """Yield the manifests of a snapshot in parts, as :func:`read_manifests` yields them one by one."""

    def first_manifests(
        self, table: LoadedTable, locations: Sequence[str]
    ) -> Iterator[Sequence[ManifestFile]]:
        """Yield manifests in parts, as :func:`first_manifests` yields them one by one."""

    def entries(
        self, table: LoadedTable, manifests: Sequence[ManifestFile], *, metrics: bool
    ) -> Iterator[EntriesPart]:
        """Yield the entries of manifests in order, as :func:`read_entries` yields them one by one.

        A manifest without entries may have no part.

        Args:
            table: The manifests' table.
            manifests: The manifests.
            metrics: Whether to include column statistics.
        """


@attrs.frozen
class ManifestsHere:
    """Parses manifests in this process."""

    together = 1

    def manifests(self, table: LoadedTable, manifest_list: str) -> Iterator[Sequence[ManifestFile]]:
        """See :class:`ManifestSource`."""
        return batched(read_manifests(table.io, manifest_list))

    def first_manifests(
        self, table: LoadedTable, locations: Sequence[str]
    ) -> Iterator[Sequence[ManifestFile]]:
        """See :class:`ManifestSource`."""
        return batched(first_manifests(table.io, locations))

    def entries(
        self, table: LoadedTable, manifests: Sequence[ManifestFile], *, metrics: bool
    ) -> Iterator[EntriesPart]:
        """See :class:`ManifestSource`."""
        specs = table.metadata.specs()
        for number, manifest in enumerate(manifests):
            spec = specs.get(manifest.partition_spec_id)
            for part in batched(read_entries(table.io, manifest, spec, metrics=metrics)):
                yield EntriesPart(number, part)


HERE = ManifestsHere()


def batched(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in lists of :data:`PART`, the last one shorter."""
    left = iter(items)
    while part := list(islice(left, PART)):
        yield part
