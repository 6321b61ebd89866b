"""Limits of single tenants as they are written down: sections of the configuration, and the overrides file.

The overrides file has what the admin API has changed::

    [tenants.team-a]         # by operators
    interactive_slots = 8
    [tenants.team-a.own]     # by the tenant's own administrators, who can only take less
    bulk_slots = 2
"""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from strata.config.fields import TenantOnly, TenantSection
from strata.config.problems import Problem
from strata.config.settings import Settings
from strata.config.values import InvalidError, convert, suggest

DEFAULT_TENANT = "_default"  # as in strata.auth: the tenant of whoever states none

MOST_BYTES = 8 * 1024 * 1024
"""Largest overrides file: ten thousand tenants with a dozen limits each fit."""

_TENANT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TYPES = typing.get_type_hints(Settings) | typing.get_type_hints(TenantOnly)

LIMITS: Mapping[str, attrs.Attribute[Any]] = {
    field.name: field
    for field in (*attrs.fields(Settings), *attrs.fields(TenantOnly))
    if field.metadata["tenant"] or field in attrs.fields(TenantOnly)
}
"""What can be said of one tenant, by name."""

NUMBERS = frozenset(name for name in LIMITS if {int, float} & {_TYPES[name], *typing.get_args(_TYPES[name])})
"""Those that have a more and a less, and so can have a maximum."""

OWN = NUMBERS - {"batch_size"}
"""Those of which a tenant's own administrators can take less. Batches of a few rows are no less to the
machine: reading a quantum's worth of them takes seconds, in which others wait."""

Values = Mapping[str, Any]


@attrs.frozen
class Overrides:
    """What the admin API has changed, by tenant.

    Attributes:
        granted: By operators.
        own: By the tenants' own administrators: it holds where it is less.
    """

    granted: Mapping[str, Values] = attrs.field(factory=dict)
    own: Mapping[str, Values] = attrs.field(factory=dict)

    def tenants(self) -> set[str]:
        """Return whose limits were changed."""
        return {*self.granted, *self.own}

    def differing(self, other: Overrides) -> set[str]:
        """Return whose limits are other ones than in ``other``."""
        return {
            tenant
            for tenant in self.tenants() | other.tenants()
            if self.granted.get(tenant) != other.granted.get(tenant)
            or self.own.get(tenant) != other.own.get(tenant)
        }

    def having(self, tenant: str, *, granted: Values, own: Values) -> Overrides:
        """Return these with other ones for ``tenant``; with none where there are no values."""
        replaced = []
        for layer, values in ((self.granted, granted), (self.own, own)):
            others = {name: held for name, held in layer.items() if name != tenant}
            replaced.append(others | ({tenant: dict(values)} if values else {}))
        return Overrides(*replaced)


def is_tenant_id(text: str) -> bool:
    """Whether a tenant can be called so; ``_default`` is the tenant of whoever states none."""
    return text == DEFAULT_TENANT or bool(_TENANT_ID.fullmatch(text))


def parse_values(
    table: Mapping[str, object], where: str, known: Collection[str] = tuple(LIMITS)
) -> tuple[dict[str, Any], list[Problem]]:
    """Return limits by name, and everything that is wrong with them.

    Args:
        table: What was given.
        where: What problems begin with, a dot included where one is needed.
        known: Names that can be given.
    """
    values: dict[str, Any] = {}
    problems = []
    for name, value in table.items():
        if name not in known:
            problems.append(Problem(f"{where}{name[:64]}", f"unknown limit{suggest(name, known)}"))
            continue
        try:
            values[name] = convert(LIMITS[name], _TYPES[name], value, from_text=False)
        except InvalidError as error:
            problems.append(Problem(f"{where}{name}", str(error)))
    return values, problems


def parse_maximum(table: object, where: str) -> tuple[dict[str, float], list[Problem]]:
    """Return maxima by limit, and everything that is wrong with them."""
    if not isinstance(table, dict):
        return {}, [Problem(where, "must be a table.")]
    return parse_values(table, f"{where}.", sorted(NUMBERS))


def parse_sections(table: object) -> tuple[dict[str, TenantSection], list[Problem]]:
    """Return ``[tool.strata.tenants]`` by tenant, and everything that is wrong with it."""
    sections: dict[str, TenantSection] = {}
    problems: list[Problem] = []
    for tenant, section in _tables(table, "tenants", problems):
        where = f"tenants.{tenant}"
        maximum, wrong = parse_maximum(section.get("maximum", {}), f"{where}.maximum")
        rest = {name: value for name, value in section.items() if name != "maximum"}
        values, bad = parse_values(rest, f"{where}.", (*LIMITS, "maximum"))
        problems += [*bad, *wrong]
        sections[tenant] = TenantSection(values, maximum)
    return sections, problems


