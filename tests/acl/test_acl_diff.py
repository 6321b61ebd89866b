"""Every change between two policies has an example request, and every example is a change."""

import pytest
from acl_strategies import policies, requests, small_policies
from hypothesis import assume, given

from strata.acl import Policy, Rule, diff, evaluate
from strata.acl.lint import ASKED


def answer(policy: Policy, request) -> tuple:
    decision = evaluate(policy, request)
    return decision.allowed, decision.grants


@given(old=small_policies, new=small_policies)
def test_every_witness_is_a_change(old: Policy, new: Policy) -> None:
    """The example's decisions are those of both policies."""
    for change in diff(old, new).changes:
        assert (change.old, change.new) == (evaluate(old, change.request), evaluate(new, change.request))
        assert answer(old, change.request) != answer(new, change.request)


@given(old=small_policies, new=small_policies, request=requests)
def test_where_a_request_is_decided_otherwise_there_is_a_witness(old: Policy, new: Policy, request) -> None:
    """Without an example there is no change."""
    assume(request.action in ASKED.get(request.resource.partition("/")[0], ()))
    assume(answer(old, request) != answer(new, request))
    found = diff(old, new)
    assert found.changes or not found.complete


@given(policy=policies)
def test_a_policy_does_not_differ_from_itself_in_another_order(policy: Policy) -> None:
    """Reordered and repeated rules make no difference."""
    again = Policy(policy.deny[::-1] * 2, policy.allow[::-1] * 2, policy.default)
    assert not diff(policy, again).changes


ALL = Rule("*@x.org", "tables/main/*/*")


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            Policy(allow=(ALL,)),
            Policy(deny=(Rule("*", "tables/main/pay/*"),), allow=(ALL,)),
            ["anyone@x.org (tenant any-tenant) read tables/main/pay/any: denied, was allowed"],
        ),
        (
            Policy(deny=(Rule("*", "tables/main/pay/*"),), allow=(ALL,)),
            Policy(deny=(Rule("*", "tables/main/pay/*"),), allow=(ALL, Rule("ann", "tables/main/*/*"))),
            ["ann (tenant any-tenant) read tables/main/any/any: allowed, was denied"],
        ),
        (
            Policy(),
            Policy(allow=(Rule("ann", "admin/acl", tenant="a", scope="admin:acl"),)),
            ["ann (tenant a, with admin:acl) admin admin/acl: allowed, was denied"],
        ),
        (
            Policy(allow=(Rule("ann", "tables/main/a/b", columns=("id",)),)),
            Policy(allow=(Rule("ann", "tables/main/a/b", columns=("id", "v")),)),
            ["ann (tenant any-tenant) read tables/main/a/b: sees other columns or rows"],
        ),
        (Policy(allow=(ALL,)), Policy(allow=(ALL, Rule("ann@x.org", "tables/main/a/b"))), []),
    ],
)
def test_changes_in_words(old: Policy, new: Policy, lines: list[str]) -> None:
    """The text names the caller, the resource and the direction; a rule without effect changes nothing."""
    found = diff(old, new)
    assert (lines, True) == ([str(change) for change in found.changes], found.complete)


def test_many_tangled_rules_are_said_to_be_too_many() -> None:
    """The difference is marked incomplete when not every part was examined."""
    tangled = tuple(Rule("*", f"artifacts/**/*{a}*/**/*{b}*") for a in "abcd" for b in "abcd")
    assert not diff(Policy(), Policy(allow=tangled)).complete
