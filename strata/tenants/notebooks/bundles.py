"""Take the bundle of a run: check it, hash its values, and keep it as a blob of the notebook."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any, Final

import attrs
import structlog

from strata.artifacts import BlobStore
from strata.cells.bundle import FILES, Bundle, BundleError, Member, read_bundle
from strata.notebooks.model.results import Output, Shown

BLOCK_BYTES: Final = 1024 * 1024
"""Bytes of one read."""

MAX_VALUES: Final = 1_000
"""Maximum values of a cell."""

MAX_SHOWN: Final = 100
"""Maximum displays of a cell."""

MAX_TEXT: Final = 500
"""Maximum characters of a type or preview; the rest is cut off."""

log = structlog.get_logger(__name__)


@attrs.frozen
class Taken:
    """A bundle that was kept.

    Attributes:
        outputs: Its values.
        displays: Its displays.
        displays_left_out: Displays that it has not.
        changed: Inputs that the cell changed in place.
        sha256: Its hash; ``None``: there is none.
        nbytes: Its bytes.
    """

    outputs: Mapping[str, Output] = attrs.field(factory=dict)
    displays: tuple[Shown, ...] = ()
    displays_left_out: int = 0
    changed: tuple[str, ...] = ()
    sha256: str | None = None
    nbytes: int = 0


def notebook_prefix(tenant: str, name: str) -> str:
    """Return the directory name of a notebook's blobs: that of no tenant, and of no other notebook."""
    return hashlib.sha256(f"notebook:{tenant}:{name}".encode()).hexdigest()[:32]


def take_bundle(
    blobs: BlobStore, prefix: str, descriptor: int, defines: frozenset[str], inputs: frozenset[str]
) -> Taken:
    """Keep a bundle; blocking, in proportion to its size.

    Args:
        blobs: Where.
        prefix: Prefix of the notebook's blobs.
        descriptor: The file, which no other process writes any more.
        defines: Names that the cell may leave.
        inputs: Names that it took.

    Raises:
        BundleError: If it is no bundle.
        OSError: If the disk is full or broken.
        RefusalError: If a remote store does not take it.
    """
    size = os.fstat(descriptor).st_size
    if not size:
        return Taken()
    bundle = read_bundle(descriptor)
    try:
        outputs, displays = _outputs(descriptor, bundle, defines), _displays(bundle)
        left_out = int(bundle.manifest.get("displays_left_out", 0))
        changed = tuple(name for name in bundle.manifest.get("mutation_warnings", ()) if name in inputs)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BundleError("the manifest has not its form") from None
    writer = blobs.begin(prefix)
    try:
        for offset in range(0, size, BLOCK_BYTES):
            writer.append((_read(descriptor, offset, min(BLOCK_BYTES, size - offset)),))
        facts = writer.commit()
    finally:
        writer.abort()
    return Taken(outputs, displays, left_out, changed, facts.sha256, size)


def _outputs(descriptor: int, bundle: Bundle, defines: frozenset[str]) -> dict[str, Output]:
    variables: Mapping[str, Any] = bundle.manifest["variables"]
    if len(variables) > MAX_VALUES or not variables.keys() <= defines:
        raise BundleError("the bundle has values that the cell does not define, or too many")
    found = {}
    for name, facts in variables.items():
        member, content_type = _member(bundle, facts), str(facts["content_type"])[:64]
        digest = hashlib.sha256(f"{content_type}\n".encode())
        for offset in range(0, member.nbytes, BLOCK_BYTES):
            count = min(BLOCK_BYTES, member.nbytes - offset)
            digest.update(_read(descriptor, member.offset + offset, count))
        found[name] = Output(
            content_type,
            digest.hexdigest(),
            member.offset,
            member.nbytes,
            str(facts.get("type", ""))[:MAX_TEXT],
            str(facts.get("preview", ""))[:MAX_TEXT],
        )
    return found


def _displays(bundle: Bundle) -> tuple[Shown, ...]:
    found = []
    for facts in bundle.manifest["displays"][:MAX_SHOWN]:
        member = _member(bundle, facts)
        preview = str(facts.get("preview", ""))[:MAX_TEXT]
        found.append(Shown(str(facts["content_type"])[:64], member.offset, member.nbytes, preview))
    return tuple(found)


def _member(bundle: Bundle, facts: Mapping[str, Any]) -> Member:
    name = facts["file"]
    if not name.startswith(FILES):
        raise BundleError("a value is in no file of the bundle")
    return bundle.members[name]


def _read(descriptor: int, offset: int, count: int) -> bytes:
    data = os.pread(descriptor, count, offset)
    if len(data) != count:
        raise OSError("the bundle became shorter while it was read")
    return data
