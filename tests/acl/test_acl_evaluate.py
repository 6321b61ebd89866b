"""Meaning of a policy: deny over allow over default, in any order, for each tenant separately."""

from __future__ import annotations

import random
from collections import Counter

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from strata.acl import ACTIONS, Policy, Reason, Request, Rule, evaluate, resource_name
from strata.acl.evaluate import rule_matches
from strata.acl.patterns import split_resource

PRINCIPALS = ("ann@x.org", "bob@x.org", "ann@y.org", "*", "root")
TENANTS = ("a", "b", "_default")
SCOPES = ("admin:acl", "admin:*", "notebook:read", "notebook:*", "other")
TABLES = tuple(
    resource_name("tables", catalog, namespace, table)
    for catalog in ("m", "n")
    for namespace in ("a", "ab")
    for table in ("t", "*")
)
RESOURCES = (*TABLES, "artifacts/a", "artifacts/a/b", "streams/1", "admin/cache")
PATTERNS = (
    *RESOURCES,
    "**",
    "tables/**",
    "tables/*/a/*",
    "tables/m/a*/t",
    "tables/m/**/t",
    "artifacts/*",
    "artifacts/**",
    "admin/*",
)

rules = st.builds(
    Rule,
    principal=st.sampled_from(("*", "*@x.org", "ann@x.org", "root")),
    resource=st.sampled_from(PATTERNS),
    tenant=st.none() | st.sampled_from(TENANTS),
    scope=st.none() | st.sampled_from(SCOPES),
    action=st.none() | st.sampled_from(ACTIONS),
)
rule_lists = st.lists(rules, max_size=5).map(tuple)
policies = st.builds(Policy, deny=rule_lists, allow=rule_lists, default=st.sampled_from(("deny", "allow")))
requests = st.builds(
    Request,
    principal=st.sampled_from(PRINCIPALS),
    tenant=st.sampled_from(TENANTS),
    scopes=st.frozensets(st.sampled_from(SCOPES)),
    resource=st.sampled_from(RESOURCES),
    action=st.sampled_from(ACTIONS),
)


def applies(rule: Rule, request: Request) -> bool:
    resource = split_resource(request.resource)
    assert resource is not None
    return rule_matches(rule, request, resource)


@given(policy=policies, request=requests)
def test_deny_beats_allow_beats_default(policy: Policy, request: Request) -> None:
    """One matching deny rule denies, else one matching allow rule allows, else the default decides."""
    decision = evaluate(policy, request)
    if any(applies(rule, request) for rule in policy.deny):
        expected, reason = False, Reason.DENY_RULE
    elif any(applies(rule, request) for rule in policy.allow):
        expected, reason = True, Reason.ALLOW_RULE
    else:
        expected, reason = policy.default == "allow", Reason.DEFAULT
    assert (decision.allowed, decision.reason) == (expected, reason)
    if reason is Reason.DEFAULT:
        assert decision.rule is None
    else:
        assert decision.rule is not None
        assert decision.rule in (policy.deny if reason is Reason.DENY_RULE else policy.allow)
        assert applies(decision.rule, request)


@given(policy=policies, request=requests, seed=st.integers(0, 2**32))
def test_order_and_duplicates_never_matter(policy: Policy, request: Request, seed: int) -> None:
    """Shuffled and repeated rules change no decision."""
    chance = random.Random(seed)
    deny = [*policy.deny, *chance.choices(policy.deny, k=2)] if policy.deny else []
    allow = [*policy.allow, *chance.choices(policy.allow, k=2)] if policy.allow else []
    chance.shuffle(deny)
    chance.shuffle(allow)
    shuffled = Policy(tuple(deny), tuple(allow), policy.default)
    before, after = evaluate(policy, request), evaluate(shuffled, request)
    assert (before.allowed, before.reason) == (after.allowed, after.reason)


