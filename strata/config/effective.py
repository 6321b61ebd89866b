"""Compute the effective limits of one tenant, each with its source. Pure.

In rising precedence: the default, the setting for all tenants, the tenant's section, an operator's change
through the admin API. Maxima and changes of the tenant's own administrators can only lower the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from strata.config.fields import TenantOnly, TenantSection
from strata.config.problems import Problem
from strata.config.settings import Settings
from strata.config.tenants import LIMITS, OWN, Overrides, Values, looser, parse_values

Source = Literal["default", "settings", "section", "operator", "tenant", "maximum"]

_NOTHING = TenantSection()
_TENANT_ONLY = TenantOnly()
_SETTINGS = frozenset(field.name for field in attrs.fields(Settings))


@attrs.frozen
class Effective:
    """An effective limit of a tenant.

    Attributes:
        value: The effective value.
        source: Origin of the value: ``default``, ``settings`` (for all tenants), ``section`` (the tenant's in
            the configuration), ``operator`` or ``tenant`` (admin API), or ``maximum`` where one lowered it.
        maximum: Upper bound for changes through the admin API; None: no bound.
        granted: Upper bound for changes by the tenant's own administrators: the value without such changes.
    """

    value: Any
    source: Source
    maximum: float | None
    granted: Any


def effective(settings: Settings, overrides: Overrides, tenant: str) -> dict[str, Effective]:
    """Return every effective limit of ``tenant``, by name."""
    section = settings.tenants.get(tenant, _NOTHING)
    granted, own = overrides.granted.get(tenant, {}), overrides.own.get(tenant, {})
    return {name: _one(name, settings, section, granted, own) for name in LIMITS}


def _one(name: str, settings: Settings, section: TenantSection, granted: Values, own: Values) -> Effective:
    source: Source
    if name in granted:
        value, source = granted[name], "operator"
    elif name in section.values:
        value, source = section.values[name], "section"
    else:
        value = getattr(settings if name in _SETTINGS else _TENANT_ONLY, name)
        source = "default" if value == LIMITS[name].default else "settings"
    most = section.maximum.get(name, settings.tenant_maximum.get(name))
    if most is not None and looser(name, value, most):
        value, source = most, "maximum"
    given = value
    if name in own and looser(name, value, own[name]):
        value, source = own[name], "tenant"
    return Effective(value, source, most, given)


def changed_settings(limits: Mapping[str, Effective]) -> dict[str, Any]:
    """Return the limits that are settings, by name: they replace the settings of all tenants for this one."""
    return {name: found.value for name, found in limits.items() if name in _SETTINGS}


def check_change(
    values: Mapping[str, Any], limits: Mapping[str, Effective], *, operator: bool
) -> list[Problem]:
    """Return the problems of a change through the admin API.

    Args:
        values: New values by limit; None removes a change.
        limits: The tenant's effective limits.
        operator: The change is an operator's, bounded only by the maxima. The tenant's own administrators
            can only lower limits in :data:`~strata.config.tenants.OWN`; so they can change neither ``weight``
            nor ``enabled``.
    """
    problems = []
    for name, value in values.items():
        if not operator and name not in OWN:
            problems.append(Problem(name, "only an operator can change this limit."))
        elif value is None:
            continue
        elif unfit := parse_values({name: value}, "")[1]:
            problems += unfit  # the file could not be read again with it
        elif operator and limits[name].maximum is not None and looser(name, value, limits[name].maximum):
            problems.append(
                Problem(name, f"this tenant's maximum is {limits[name].maximum:.15g}; set that or less.")
            )
        elif not operator and looser(name, value, limits[name].granted):
            text = f"this tenant is granted {limits[name].granted:.15g}; only an operator can raise it."
            problems.append(Problem(name, text))
    return problems
