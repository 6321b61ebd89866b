"""Parse the mapping of a configuration file to a policy, or report every problem in it.

Nothing is skipped: an unknown key, or a rule that could never match or be read in two ways, refuses the whole
policy, since a deny rule that silently does not apply leaves access open.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal

from .model import ACTIONS, NO_RESTRICTED_DEFAULT, NO_RESTRICTED_DENY, Effect, Policy, Rule
from .patterns import (
    PLACEHOLDER_PRINCIPALS,
    SHORT_TABLE_SEGMENTS,
    ResourcePattern,
    resource_name,
    segment_matches,
)

_TEXT_KEYS: Final = ("principal", "resource", "tenant", "scope", "action", "rows")
_RULE_KEYS: Final = (*_TEXT_KEYS, "columns")
_REQUIRED_KEYS: Final = ("principal", "resource")
_POLICY_KEYS: Final = ("deny", "allow", "default")
_EFFECTS: Final[tuple[Effect, ...]] = ("deny", "allow")


class PolicyError(ValueError):
    """A policy or file of expectations was refused.

    Attributes:
        problems: Every problem found, one sentence each, beginning with the rule concerned.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def parse_policy(
    mapping: Mapping[str, object], catalogs: Mapping[str, str] | Collection[str] | None = None
) -> tuple[Policy, tuple[str, ...]]:
    """Parse a policy from a TOML parser: ``{"deny": [{…}], "allow": [{…}], "default": "deny"}``.

    A ``default`` inside the last rule of a list is taken as the policy's own, with a warning: in TOML a key
    written after ``[[…allow]]`` belongs to that rule, and the product page writes it there.

    ``tables/<namespace>/<table>`` is the short form of a table's resource. In a deny rule it means that table
    in every catalog. In an allow rule it means that table of the only catalog; with more than one (or without
    ``catalogs``) the rule is refused, since it would open every one of them.

    Args:
        mapping: The policy's table.
        catalogs: The names allowed as ``<catalog>`` in a table's resource; a rule that names another one is
            refused. A mapping says under which name a catalog's tables are decided, for catalogs with
            several; a rule that matches another name but not that one would never apply, and is refused.
            ``None``: unknown.

    Returns:
        The policy, with short forms expanded, and warnings for the operator.

    Raises:
        PolicyError: With every problem found.
    """
    reader = _Reader(catalogs)
    policy = reader.policy(mapping)
    if reader.problems:
        raise PolicyError(tuple(reader.problems))
    return policy, tuple(reader.warnings)


