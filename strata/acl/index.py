"""Compile a policy so that a decision's cost does not grow with the number of rules.

Rules are in tries over the segments of their resources, one trie for each principal named: an exact id, a
mail domain, or ``*``. A request walks at most three tries. Decisions, rule included, equal those of
:func:`~strata.acl.evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .evaluate import rule_matches
from .model import Decision, Policy, Reason, Request, Rule, grants_of
from .patterns import segment_matches, split_resource

_STAR = ("", "")
"""Compiled form of a segment that is just ``*``."""


class _Node:
    """Trie node: the patterns that share a beginning; children are created on demand.

    Attributes:
        exact: Next segments without ``*``, by their text.
        star: Next segment ``*``.
        partial: Next segments that contain a ``*`` among other characters.
        deep: Next segment ``**``.
        rules: Rules with a pattern that ends here, with their position in the policy, by (tenant, action).
    """

    __slots__ = ("deep", "exact", "partial", "rules", "star")

    def __init__(self) -> None:
        self.exact: dict[str, _Node] = {}
        self.star: _Node | None = None
        self.partial: dict[tuple[str, ...], _Node] = {}
        self.deep: _Node | None = None
        self.rules: dict[tuple[str | None, str | None], list[tuple[int, Rule]]] = {}

    def child(self, segment: tuple[str, ...]) -> _Node:
        """Return the child node for a pattern's segment, created if need be."""
        if not segment:
            self.deep = self.deep or _Node()
            return self.deep
        if len(segment) == 1:
            return self.exact.setdefault(segment[0], _Node())
        if segment == _STAR:
            self.star = self.star or _Node()
            return self.star
        return self.partial.setdefault(segment, _Node())

    def ends(self, resource: tuple[str, ...], at: int = 0) -> Iterator[_Node]:
        """Yield the end nodes of patterns that match ``resource`` from segment ``at`` on."""
        if at == len(resource):
            yield self
        else:
            text = resource[at]
            following = [self.exact.get(text), self.star]
            following += [node for segment, node in self.partial.items() if segment_matches(segment, text)]
            for node in following:
                if node is not None:
                    yield from node.ends(resource, at + 1)
        if self.deep is not None:
            for skipped in range(at, len(resource) + 1):
                yield from self.deep.ends(resource, skipped)


class CompiledPolicy:
    """A policy compiled for fast decisions.

    Args:
        policy: The policy; immutable.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._deny = _by_principal(policy.deny)
        self._allow = _by_principal(policy.allow)
        self._restricted = any(rule.restricted for rule in policy.allow)

    def decide(self, request: Request) -> Decision:
        """Decide a request; the decision, rule included, equals that of :func:`~strata.acl.evaluate`."""
        resource = split_resource(request.resource)
        if resource is None:
            return Decision(allowed=False, rule=None, reason=Reason.MALFORMED_RESOURCE)
        rule = _first(self._deny, request, resource)
        if rule is not None:
            return Decision(allowed=False, rule=rule, reason=Reason.DENY_RULE)
        rule = _first(self._allow, request, resource)
        if rule is not None:
            grants = grants_of(_all(self._allow, request, resource)) if self._restricted else None
            return Decision(allowed=True, rule=rule, reason=Reason.ALLOW_RULE, grants=grants)
        return Decision(allowed=self.policy.default == "allow", rule=None, reason=Reason.DEFAULT)


def _by_principal(rules: Iterable[Rule]) -> dict[str, _Node]:
    found: dict[str, _Node] = {}
    for place, rule in enumerate(rules):
        node = found.setdefault(rule.principal, _Node())
        for segment in rule.pattern.segments:
            node = node.child(segment)
        node.rules.setdefault((rule.tenant, rule.action), []).append((place, rule))
    return found


def _first(tries: dict[str, _Node], request: Request, resource: tuple[str, ...]) -> Rule | None:
    """Return the first matching rule in the policy's order, or ``None``."""
    best: tuple[int, Rule] | None = None
    for place, rule in _near(tries, request, resource):
        if (best is None or place < best[0]) and rule_matches(rule, request, resource):
            best = (place, rule)
    return None if best is None else best[1]


def _all(tries: dict[str, _Node], request: Request, resource: tuple[str, ...]) -> Iterator[Rule]:
    """Yield every matching rule."""
    for _, rule in _near(tries, request, resource):
        if rule_matches(rule, request, resource):
            yield rule


def _near(tries: dict[str, _Node], request: Request, resource: tuple[str, ...]) -> Iterator[tuple[int, Rule]]:
    """Yield candidate rules for the resource and caller, each with its position in the policy."""
    for principal in (request.principal, _domain(request.principal), "*"):
        trie = tries.get(principal) if principal else None
        if trie is not None:
            for node in trie.ends(resource):
                yield from _candidates(node, request)


def _candidates(node: _Node, request: Request) -> Iterator[tuple[int, Rule]]:
    if node.rules:
        for tenant in (request.tenant, None):
            for action in (request.action, None):
                yield from node.rules.get((tenant, action), ())


def _domain(principal: str) -> str:
    name, at, domain = principal.rpartition("@")
    return f"*@{domain}" if name and at else ""
