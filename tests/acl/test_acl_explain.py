"""Explanations match the decision, and the change they name reverses it."""

import pytest
from acl_strategies import policies, requests
from hypothesis import given

from strata.acl import Policy, Reason, Request, Rule, evaluate, explain, parse_policy

WAY_OUT = (
    "to permit it: remove deny rule 1; add a rule that allows bob@x.org on tables/main/internal/pay, "
    "tenant = a, action = read"
)


@given(policies, requests)
def test_an_explanation_is_the_decision_and_names_every_rule(policy: Policy, request: Request) -> None:
    """The rules marked as matching lead to the same decision."""
    found = explain(policy, request)
    assert evaluate(policy, request) == found.decision
    assert len(policy.deny) + len(policy.allow) == len(found.considered)
    if found.decision.reason is Reason.MALFORMED_RESOURCE:
        assert found.otherwise is None
        return
    matching = [one for one in found.considered if one.matches]
    denied = [one for one in matching if one.effect == "deny"]
    granted = [one for one in matching if one.effect == "allow"]
    assert found.decision.allowed == (not denied and (bool(granted) or policy.default == "allow"))
    if found.decision.rule is not None:
        assert found.decision.rule in [one.rule for one in denied or granted]


@given(policies, requests)
def test_the_counterfactual_applied_flips_the_decision(policy: Policy, request: Request) -> None:
    """The change is minimal: with any removal left out, the decision stays."""
    found = explain(policy, request)
    if found.otherwise is None:
        return
    changed = found.otherwise.applied(policy)
    assert found.decision.allowed != evaluate(changed, request).allowed == found.otherwise.allowed
    for kept in found.otherwise.remove:
        fewer = tuple(one for one in found.otherwise.remove if one is not kept)
        half = type(found.otherwise)(fewer, found.otherwise.add, found.otherwise.allowed).applied(policy)
        assert found.decision.allowed == evaluate(half, request).allowed


def test_it_reads_as_sentences() -> None:
    """The explanation is readable by the denied user."""
    policy = Policy(
        deny=(Rule("*", "tables/main/internal/*"),), allow=(Rule("ann@x.org", "tables/main/sales/*"),)
    )
    request = Request("bob@x.org", "a", frozenset(), "tables/main/internal/pay", "read")
    assert [
        "denied: a deny rule matches",
        "  deny rule 1 (* on tables/main/internal/*) matches",
        "  allow rule 1 (ann@x.org on tables/main/sales/*) does not match: principal, resource",
        WAY_OUT,
    ] == list(explain(policy, request).lines())


@pytest.mark.parametrize("who", ["ana ", "", "a\x07", "e\u0301", "x" * 257])
def test_a_principal_that_no_caller_can_have_is_no_question(who: str) -> None:
    """The question is refused with a sentence, whatever the policy decides."""
    for policy in (Policy(), Policy(default="allow")):
        with pytest.raises(ValueError, match="principal"):
            explain(policy, Request(who, "team-a", frozenset(), "tables/main/hr/x", "read"))


@pytest.mark.parametrize(
    ("tenant", "scope"), [("a b", "x"), ("", "x"), ("*", "x"), ("team-a", "x,y"), ("team-a", "")]
)
def test_a_tenant_or_scope_that_no_caller_can_have_is_no_question(tenant: str, scope: str) -> None:
    """As for a principal."""
    with pytest.raises(ValueError, match=r"tenant|scope"):
        explain(Policy(), Request("ana", tenant, frozenset({scope}), "tables/main/hr/x", "read"))


@pytest.mark.parametrize(
    "resource", ["tables/main/hr/*", "tables/main/hr/a**b", "artifacts/**x", "artifacts/a/**"]
)
def test_a_star_in_a_resource_is_a_name_and_can_be_explained(resource: str) -> None:
    """The rule that would permit it names the star, and no pattern."""
    request = Request("ana", "team-a", frozenset(), resource, "read")
    change = explain(Policy(), request).otherwise

    assert change is not None
    assert [resource.replace("*", "%2A")] == [rule.resource for _, rule in change.add]
    assert evaluate(change.applied(Policy()), request).allowed


def test_another_name_of_a_catalog_is_decided_as_the_server_decides_it() -> None:
    """The explanation names the resource that was decided."""
    mapping = {"deny": [{"principal": "*", "resource": "tables/main/hr/*"}], "default": "allow"}
    policy, _ = parse_policy(mapping, {"main": "main", "alt": "main"})
    found = explain(policy, Request("ana", "team-a", frozenset(), "tables/alt/hr/x", "read"))

    assert not found.decision.allowed
    assert "  the table is decided as tables/main/hr/x" in list(found.lines())
