"""Limits of a bundle that is kept: what has exactly the limit is whole, one more is refused or cut off."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import pytest
from memory_blobs import MemoryBlobStore

from strata.cells.bundle import BundleError, BundleWriter
from strata.tenants.notebooks.bundles import MAX_SHOWN, MAX_TEXT, MAX_VALUES, Taken, take_bundle

TEXT = "files/text.txt"


def taken(variables: Mapping[str, Any], displays: int = 0, text: str = "") -> Taken:
    """Keep a bundle with some values and displays, all of which are one member."""
    fact = {"file": TEXT, "content_type": "text/plain", "preview": text, "type": text}
    with tempfile.TemporaryFile() as file:
        writer = BundleWriter(file)
        writer.add(TEXT, b"1")
        values = {name: {**fact, **facts} for name, facts in variables.items()}
        writer.end({"variables": values, "displays": [fact] * displays})
        file.flush()
        return take_bundle(MemoryBlobStore(), "p", file.fileno(), frozenset(variables), frozenset())


def names(count: int) -> dict[str, Any]:
    return {f"v{number}": {} for number in range(count)}


def test_values() -> None:
    """A bundle with one more is none."""
    assert MAX_VALUES == len(taken(names(MAX_VALUES)).outputs)
    with pytest.raises(BundleError, match="too many"):
        taken(names(MAX_VALUES + 1))


def test_displays() -> None:
    """Those beyond are left out."""
    assert MAX_SHOWN == len(taken({}, MAX_SHOWN).displays) == len(taken({}, MAX_SHOWN + 1).displays)
    assert MAX_SHOWN - 1 == len(taken({}, MAX_SHOWN - 1).displays)


def test_texts() -> None:
    """Types and previews are cut off, of values and of displays."""
    for length in (MAX_TEXT, MAX_TEXT + 1):
        found = taken(names(1), 1, "x" * length)
        texts = found.outputs["v0"].type, found.outputs["v0"].preview, found.displays[0].preview
        assert ("x" * MAX_TEXT,) * 3 == texts
