"""Contract of the part of a metadata store that keeps the registry of results.

Every change and its audit record are one transaction. A change that is refused, or of what does not exist,
changes nothing and leaves no record. Calls block and are thread-safe, as those of
:class:`~strata.artifacts.MetadataStore`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

import attrs

from strata.artifacts.metadata.records import Act, AuditRecord, NameOrder, NameRecord, VersionSummary
from strata.outcomes import Reason, Refused

Version = tuple[str, int]
"""Id of an artifact and number of a version of it."""

Action = Literal["set", "delete"]
"""What is to be done to an alias."""

MOST_ALIASES: Final = 100
"""Maximum aliases of one name; a further one is refused."""

MOST_TAGS: Final = 64
"""Maximum tags of one version; a further one is refused."""

MOST_PINS: Final = 16
"""Maximum pins of one version; a further one is refused."""

MOST_PENDING: Final = 1_000
"""Maximum pending changes of one tenant; a further one is refused."""


def _full(what: str, most: int) -> Refused:
    detail = f"There are {most} {what} already, the maximum. Remove one first."
    return Refused(Reason.CONFLICT, detail, code="too_many")


TOO_MANY_ALIASES: Final = _full("aliases of this name", MOST_ALIASES)
TOO_MANY_TAGS: Final = _full("tags of this result", MOST_TAGS)
TOO_MANY_PINS: Final = _full("pins of this result", MOST_PINS)
TOO_MANY_PENDING: Final = _full("pending changes", MOST_PENDING)

ALIAS_IS_NAME: Final = Refused(
    Reason.CONFLICT,
    "There is a name that is written as this alias of this name; both would have the same URI.",
    code="alias_is_name",
)
OWN_REQUEST: Final = Refused(
    Reason.FORBIDDEN,
    "Another principal than the one who asked for the change has to approve it.",
    code="own_request",
)
OTHER_REQUEST: Final = Refused(
    Reason.CONFLICT,
    "Another change of this alias is pending. It has to be approved or rejected first.",
    code="change_pending",
)
CHANGED: Final = Refused(
    Reason.CONFLICT, "The pending change is not the one that was named.", code="change_differs"
)


@attrs.frozen
class AliasRecord:
    """An alias of a name and the version it points at, since ``updated_at``; it belongs to ``owner``."""

    name: str
    alias: str
    artifact_id: str
    version: int
    updated_at: float
    owner: str


@attrs.frozen
class PendingChange:
    """A change of a protected alias that waits for a second person.

    Attributes:
        name: The name.
        alias: Its alias.
        action: What is to be done.
        artifact_id: The artifact that the alias is to point at; for a removal, the one it pointed at.
        version: Number of the version.
        requested_by: The principal who asked for it.
        requested_at: When, in seconds since the epoch.
    """

    name: str
    alias: str
    action: Action
    artifact_id: str
    version: int
    requested_by: str
    requested_at: float


@attrs.frozen
class PinRecord:
    """A version that is kept for a reason, by whom, since ``pinned_at``."""

    artifact_id: str
    version: int
    reason: str
    pinned_by: str
    pinned_at: float


@attrs.frozen
class Event:
    """An audit record of a result.

    Attributes:
        record: The record.
        target: The version that it is about, as it is now; ``None``: there is no such version any more.
    """

    record: AuditRecord
    target: VersionSummary | None


@attrs.frozen
class Tagged:
    """A version with a tag, and the tag's value."""

    target: VersionSummary
    value: str


class RegistryStore(Protocol):
    """Contract of every store's registry. ``None`` says that what is named does not exist."""

    def set_name(self, tenant: str, order: NameOrder, target: Version) -> NameRecord | Refused | None:
        """Point a name at a ready version; ``None``: there is no such version, or it is not ready.

        Refused if the name belongs to another principal, or is written as an alias that exists.
        """

    def drop_name(self, tenant: str, order: NameOrder) -> NameRecord | Refused | None:
        """Remove a name and return what it was; its aliases stay."""

    def set_alias(
        self, tenant: str, order: NameOrder, alias: str, target: Version
    ) -> AliasRecord | Refused | None:
        """Point an alias of a name at a ready version; ``None``: there is none.

        A principal who may change the name may change its aliases; without such a name, the alias's owner.
        """

    def drop_alias(self, tenant: str, order: NameOrder, alias: str) -> AliasRecord | Refused | None:
        """Remove an alias and return what it was."""

    def get_alias(self, tenant: str, name: str, alias: str) -> AliasRecord | None:
        """Return what an alias points at."""

    def aliases_of(self, tenant: str, names: Sequence[str]) -> Mapping[str, tuple[AliasRecord, ...]]:
        """Return the aliases of names, in order; names without any are left out."""

    def request_change(
        self, tenant: str, order: NameOrder, alias: str, target: Version | None
    ) -> PendingChange | Refused | None:
        """Ask for an alias to point at a ready version, or with ``None`` to be removed.

        A further request of the same principal replaces the one before.
        """

    def get_pending(self, tenant: str, name: str, alias: str) -> PendingChange | None:
        """Return the pending change of an alias."""

    def list_pending(
        self, tenant: str, *, after: tuple[str, str] | None, limit: int
    ) -> tuple[tuple[PendingChange, VersionSummary | None], ...]:
        """Return pending changes in the order of names and aliases, behind a place, each with its version."""

    def approve(
        self, tenant: str, name: str, alias: str, act: Act, *, own: bool, expected: Version | None = None
    ) -> PendingChange | Refused | None:
        """Make a pending change.

        Args:
            tenant: The tenant.
            name: The name.
            alias: The alias.
            act: Who approves it.
            own: Whether a principal may approve what it asked for itself.
            expected: The version of the change that is approved; refused if the pending one is another.

        Returns:
            The change that was made; ``None``: there is none, or its version is not ready any more.
        """

    def reject(self, tenant: str, name: str, alias: str, act: Act) -> PendingChange | None:
        """Drop a pending change and return it."""

    def set_tag(self, tenant: str, version: Version, key: str, value: str, act: Act) -> bool | Refused:
        """Set a tag of a ready version; false: there is no such version."""

    def drop_tag(self, tenant: str, version: Version, key: str, act: Act) -> str | None:
        """Remove a tag and return its value."""

    def tags_of(self, tenant: str, versions: Sequence[Version]) -> Mapping[Version, Mapping[str, str]]:
        """Return the tags of versions; versions without any are left out."""

    def names_of(self, tenant: str, versions: Sequence[Version]) -> Mapping[Version, tuple[str, ...]]:
        """Return the names of versions, in order; versions without any are left out."""

    def list_tagged(
        self, tenant: str, key: str, value: str | None, *, after: Version | None, limit: int
    ) -> tuple[Tagged, ...]:
        """Return versions with a tag, and with a value of it unless ``None``, in order, behind a place."""

    def pin(self, tenant: str, version: Version, reason: str, act: Act) -> PinRecord | Refused | None:
        """Keep a ready version for a reason; a pin of the same reason stays as it is."""

    def unpin(self, tenant: str, version: Version, reason: str, act: Act) -> PinRecord | None:
        """Remove a pin and return it."""

    def list_events(
        self,
        tenant: str,
        *,
        name: str | None = None,
        artifact_id: str | None = None,
        before: int | None = None,
        since: int | None = None,
        limit: int,
    ) -> tuple[Event, ...]:
        """Return acts on results, the latest first.

        Args:
            tenant: The tenant.
            name: Acts on this name only.
            artifact_id: Acts on this artifact only.
            before: Acts with a smaller id.
            since: Acts with a larger id, the earliest first.
            limit: Maximum acts.
        """
