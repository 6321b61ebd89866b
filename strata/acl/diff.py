"""Find requests that two policies decide differently.

Decisions can differ only where a rule is in one of the policies and not in the other. The resources of each
such rule are split along the patterns of all other rules, its callers along every principal, tenant, scope
and action that any rule names; one request is decided for each part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations
from typing import Final

import attrs

from .covering import DEEP, STAR, Segments, meetings, principal_covers, spelled_out
from .index import CompiledPolicy
from .lint import ASKED
from .model import ACTIONS, Decision, Policy, Request, Rule
from .patterns import KINDS, TABLE_SEGMENTS, principal_matches, resource_name, split_resource

_MOST_PIECES: Final = 400
"""Parts of one rule's resources that are examined; beyond, the difference is marked incomplete."""

_MOST_SCOPES: Final = 4
"""Up to this many scopes, all sets of them are tried; of more, each one, each pair, all and none."""

_MOST_PAIRED: Final = 60
"""Of more scopes than this no pairs are tried, and the difference is marked incomplete."""


@attrs.frozen
class Change:
    """A request that two policies decide differently.

    Attributes:
        request: The request.
        old: Decision of the old policy.
        new: Decision of the new policy.
    """

    request: Request
    old: Decision
    new: Decision

    def __str__(self) -> str:
        """Return the change as one line."""
        scopes = f", with {' '.join(sorted(self.request.scopes))}" if self.request.scopes else ""
        who = f"{self.request.principal} (tenant {self.request.tenant}{scopes})"
        return f"{who} {self.request.action} {self.request.resource}: {self._words()}"

    def _words(self) -> str:
        if self.old.allowed and self.new.allowed:
            return "sees other columns or rows"
        return "denied, was allowed" if self.old.allowed else "allowed, was denied"


@attrs.frozen
class Difference:
    """Changes between two policies.

    Attributes:
        changes: Requests that are decided differently: one per principal and resource, ordered by both.
        complete: Whether every part was examined; ``False`` if rules overlap in too many ways, so that there
            may be further changes.
    """

    changes: tuple[Change, ...]
    complete: bool


def diff(old: Policy, new: Policy, enough: Callable[[int], bool] = lambda _found: False) -> Difference:
    """Return the requests that the two policies decide differently.

    Args:
        old: The one policy.
        new: The other policy.
        enough: Asked before each part with the number of changes found so far; once true, the search ends and
            the difference is incomplete.
    """
    compiled = CompiledPolicy(old), CompiledPolicy(new)
    rules = tuple(dict.fromkeys((*old.deny, *old.allow, *new.deny, *new.allow)))
    names = _Names.of(rules)
    changes: dict[tuple[str, str], Change] = {}
    complete = names.complete
    for rule in _differing(old, new):
        pieces, whole = _pieces(rule, rules, partial(enough, len(changes)))
        complete = complete and whole
        for resource in sorted({text for piece in pieces for text in names.instances(piece)}):
            for request in names.requests(rule, resource):
                if enough(len(changes)):
                    return Difference(tuple(changes[key] for key in sorted(changes)), complete=False)
                said = compiled[0].decide(request), compiled[1].decide(request)
                if (said[0].allowed, said[0].grants) != (said[1].allowed, said[1].grants):
                    changes.setdefault((request.principal, resource), Change(request, *said))
    return Difference(tuple(changes[key] for key in sorted(changes)), complete)


def _differing(old: Policy, new: Policy) -> Iterator[Rule]:
    for before, after in ((old.deny, new.deny), (old.allow, new.allow)):
        yield from sorted(set(before) ^ set(after), key=repr)
    if old.default != new.default:
        yield from (Rule("*", "tables/*/*/*" if kind == "tables" else f"{kind}/**") for kind in KINDS)


