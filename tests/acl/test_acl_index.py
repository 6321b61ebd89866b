"""The compiled policy decides as the plain one, and tests no more rules when there are more."""

import random

import pytest
from acl_strategies import policies, requests
from hypothesis import given
from hypothesis import strategies as st

from strata.acl import CompiledPolicy, Policy, Request, Rule, evaluate, index
from strata.acl.patterns import MAX_RESOURCE_CHARACTERS, MAX_SEGMENTS
from strata.auth import Principal
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


@pytest.mark.parametrize("deep", [2, 4, 8])
def test_a_long_name_costs_as_many_steps_whatever_wildcards_a_rule_has(
    deep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node of the index is entered at most once a segment, however many ``**`` come before it."""
    pattern = "artifacts/" + "/".join(["**/s*t"] * deep)
    policy = CompiledPolicy(Policy(deny=(Rule("*", pattern),), default="allow"))
    segments = 250
    tested, real = [], index.segment_matches

    def counted(literals: tuple[str, ...], text: str) -> bool:
        tested.append(text)
        return real(literals, text)

    monkeypatch.setattr(index, "segment_matches", counted)
    name = "artifacts/" + "/".join(["a", *["secret"] * (segments - 2), "a"])
    assert policy.decide(Request("ann", "a", frozenset(), name, "read")).allowed
    assert len(tested) <= deep * segments


def test_a_resource_that_is_too_long_is_malformed_and_counts_as_denied() -> None:
    """Neither a rule nor the default permits it, and no one learns that it costs more."""
    policy = Policy(deny=(Rule("*", "artifacts/**/secret/**"),), default="allow")
    longest = "artifacts/" + "a" * (MAX_RESOURCE_CHARACTERS - len("artifacts/"))
    for resource, allowed in ((longest, True), (longest + "a", False)):
        request = Request("ann", "a", frozenset(), resource, "read")
        assert allowed is CompiledPolicy(policy).decide(request).allowed
        assert allowed is evaluate(policy, request).allowed
    assert Authorizer(policy).denies(Principal("ann", "a", frozenset()), longest + "a", "read")


@pytest.mark.parametrize(
    "pattern",
    [
        "artifacts/" + "a" * MAX_RESOURCE_CHARACTERS,
        "artifacts" + "/**" * 9,
        "artifacts" + "/a" * MAX_SEGMENTS,
    ],
)
def test_a_pattern_beyond_the_bounds_is_refused(pattern: str) -> None:
    """A longer pattern matches no resource that is well-formed; more ``**`` mean nothing that fewer do not."""
    with pytest.raises(ValueError, match="at most"):
        Rule("*", pattern)


@given(policies, st.lists(requests, min_size=1, max_size=8), st.integers(1, 2))
def test_what_is_allowed_is_reached_from_its_beginning(
    policy: Policy, asked: list[Request], below: int
) -> None:
    """A listing that passes over what the rules do not reach leaves out nothing that may be read."""
    compiled = CompiledPolicy(policy)
    for request in asked:
        if request.resource.startswith("tables/") and compiled.decide(request).allowed:
            assert compiled.reaches(request, below)


@pytest.mark.parametrize(
    ("rule", "reached"),
    [
        (Rule("ann", "tables/lake/db/t"), True),
        (Rule("*", "tables/*/db/t*"), True),
        (Rule("*", "tables/**"), True),
        (Rule("*", "**"), True),
        (Rule("*", "tables/lake/*/*", tenant="a", action="read"), True),
        (Rule("*", "tables/lake/*/*", scope="s"), True),
        (Rule("bob", "tables/lake/db/t"), False),
        (Rule("*", "tables/other/db/t"), False),
        (Rule("*", "tables/lake/*/*", tenant="b"), False),
        (Rule("*", "tables/lake/*/*", scope="other"), False),
        (Rule("*", "tables/lake/*/*", action="write"), False),
        (Rule("*", "artifacts/lake/*"), False),
    ],
)
def test_a_catalog_is_reached_by_a_rule_for_the_caller_only(rule: Rule, reached: bool) -> None:  # noqa: FBT001
    """Another principal's, tenant's, scope's or catalog's rule does not show that there is the catalog."""
    request = Request("ann", "a", frozenset({"s"}), "tables/lake/-/-", "read")
    assert reached == CompiledPolicy(Policy(allow=(rule,))).reaches(request, 2)


@pytest.mark.parametrize(
    ("rule", "reached"),
    [
        (Rule("*", "tables/lake/*/*"), False),
        (Rule("*", "tables/lake/*/**"), False),
        (Rule("*", "**"), False),
        (Rule("*", "tables/lake/db/*"), True),
        (Rule("*", "tables/lake/*/t*"), True),
        (Rule("*", "tables/lake/-/-"), True),
        (Rule("bob", "tables/lake/*/*"), True),
    ],
)
def test_a_catalog_of_which_all_is_denied_is_not_reached(rule: Rule, reached: bool) -> None:  # noqa: FBT001
    """Also where the default allows everything."""
    request = Request("ann", "a", frozenset(), "tables/lake/-/-", "read")
    for policy in (
        Policy(deny=(rule,), default="allow"),
        Policy(deny=(rule,), allow=(Rule("*", "tables/**"),)),
    ):
        assert reached == CompiledPolicy(policy).reaches(request, 2)
