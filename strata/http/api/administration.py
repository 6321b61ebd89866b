"""Who may administer what, and the audit of it.

An *operator* holds ``admin:*``: by the proxy's word, an administrator of the platform. Operators see and
change every tenant. A caller with ``admin:tenants`` or ``admin:limits`` alone administers its own tenant; any
other tenant is answered like one that does not exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import structlog
import trio

from strata.artifacts import Act
from strata.config.effective import Effective
from strata.config.tenants import LIMITS as KNOWN_LIMITS
from strata.config.tenants import is_tenant_id
from strata.http.api.responses import iso
from strata.http.api.schemas import CacheStatsAnswer
from strata.http.api.schemas_admin import ErrorAnswer, InFlightAnswer, LimitAnswer, SlotsAnswer, UsageAnswer
from strata.http.door.context import Context
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError
from strata.tenants.limits.overrides import TenantOverrides
from strata.tenants.messages import Description
from strata.tenants.stats.counters import ErrorNote

OPERATOR = "admin:*"
TENANTS = "admin:tenants"
LIMITS = "admin:limits"

WRITE = "artifacts:write"
"""The scope of direct writes in service mode."""

log = structlog.get_logger(__name__)

T = TypeVar("T")


def tenant_overrides(found: Context) -> TenantOverrides:
    """Return the limits and overrides of all tenants."""
    overrides = found.registry.tenant_overrides
    assert overrides is not None
    return overrides


def is_operator(found: Context) -> bool:
    """Whether the caller administers the platform: by ``admin:*``, or where all callers are one tenant."""
    return found.caller.has_scope(OPERATOR) or not tenant_overrides(found).settings.multi_tenant_enabled


def require_operator(found: Context) -> None:
    """Refuse an administrator of a tenant what only operators may do.

    Raises:
        ProblemError: 403.
    """
    if not is_operator(found):
        raise ProblemError(Problem(403, f"This needs the scope {OPERATOR}.", "operator_only"))


def require_writes(found: Context, scope: str = WRITE) -> None:
    """Refuse a caller who may not write, with the same answer whether the target exists or not.

    Args:
        found: The request.
        scope: A scope that is enough; :data:`WRITE` always is.

    Raises:
        ProblemError: 403.
    """
    if found.caller.unrestricted:
        return
    if not tenant_overrides(found).settings.service_writes_enabled:
        raise ProblemError(Problem(403, "Direct writes are disabled in service mode.", "writes_disabled"))
    if not (found.caller.has_scope(WRITE) or found.caller.has_scope(scope)):
        raise ProblemError(Problem(403, f"This needs the scope {scope}.", "missing_scope"))


def not_found() -> ProblemError:
    """Return the 404 of a tenant that does not exist, or that the caller may not see."""
    return ProblemError(Problem(404, "Tenant not found", "tenant_not_found"))


def require_reach(found: Context, tenant: str) -> None:
    """Refuse what is no tenant id, and to all but operators any tenant but their own, in the same words.

    Raises:
        ProblemError: 404.
    """
    if not is_tenant_id(tenant) or (tenant != found.caller.tenant and not is_operator(found)):
        raise not_found()


async def require_known(found: Context, tenant: str) -> None:
    """Refuse a tenant that is not live, has never had a result, and has no limits of its own.

    Raises:
        ProblemError: 404; 503 if the store does not answer.
    """
    require_reach(found, tenant)
    if (
        tenant == found.caller.tenant
        or found.registry.find(tenant) is not None
        or tenant_overrides(found).has_own(tenant)
    ):
        return
    if not (await ask_store(found, found.registry.resources.metadata.stats, tenant)).total_artifacts:
        raise not_found()


async def ask_store(found: Context, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
    """Call the metadata store in a thread; the request goes on without its admission.

    Raises:
        ProblemError: 503 if the store does not answer.
    """
    found.admission.release()
    try:
        return await found.registry.resources.ask(found.caller.tenant, function, *args, **kwargs)
    except RefusalError as error:
        raise ProblemError(Problem.of(error.refused)) from None


async def note(
    found: Context,
    action: str,
    tenant: str | None,
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
) -> None:
    """Write an act of the caller into the audit, before it is done: there is no act without its line.

    Raises:
        ProblemError: 503 if the store does not answer; the act must not be done then.
    """
    who = found.caller
    act = Act(
        tenant=tenant,
        principal=who.id,
        principal_tenant=who.tenant,
        action=action,
        request_id=found.request_id,
        old=None if old is None else msgspec.json.encode(old).decode(),
        new=None if new is None else msgspec.json.encode(new).decode(),
    )
    resources = found.registry.resources
    found.admission.release()
    try:
        await resources.write(who.tenant, resources.metadata.add_audit, act)
    except RefusalError as error:
        raise ProblemError(Problem.of(error.refused)) from None
    log.info("administration", action=action, tenant=tenant)


def limit_answers(limits: Mapping[str, Effective]) -> dict[str, LimitAnswer]:
    """Return limits as JSON."""
    return {
        name: LimitAnswer(
            limit.value, limit.source, limit.maximum, limit.granted, str(KNOWN_LIMITS[name].metadata["help"])
        )
        for name, limit in limits.items()
    }


def usage_answer(inside: Description | None) -> UsageAnswer | None:
    """Return an actor's description of itself as JSON."""
    if inside is None:
        return None
    cache = inside.cache
    asked = cache.hits + cache.misses
    return UsageAnswer(
        slots=[SlotsAnswer(use.tier, use.total, use.used, use.waiting) for use in inside.slots],
        in_flight=[InFlightAnswer(build.build_id, build.progress) for build in inside.in_flight],
        questions=inside.questions,
        streams_waiting=inside.streams,
        cache=CacheStatsAnswer(
            hits=cache.hits,
            misses=cache.misses,
            hit_rate=cache.hits / asked if asked else 0.0,
            segments=cache.segments,
            size_bytes=cache.bytes,
            max_size_bytes=cache.budget,
            evictions=cache.evictions,
            damaged=cache.damaged,
        ),
    )


def error_answers(errors: tuple[ErrorNote, ...]) -> list[ErrorAnswer]:
    """Return errors as JSON, the latest first."""
    return [
        ErrorAnswer(error.code, error.what, ago(trio.current_time() - error.at)) for error in errors[::-1]
    ]


def ago(seconds: float) -> str:
    """Return the time ``seconds`` before now, as ISO 8601 in UTC."""
    return iso(time.time() - seconds) or ""
