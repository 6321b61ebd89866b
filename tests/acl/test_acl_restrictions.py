"""Rules limited to columns and rows: their grants unite, and the rest of the policy is unchanged."""

from __future__ import annotations

import operator
import random
from typing import Any

import attrs
import pytest
from acl_strategies import policies, requests, restricted_policies, restricted_rules, rules
from hypothesis import given
from hypothesis import strategies as st

from strata.acl import (
    CompiledPolicy,
    Condition,
    Decision,
    Policy,
    PolicyError,
    Rule,
    evaluate,
    parse_policy,
    parse_rows,
)

CELLS = [
    (column, {"id": number, "v": text}) for column in ("id", "v", "s.x") for number in (1, 2) for text in "ab"
]
OK = {"principal": "ann", "resource": "tables/main/a/b"}


def holds(condition: Condition, row: dict[str, Any]) -> bool:
    """Evaluate the conditions that the strategies draw."""
    tests = {"=": operator.eq, ">": operator.gt, "in": lambda value, values: value in values}
    return tests[condition.op](row[condition.column], condition.value)


def seen(decision: Decision) -> set[int]:
    """Return the cells that a decision lets its caller read."""
    if not decision.allowed:
        return set()
    if decision.grants is None:
        return set(range(len(CELLS)))
    return {
        at
        for at, (column, row) in enumerate(CELLS)
        for grant in decision.grants
        if (grant.columns is None or column in grant.columns)
        and all(holds(condition, row) for condition in grant.conditions)
    }


@given(policy=restricted_policies, request=requests, seed=st.integers(0, 2**32))
def test_what_is_seen_is_no_matter_of_order_or_repetition(policy: Policy, request, seed: int) -> None:
    """Grants are equal as values, since they are part of a result's identity."""
    draw = random.Random(seed)
    allow = [*policy.allow, *draw.choices(policy.allow, k=2)] if policy.allow else []
    draw.shuffle(allow)
    shuffled = attrs.evolve(policy, allow=tuple(allow))
    assert evaluate(policy, request).grants == evaluate(shuffled, request).grants
    assert evaluate(policy, request).grants == CompiledPolicy(shuffled).decide(request).grants


@given(policy=restricted_policies, request=requests, rule=rules | restricted_rules)
def test_one_more_allow_rule_hides_no_cell_and_a_deny_rule_shows_none(
    policy: Policy, request, rule: Rule
) -> None:
    """Grants unite; a deny rule removes them all."""
    before = seen(evaluate(policy, request))
    assert before <= seen(evaluate(attrs.evolve(policy, allow=(*policy.allow, rule)), request))
    if not rule.restricted:
        after = seen(evaluate(attrs.evolve(policy, deny=(*policy.deny, rule)), request))
        assert after in (before, set())


@given(policy=restricted_policies, request=requests, rule=restricted_rules)
def test_the_grants_of_another_tenant_change_nothing(policy: Policy, request, rule: Rule) -> None:
    """Grants for another action than reading change nothing, either."""
    rule = attrs.evolve(rule, tenant="c")
    assert evaluate(policy, request) == evaluate(attrs.evolve(policy, allow=(rule, *policy.allow)), request)


@given(policy=policies, request=requests)
def test_only_reading_is_ever_restricted(policy: Policy, request) -> None:
    """A rule with columns allows no other action."""
    decision = evaluate(policy, request)
    if decision.grants is not None:
        assert decision.allowed
        assert "read" == request.action
        assert request.resource.startswith("tables/")


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("region = 'EU'", [Condition("region", "=", "EU")]),
        ("region='it''s' AND n>=-1.5e3", [Condition("region", "=", "it's"), Condition("n", ">=", -1500.0)]),
        ("a.b <> 3", [Condition("a.b", "!=", 3)]),
        ('"odd "" name"."and" is NOT null', [Condition('odd " name.and', "is not null")]),
        ("x IS NULL and y = TRUE", [Condition("x", "is null"), Condition("y", "=", value=True)]),
        ("k in ('a', 2,false)", [Condition("k", "in", ("a", 2, False))]),
        ("k not  in (1)", [Condition("k", "not in", (1,))]),
        ("größe < +7", [Condition("größe", "<", 7)]),
        (
            "at >= '__datetime__:2026-01-01T00:00:00+00:00'",
            [Condition("at", ">=", "__datetime__:2026-01-01T00:00:00+00:00")],
        ),
    ],
)
def test_rows_are_read_as_written(text: str, conditions: list[Condition]) -> None:
    """Operators, quoting and types are parsed."""
    assert tuple(conditions) == parse_rows(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "a", "a =", "a = b", "= 1", "a = 1 b = 2", "a = 1 or b = 2", "a = 1 and", "a in ()", "a in (1", "a in 1",
     "a not null", "a is 1", "a == 1", "a = 'x", "a = 1;", "a like 'x%'", "not a = 1", "a = 1)", "'a' = 'a'", "a = null",
     "and = 1", "a = -", "a = 1 -- all", "a.1 = 2", 'a"b" = 1', "a = 1x"],
)  # fmt: skip
def test_rows_that_are_not_understood_are_refused(text: str) -> None:
    """The text must be understood to its last character: an ignored condition would grant rows."""
    with pytest.raises(ValueError, match="`rows` is malformed"):
        parse_rows(text)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"allow": [{**OK, "columns": "id"}]}, "allow rule 1: `columns` must be a list of names, not 'id'; write"),
        ({"allow": [{**OK, "columns": []}]}, "allow rule 1: `columns` names no column; leave the rule out"),
        ({"allow": [{**OK, "columns": ["id", "id"]}]}, "names a column twice"),
        ({"allow": [{**OK, "columns": [1]}]}, "`columns` must be a list of names"),
        ({"allow": [{**OK, "rows": "id ="}]}, "allow rule 1: `rows` is malformed: expected a value"),
        ({"allow": [{**OK, "rows": 7}]}, "allow rule 1: `rows` must be a string"),
        ({"allow": [{**OK, "rows": "id = 1", "action": "delete"}]}, "the action 'delete' must be `read`"),
        ({"allow": [{**OK, "resource": "**", "rows": "id = 1"}]}, "need a resource that begins with tables/"),
        ({"allow": [{**OK, "resource": "artifacts/a", "columns": ["id"]}]}, "need a resource that begins with tables"),
        ({"deny": [{**OK, "columns": ["id"]}]}, "deny rule 1: a deny rule denies whole tables"),
        ({"default": "allow", "allow": [{**OK, "columns": ["id"]}]}, "have no effect with"),
    ],
)  # fmt: skip
def test_restrictions_that_would_not_do_what_they_look_like_are_refused(policy, says: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(PolicyError) as refused:
        parse_policy(policy, ["main"])
    (problem,) = refused.value.problems
    assert says in problem


def test_rules_made_in_code_are_held_to_the_same() -> None:
    """Rules created without the parser are validated in the same way."""
    rule = Rule("*", "tables/main/a/b", columns=("id",))
    assert "read" == rule.action
    with pytest.raises(ValueError, match="deny rule 1: a deny rule denies whole tables"):
        Policy(deny=(rule,))
    with pytest.raises(ValueError, match='write `default = "deny"`'):
        Policy(allow=(rule,), default="allow")
