"""Parse manifest lists and manifests in a reader, a part at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from pyiceberg.manifest import ManifestFile

from strata.outcomes import RefusalError
from strata.readers.messages import (
    DECIMAL,
    UUID_BYTES,
    EntrySent,
    FileGiven,
    Listed,
    ListEntries,
    Listing,
    ListManifests,
    ManifestSent,
    MetricsSent,
    answer_bytes,
    answer_of,
)
from strata.readers.plans import HandedFileIO, raise_refused
from strata.tables.errors import unreadable
from strata.tables.plan.manifests import Entry, first_manifests, read_entries, read_manifests

PART_BYTES = 2 << 20
"""Estimated bytes of a part: bounds of columns may have any length."""

_COUNT_BYTES = 16
"""Estimated bytes of a column's count."""


class OpenListing:
    """A manifest list, or manifests, being parsed.

    Args:
        opening: What to parse.
        passed: Items to pass over.
        descriptors: Descriptors of the files that were given.
    """

    def __init__(self, opening: Listing, passed: int, descriptors: list[int]) -> None:
        left = iter(descriptors)
        self._given: dict[str, list[tuple[FileGiven, int]]] = {}
        for location, given in zip(opening.locations, opening.given, strict=True):
            descriptor = next(left) if given.errno is None and given.refused is None else -1
            self._given.setdefault(location, []).append((given, descriptor))
        self._opening = opening
        self._at = 0
        self._items = self._all(opening)
        self._passed = passed
        self._raised: RefusalError | None = None

    @property
    def reading(self) -> tuple[str, str]:
        """The kind of file that is parsed, and its location."""
        what = self._opening.what
        whole = isinstance(what, ListManifests) and what.whole
        return "manifest list" if whole else "manifest", self._opening.locations[self._at]

    def _take(self, location: str) -> tuple[int, None]:
        """Return the descriptor of a file, all of which is there, and which is the caller's then."""
        given, descriptor = self._given[location].pop()
        raise_refused(given)
        return descriptor, None

    def close(self) -> None:
        """Close the files that were not parsed; idempotent."""
        self._items.close()
        for one in self._given.values():
            while one:
                _, descriptor = one.pop()
                if descriptor >= 0:
                    os.close(descriptor)

    def _all(self, opening: Listing) -> Any:
        io, what = HandedFileIO(self._take), opening.what
        found: Iterator[Any]
        match what:
            case ListManifests():
                found = (
                    read_manifests(io, opening.locations[0])
                    if what.whole
                    else first_manifests(io, opening.locations)
                )
                for one in found:
                    yield _manifest(one)
            case ListEntries():
                for self._at, manifest in enumerate(what.manifests):
                    spec = what.specs.get(manifest.partition_spec_id)
                    for entry in read_entries(io, manifest, spec, metrics=what.metrics):
                        yield None if entry is None else _entry(entry)

    def next(self, most: int) -> Listed:
        """Return the next part, of at most ``most`` items.

        Raises:
            RefusalError: As the functions of :mod:`strata.tables.plan.manifests`.
        """
        if self._raised is not None:
            raise self._raised
        found: list[ManifestSent | EntrySent | None] = []
        places: list[int] = []
        weight, done = 0, False
        while len(found) < most and weight < PART_BYTES:
            try:
                while self._passed:
                    next(self._items)
                    self._passed -= 1
                item = next(self._items)
            except StopIteration:
                done = True
                break
            except RefusalError as refusal:
                if not found:
                    raise
                self._raised = refusal  # after what was found before it
                break
            found.append(item)
            places.append(self._at)
            weight += _weight(item)
        return Listed(
            manifests=[one for one in found if isinstance(one, ManifestSent)],
            entries=[
                (place, one)
                for place, one in zip(places, found, strict=True)
                if not isinstance(one, ManifestSent)
            ],
            done=done,
        )


def encoded(listed: Listed, what: str, location: str) -> bytes:
    """Return a part as it is sent, which the server accepts: a damaged file may lack a required value.

    Raises:
        RefusalError: DATA_UNREADABLE, naming the file.
    """
    try:
        found = answer_bytes(listed)
        answer_of(found)
    except (msgspec.MsgspecError, OverflowError, TypeError, UnicodeEncodeError) as error:
        raise RefusalError(unreadable(what, location)) from error
    return found


def _manifest(one: ManifestFile) -> ManifestSent:
    parts = one.partitions
    return ManifestSent(
        one.manifest_path,
        one.manifest_length,
        one.partition_spec_id,
        one.content,
        one.sequence_number,
        None
        if parts is None
        else [(part.contains_null, part.contains_nan, part.lower_bound, part.upper_bound) for part in parts],
    )


def _entry(one: Entry) -> EntrySent:
    metrics = None
    if one.metrics is not None:
        each = one.metrics
        metrics = MetricsSent(
            *(_plain(part) for part in (each.values, each.nulls, each.nans, each.lower, each.upper))
        )
    return EntrySent(
        one.content,
        one.path,
        one.file_format,
        tuple(_value(value) for value in one.partition),
        one.spec_id,
        one.sequence_number,
        one.record_count,
        one.size,
        one.equality_ids,
        one.referenced_data_file,
        one.content_offset,
        one.content_size,
        metrics,
    )


def _plain(found: Mapping[int, Any]) -> dict[int, Any]:
    return {key: found[key] for key in found}


def _value(value: Any) -> Any:
    """Return a partition value as MessagePack has it, which has neither decimals nor UUIDs."""
    if isinstance(value, Decimal):
        return msgspec.msgpack.Ext(DECIMAL, str(value).encode())
    return msgspec.msgpack.Ext(UUID_BYTES, value.bytes) if isinstance(value, UUID) else value


def _weight(item: ManifestSent | EntrySent | None) -> int:
    if not isinstance(item, EntrySent) or item.metrics is None:
        return 1
    found = item.metrics
    bounds = sum(len(value) + _COUNT_BYTES for part in (found.lower, found.upper) for value in part.values())
    return bounds + _COUNT_BYTES * (len(found.values) + len(found.nulls) + len(found.nans))
