"""Every reported rule can be removed without changing a decision."""

import attrs
import pytest
from acl_strategies import patterns, policies, requests, resources, rules
from hypothesis import assume, example, given

from strata.acl import Policy, Rule, covering, evaluate, lint
from strata.acl.covering import covers, meetings, pattern_covers
from strata.acl.evaluate import rule_matches
from strata.acl.lint import ASKED
from strata.acl.patterns import ResourcePattern, split_resource


def without(policy: Policy, *gone: tuple[str, int]) -> Policy:
    kept = {
        effect: tuple(r for n, r in enumerate(getattr(policy, effect), 1) if (effect, n) not in gone)
        for effect in ("deny", "allow")
    }
    return attrs.evolve(policy, **kept)


def asked(request) -> bool:
    """Test whether a server checks this action on this kind of resource."""
    return request.action in ASKED.get(request.resource.partition("/")[0], ())


@given(policy=policies, request=requests)
def test_all_that_is_reported_could_go_at_once(policy: Policy, request) -> None:
    """Without the reported rules, every request the server makes is decided the same."""
    assume(asked(request))
    clean = without(policy, *((one.effect, one.number) for one in lint(policy)))
    before, after = evaluate(policy, request), evaluate(clean, request)
    assert before.allowed == after.allowed
    assert (before.grants is None) == (after.grants is None)
    assert not lint(clean)


@given(one=rules, other=rules, request=requests)
def test_a_rule_that_covers_another_matches_whatever_it_does(one: Rule, other: Rule, request) -> None:
    """Otherwise a rule with an effect would be reported."""
    resource = split_resource(request.resource)
    assume(resource is not None)
    if covers(one, other) and rule_matches(other, request, resource):
        assert rule_matches(one, request, resource)


@given(one=patterns, other=patterns, resource=resources)
@example(one="tables/*/*/*", other="tables/**", resource="tables/a/b/a")
def test_what_meets_is_under_both(one: str, other: str, resource: str) -> None:
    """Both patterns cover each meeting, and the meetings of tables cover the whole intersection."""
    first, second = ResourcePattern.parse(one), ResourcePattern.parse(other)
    found = meetings(first.segments, second.segments)
    path = split_resource(resource)
    assume(path is not None)
    for segments in found:
        if ResourcePattern("", segments).matches(path):
            assert first.matches(path)
            assert second.matches(path)
    if pattern_covers(first, second) and second.matches(path):
        assert first.matches(path)


DENY = (Rule("*", "tables/*/internal/*"),)
WIDE = Rule("*@x.org", "tables/main/*/*")


@pytest.mark.parametrize(
    ("policy", "kind", "message"),
    [
        (
            Policy(allow=(WIDE, WIDE)),
            "duplicate",
            "allow rule 2 (*@x.org on tables/main/*/*) repeats allow rule 1",
        ),
        (
            Policy(allow=(Rule("ann@x.org", "tables/main/a/b"), WIDE)),
            "shadowed",
            "allow rule 1 (ann@x.org on tables/main/a/b) adds nothing to allow rule 2, which says all of it",
        ),
        (
            Policy(allow=(WIDE, Rule("ann@x.org", "tables/main/a/b", columns=("id",)))),
            "shadowed",
            "allow rule 2 (ann@x.org on tables/main/a/b) adds nothing to allow rule 1, which says all of it",
        ),
        (
            Policy(DENY, (Rule("ann", "tables/main/internal/pay"),)),
            "contradictory",
            "allow rule 1 (ann on tables/main/internal/pay) permits nothing: deny rule 1 denies all of it",
        ),
        (
            Policy(allow=(Rule("ann", "admin/cache", action="read"),)),
            "never matches",
            "allow rule 1 (ann on admin/cache) never matches: the only actions on admin/… are admin",
        ),
        (
            Policy(DENY, (Rule("ann", "artifacts/x"),), default="allow"),
            "shadowed",
            'allow rule 1 (ann on artifacts/x) adds nothing: `default = "allow"` permits it already',
        ),
    ],
)
def test_each_kind_of_finding_names_the_rules_at_fault(policy: Policy, kind: str, message: str) -> None:
    """The message is one sentence that tells which rule to change."""
    assert [(kind, message)] == [(one.kind, one.message) for one in lint(policy)]


def test_rules_that_do_something_are_not_reported() -> None:
    """Narrower deny rules, other tenants, other scopes and other columns have an effect."""
    allow = (
        Rule("*", "tables/main/*/*", tenant="a"),
        Rule("*", "tables/main/*/*", tenant="b"),
        Rule("*", "tables/main/*/*", scope="admin:acl"),
        Rule("ann", "tables/other/*/*", columns=("id",)),
        Rule("ann", "tables/other/*/*", columns=("v",), rows="id > 1"),
    )
    assert () == lint(Policy(DENY, allow))


def test_comparing_two_patterns_takes_a_step_for_each_pair_of_their_segments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Patterns with eight ``**`` and two hundred segments are compared by pairs, not by every way to match."""
    names = "/".join(["**", *["a"] * 24] * 8)
    wide, narrow = (
        ResourcePattern.parse(f"artifacts/{names}/b"),
        ResourcePattern.parse(f"artifacts/{names}/c"),
    )
    compared, real = [], covering.segment_covers

    def counted(one: tuple, other: tuple) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(covering, "segment_covers", counted)
    assert not pattern_covers(wide, narrow)
    assert [] == meetings(wide.segments, narrow.segments)
    assert len(compared) <= 4 * len(wide.segments) * len(narrow.segments)
