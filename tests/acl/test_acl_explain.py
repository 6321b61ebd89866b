"""Explanations match the decision, and the change they name reverses it."""

from acl_strategies import policies, requests
from hypothesis import given

from strata.acl import Policy, Reason, Request, Rule, evaluate, explain

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
