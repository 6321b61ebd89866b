"""The questions about the registry of results, and their answers; see :mod:`strata.tenants.messages`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import trio

from strata.artifacts import ArtifactRecord, NameRecord
from strata.artifacts.registry.contract import AliasRecord, PendingChange, Version
from strata.auth import Principal
from strata.tenants.retention_messages import RetentionQuestion


@attrs.frozen
class SetName:
    """Point a name at a ready result. Answer: :class:`~strata.artifacts.NameRecord`."""

    principal: Principal
    name: str
    artifact_id: str
    version: int
    request_id: str


@attrs.frozen
class DropName:
    """Remove a name. Answer: :class:`NameDropped`."""

    principal: Principal
    name: str
    request_id: str


@attrs.frozen
class NameDropped:
    """A name was removed; ``record`` is what it was."""

    record: NameRecord


@attrs.frozen
class SetAlias:
    """Point an alias of a name at a ready result. Answer: :class:`AliasChanged`."""

    principal: Principal
    name: str
    alias: str
    artifact_id: str
    version: int
    request_id: str


@attrs.frozen
class DropAlias:
    """Remove an alias of a name. Answer: :class:`AliasChanged`."""

    principal: Principal
    name: str
    alias: str
    request_id: str


@attrs.frozen
class AliasChanged:
    """An alias as it is, or was before its removal; or the change that waits for approval."""

    change: AliasRecord | PendingChange


@attrs.frozen
class GetAlias:
    """Resolve an alias of a name. Answer: :class:`~strata.artifacts.registry.contract.AliasRecord`."""

    principal: Principal
    name: str
    alias: str


@attrs.frozen
class ListAliases:
    """List the aliases of a name. Answer: a tuple of ``AliasRecord``."""

    principal: Principal
    name: str


@attrs.frozen
class ListPending:
    """List pending changes behind a place (name, alias). Answer: a tuple of ``PendingChange``."""

    principal: Principal
    after: tuple[str, str] | None
    limit: int


@attrs.frozen
class DecidePending:
    """Approve or reject a pending change. Answer: ``PendingChange``.

    Attributes:
        principal: The caller, who may decide on changes.
        name: The name.
        alias: The alias.
        approve: Whether the change is made.
        expected: The version that the caller has seen in the change; None: any.
        request_id: Id of the request, for the audit.
    """

    principal: Principal
    name: str
    alias: str
    approve: bool
    expected: Version | None
    request_id: str


@attrs.frozen
class SetTag:
    """Set a tag of a result, or with the value ``None`` remove it. Answer: :class:`Tags`, the one tag."""

    principal: Principal
    artifact_id: str
    version: int
    key: str
    value: str | None
    request_id: str


@attrs.frozen
class GetTags:
    """Return the tags of a result. Answer: :class:`Tags`."""

    principal: Principal
    artifact_id: str
    version: int


@attrs.frozen
class Tags:
    """Tags by key."""

    tags: Mapping[str, str]


@attrs.frozen
class SetPin:
    """Pin a result for a reason, or remove that pin. Answer: ``PinRecord``, also of a removed one."""

    principal: Principal
    artifact_id: str
    version: int
    reason: str
    keep: bool
    request_id: str


@attrs.frozen
class FindTagged:
    """List results with a tag, behind a place. Answer: a tuple of :class:`Entry`."""

    principal: Principal
    key: str
    value: str | None
    after: Version | None
    limit: int


@attrs.frozen
class Entry:
    """A result in the registry: its names and tags, and the value of the tag that was looked for."""

    artifact_id: str
    version: int
    names: tuple[str, ...]
    tags: Mapping[str, str]
    value: str


@attrs.frozen
class ListEvents:
    """List acts on results. Answer: a tuple of :class:`~strata.artifacts.registry.contract.Event`.

    Attributes:
        principal: The caller.
        limit: Maximum acts.
        name: Acts on this name only.
        artifact_id: Acts on this artifact only.
        before: Acts with a smaller id, the latest first.
        since: Acts with a larger id, the earliest first.
    """

    principal: Principal
    limit: int
    name: str | None = None
    artifact_id: str | None = None
    before: int | None = None
    since: int | None = None


@attrs.frozen
class Summarize:
    """List names above ``after`` with aliases and tags. Answer: a tuple of :class:`Summary`."""

    principal: Principal
    after: str
    limit: int


@attrs.frozen
class Summary:
    """A name, its aliases, and the tags of the version it points at."""

    name: NameRecord
    aliases: tuple[AliasRecord, ...]
    tags: Mapping[str, str]


@attrs.frozen
class FindByProvenance:
    """Find the newest ready result with a provenance hash. Answer: ``ArtifactRecord``."""

    principal: Principal
    provenance_hash: str


@attrs.frozen
class VerifyArtifact:
    """Hash the stored bytes of a result. Answer: :class:`Verified`."""

    principal: Principal
    artifact_id: str
    version: int


@attrs.frozen
class Verified:
    """A result whose bytes were hashed; one that is not ``whole`` is given up, and built again on request."""

    record: ArtifactRecord
    whole: bool


@attrs.frozen(eq=False)
class PutArtifact:
    """Keep a client's Arrow stream as a result. Answer: :class:`Put`.

    Attributes:
        principal: The caller, who may write results.
        executor: What the client says has made it.
        params: The parameters of that.
        inputs: URIs of what it was made of.
        name: A name for it.
        pieces: Its bytes as they arrive; an empty piece is the end, and without one the upload was cut.
        request_id: Id of the request, for the audit.
    """

    principal: Principal
    executor: str
    params: Mapping[str, Any]
    inputs: tuple[str, ...]
    name: str | None
    pieces: trio.MemoryReceiveChannel[bytes]
    request_id: str


@attrs.frozen
class Put:
    """The result that was put, or the same one that was there already (``hit``)."""

    record: ArtifactRecord
    hit: bool


RegistryQuestion = (
    SetName
    | DropName
    | SetAlias
    | DropAlias
    | GetAlias
    | ListAliases
    | ListPending
    | DecidePending
    | SetTag
    | GetTags
    | SetPin
    | FindTagged
    | ListEvents
    | Summarize
    | FindByProvenance
    | VerifyArtifact
    | PutArtifact
    | RetentionQuestion
)
