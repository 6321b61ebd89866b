"""Contract of the part of a metadata store that ends results.

A version is removed in two steps. Its row goes first, in one conditional statement with the audit record:
from then on no request finds it. Its bytes go afterwards, unless another version of the tenant has the same
ones. Until they are gone the removed version is pending, so that a killed process leaves no bytes behind.

Calls block and are thread-safe, as those of :class:`~strata.artifacts.MetadataStore`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from strata.artifacts.metadata.records import Act

REMOVED_SECONDS = 30 * 86_400.0
"""Seconds for which the number of a removed version is remembered, so that it is not given again."""

MOST_REMOVED = 100
"""Maximum versions of one :meth:`RetentionStore.collect`: the writers' lock is held for milliseconds."""


class Hold(enum.Enum):
    """Why a version is kept, however long it was not used."""

    BUILDING = "building"
    NAME = "name"
    ALIAS = "alias"
    PIN = "pin"
    PENDING = "pending"
    INPUT = "input"


@attrs.frozen(order=True)
class Unused:
    """A version that nothing holds; the order is that in which versions are collected.

    Attributes:
        used_at: Its last use, in seconds since the epoch.
        artifact_id: Id of the artifact.
        version: Number of the version.
        nbytes: Bytes of its result and its texts.
    """

    used_at: float
    artifact_id: str
    version: int
    nbytes: int = attrs.field(order=False)


@attrs.frozen
class Removed:
    """A version that was removed.

    Attributes:
        tenant: Its tenant.
        artifact_id: Id of the artifact.
        version: Number of the version.
        byte_size: Bytes of its result; 0 for a failed one.
        content_sha256: Hex SHA-256 of its bytes, to be removed; ``None``: it has none.
    """

    tenant: str
    artifact_id: str
    version: int
    byte_size: int
    content_sha256: str | None


@attrs.frozen
class Usage:
    """What a tenant keeps.

    Attributes:
        stored_bytes: Bytes of its results and of their texts (transform, inputs, schema).
        versions: Number of its versions in all states.
    """

    stored_bytes: int
    versions: int


@attrs.frozen
class Kept:
    """The last use of a version and what holds it.

    Attributes:
        used_at: Its last use, in seconds since the epoch; ``None``: unknown.
        holds: What holds it.
        names: The names that point at it, in order; at most :data:`MOST_REMOVED`.
        dependents: URIs of versions that it is an input of, the oldest first; at most :data:`MOST_REMOVED`.
        aliases: The aliases that point at it, as (name, alias) in order; at most :data:`MOST_REMOVED`.
        pins: The reasons for which it is pinned, in order.
    """

    used_at: float | None
    holds: frozenset[Hold]
    names: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    pins: tuple[str, ...] = ()


class RetentionStore(Protocol):
    """Contract of every store's part that ends results."""

    def now(self) -> float:
        """Return the store's time, in seconds since the epoch."""

    def usage(self, tenant: str) -> Usage:
        """Return what a tenant keeps; one row is read."""

    def largest(self, limit: int) -> tuple[tuple[str, Usage], ...]:
        """Return the ``limit`` tenants that keep the most bytes, the largest first."""

    def note_uses(self, tenant: str, uses: Mapping[tuple[str, int], float]) -> None:
        """Note the last use of versions, by id and number; an earlier use than the noted one changes nothing.

        A power cut may undo it.
        """

    def note_first_uses(self, tenant: str, limit: int) -> int:
        """Note now as the last use of up to ``limit`` versions without one; returns how many had none."""

    def kept(self, tenant: str, artifact_id: str, version: int) -> Kept | None:
        """Return what holds a version, or ``None`` if there is no such version."""

    def unused(self, tenant: str, *, before: float, after: Unused | None, limit: int) -> tuple[Unused, ...]:
        """Return up to ``limit`` versions that nothing holds, the least recently used first.

        Args:
            tenant: The tenant.
            before: Their last use was before this time, in seconds since the epoch.
            after: They come after this one in that order.
            limit: Maximum versions.
        """

    def remove(self, tenant: str, artifact_id: str, version: int, act: Act) -> Removed | Kept | None:
        """Remove a version that nothing holds, together with its audit record.

        Returns what holds it otherwise, or ``None`` if there is no such version; nothing has changed then.
        """

    def collect(
        self, tenant: str, versions: Sequence[Unused], *, before: float, act: Act
    ) -> tuple[Removed, ...]:
        """Remove those of the versions that still nothing holds and that were not used since ``before``.

        They and the audit record ``act``, which gets the list of them as its old value, are one transaction;
        without any there is no record.
        """

    def pending(
        self, limit: int, *, tenant: str | None = None, after: Removed | None = None
    ) -> tuple[Removed, ...]:
        """Return up to ``limit`` removed versions whose bytes may still exist: of one tenant, or of all.

        They come in the order of tenant, id and number, behind ``after``.
        """

    def is_needed(self, tenant: str, content_sha256: str) -> bool:
        """Test whether a version of the tenant has these bytes."""

    def bytes_gone(self, removed: Removed) -> None:
        """Note that the bytes of a removed version are gone, or belong to another version."""

    def forget_removed(self, tenant: str, *, before: float, limit: int) -> int:
        """Forget up to ``limit`` versions whose bytes were removed before a time; returns their number."""
