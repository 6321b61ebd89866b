"""Limits of single tenants in TOML: sections of the configuration, and the overrides file.

The admin API writes the overrides file::

    [tenants.team-a]         # by operators
    interactive_slots = 8
    [tenants.team-a.own]     # by the tenant's own administrators, who can only lower limits
    bulk_slots = 2

A file that lost its end or all of its content would lift limits and enable disabled tenants. So a file
without the table ``tenants`` is refused, and one that begins with the API's first line must have its last.
"""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from strata.auth import DEFAULT_TENANT, TENANT_ID
from strata.config.fields import TenantOnly, TenantSection
from strata.config.problems import NOT_A_TABLE, Problem
from strata.config.settings import Settings
from strata.config.values import InvalidError, convert, suggest
from strata.file_poller import read_operator_file

MOST_BYTES = 8 * 1024 * 1024
"""Most bytes of an overrides file, about 10,000 tenants with twelve limits each; a larger file is refused."""

FIRST_LINE = "# Written by the admin API. Values may be edited by hand, but keep the first and the last line."
LAST_LINE = "# End of the limits of tenants."

_TENANT_ID = re.compile(TENANT_ID)
_TYPES = typing.get_type_hints(Settings) | typing.get_type_hints(TenantOnly)

LIMITS: Mapping[str, attrs.Attribute[Any]] = {
    field.name: field
    for field in (*attrs.fields(Settings), *attrs.fields(TenantOnly))
    if field.metadata["tenant"] or field in attrs.fields(TenantOnly)
}
"""The settings that can be set for one tenant, by name."""

NUMBERS = frozenset(name for name in LIMITS if {int, float} & {_TYPES[name], *typing.get_args(_TYPES[name])})
"""The limits that are numbers, and so can have a maximum."""

OWN = NUMBERS - {"batch_size"}
"""The limits that a tenant's own administrators can lower. Not ``batch_size``: batches of a few rows cost the
machine more, for reading a quantum's worth of them takes seconds, in which other tenants wait."""

Values = Mapping[str, Any]


@attrs.frozen
class Overrides:
    """The limits that the admin API has changed, by tenant.

    Attributes:
        granted: Limits set by operators.
        own: Limits set by the tenants' own administrators; each is in effect where it is the lower one.
    """

    granted: Mapping[str, Values] = attrs.field(factory=dict)
    own: Mapping[str, Values] = attrs.field(factory=dict)

    def tenants(self) -> set[str]:
        """Return the tenants with overrides."""
        return {*self.granted, *self.own}

    def differing(self, other: Overrides) -> set[str]:
        """Return the tenants whose overrides differ between these and ``other``."""
        return {
            tenant
            for tenant in self.tenants() | other.tenants()
            if self.granted.get(tenant) != other.granted.get(tenant)
            or self.own.get(tenant) != other.own.get(tenant)
        }

    def having(self, tenant: str, *, granted: Values, own: Values) -> Overrides:
        """Return these overrides with those of ``tenant`` replaced; empty values remove its entry."""
        replaced = []
        for layer, values in ((self.granted, granted), (self.own, own)):
            others = {name: held for name, held in layer.items() if name != tenant}
            replaced.append(others | ({tenant: dict(values)} if values else {}))
        return Overrides(*replaced)


def is_tenant_id(text: str) -> bool:
    """Whether ``text`` is a tenant id; ``_default`` is the tenant of requests that state none."""
    return text == DEFAULT_TENANT or bool(_TENANT_ID.fullmatch(text))


