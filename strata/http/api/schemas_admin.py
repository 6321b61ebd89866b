"""The JSON of administration: tenants, limits, the audit, and who one is."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from strata.config import Settings
from strata.config.fields import TenantOnly
from strata.config.tenants import LIMITS
from strata.http.api.schemas import CacheStatsAnswer, StatsAnswer

MOST = 2**53 - 1
"""Largest number of a limit without a bound of its own: the largest that every JSON reader knows exactly."""

_TYPES = typing.get_type_hints(Settings) | typing.get_type_hints(TenantOnly)


def _kind(name: str) -> Any:
    """Return the type of a limit in JSON, bounds included; null goes back."""
    facts, kind = LIMITS[name].metadata, _TYPES[name]
    if isinstance(kind, types.UnionType):
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if facts["choices"]:
        kind = Literal[facts["choices"]]
    elif kind in (int, float):
        least, most = facts["least"], facts["most"]
        bounds: dict[str, Any] = {"le": kind(MOST if most is None else most)}
        kind = Annotated[kind, Meta(**bounds | ({} if least is None else {"ge": kind(least)}))]
    return kind | None | UnsetType


LimitsBody = msgspec.defstruct(
    "LimitsBody",
    [(name, _kind(name), UNSET) for name in LIMITS],
    forbid_unknown_fields=True,
    namespace={"__doc__": "New limits by name; null goes back to what holds without the change."},
    module=__name__,
)


class LimitAnswer(msgspec.Struct):
    """A limit; source is ``default``, ``settings``, ``section``, ``operator``, ``tenant`` or ``maximum``.

    ``about`` says what it limits, in a sentence.
    """

    value: Any
    source: str
    maximum: float | None
    granted: Any
    about: str


class TenantLimitsAnswer(msgspec.Struct):
    """A tenant's limits."""

    tenant: str
    limits: dict[str, LimitAnswer]


class TenantSummary(msgspec.Struct):
    """A tenant in a list; ``state`` is that of its actor, ``absent`` when it has none."""

    tenant: str
    state: str
    enabled: bool
    drained: bool
    live_since: str | None
    restarts: int
    waiting_callers: int
    queued_questions: int


class TenantListAnswer(msgspec.Struct):
    """A page of tenants in the order of their ids; ``next`` is the ``after`` of the page behind it."""

    tenants: list[TenantSummary]
    limit: int
    next: str | None


class SlotsAnswer(msgspec.Struct):
    """Slots of a tier; more may be in use than there are, while lowered ones drain."""

    tier: str
    total: int
    used: int
    waiting: int


class InFlightAnswer(msgspec.Struct):
    """A running build; it has no id before it is admitted."""

    build_id: str | None
    progress: float


class ErrorAnswer(msgspec.Struct):
    """An error: its code, the question that failed, and when."""

    code: str
    what: str
    at: str


class UsageAnswer(msgspec.Struct):
    """What a tenant uses now; ``cache`` is null for a caller who may not see its statistics."""

    slots: list[SlotsAnswer]
    in_flight: list[InFlightAnswer]
    questions: int
    streams_waiting: int
    cache: CacheStatsAnswer | None


class TenantAnswer(msgspec.Struct):
    """A tenant; ``usage`` is null when its actor is not running, or has no time to say."""

    tenant: str
    state: str
    enabled: bool
    drained: bool
    live_since: str | None
    restarts: int
    waiting_callers: int
    queued_questions: int
    limits: dict[str, LimitAnswer]
    usage: UsageAnswer | None
    last_errors: list[ErrorAnswer]
    artifacts: StatsAnswer


class ServerAnswer(msgspec.Struct):
    """A server that shares the metadata database, as it told the others when it last renewed its lease."""

    server_id: str
    name: str
    version: str
    state: str
    started_at: str
    seen_at: str
    config_version: str
    policy_version: str | None
    this_server: bool


class ServerListAnswer(msgspec.Struct):
    """The servers of one metadata database, the oldest first; none where one server has it alone."""

    servers: list[ServerAnswer]


class ActAnswer(msgspec.Struct):
    """What was done to a tenant, and its state afterwards; ``changed`` is false where nothing was to do."""

    tenant: str
    action: str
    changed: bool
    state: str


class AuditAnswer(msgspec.Struct):
    """An audited act; an actor of another tenant is shown to operators only."""

    id: int
    at: str
    tenant: str | None
    principal: str | None
    principal_tenant: str | None
    from_elsewhere: bool
    action: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    request_id: str | None


class AuditListAnswer(msgspec.Struct):
    """A page of the audit, the latest first; ``next`` is the ``before`` of the page behind it."""

    entries: list[AuditAnswer]
    limit: int
    next: int | None


class TableAccessAnswer(msgspec.Struct):
    """A table behind a read: its snapshot, where one was read, and the rule that decided on the caller."""

    table: str
    snapshot: str | None
    rule: str
    allowed: bool


class AccessLineAnswer(msgspec.Struct):
    """A read, or an attempt at one; ``bytes`` are those that the server itself sent.

    ``tables_cut``: whether there were more tables than are listed.
    """

    id: int
    at: str
    tenant: str
    principal: str
    request_id: str | None
    action: str
    outcome: str
    artifact_uri: str | None
    rows: int | None
    bytes: int
    tables: list[TableAccessAnswer]
    tables_cut: bool