def looser(name: str, value: Any, other: Any) -> bool:
    """Whether ``value`` permits more than ``other``; None, and 0 where that means so, permit anything."""
    if name not in NUMBERS:
        return False
    free = (None, 0) if LIMITS[name].metadata["zero_is_free"] else (None,)
    if value in free or other in free:
        return value in free and other not in free
    return bool(value > other)


def coherence(settings: Settings) -> Iterator[Problem]:
    """Yield what contradicts itself: a tenant's value over its maximum, a maximum over that of all."""
    if not settings.multi_tenant_enabled and set(settings.tenants) - {DEFAULT_TENANT}:
        yield Problem("tenants", "limits of single tenants need multi_tenant_enabled = true.")
    for tenant, section in settings.tenants.items():
        where = f"tenants.{tenant}"
        most = settings.tenant_maximum
        for name, value in section.maximum.items():
            if name in most and looser(name, value, most[name]):
                text = f"{value:.15g} is over tenant_maximum.{name}, which is {most[name]:.15g}."
                yield Problem(f"{where}.maximum.{name}", text)
        for name, value in section.values.items():
            found = section.maximum.get(name, most.get(name))
            if found is not None and looser(name, value, found):
                named = f"{where}.maximum" if name in section.maximum else "tenant_maximum"
                text = f"{value:.15g} is over {named}.{name}, which is {found:.15g}."
                yield Problem(f"{where}.{name}", text)


def parse_overrides(text: str) -> tuple[Overrides, list[Problem]]:
    """Return an overrides file's content, and everything that is wrong with it."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return Overrides(), [Problem("tenant_overrides_file", f"it is not valid TOML: {error}.")]
    problems = [
        Problem(f"tenant_overrides_file: {key[:64]}", f"unknown table{suggest(key, ['tenants'])}")
        for key in document
        if key != "tenants"
    ]
    granted, own = {}, {}
    for tenant, section in _tables(document.get("tenants", {}), "tenant_overrides_file: tenants", problems):
        where = f"tenant_overrides_file: tenants.{tenant}"
        inner = section.get("own", {})
        if not isinstance(inner, dict):
            problems.append(Problem(f"{where}.own", "must be a table."))
            inner = {}
        rest = {name: value for name, value in section.items() if name != "own"}
        values, wrong = parse_values(rest, f"{where}.", (*LIMITS, "own"))
        less, bad = parse_values(inner, f"{where}.own.", sorted(OWN))
        problems += [*wrong, *bad]
        granted[tenant], own[tenant] = values, less
    return Overrides(_without_empty(granted), _without_empty(own)), problems


def read_overrides(path: Path) -> tuple[Overrides, list[Problem]]:
    """Return what the file at ``path`` says, and everything that is wrong with it. Blocking.

    There is nothing wrong with a file that is not there: nothing was changed yet.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            return Overrides(), [Problem("tenant_overrides_file", f"it has more than {MOST_BYTES} bytes.")]
        return parse_overrides(raw.decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Overrides(), []
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or "it is not UTF-8 text"
        return Overrides(), [Problem("tenant_overrides_file", f"it cannot be read: {words}.")]


def print_overrides(overrides: Overrides) -> str:
    """Return the text of an overrides file; reading it gives the same, unless it :func:`is_too_large`."""
    lines = ["# Written by the admin API. Values may be edited by hand; comments are not kept."]
    for tenant in sorted(overrides.tenants()):
        for layer, name in ((overrides.granted, tenant), (overrides.own, f"{tenant}.own")):
            values = layer.get(tenant, {})
            if values:
                lines += ["", f"[tenants.{name}]"]
                lines += [f"{key} = {_toml(values[key])}" for key in sorted(values)]
    return "\n".join(lines) + "\n"


def is_too_large(text: str) -> bool:
    """Whether an overrides file of this text could not be read again."""
    return len(text.encode()) > MOST_BYTES


def _toml(value: float) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _without_empty(layer: Mapping[str, Values]) -> dict[str, Values]:
    return {tenant: values for tenant, values in layer.items() if values}


def _tables(table: object, where: str, problems: list[Problem]) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(table, dict):
        problems.append(Problem(where, "must be a table."))
        return
    for tenant, section in table.items():
        if not is_tenant_id(tenant):
            rule = "is no tenant id: 1 to 64 ASCII letters, digits, _ or -, the first a letter or digit."
            problems.append(Problem(where, f"{tenant[:64]!r} {rule}"))
        elif not isinstance(section, dict):
            problems.append(Problem(f"{where}.{tenant}", "must be a table."))
        else:
            yield tenant, section