def parse_values(
    table: Mapping[str, object], where: str, known: Collection[str] = tuple(LIMITS)
) -> tuple[dict[str, Any], list[Problem]]:
    """Return limits by name, and a problem for each that is unknown or invalid.

    Args:
        table: Values by name, as TOML or JSON has them.
        where: Prefix of a problem's setting, with its dot if one is needed.
        known: Names that are allowed.
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
    """Return maxima by limit, and a problem for each that is invalid."""
    if not isinstance(table, dict):
        return {}, [Problem(where, NOT_A_TABLE)]
    return parse_values(table, f"{where}.", sorted(NUMBERS))


def parse_sections(table: object) -> tuple[dict[str, TenantSection], list[Problem]]:
    """Return the sections of ``[tool.strata.tenants]`` by tenant, and their problems."""
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
    """Whether ``value`` of the limit ``name`` permits more than ``other``.

    None permits anything, and so does 0 of a limit for which 0 means none.
    """
    if name not in NUMBERS:
        return False
    free = (None, 0) if LIMITS[name].metadata["zero_is_free"] else (None,)
    if value in free or other in free:
        return value in free and other not in free
    return bool(value > other)


def coherence(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each tenant's value over its maximum, and each maximum over that of all tenants."""
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
    """Return the overrides in the text of a file, and its problems; invalid values are left out."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return Overrides(), [Problem("tenant_overrides_file", f"it is not valid TOML: {error}.")]
    problems = [
        Problem(f"tenant_overrides_file: {key[:64]}", f"unknown table{suggest(key, ['tenants'])}")
        for key in document
        if key != "tenants"
    ]
    if "tenants" not in document:
        what = "it has no table [tenants]; restore it, or write that table, empty if no tenant has limits."
        problems.append(Problem("tenant_overrides_file", what))
    elif text.startswith(FIRST_LINE) and LAST_LINE not in text:
        what = f"it is cut off: its last line, `{LAST_LINE}`, is missing; restore it."
        problems.append(Problem("tenant_overrides_file", what))
    granted, own = {}, {}
    for tenant, section in _tables(document.get("tenants", {}), "tenant_overrides_file: tenants", problems):
        where = f"tenant_overrides_file: tenants.{tenant}"
        inner = section.get("own", {})
        if not isinstance(inner, dict):
            problems.append(Problem(f"{where}.own", NOT_A_TABLE))
            inner = {}
        rest = {name: value for name, value in section.items() if name != "own"}
        values, wrong = parse_values(rest, f"{where}.", (*LIMITS, "own"))
        less, bad = parse_values(inner, f"{where}.own.", sorted(OWN))
        problems += [*wrong, *bad]
        granted[tenant], own[tenant] = values, less
    return Overrides(_without_empty(granted), _without_empty(own)), problems


def read_overrides(path: Path) -> tuple[Overrides | None, list[Problem]]:
    """Return the overrides in the file at ``path``, and its problems; blocking.

    A missing file has the overrides None and no problems; one that cannot be read has one problem.
    """
    try:
        return parse_overrides(read_operator_file(path, MOST_BYTES).decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return None, []
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or "it is not UTF-8 text"
        return Overrides(), [Problem("tenant_overrides_file", f"it cannot be read: {words}.")]


def print_overrides(overrides: Overrides) -> str:
    """Return the text of an overrides file that reads as ``overrides``, unless it :func:`is_too_large`."""
    lines = [FIRST_LINE]
    if not overrides.tenants():
        lines += ["", "[tenants]"]
    for tenant in sorted(overrides.tenants()):
        for layer, name in ((overrides.granted, tenant), (overrides.own, f"{tenant}.own")):
            values = layer.get(tenant, {})
            if values:
                lines += ["", f"[tenants.{name}]"]
                lines += [f"{key} = {_toml(values[key])}" for key in sorted(values)]
    return "\n".join([*lines, "", LAST_LINE]) + "\n"


def is_too_large(text: str) -> bool:
    """Whether an overrides file of this text would be refused when read."""
    return len(text.encode()) > MOST_BYTES


def _toml(value: float) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _without_empty(layer: Mapping[str, Values]) -> dict[str, Values]:
    return {tenant: values for tenant, values in layer.items() if values}


def _tables(table: object, where: str, problems: list[Problem]) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(table, dict):
        problems.append(Problem(where, NOT_A_TABLE))
        return
    for tenant, section in table.items():
        if not is_tenant_id(tenant):
            rule = "is no tenant id: 1 to 64 ASCII letters, digits, _ or -, the first a letter or digit."
            problems.append(Problem(where, f"{tenant[:64]!r} {rule}"))
        elif not isinstance(section, dict):
            problems.append(Problem(f"{where}.{tenant}", NOT_A_TABLE))
        else:
            yield tenant, section