@given(policy=policies, request=requests, rule=rules)
def test_adding_a_deny_never_widens(policy: Policy, request: Request, rule: Rule) -> None:
    """With one more deny rule nothing is allowed that was not."""
    wider = attrs.evolve(policy, deny=(*policy.deny, rule))
    assert evaluate(policy, request).allowed or not evaluate(wider, request).allowed


@given(policy=policies, request=requests, rule=rules)
def test_adding_an_allow_never_narrows(policy: Policy, request: Request, rule: Rule) -> None:
    """With one more allow rule nothing is denied that was not."""
    wider = attrs.evolve(policy, allow=(*policy.allow, rule))
    assert evaluate(wider, request).allowed or not evaluate(policy, request).allowed


@given(policy=policies, request=requests, rule=rules, other=st.sampled_from(TENANTS))
def test_tenants_never_interfere(policy: Policy, request: Request, rule: Rule, other: str) -> None:
    """A rule of another tenant changes nothing for this one, in either list."""
    assume(other != request.tenant)
    theirs = attrs.evolve(rule, tenant=other)
    before = evaluate(policy, request)
    assert evaluate(attrs.evolve(policy, deny=(theirs, *policy.deny)), request) == before
    assert evaluate(attrs.evolve(policy, allow=(theirs, *policy.allow)), request) == before


@given(request=requests, default=st.sampled_from(("deny", "allow")))
def test_the_default_decides_when_nothing_matches(request: Request, default: str) -> None:
    """A policy without rules decides by its default."""
    decision = evaluate(Policy(default="allow" if default == "allow" else "deny"), request)
    assert decision.allowed is (default == "allow")
    assert decision.reason is Reason.DEFAULT


def test_a_policy_denies_by_default() -> None:
    """A policy without default and rules denies."""
    request = Request("ann", "a", frozenset({"admin:*"}), "admin/cache", "admin")
    assert not evaluate(Policy(), request).allowed


@given(policy=policies, resource=st.text(max_size=20))
def test_a_malformed_resource_is_denied_whatever_the_policy(policy: Policy, resource: str) -> None:
    """A malformed resource is denied, even with default allow and a rule for everything."""
    assume(split_resource(resource) is None)
    opened = attrs.evolve(policy, allow=(Rule("*", "**"),), default="allow")
    decision = evaluate(opened, Request("ann", "a", frozenset(), resource, "read"))
    assert decision.allowed is False
    assert decision.reason is Reason.MALFORMED_RESOURCE


@pytest.mark.parametrize(
    ("scopes", "denied"), [(frozenset(), False), (frozenset({"x"}), True), (frozenset({"X"}), False)]
)
def test_a_scope_on_a_deny_rule_limits_it_to_callers_who_hold_it(
    scopes: frozenset[str], *, denied: bool
) -> None:
    """Scope reads "the caller holds it" in a deny rule too."""
    policy = Policy(deny=(Rule("*", "**", scope="x"),), default="allow")
    assert evaluate(policy, Request("ann", "a", scopes, "admin/cache", "admin")).allowed is not denied


def test_another_catalog_with_the_same_table_name_is_another_resource() -> None:
    """An allow for one warehouse's table does not open the table of that name in another."""
    policy = Policy(allow=(Rule("ann", "tables/main/sales/orders"),))
    main = Request("ann", "a", frozenset(), "tables/main/sales/orders", "read")
    assert evaluate(policy, main).allowed
    assert not evaluate(policy, attrs.evolve(main, resource="tables/other/sales/orders")).allowed


def test_random_rules_and_requests_meet() -> None:
    """Check of the strategies: without rules that match, all properties would be about the default."""
    found: Counter[Reason] = Counter()

    @settings(max_examples=2000, derandomize=True, database=None)
    @given(policy=policies, request=requests)
    def count(policy: Policy, request: Request) -> None:
        found[evaluate(policy, request).reason] += 1

    count()
    assert min(found[Reason.DENY_RULE], found[Reason.ALLOW_RULE]) > 40, found
