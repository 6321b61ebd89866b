"""Answers about the life of results, as JSON."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta


class RemovedAnswer(msgspec.Struct):
    """A version that was removed, and the bytes of its result."""

    status: str
    artifact_uri: str
    artifact_id: str
    version: int
    byte_size: int


class CancelledAnswer(msgspec.Struct):
    """Whether a build was ended: not if it is over, or if others asked for it, too."""

    build_id: str
    cancelled: bool
    state: str


class CollectedAnswer(msgspec.Struct):
    """What a collection removed, or would remove; ``store_bytes``: what the tenant keeps afterwards."""

    deleted_count: int
    deleted_bytes: int
    store_bytes: int
    dry_run: bool


class HoldAnswer(msgspec.Struct):
    """What holds a result.

    ``kind``: ``name``, ``alias``, ``pin``, ``pending`` (a change of an alias), ``input`` (of another result),
    ``building``, or ``hidden`` from the caller.
    """

    kind: str
    name: str | None = None
    artifact_uri: str | None = None
    alias: str | None = None
    reason: str | None = None


class WhyAnswer(msgspec.Struct):
    """Why a result is kept, and when it may go: at the earliest, and if it is not used."""

    artifact_uri: str
    artifact_id: str
    version: int
    held_by: list[HoldAnswer]
    in_use: bool
    last_used_at: str | None
    may_go_at: str | None
    goes_at: str | None


class NameBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/names``."""

    name: Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 512})]
    artifact_id: str
    version: int


class NameSetAnswer(msgspec.Struct):
    """A name and what it points at."""

    name_uri: str
    artifact_uri: str


class NameDroppedAnswer(msgspec.Struct):
    """A name that was removed, and what it pointed at."""

    status: str
    name: str
    artifact_uri: str


class AliasBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PUT /v1/names/{name}/aliases/{alias}``."""

    artifact_id: str
    version: int


class AliasSetAnswer(msgspec.Struct):
    """An alias that was changed; ``status``: ``applied`` or ``deleted``."""

    status: str
    name: str
    alias: str
    artifact_uri: str


class AliasPendingAnswer(msgspec.Struct):
    """A change of a protected alias that waits for approval; ``status``: ``pending``."""

    status: str
    name: str
    alias: str
    detail: str


class AliasAnswer(msgspec.Struct):
    """What an alias of a name points at."""

    name: str
    alias: str
    artifact_uri: str
    artifact_id: str
    version: int
    state: str
    updated_at: str


class AliasItem(msgspec.Struct):
    """An alias in a list."""

    alias: str
    artifact_id: str
    version: int
    updated_at: str


class AliasListAnswer(msgspec.Struct):
    """The aliases of a name, in order."""

    name: str
    aliases: list[AliasItem]


class PendingItem(msgspec.Struct):
    """A change of a protected alias; ``action``: ``set`` or ``delete``."""

    name: str
    alias: str
    action: str
    artifact_id: str
    version: int
    requested_by: str
    requested_at: str
    tenant: str


class PendingListAnswer(msgspec.Struct):
    """Changes that wait for approval, in the order of names and aliases."""

    pending: list[PendingItem]
    next_page_token: str | None = None


class DecideBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/registry/pending/approve`` and ``…/reject``.

    ``artifact_id`` and ``version`` say which change was seen; the pending one is approved only if it is that.
    """

    name: str
    alias: str
    artifact_id: str | None = None
    version: int | None = None


class AppliedItem(msgspec.Struct):
    """A change that was made."""

    name: str
    alias: str
    action: str
    artifact_uri: str
    artifact_id: str
    version: int
    requested_by: str


class ApprovedAnswer(msgspec.Struct):
    """A change that was approved, and so made."""

    status: str
    applied: AppliedItem


class RejectedAnswer(msgspec.Struct):
    """A change that was rejected."""

    status: str
    name: str
    alias: str


class TagBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PUT …/tags``."""

    key: Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 128})]
    value: Annotated[str, Meta(extra_json_schema={"maxLength": 256})]


class TagSetAnswer(msgspec.Struct):
    """A result whose tag was set; the answer also has the tag itself, as a member with the tag's key."""

    artifact_id: str
    version: int


class TagsAnswer(msgspec.Struct):
    """The tags of a result."""

    artifact_id: str
    version: int
    tags: dict[str, str]


