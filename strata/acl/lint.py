"""Find rules that have no effect, or not the one they seem to have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import attrs

from .covering import covers
from .model import Effect, Policy, Rule

Kind: TypeAlias = Literal["duplicate", "shadowed", "contradictory", "never matches"]

ASKED: Final = {
    "tables": ("read",),
    "artifacts": ("read", "write", "delete"),
    "transforms": ("read", "run"),
    "streams": ("read",),
    "notebooks": ("read", "write", "delete", "run"),
    "admin": ("admin",),
}
"""The actions that the server checks for each kind of resource."""


@attrs.frozen
class Finding:
    """A rule that can be removed without changing any decision.

    Attributes:
        kind: The problem.
        effect: The list that contains the rule.
        number: Position in that list, from 1.
        rule: The rule.
        message: One sentence that names the rule.
    """

    kind: Kind
    effect: Effect
    number: int
    rule: Rule
    message: str


def lint(policy: Policy) -> tuple[Finding, ...]:
    """Return a finding for each rule that can be removed; all of them can be removed together."""
    found: list[Finding] = []
    for effect, rules in (("deny", policy.deny), ("allow", policy.allow)):
        for number, rule in enumerate(rules, 1):
            finding = _finding(policy, effect, number, rule)  # type: ignore[arg-type]  # one of the two
            if finding is not None:
                found.append(finding)
    return tuple(found)


def _finding(policy: Policy, effect: Effect, number: int, rule: Rule) -> Finding | None:
    place = f"{effect} rule {number} ({rule.principal} on {rule.resource})"

    def finding(kind: Kind, message: str) -> Finding:
        return Finding(kind, effect, number, rule, f"{place} {message}")

    kind = rule.pattern.segments[0]
    if len(kind) == 1 and rule.action is not None and rule.action not in ASKED[kind[0]]:
        asked = " or ".join(ASKED[kind[0]])
        return finding("never matches", f"never matches: the only actions on {kind[0]}/… are {asked}")
    rules = policy.deny if effect == "deny" else policy.allow
    for other, twin in enumerate(rules[: number - 1], 1):
        if twin == rule:
            return finding("duplicate", f"repeats {effect} rule {other}")
    if effect == "allow":
        for other, denial in enumerate(policy.deny, 1):
            if covers(denial, rule):
                return finding("contradictory", f"permits nothing: deny rule {other} denies all of it")
    for other in _shadows(rules, number, rule):
        return finding("shadowed", f"adds nothing to {effect} rule {other}, which says all of it")
    if rule_is_default(policy, effect):
        return finding("shadowed", f'adds nothing: `default = "{effect}"` permits it already')
    return None


def rule_is_default(policy: Policy, effect: Effect) -> bool:
    """Test whether an allow rule is redundant because the default allows."""
    return effect == "allow" and policy.default == "allow"


def _shadows(rules: tuple[Rule, ...], number: int, rule: Rule) -> Iterator[int]:
    for other, wide in enumerate(rules, 1):
        if other != number and covers(wide, rule) and (other < number or not covers(rule, wide)):
            yield other