class AccessListAnswer(msgspec.Struct):
    """A page of the access audit, the latest first; ``next`` is the ``before`` of the page behind it."""

    entries: list[AccessLineAnswer]
    limit: int
    next: int | None


class BuildLineAnswer(msgspec.Struct):
    """A build under way.

    ``state``: ``waiting`` (for the limit ``waits_for``), ``building``, ``committing``, or ``elsewhere`` where
    another server builds it. ``tables``: the first of those that it reads, with the rule that decided on the
    first principal. ``rows_done`` are rows read, before filters; ``rows_planned`` is 0 if that is not known.
    """

    build_id: str | None
    artifact_uri: str | None
    state: str
    waits_for: str | None
    principals: list[str]
    tables: list[TableAccessAnswer]
    tables_cut: bool
    rows_done: int
    rows_planned: int
    bytes: int
    progress: float
    readers: int


class BuildLinesAnswer(msgspec.Struct):
    """A page of the builds of a tenant on this server; ``next`` is the ``after`` of the page behind it.

    ``asked``: whether the tenant's actor has answered; without an actor there are no builds.
    """

    builds: list[BuildLineAnswer]
    limit: int
    next: str | None
    asked: bool


class StreamLineAnswer(msgspec.Struct):
    """A stream: ``unread``, ``being read`` or ``read``; it is forgotten after ``seconds``."""

    stream_id: str
    owner: str
    state: str
    artifact_uri: str | None
    seconds: float


class StreamLinesAnswer(msgspec.Struct):
    """A page of the streams of a tenant on this server; ``next`` is the ``after`` of the page behind it.

    ``asked``: whether the tenant's actor has answered; without an actor there are no streams.
    """

    streams: list[StreamLineAnswer]
    limit: int
    next: str | None
    asked: bool


BuildId = Annotated[str, Meta(max_length=64)]


class StopBuildsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which builds end: those that fit all that is named. At least one must be; ``all`` names every one."""

    build_ids: Annotated[list[BuildId], Meta(min_length=1, max_length=1000)] | None = None
    principal: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    state: Literal["waiting", "building"] | None = None
    all: bool = False


class StoppedAnswer(msgspec.Struct):
    """How many builds were chosen and how many of them ended; others are whole, or run on another server."""

    tenant: str
    chosen: int
    stopped: int


class SeesBody(msgspec.Struct, forbid_unknown_fields=True):
    """The principal whose view is listed, and the part of it."""

    principal: Annotated[str, Meta(min_length=1, max_length=256)]
    tenant: str | None = None
    scopes: Annotated[list[str], Meta(max_length=100)] = []
    catalog: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    q: Annotated[str, Meta(max_length=256)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    page_token: str | None = None


class SeenTableAnswer(msgspec.Struct):
    """A table that a principal may read, by which rule, and whether only a part of it."""

    uri: str
    resource: str
    rule: str
    partial: bool


class SeesAnswer(msgspec.Struct):
    """A page of the tables that a principal may read."""

    tables: list[SeenTableAnswer]
    next_page_token: str | None


class DraftBody(msgspec.Struct, forbid_unknown_fields=True):
    """A draft of the rules: TOML as in ``acl_file``, with ``[[deny]]``, ``[[allow]]`` and ``default``."""

    rules: Annotated[str, Meta(max_length=262_144)]


class RuleChangeAnswer(msgspec.Struct):
    """A request that the draft decides differently; names that stand for any other one begin with ``any``."""

    principal: str
    tenant: str
    scopes: list[str]
    action: str
    resource: str
    now: str
    then: str
    kind: str


class DraftAnswer(msgspec.Struct):
    """What a draft changes; ``kind`` is ``opened``, ``closed`` or ``narrowed`` (other columns or rows).

    ``complete``: whether all changes are listed. ``deny``, ``allow`` and ``default`` are of the draft.
    """

    changes: list[RuleChangeAnswer]
    complete: bool
    warnings: list[str]
    deny: int
    allow: int
    default: str


class HeaderAnswer(msgspec.Struct):
    """A header of the identity: its name, what it is for, and whether it was sent; never its value."""

    name: str
    role: str
    seen: bool


class CheckAnswer(msgspec.Struct):
    """Whether something would be answered, and if not, with which status and why."""

    what: str
    allowed: bool
    status: int | None
    error: str | None
    detail: str | None


class StorageAnswer(msgspec.Struct):
    """What the tenant keeps: bytes of results with their texts, and results in all states."""

    stored_bytes: int
    results: int


class MeAnswer(msgspec.Struct):
    """Who the server takes the caller for, and what that means."""

    principal: str
    tenant: str
    scopes: list[str]
    unrestricted: bool
    operator: bool
    headers: list[HeaderAnswer]
    state: str
    limits: dict[str, LimitAnswer]
    usage: UsageAnswer | None
    storage: StorageAnswer | None
    checks: list[CheckAnswer]


__all__ = [
    "ActAnswer",
    "AuditAnswer",
    "AuditListAnswer",
    "CheckAnswer",
    "ErrorAnswer",
    "HeaderAnswer",
    "InFlightAnswer",
    "LimitAnswer",
    "LimitsBody",
    "MeAnswer",
    "SlotsAnswer",
    "StorageAnswer",
    "TenantAnswer",
    "TenantLimitsAnswer",
    "TenantListAnswer",
    "TenantSummary",
    "UsageAnswer",
]
