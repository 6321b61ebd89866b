"""The limits of one tenant in the end, each with where it comes from. Pure.

In rising order: the default, the setting for all, the tenant's section, what an operator has changed by the
admin API. Then what only takes away: the maxima, and what the tenant's own administrators have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from strata.config.fields import TenantOnly, TenantSection
from strata.config.problems import Problem
from strata.config.settings import Settings
from strata.config.tenants import LIMITS, OWN, Overrides, Values, looser

Source = Literal["default", "settings", "section", "operator", "tenant", "maximum"]

_NOTHING = TenantSection()
_TENANT_ONLY = TenantOnly()
_SETTINGS = frozenset(field.name for field in attrs.fields(Settings))


@attrs.frozen
class Effective:
    """A limit of a tenant.

    Attributes:
        value: What holds.
        source: Who says so: ``default``, ``settings`` (of all tenants), ``section`` (the tenant's in the
            configuration), ``operator`` or ``tenant`` (by the admin API), or ``maximum`` where more was said.
        maximum: What the admin API cannot exceed.
        granted: What the tenant's own administrators cannot exceed: what operators give it.
    """

    value: Any
    source: Source
    maximum: float | None
    granted: Any


def effective(settings: Settings, overrides: Overrides, tenant: str) -> dict[str, Effective]:
    """Return every limit of ``tenant``."""
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
    """Return what of a tenant's limits is a setting, by name: to be put in place of the setting of all."""
    return {name: found.value for name, found in limits.items() if name in _SETTINGS}


def check_change(
    values: Mapping[str, Any], limits: Mapping[str, Effective], *, operator: bool
) -> list[Problem]:
    """Return why values cannot be set by the admin API.

    Args:
        values: New values by limit; None to go back to what holds without.
        limits: What holds now.
        operator: Set by an operator, who is held to the maxima only; the tenant's own administrators can
            only take less than they are given, of :data:`~strata.config.tenants.OWN`, and so cannot give
            themselves weight or enable themselves.
    """
    problems = []
    for name, value in values.items():
        if not operator and name not in OWN:
            problems.append(Problem(name, "only an operator can change it."))
        elif value is None:
            continue
        elif operator and limits[name].maximum is not None and looser(name, value, limits[name].maximum):
            problems.append(Problem(name, f"its maximum is {limits[name].maximum:.15g}."))
        elif not operator and looser(name, value, limits[name].granted):
            text = f"this tenant is given {limits[name].granted:.15g}; only an operator can give more."
            problems.append(Problem(name, text))
    return problems
