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
    """A limit; source is ``default``, ``settings``, ``section``, ``operator``, ``tenant`` or ``maximum``."""

    value: Any
    source: str
    maximum: float | None
    granted: Any


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
    "TenantAnswer",
    "TenantLimitsAnswer",
    "TenantListAnswer",
    "TenantSummary",
    "UsageAnswer",
]