def _pieces(rule: Rule, rules: tuple[Rule, ...], enough: Callable[[], bool]) -> tuple[list[Segments], bool]:
    """Return the parts into which ``rules`` split this rule's resources, and whether these are all."""
    found: dict[Segments, None] = {}
    for segments in _every_kind(rule):
        found[segments] = None
    others = [segments for other in rules for segments in _every_kind(other)]
    for other in others:
        if enough():
            return list(found), False
        for piece in tuple(found):
            for meeting in meetings(piece, other):
                found[meeting] = None
                if len(found) > _MOST_PIECES:
                    return list(found), False
    return list(found), True


def _every_kind(rule: Rule) -> Iterator[Segments]:
    """Yield the rule's pattern with ``**`` expanded to all kinds and to the segments of tables."""
    segments = rule.pattern.segments
    if segments[0] != DEEP:
        yield from spelled_out(rule.pattern)
        return
    for kind in KINDS:
        below = (STAR,) * (TABLE_SEGMENTS - 1) if kind == "tables" else (DEEP,)
        yield from meetings(segments, ((kind,), *below))


@attrs.frozen
class _Names:
    """Example names: one for each caller and resource that the rules distinguish.

    Attributes:
        fresh: Part of a name that occurs in no rule.
        principals: Each id that a rule names, one id per domain that a rule names, and one more.
        tenants: Each tenant that a rule names, and one more.
        scopes: Sets of scopes.
        complete: Whether the sets have each pair of scopes.
    """

    fresh: str
    principals: tuple[str, ...]
    tenants: tuple[str, ...]
    scopes: tuple[frozenset[str], ...]
    complete: bool

    @classmethod
    def of(cls, rules: tuple[Rule, ...]) -> _Names:
        written = " ".join(f"{rule.principal} {rule.resource} {rule.tenant}" for rule in rules)
        fresh, number = "any", 0
        while fresh in written:
            number += 1
            fresh = f"any{number}"
        named = {rule.principal for rule in rules}
        principals = {name for name in named if "*" not in name}
        principals |= {f"{fresh}one{name[1:]}" for name in named if name.startswith("*@")} | {f"{fresh}one"}
        tenants = {rule.tenant for rule in rules if rule.tenant} | {f"{fresh}-tenant"}
        scopes = sorted({rule.scope for rule in rules if rule.scope})
        return cls(
            fresh,
            tuple(sorted(principals)),
            tuple(sorted(tenants)),
            tuple(_sets(scopes)),
            len(scopes) <= _MOST_PAIRED,
        )

    def instances(self, piece: Segments) -> Iterator[str]:
        """Yield resources that match a pattern; wildcards get a name that occurs in no rule."""
        for depth in range(3) if DEEP in piece else range(1):
            segments: list[str] = []
            for segment in piece[1:]:
                deep = [f"{self.fresh}{level}" for level in range(depth)]
                segments += deep if segment == DEEP else [self.fresh.join(segment)]
            if segments and all(segments):
                text = resource_name(piece[0][0], *segments)
                if split_resource(text) is not None:
                    yield text

    def requests(self, rule: Rule, resource: str) -> Iterator[Request]:
        """Yield a request of each kind of caller that the rule may match."""
        asked = ASKED[resource.partition("/")[0]]
        for principal in self.principals:
            if not (
                principal_covers(rule.principal, principal) or principal_matches(rule.principal, principal)
            ):
                continue
            for tenant in self.tenants if rule.tenant is None else (rule.tenant,):
                for action in (action for action in ACTIONS if action in asked):
                    for scopes in self.scopes:
                        yield Request(principal, tenant, scopes, resource, action)


def _sets(scopes: list[str]) -> Iterator[frozenset[str]]:
    sizes: Iterable[int] = range(len(scopes) + 1)
    if len(scopes) > _MOST_SCOPES:
        sizes = (0, 1, 2, len(scopes)) if len(scopes) <= _MOST_PAIRED else (0, 1, len(scopes))
    for size in sizes:
        yield from (frozenset(chosen) for chosen in combinations(scopes, size))
