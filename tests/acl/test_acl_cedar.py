"""Decisions equal Cedar's, whose semantics are proved: forbid overrides permit, default deny, no order."""

import random
from collections import Counter

import acl_strategies as pools
import cedar_twin
import pytest

from strata.acl import ACTIONS, CompiledPolicy, Policy, Request, Rule, evaluate

REQUESTS = 25
PRINCIPALS = ("ann@x.org", "ann@x.org", "bob@x.org", "@x.org", "ann", "root", "*", "*@x.org")
HELD = (frozenset(), frozenset({"admin:acl"}), frozenset({"admin:*"}), frozenset({"admin:acl", "other"}))


def policy_of(draw: random.Random) -> Policy:
    default = draw.choice(("deny", "allow"))
    allow = draw.sample(pools.RULES_POOL, draw.randint(0, 8))
    if default == "deny":
        allow += draw.sample(pools.RESTRICTED_POOL, draw.randint(0, 3))
    return Policy(tuple(draw.sample(pools.RULES_POOL, draw.randint(0, 4))), tuple(allow), default)


def request_of(draw: random.Random) -> Request:
    return Request(
        principal=draw.choice(PRINCIPALS),
        tenant=draw.choice("ab"),
        scopes=draw.choice(HELD),
        resource=draw.choice(pools.RESOURCES),
        action=draw.choice(("read", "read", *ACTIONS)),
    )


def agree(count: int, seed: int) -> Counter[str]:
    """Compare ``count`` random requests, 25 per policy, with Cedar; returns how they were decided."""
    draw = random.Random(seed)
    found: Counter[str] = Counter()
    for _ in range(count // REQUESTS):
        policy = policy_of(draw)
        requests = [request_of(draw) for _ in range(REQUESTS)]
        compiled = CompiledPolicy(policy)
        decisions = [evaluate(policy, request) for request in requests]
        theirs = cedar_twin.decide(policy, requests)
        for request, ours, cedar in zip(requests, decisions, theirs, strict=True):
            assert ours.allowed == compiled.decide(request).allowed == cedar, (policy, request, cedar)
            found[ours.reason.name] += 1
    return found


def test_a_few_hundred_requests_are_decided_as_cedar_does() -> None:
    """The requests include denied, allowed, defaulted and malformed ones."""
    found = agree(500, seed=1)
    assert min(found[reason] for reason in ("DENY_RULE", "ALLOW_RULE", "DEFAULT", "MALFORMED_RESOURCE")) >= 10


@pytest.mark.nightly
def test_fifty_thousand_requests_are_decided_as_cedar_does() -> None:
    """All decisions agree."""
    assert 50_000 == agree(50_000, seed=2).total()


def test_the_twin_notices_a_difference() -> None:
    """Leaving out a deny rule causes a disagreement."""
    denied = Request("ann", "a", frozenset(), "tables/main/a/b", "read")
    whole = Policy((Rule("*", "tables/*/a/*"),), (Rule("*", "**"),))
    assert [False] == cedar_twin.decide(whole, [denied])
    assert [True] == cedar_twin.decide(Policy((), whole.allow), [denied])
