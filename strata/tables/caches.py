"""Parsed content of immutable table files: bounded by bytes, shared by all tables of the process."""

from __future__ import annotations

from typing import Any

import attrs

from strata.tables.files.footers import FooterCache
from strata.tables.files.lru import WeightedLru

FOOTER_BYTES = 128 << 20
"""Bytes of parsed footers; the least recently used ones go."""

COLUMN_BYTES = 8 << 20
"""Bytes of column layouts; the least recently used ones go."""

DELETE_BYTES = 64 << 20
"""Bytes of deleted positions and keys; the least recently used ones go."""

MANIFEST_BYTES = 64 << 20
"""Bytes of manifest entries; the least recently used manifests go, and a heavier one is not kept."""

METADATA_BYTES = 256 << 20
"""Bytes of tables' parsed metadata and of the scans resolved with it; the least recently used tables go."""

MOST_BYTES = FOOTER_BYTES + COLUMN_BYTES + DELETE_BYTES + MANIFEST_BYTES + METADATA_BYTES
"""Bytes of all caches together; with a smaller part of the memory budget, each is smaller in proportion."""


@attrs.frozen(eq=False)
class Caches:
    """Immutable files in parsed form. Every key names the catalog and the table besides the file.

    Attributes:
        footers: Parquet footers.
        deletes: Deleted positions and keys.
        manifests: Entries of manifests, so that planning after an append reads only the new manifest.
        tables: Metadata by table and location, with the scans resolved with it.
    """

    footers: FooterCache = attrs.field(factory=lambda: FooterCache(FOOTER_BYTES, COLUMN_BYTES))
    deletes: WeightedLru[tuple[object, ...], Any] = attrs.field(factory=lambda: WeightedLru(DELETE_BYTES))
    # Entries are of strata.tables.plan.manifests and tables of strata.tables.catalogs, layers above this one.
    manifests: WeightedLru[tuple[object, ...], tuple[Any, ...]] = attrs.field(
        factory=lambda: WeightedLru(MANIFEST_BYTES)
    )
    tables: WeightedLru[tuple[object, ...], Any] = attrs.field(factory=lambda: WeightedLru(METADATA_BYTES))

    def resize(self, nbytes: int) -> None:
        """Divide ``nbytes`` among the caches, at most :data:`MOST_BYTES`; what is too much leaves."""
        part = min(1.0, nbytes / MOST_BYTES)
        self.footers.resize(int(part * FOOTER_BYTES), int(part * COLUMN_BYTES))
        self.deletes.resize(int(part * DELETE_BYTES))
        self.manifests.resize(int(part * MANIFEST_BYTES))
        self.tables.resize(int(part * METADATA_BYTES))
