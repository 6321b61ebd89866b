"""The compiled policy decides as the plain one, and tests no more rules when there are more."""

import random

import pytest
from acl_strategies import policies, requests
from hypothesis import given
from hypothesis import strategies as st

from strata.acl import CompiledPolicy, Policy, Request, Rule, evaluate, index
from strata.tenants.shared.authorizer import Authorizer


@given(policies, st.lists(requests, min_size=1, max_size=8))
def test_the_index_decides_as_the_oracle_does(policy: Policy, asked: list[Request]) -> None:
    """Decisions are equal, including the rule that is named."""
    compiled = CompiledPolicy(policy)
    for request in asked:
        assert evaluate(policy, request) == compiled.decide(request)


@pytest.mark.parametrize("count", [10, 1000, 20_000])
def test_a_decision_looks_at_as_many_rules_however_many_there_are(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules for other tables, principals and tenants are not tested."""
    draw = random.Random(1)
    allow = [
        Rule(f"user{draw.randrange(count)}@x.org", f"tables/main/ns{number}/*", tenant=f"t{number % 50}")
        for number in range(count)
    ]
    mine = Rule("ann@x.org", "tables/main/sales/*")
    policy = CompiledPolicy(Policy(deny=(Rule("*", "tables/main/internal/*"),), allow=(*allow, mine)))
    looked, real = [], index.rule_matches

    def counted(rule: Rule, *rest: object) -> bool:
        looked.append(rule)
        return real(rule, *rest)

    monkeypatch.setattr(index, "rule_matches", counted)
    request = Request("ann@x.org", "a", frozenset(), "tables/main/sales/orders", "read")
    assert mine is policy.decide(request).rule
    assert [mine] == looked


def test_the_gate_compiles_a_policy_once_and_a_new_one_anew() -> None:
    """SIGHUP replaces the policy."""
    authorizer = Authorizer(Policy(default="allow"))
    first = authorizer._compiled(authorizer.policy)
    assert first is authorizer._compiled(authorizer.policy)
    authorizer.policy = Policy(default="deny")
    assert first is not authorizer._compiled(authorizer.policy)
    assert authorizer._compiled(authorizer.policy).policy is authorizer.policy
