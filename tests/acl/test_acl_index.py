"""The compiled policy decides as the plain one does, and looks at no more rules when there are more."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.acl import ACTIONS, CompiledPolicy, Policy, Request, Rule, evaluate, index, resource_name
from strata.tenants.gate import Gate

SEGMENTS = ("a", "ab", "b", "*", "a/b", "%")
NAMES = st.sampled_from(SEGMENTS)
tables = st.builds(lambda *parts: resource_name("tables", *parts), NAMES, NAMES, NAMES)
others = st.builds(
    lambda kind, parts: resource_name(kind, *parts),
    st.sampled_from(("artifacts", "admin", "streams")),
    st.lists(NAMES, min_size=1, max_size=3),
)
resources = tables | others | st.sampled_from(("tables/a/b", "artifacts/", "nothing/x", "artifacts/%2"))
pieces = st.sampled_from(("a", "b", "ab", "*", "a*", "*b", "a*b", "%2A", "%25", "**"))


def _pattern(kind: str, parts: list[str]) -> str:
    return "/".join((kind, *parts))


def _is_pattern(text: str) -> bool:
    try:
        Rule("*", text)
    except ValueError:
        return False
    return True


patterns = (
    st.builds(
        _pattern, st.sampled_from(("tables", "artifacts", "admin")), st.lists(pieces, min_size=1, max_size=4)
    )
    | st.sampled_from(("**", "**/b", "**/a*/**"))
).filter(_is_pattern)
rules = st.builds(
    Rule,
    principal=st.sampled_from(("*", "*@x.org", "ann@x.org", "root")),
    resource=patterns,
    tenant=st.sampled_from((None, "a", "b")),
    scope=st.sampled_from((None, "admin:acl", "admin:*")),
    action=st.sampled_from((None, *ACTIONS)),
)
policies = st.builds(
    Policy,
    deny=st.lists(rules, max_size=8).map(tuple),
    allow=st.lists(rules, max_size=8).map(tuple),
    default=st.sampled_from(("deny", "allow")),
)
requests = st.builds(
    Request,
    principal=st.sampled_from(("ann@x.org", "bob@x.org", "@x.org", "ann", "root", "*", "*@x.org")),
    tenant=st.sampled_from(("a", "b")),
    scopes=st.frozensets(st.sampled_from(("admin:acl", "admin:*"))),
    resource=resources,
    action=st.sampled_from(ACTIONS),
)


@given(policies, st.lists(requests, min_size=1, max_size=8))
@settings(max_examples=400)
def test_the_index_decides_as_the_oracle_does(policy: Policy, asked: list[Request]) -> None:
    """Down to the rule that is named."""
    compiled = CompiledPolicy(policy)
    for request in asked:
        assert evaluate(policy, request) == compiled.decide(request)


@pytest.mark.parametrize("count", [10, 1000, 20_000])
def test_a_decision_looks_at_as_many_rules_however_many_there_are(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules for other tables, people and tenants are not even looked at."""
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
    """SIGHUP puts another policy in its place."""
    gate = Gate(Policy(default="allow"))
    first = gate._compiled(gate.policy)
    assert first is gate._compiled(gate.policy)
    gate.policy = Policy(default="deny")
    assert first is not gate._compiled(gate.policy)
    assert gate._compiled(gate.policy).policy is gate.policy
