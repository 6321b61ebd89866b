"""Parsed content of immutable table files: bounded by bytes, shared by all tables of the process."""

from __future__ import annotations

from typing import Any

import attrs

from strata.tables.files.footers import FooterCache
from strata.tables.files.lru import WeightedLru

_DELETE_BYTES = 64 << 20
"""Bytes of deleted positions and keys; the least recently used ones go."""

MANIFEST_BYTES = 64 << 20
"""Bytes of manifest entries; the least recently used manifests go, and a heavier one is not kept."""


@attrs.frozen(eq=False)
class Caches:
    """Immutable files in parsed form. Every key names the catalog and the table besides the file.

    Attributes:
        footers: Parquet footers.
        deletes: Deleted positions and keys.
        manifests: Entries of manifests, so that planning after an append reads only the new manifest.
    """

    footers: FooterCache = attrs.field(factory=FooterCache)
    deletes: WeightedLru[tuple[object, ...], Any] = attrs.field(factory=lambda: WeightedLru(_DELETE_BYTES))
    # Entries are of strata.tables.plan.manifests, a layer above this one.
    manifests: WeightedLru[tuple[object, ...], tuple[Any, ...]] = attrs.field(
        factory=lambda: WeightedLru(MANIFEST_BYTES)
    )
