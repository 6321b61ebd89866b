"""Compile a policy so that a decision's cost does not grow with the number of rules.

Rules are in tries over the segments of their resources, one trie for each principal named: an exact id, a
mail domain, or ``*``. A request walks at most three tries. Decisions, rule included, equal those of
:func:`~strata.acl.evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .evaluate import rule_matches
from .model import Decision, Policy, Reason, Request, Rule, grants_of
from .patterns import holds_scope, principal_matches, segment_matches, split_resource

_STAR = ("", "")
"""Compiled form of a segment that is just ``*``."""

_ANY_NAME = "\U0010ffff"
"""Stands for a name that no rule spells: only wildcards match it."""


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

    def ends(self, resource: tuple[str, ...]) -> Iterable[_Node]:
        """Return the end nodes of patterns that match ``resource``.

        Follows all patterns at once, segment by segment, and enters a node at most once a segment: the work
        is at most nodes times segments, whatever ``**`` the patterns contain.
        """
        lasting: dict[_Node, None] = {}  # the nodes of a `**`: once reached, they stay, for it takes anything
        active = [self]
        for text in resource:
            _note_deep(active, lasting)
            following = []
            for node in (*active, *lasting) if lasting else active:
                exact = node.exact.get(text)
                if exact is not None:
                    following.append(exact)
                if node.star is not None:
                    following.append(node.star)
                if node.partial:
                    following += [
                        child for segment, child in node.partial.items() if segment_matches(segment, text)
                    ]
            active = following
            if not active and not lasting:
                return ()
        _note_deep(active, lasting)
        return (*active, *lasting)


def _note_deep(active: Iterable[_Node], lasting: dict[_Node, None]) -> None:
    """Add the nodes behind a ``**`` that takes no segment, and those behind a further one."""
    for node in active:
        deep = node.deep
        while deep is not None and deep not in lasting:
            lasting[deep] = None
            deep = deep.deep


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

    def reaches(self, request: Request, below: int) -> bool:
        """Test whether the rules allow a request for some resource with the beginning of the request's.

        A deny rule counts if it denies all of them; one that denies some by name does not.

        Args:
            request: The request.
            below: How many of the last segments of its resource stand for any name.
        """
        resource = split_resource(request.resource)
        if resource is None:
            return False
        resource = resource[:-below]
        if _first(self._deny, request, (*resource, *(_ANY_NAME,) * below)) is not None:
            return False
        if self.policy.default == "allow":
            return True
        tries = (self._allow.get(principal) for principal in _principals(request) if principal)
        return any(
            _allows(node, request) for trie in tries if trie is not None for node in trie.ends(resource)
        )


def _allows(node: _Node, request: Request) -> bool:
    """Test whether a node, or one below it, has a rule for the caller."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        for _, rule in _candidates(node, request):
            is_caller = principal_matches(rule.principal, request.principal)
            if is_caller and (rule.scope is None or holds_scope(request.scopes, rule.scope)):
                return True
        following = (node.star, node.deep, *node.exact.values(), *node.partial.values())
        waiting += [one for one in following if one is not None]
    return False


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
    for principal in _principals(request):
        trie = tries.get(principal) if principal else None
        if trie is not None:
            for node in trie.ends(resource):
                yield from _candidates(node, request)


def _principals(request: Request) -> tuple[str, str, str]:
    """Return the names under which the tries have the rules for a caller; the second may be empty."""
    return request.principal, _domain(request.principal), "*"


def _candidates(node: _Node, request: Request) -> Iterator[tuple[int, Rule]]:
    if node.rules:
        for tenant in (request.tenant, None):
            for action in (request.action, None):
                yield from node.rules.get((tenant, action), ())


def _domain(principal: str) -> str:
    name, at, domain = principal.rpartition("@")
    return f"*@{domain}" if name and at else ""