class TagDroppedAnswer(msgspec.Struct):
    """A tag that was removed."""

    status: str
    artifact_id: str
    version: int
    key: str


class PinBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST …/pin``."""

    reason: Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 256})]


class PinAnswer(msgspec.Struct):
    """A pin of a result."""

    artifact_id: str
    version: int
    reason: str
    tenant: str
    pinned_by: str
    pinned_at: str


class UnpinnedAnswer(msgspec.Struct):
    """A pin that was removed."""

    unpinned: bool
    artifact_id: str
    version: int
    reason: str


class TaggedItem(msgspec.Struct):
    """A result with a tag; ``tag_value`` is that of the tag that was looked for."""

    artifact_id: str
    version: int
    uri: str
    names: list[str]
    tags: dict[str, str]
    tag_value: str


class TaggedListAnswer(msgspec.Struct):
    """Results with a tag, in the order of their ids."""

    artifacts: list[TaggedItem]
    next_page_token: str | None = None


class SummaryItem(msgspec.Struct):
    """A name; ``aliases`` has versions by alias, ``alias_uris`` the results, which may be other artifacts."""

    tenant: str
    name: str
    artifact_id: str
    version: int
    uri: str
    aliases: dict[str, int]
    alias_uris: dict[str, str]
    tags: dict[str, str]
    readers: list[str]
    owner: str | None


class SummaryAnswer(msgspec.Struct):
    """Names with their aliases and tags, in order."""

    names: list[SummaryItem]
    next_page_token: str | None = None


class EventItem(msgspec.Struct):
    """What was done to a result; fields that do not apply are null."""

    seq: int
    at: str
    actor: str
    action: str
    name: str | None
    alias: str | None
    artifact_id: str | None
    from_artifact_id: str | None
    from_version: int | None
    to_version: int | None
    key: str | None
    value: str | None
    tenant: str


class RegistryAuditAnswer(msgspec.Struct):
    """What was done to results, the latest first; ``next_before``: where the next page begins."""

    entries: list[EventItem]
    next_before: int | None


class NameEventsAnswer(msgspec.Struct):
    """What was done to results, the earliest first; ``next`` is the ``since`` of the next request."""

    events: list[EventItem]
    next: int


class ProvenanceAnswer(msgspec.Struct):
    """A result that was found by its provenance; what is not known of it is null."""

    artifact_id: str
    version: int
    provenance_hash: str
    content_type: str
    state: str
    arrow_schema: str | None
    row_count: int | None
    byte_size: int | None
    created_at: str
    content_sha256: str | None
    principal: str | None = None
    build_env: str | None = None
    build_duration_ms: int | None = None
    env_hash: str | None = None
    promotion: str | None = None


class VerifiedAnswer(msgspec.Struct):
    """A result whose stored bytes were hashed; ``status``: ``whole`` or ``damaged``."""

    status: str
    artifact_uri: str
    artifact_id: str
    version: int
    byte_size: int
    content_sha256: str


class PutTransform(msgspec.Struct, forbid_unknown_fields=True):
    """What a client says has made a result; ``ref`` is another word for ``executor``."""

    executor: str | None = None
    ref: str | None = None
    params: dict[str, Any] = {}


class PutBody(msgspec.Struct, forbid_unknown_fields=True):
    """The part ``metadata`` of ``PUT /v1/artifacts``."""

    transform: PutTransform
    inputs: list[str] = []
    name: str | None = None


class PutAnswer(msgspec.Struct):
    """The result that was put; ``hit``: the same one was there already."""

    artifact_uri: str
    hit: bool
    byte_size: int
    name_uri: str | None


class UploadedAnswer(msgspec.Struct):
    """An executor's result has arrived; it is no artifact before ``finalize``."""

    byte_size: int


class FinalizeBody(msgspec.Struct):
    """What an executor says of the result that it has uploaded; unknown keys are left out."""

    byte_size: int | None = None
    row_count: int | None = None


class FinalizedAnswer(msgspec.Struct):
    """The artifact that was made of what an executor has uploaded."""

    status: str
    build_id: str
    artifact_uri: str
    byte_size: int
    row_count: int
    name_uri: str | None = None


class LoggedAnswer(msgspec.Struct):
    """Whether a part of a log was taken."""

    delivered: bool
