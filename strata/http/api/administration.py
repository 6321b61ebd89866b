"""Who may administer what, and the note of what was done.

An *operator* holds ``admin:*``: the proxy's word that this is an administrator of the platform. Operators see
and touch every tenant. Whoever holds ``admin:tenants`` or ``admin:limits`` alone is an administrator of the
own tenant; every other one is answered like one that does not exist.
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
from strata.config.tenants import is_tenant_id
from strata.http.api.responses import iso
from strata.http.api.schemas import CacheStatsAnswer
from strata.http.api.schemas_admin import ErrorAnswer, InFlightAnswer, LimitAnswer, SlotsAnswer, UsageAnswer
from strata.http.door.context import context, principal, require_scope
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError
from strata.tenants import Registry
from strata.tenants.limits.overrides import TenantOverrides
from strata.tenants.messages import Description
from strata.tenants.stats.counters import ErrorNote

OPERATOR = "admin:*"
TENANTS = "admin:tenants"
LIMITS = "admin:limits"

log = structlog.get_logger(__name__)

T = TypeVar("T")


def registry() -> Registry:
    """Return where the tenants are."""
    return context().registry


def tenant_overrides() -> TenantOverrides:
    """Return whose word on limits counts."""
    found = registry().tenant_overrides
    assert found is not None
    return found


def is_operator() -> bool:
    """Whether the caller administers the platform: by ``admin:*``, or where all are one tenant."""
    who = principal()
    return who.has_scope(OPERATOR) or not tenant_overrides().settings.multi_tenant_enabled


def require_admin_of(scope: str, resource: str) -> None:
    """Refuse a caller without ``scope``, or whom the access rules deny ``admin`` on ``resource``.

    Raises:
        ProblemError: 403: that there is such an endpoint is no secret.
    """
    require_scope(scope)
    refused = registry().resources.authorizer.check_admin(principal(), resource)
    if refused is not None:
        raise ProblemError(Problem.of(refused))


def require_operator() -> None:
    """Refuse an administrator of a tenant what only operators may do.

    Raises:
        ProblemError: 403.
    """
    if not is_operator():
        raise ProblemError(Problem(403, f"This needs the scope {OPERATOR}.", "operator_only"))


def not_found() -> ProblemError:
    """Return the answer for a tenant that is not there, or not the caller's to see."""
    return ProblemError(Problem(404, "Tenant not found", "tenant_not_found"))


def require_reach(tenant: str) -> None:
    """Refuse what is no tenant, and another one than the own to all but operators, in the same words.

    Raises:
        ProblemError: 404.
    """
    if not is_tenant_id(tenant) or (tenant != principal().tenant and not is_operator()):
        raise not_found()


async def require_known(tenant: str) -> None:
    """Refuse a tenant that is not live, has never had a result, and of whom nothing is said.

    Raises:
        ProblemError: 404; 503 if the store does not answer.
    """
    require_reach(tenant)
    if (
        tenant == principal().tenant
        or registry().find(tenant) is not None
        or tenant_overrides().says_of(tenant)
    ):
        return
    resources = registry().resources
    try:
        stats = await ask_store(resources.metadata.stats, tenant)
    except RefusalError as error:
        raise ProblemError(Problem.of(error.refused)) from None
    if not stats.total_artifacts:
        raise not_found()


async def ask_store(function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
    """Call the metadata store in a thread, without the request's admission.

    Raises:
        RefusalError: If the store does not answer.
    """
    context().admission.release()
    return await registry().resources.ask(function, *args, **kwargs)


async def note(
    action: str,
    tenant: str | None,
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
) -> None:
    """Note what the caller does, before it is done: there is no act without its line in the audit.

    Raises:
        RefusalError: If the store does not answer; the act must not be done then.
    """
    who, resources = principal(), registry().resources
    act = Act(
        tenant=tenant,
        principal=who.id,
        principal_tenant=who.tenant,
        action=action,
        request_id=context().request_id,
        old=None if old is None else msgspec.json.encode(old).decode(),
        new=None if new is None else msgspec.json.encode(new).decode(),
    )
    await ask_store(resources.metadata.add_audit, act)
    log.info("administration", action=action, tenant=tenant)


async def note_or_refuse(action: str, tenant: str | None) -> None:
    """Note an act, or answer that it cannot be done.

    Raises:
        ProblemError: 503 if the store does not answer.
    """
    try:
        await note(action, tenant)
    except RefusalError as error:
        raise ProblemError(Problem.of(error.refused)) from None


def limit_answers(limits: Mapping[str, Effective]) -> dict[str, LimitAnswer]:
    """Return limits as JSON."""
    return {
        name: LimitAnswer(found.value, found.source, found.maximum, found.granted)
        for name, found in limits.items()
    }


def usage_answer(inside: Description | None) -> UsageAnswer | None:
    """Return what an actor said of itself as JSON."""
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
    """Return the moment so many seconds before now, as ISO 8601."""
    return iso(time.time() - seconds) or ""