class _Reader:
    """One pass over a mapping that collects problems instead of stopping at the first."""

    def __init__(self, catalogs: Mapping[str, str] | Collection[str] | None) -> None:
        self.catalogs = None if catalogs is None else frozenset(catalogs)
        named = catalogs if isinstance(catalogs, Mapping) else {}
        self.aliases = tuple((alias, name) for alias, name in named.items() if alias != name)
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._defaults: list[tuple[str, object]] = []

    def policy(self, mapping: object) -> Policy:
        if not isinstance(mapping, Mapping):
            self.problems.append(f"policy: must be a table, not {_shown(mapping)}")
            return Policy()
        self.problems.extend(_unknown_keys("policy", mapping, _POLICY_KEYS))
        if "default" in mapping:
            self._defaults.append(("policy", mapping["default"]))
        deny = tuple(self._rules("deny", mapping.get("deny", [])))
        allow = tuple(self._rules("allow", mapping.get("allow", [])))
        default = self._default()
        if default == "allow":
            self.problems += [
                f"allow rule for {rule.principal!r} on {rule.resource!r}: {NO_RESTRICTED_DEFAULT}"
                for rule in allow
                if rule.restricted
            ]
        return Policy() if self.problems else Policy(deny, allow, default, self.aliases)

    def _default(self) -> Effect:
        if len(self._defaults) > 1:
            places = ", ".join(place for place, _ in self._defaults)
            self.problems.append(f"policy: `default` is given {len(self._defaults)} times ({places})")
        for place, value in self._defaults:
            if value not in _EFFECTS:
                self.problems.append(f'{place}: `default` must be "deny" or "allow", not {_shown(value)}')
            elif place != "policy":
                self.warnings.append(
                    f"{place}: `default` stands after this rule's [[…]], where TOML reads it as the rule's "
                    "own key; it was taken as the default of the whole policy. Write "
                    f'`default = "{value}"` before the first [[…deny]] or [[…allow]]'
                )
        return "allow" if self._defaults and self._defaults[0][1] == "allow" else "deny"

    def _rules(self, effect: Effect, value: object) -> Iterator[Rule]:
        if isinstance(value, Mapping):
            self.problems.append(
                f"{effect}: one table where a list is expected; write [[…{effect}]], two brackets"
            )
            return
        if isinstance(value, str) or not isinstance(value, Sequence):
            self.problems.append(f"{effect}: must be a list of rules, not {_shown(value)}")
            return
        for number, entry in enumerate(value, start=1):
            place = f"{effect} rule {number}"
            if not isinstance(entry, Mapping):
                self.problems.append(f"{place}: must be a table, not {_shown(entry)}")
                continue
            rule = self._rule(effect, place, entry, last=number == len(value))
            if rule is not None:
                yield rule

    def _rule(self, effect: Effect, place: str, entry: Mapping[str, object], *, last: bool) -> Rule | None:
        known_before = len(self.problems)
        if "default" in entry:
            if last:
                self._defaults.append((place, entry["default"]))
            else:
                self.problems.append(
                    f"{place}: `default` is of the policy, not of a rule; put it before the first [[…]]"
                )
            entry = {key: value for key, value in entry.items() if key != "default"}
        self.problems.extend(_unknown_keys(place, entry, _RULE_KEYS))
        self.problems.extend(f"{place}: `{key}` is missing" for key in _REQUIRED_KEYS if key not in entry)
        self.problems.extend(
            f"{place}: `{key}` must be a string, not {_shown(entry[key])}"
            for key in _TEXT_KEYS
            if key in entry and not isinstance(entry[key], str)
        )
        columns = entry.get("columns")
        if columns is not None and (isinstance(columns, str) or not isinstance(columns, Sequence)):
            self.problems.append(
                f'{place}: `columns` must be a list of names, not {_shown(columns)}; write ["…"]'
            )
        if effect == "deny" and not {"columns", "rows"}.isdisjoint(entry):
            self.problems.append(f"{place}: {NO_RESTRICTED_DENY}")
        if len(self.problems) > known_before:
            return None
        values = {key: str(entry[key]) for key in _TEXT_KEYS if key in entry}
        if "action" in values and values["action"] not in ACTIONS:
            self.problems.append(
                f"{place}: unknown action {values['action']!r}{_suggestion(values['action'], ACTIONS)}; "
                f"the actions are {', '.join(ACTIONS)}"
            )
            return None
        chosen = tuple(columns) if isinstance(columns, Sequence) else None
        return self._checked_rule(effect, place, values, chosen)

    def _checked_rule(
        self, effect: Effect, place: str, values: dict[str, str], columns: tuple[str, ...] | None
    ) -> Rule | None:
        written = self._written_out(effect, place, values["resource"])
        if written is None:
            return None
        try:
            rule = Rule(**{**values, "resource": written}, columns=columns)  # type: ignore[arg-type]  # `action` was checked above
        except ValueError as error:
            self.problems.append(f"{place}: {error}")
            return None
        if rule.principal in PLACEHOLDER_PRINCIPALS:
            self.warnings.append(
                f"{place}: the principal {rule.principal!r} is what programs write for no user; all "
                "requests without an identity would match"
            )
        catalog = _literal_catalog(rule)
        if catalog is not None and self.catalogs is not None and catalog not in self.catalogs:
            self.problems.append(
                f"{place}: {rule.resource!r} names the catalog {catalog!r}, which is not configured"
                f"{_suggestion(catalog, self.catalogs)}"
            )
            return None
        for alias, name in self.aliases:
            if _matches_catalog(rule, alias) and not _matches_catalog(rule, name):
                self.problems.append(
                    f"{place}: {rule.resource!r} names {alias!r}, another name of {name!r}, under which its "
                    f"tables are decided; write '{resource_name('tables', name)}/…'"
                )
                return None
        return rule

    def _written_out(self, effect: Effect, place: str, resource: str) -> str | None:
        """Return the full form of a rule's resource; ``None``, with a problem or warning: drop the rule."""
        parts = resource.split("/")
        if parts[0] != "tables" or len(parts) != SHORT_TABLE_SEGMENTS or "**" in parts or not all(parts):
            return resource
        below = "/".join(parts[1:])
        meant = sorted(name for name in self.catalogs or () if _looks_like(parts[1], name))
        if meant:
            self.problems.append(
                f"{place}: {resource!r} is the short form of a namespace, but {meant[0]!r} is a catalog; "
                "write "
                f"'{resource_name('tables', meant[0])}/<namespace>/<table>' for the catalog's tables, or "
                f"'tables/*/{below}' for that namespace in every catalog"
            )
            return None
        if effect == "deny":
            return f"tables/*/{below}"
        if self.catalogs is not None and not self.catalogs:
            self.warnings.append(
                f"{place}: {resource!r} has no effect, since no catalog or warehouse is configured"
            )
            return None
        decided = (self.catalogs or frozenset()) - {alias for alias, _ in self.aliases}
        if len(decided) != 1:
            known = [resource_name("tables", catalog) for catalog in sorted(decided)]
            forms = " or ".join(f"'{prefix}/{below}'" for prefix in known or ["tables/<catalog>"])
            self.problems.append(
                f"{place}: {resource!r} leaves out the catalog, which an allow rule may do only if exactly "
                f"one is configured; write {forms}, or 'tables/*/{below}' to open every catalog"
            )
            return None
        (only,) = decided
        return f"{resource_name('tables', only)}/{below}"


def _literal_catalog(rule: Rule) -> str | None:
    """Return the catalog that a rule on tables names without wildcards, else ``None``."""
    if rule.pattern.segments[0] != ("tables",):
        return None
    catalog = rule.pattern.segments[1]
    return catalog[0] if len(catalog) == 1 else None


def _matches_catalog(rule: Rule, catalog: str) -> bool:
    """Test whether a rule can match a table of the catalog."""
    first, *below = rule.pattern.segments
    if first == ("tables",):
        return below[0] == () or segment_matches(below[0], catalog)
    return first == ()


def _looks_like(namespace: str, catalog: str) -> bool:
    """Test whether the namespace of a short form is, or is a pattern of, the name of a catalog."""
    if not namespace.strip("*"):
        return False
    try:
        segment = ResourcePattern.parse(f"artifacts/{namespace}").segments[1]
    except ValueError:  # reported with the whole rule
        return False
    return segment_matches(segment, catalog)


def _unknown_keys(place: str, mapping: Mapping[str, object], known: Collection[str]) -> Iterator[str]:
    for key in mapping:
        if key not in known:
            yield f"{place}: unknown key `{key}`{_suggestion(str(key), known)}"


def _suggestion(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _shown(value: object) -> str:
    """Return a value for a problem text: strings as they are, anything else by its TOML type."""
    if isinstance(value, str):
        return repr(value[:80])
    names: dict[type, Literal["a boolean", "a number", "a list", "a table"]] = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a value of another type")
