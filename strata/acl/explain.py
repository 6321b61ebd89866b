"""Explain a decision, and the smallest change of the policy that would reverse it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from .evaluate import evaluate
from .model import Decision, Effect, Policy, Reason, Request, Rule
from .patterns import caller_problem, holds_scope, principal_matches, resource_name, split_resource


@attrs.frozen
class Considered:
    """One rule, compared with a request.

    Attributes:
        effect: The list that contains the rule.
        number: Position in that list, from 1.
        rule: The rule.
        misses: The parts that do not apply: ``principal``, ``tenant``, ``action``, ``scope``, ``resource``;
            empty if the rule matches.
    """

    effect: Effect
    number: int
    rule: Rule
    misses: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Whether the rule applies to the request."""
        return not self.misses


@attrs.frozen
class Counterfactual:
    """The smallest change of the policy that reverses the decision on the request.

    Attributes:
        remove: Rules to remove, all of one list.
        add: Rules to add, with their lists.
        allowed: The decision after the change.
    """

    remove: tuple[Considered, ...]
    add: tuple[tuple[Effect, Rule], ...]
    allowed: bool

    def applied(self, policy: Policy) -> Policy:
        """Return the policy with the change made."""
        gone = {(one.effect, one.number) for one in self.remove}
        kept: dict[Effect, list[Rule]] = {
            effect: [rule for number, rule in enumerate(rules, 1) if (effect, number) not in gone]
            for effect, rules in _lists(policy)
        }
        for effect, rule in self.add:
            kept[effect].append(rule)
        return attrs.evolve(policy, deny=tuple(kept["deny"]), allow=tuple(kept["allow"]))


@attrs.frozen
class Explanation:
    """A decision and its reasons.

    Attributes:
        decision: The decision.
        considered: Every rule of the policy, deny rules first, in order.
        otherwise: The change that would reverse the decision; ``None`` for a malformed resource, where no
            rule can.
        resource: The resource that was decided; the request's, except for another name of a catalog.
        renamed: Whether the request's resource has another name of the catalog.
    """

    decision: Decision
    considered: tuple[Considered, ...]
    otherwise: Counterfactual | None
    resource: str
    renamed: bool = False

    def lines(self) -> Iterator[str]:
        """Yield the explanation as sentences, one a line."""
        verdict = "denied" if not self.decision.allowed else "allowed"
        part = ", but only some columns or rows" if self.decision.grants is not None else ""
        yield f"{verdict}: {self.decision.reason.value}{part}"
        if self.renamed:
            yield f"  the table is decided as {self.resource}"
        for one in self.considered:
            verdict = "matches" if one.matches else f"does not match: {', '.join(one.misses)}"
            yield f"  {one.effect} rule {one.number} ({one.rule.principal} on {one.rule.resource}) {verdict}"
        if self.otherwise is not None:
            yield from _advice(self.otherwise)

    def document(self, most: int | None = None) -> dict[str, Any]:
        """Return the explanation as JSON-serialisable objects, lists and strings.

        Args:
            most: Maximum rules in ``considered``, those with the fewest misses first; ``None``: all.
                ``rules`` is the number of all rules.
        """
        considered = self.considered
        if most is not None and len(considered) > most:
            considered = tuple(sorted(considered, key=lambda one: len(one.misses))[:most])
        change = self.otherwise
        return {
            "allowed": self.decision.allowed,
            "reason": self.decision.reason.value,
            "partial": self.decision.grants is not None,
            "rules": len(self.considered),
            "considered": [_document(one) for one in considered],
            "otherwise": None
            if change is None
            else {
                "allowed": change.allowed,
                "remove": [f"{one.effect} {one.number}" for one in change.remove],
                "add": [
                    {"effect": effect, "principal": rule.principal, "resource": rule.resource}
                    | {"tenant": rule.tenant, "action": rule.action}
                    for effect, rule in change.add
                ],
            },
        }


def explain(policy: Policy, request: Request) -> Explanation:
    """Decide a request and explain the decision; tests every rule.

    Raises:
        ValueError: If no caller can have the request's principal, tenant or scopes; one sentence says why.
    """
    problem = caller_problem(request.principal, request.tenant, request.scopes)
    if problem is not None:
        raise ValueError(problem)
    asked, request = request, _under_first_name(policy, request)
    decision = evaluate(policy, request)
    considered = tuple(
        Considered(effect, number, rule, tuple(_misses(rule, request)))
        for effect, rules in _lists(policy)
        for number, rule in enumerate(rules, 1)
    )
    otherwise = None
    if decision.reason is not Reason.MALFORMED_RESOURCE:
        otherwise = _otherwise(policy, request, decision, considered)
    return Explanation(decision, considered, otherwise, request.resource, renamed=request != asked)


def _under_first_name(policy: Policy, request: Request) -> Request:
    """Return a request for a table under the name of its catalog by which the server decides."""
    resource = split_resource(request.resource)
    name = dict(policy.aliases).get(resource[1]) if resource and resource[0] == "tables" else None
    if resource is None or name is None:
        return request
    return attrs.evolve(request, resource=resource_name("tables", name, *resource[2:]))


def _otherwise(
    policy: Policy, request: Request, decision: Decision, considered: tuple[Considered, ...]
) -> Counterfactual:
    if decision.allowed:
        return Counterfactual((), (("deny", _rule_for(request)),), allowed=False)
    denies = tuple(one for one in considered if one.effect == "deny" and one.matches)
    allowed = policy.default == "allow" or any(one.effect == "allow" and one.matches for one in considered)
    add: tuple[tuple[Effect, Rule], ...] = () if allowed else (("allow", _rule_for(request)),)
    return Counterfactual(denies, add, allowed=True)


def _rule_for(request: Request) -> Rule:
    """Return the narrowest rule that matches a request.

    Only ``*`` matches an id that contains a ``*``; tenant and action narrow such a rule.
    """
    named = "*" if "*" in request.principal else request.principal
    resource = resource_name(*(split_resource(request.resource) or ()))  # `*` escaped: a name, no pattern
    return Rule(named, resource, tenant=request.tenant, action=request.action)


def _misses(rule: Rule, request: Request) -> Iterator[str]:
    if not principal_matches(rule.principal, request.principal):
        yield "principal"
    if rule.tenant is not None and rule.tenant != request.tenant:
        yield "tenant"
    if rule.action is not None and rule.action != request.action:
        yield "action"
    if rule.scope is not None and not holds_scope(request.scopes, rule.scope):
        yield "scope"
    resource = split_resource(request.resource)
    if resource is None or not rule.pattern.matches(resource):
        yield "resource"


def _lists(policy: Policy) -> tuple[tuple[Effect, tuple[Rule, ...]], ...]:
    return ("deny", policy.deny), ("allow", policy.allow)


def _document(one: Considered) -> dict[str, Any]:
    return {
        "effect": one.effect,
        "number": one.number,
        "principal": one.rule.principal,
        "resource": one.rule.resource,
        "matches": one.matches,
        "misses": list(one.misses),
    }


def _advice(change: Counterfactual) -> Iterator[str]:
    would = "permit" if change.allowed else "deny"
    parts = [f"remove {one.effect} rule {one.number}" for one in change.remove]
    for effect, rule in change.add:
        parts.append(f"add a rule that {'allows' if effect == 'allow' else 'denies'} {_written(rule)}")
    yield f"to {would} it: {'; '.join(parts)}"


def _written(rule: Rule) -> str:
    named = (("tenant", rule.tenant), ("action", rule.action))
    narrowed = "".join(f", {name} = {value}" for name, value in named if value)
    return f"{rule.principal} on {rule.resource}{narrowed}"
