"""What patterns match, and which patterns are refused as misleading."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.acl import CompiledPolicy, Policy, Request, Rule, evaluate, holds_scope, resource_name
from strata.acl.patterns import ResourcePattern, principal_matches, split_resource

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "acl.md"
EXAMPLES = re.findall(
    r"^\| `(\S+)` \| `(\S+)` \| (yes|no) \|$",
    REFERENCE.read_text("utf-8").split("## Matching")[1].split("\n## ")[0],
    flags=re.MULTILINE,
)


def matches(pattern: str, resource: str) -> bool:
    segments = split_resource(resource)
    assert segments is not None
    return ResourcePattern.parse(pattern).matches(segments)


def test_the_reference_has_examples() -> None:
    """The reference has examples, so that the next test is not empty."""
    assert len(EXAMPLES) >= 20


@pytest.mark.parametrize(("pattern", "resource", "answer"), EXAMPLES)
def test_the_reference_of_matching_is_true(pattern: str, resource: str, answer: str) -> None:
    """Every example of the reference matches as it says."""
    assert matches(pattern, resource) == (answer == "yes")


PIECES = st.text("ab.*", min_size=1, max_size=4).filter(lambda text: "**" not in text)
PATTERNS = st.lists(PIECES | st.just("**"), min_size=1, max_size=5).map(
    lambda parts: "/".join(["artifacts", *parts])
)
RESOURCES = st.lists(st.text("ab.", min_size=1, max_size=5), min_size=1, max_size=6).map(
    lambda parts: "/".join(["artifacts", *parts])
)


def as_regex(pattern: str) -> str:
    """Write the pattern's meaning as a regular expression over the text."""
    expression = ""
    for number, part in enumerate(pattern.split("/")):
        separator = "/" if number else ""
        if part == "**":
            expression += f"(?:{separator}[^/]+)*"
        else:
            expression += separator + "[^/]*".join(map(re.escape, part.split("*")))
    return expression


@given(pattern=PATTERNS, resource=RESOURCES)
def test_matching_agrees_with_a_regular_expression(pattern: str, resource: str) -> None:
    """The matcher and the regular expression of the same pattern never disagree."""
    assert matches(pattern, resource) == bool(re.fullmatch(as_regex(pattern), resource))


@pytest.mark.parametrize(
    ("segment", "text", "answer"),
    [
        ("ab*ba", "aba", False),  # the two ends may not share a letter
        ("ab*ba", "abba", True),
        ("a*b*b", "ab", False),  # nor may the middle and the end
        ("a*b*b", "abb", True),
        ("*a*a*", "a", False),  # nor may two middles
        ("*a*a*", "aa", True),
        ("*ab*ab*", "abxab", True),
        ("*", "a", True),
        ("a*", "a", True),
    ],
)
def test_the_parts_around_wildcards_never_overlap(segment: str, text: str, *, answer: bool) -> None:
    """Each literal part of a segment takes its own characters of the name."""
    assert matches(f"artifacts/{segment}", f"artifacts/{text}") is answer


@given(names=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=3, max_size=3))
def test_any_names_survive_being_written_as_a_resource(names: list[str]) -> None:
    """Whatever a table is called, its resource reads back as the same names."""
    assert split_resource(resource_name("tables", *names)) == ("tables", *names)


@given(
    mine=st.lists(st.text("a/*%2FA5", min_size=1, max_size=4), min_size=3, max_size=3),
    theirs=st.lists(st.text("a/*%2FA5", min_size=1, max_size=4), min_size=3, max_size=3),
)
def test_a_value_is_never_a_pattern(mine: list[str], theirs: list[str]) -> None:
    """A rule written for one table's exact names matches that table and no other, whatever they contain."""
    pattern = resource_name("tables", *mine)
    assert matches(pattern, resource_name("tables", *theirs)) == (mine == theirs)


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "tables",
        "tables/",
        "tables/main/sales",
        "tables/main/sales/a/b",
        "tables//sales/orders",
        "tables/main/sales/",
        "/tables/main/sales/orders",
        "Tables/main/sales/orders",
        "nothing/known",
        "artifacts/50%",
        "artifacts/a%2f",
        "artifacts/a//b",
    ],
)
def test_a_resource_that_can_be_cut_in_two_ways_is_malformed(resource: str) -> None:
    """Anything but a known kind with whole, properly escaped segments is no resource."""
    assert split_resource(resource) is None


@pytest.mark.parametrize(
    ("kind", "segments"), [("table", ("a",)), ("tables", ()), ("tables", ("a", "", "b"))]
)
def test_a_resource_needs_a_kind_and_whole_segments(kind: str, segments: tuple[str, ...]) -> None:
    """Writing a resource without a name is a bug and raises at once."""
    with pytest.raises(ValueError, match="known kind"):
        resource_name(kind, *segments)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "a segment is empty"),
        ("tables//x/y", "a segment is empty"),
        ("tables/main/sales/", "a segment is empty"),
        ("*", "`**` for everything"),
        ("*/internal/*", "`**` for everything"),
        ("tab*/a/b/c", "`**` for everything"),
        ("table/main/sales/orders", "unknown kind 'table'"),
        ("Tables/main/sales/orders", "unknown kind 'Tables'"),
        ("artifacts", "write 'artifacts/**'"),
        ("tables", "write 'tables/**'"),
        ("tables/main", "names no table"),
        ("tables/internal/orders", "write 'tables/<catalog>/internal/orders'"),
        ("tables/internal/**", "write 'tables/internal/*/*'"),
        ("tables/in*/**", "can be read as a catalog or as a namespace"),
        ("tables/main/a/b/c", "joined by dots"),
        ("tables/main/a/**/b/c", "joined by dots"),
        ("artifacts/a**", "must stand alone"),
        ("artifacts/***", "must stand alone"),
        ("artifacts/50%", "%25"),
        ("artifacts/a%2f", "%2F"),
        ("artifacts/*%", "%25"),
    ],
)
def test_patterns_that_match_nothing_or_mislead_are_refused(pattern: str, says: str) -> None:
    """A pattern that could never match, or that reads two ways, is refused with what to write."""
    with pytest.raises(ValueError, match=re.escape(says)):
        ResourcePattern.parse(pattern)


@pytest.mark.parametrize(
    ("pattern", "principal", "answer"),
    [
        ("alice", "alice", True),
        ("alice", "Alice", False),
        ("alice", "alice2", False),
        ("*", "anyone", True),
        ("*", "*", True),
        ("alice", "*", False),
        ("*@example.com", "alice@example.com", True),
        ("*@example.com", "alice@evil.example.com", False),
        ("*@example.com", "alice@example.com.evil.org", False),
        ("*@example.com", "alice@EXAMPLE.com", False),
        ("*@example.com", "@example.com", False),
        ("*@example.com", "example.com", False),
        ("*@example.com", "a@b@example.com", True),
        ("*@example.com", "alice@example.com@evil.org", False),
        ("alice@example.com", "*@example.com", False),
    ],
)
def test_principals_match_by_id_domain_or_star(pattern: str, principal: str, *, answer: bool) -> None:
    """An id matches exactly, a domain is the text after the last @, and a value is never a pattern."""
    assert principal_matches(pattern, principal) is answer


@pytest.mark.parametrize(
    "wrong",
    [
        {"principal": ""},
        {"principal": " alice"},
        {"principal": "al*"},
        {"principal": "**"},
        {"principal": "*@"},
        {"principal": "*@*"},
        {"principal": "*@a@b"},
        {"principal": "a\u200bb"},
        {"principal": "Zoe\u0308"},
        {"principal": "p" * 257},
        {"tenant": "*"},
        {"tenant": ""},
        {"tenant": "team a"},
        {"tenant": "a" * 65},
        {"scope": ""},
        {"scope": "a b"},
        {"scope": "*"},
        {"scope": "artifacts:*"},
        {"action": "reed"},
    ],
)
def test_a_rule_that_could_never_apply_cannot_be_made(wrong: dict[str, str]) -> None:
    """A principal, tenant or scope that cannot exist is refused when the rule is created."""
    with pytest.raises(ValueError, match=r".+"):
        Rule(**{"principal": "alice", "resource": "artifacts/a", **wrong})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("held", "wanted", "answer"),
    [
        ({"admin:*"}, "admin:acl", True),
        ({"notebook:*"}, "notebook:write", True),
        ({"notebook:*"}, "notebook:*", True),
        ({"notebook:read", "notebook:write"}, "notebook:*", False),
        ({"admin:*"}, "notebook:write", False),
        ({"admin:*"}, "adminx", False),
        (set(), "admin:acl", False),
    ],
)
def test_families_of_scopes_go_one_way(held: set[str], wanted: str, *, answer: bool) -> None:
    """A family covers its members; all members together do not make the family."""
    assert holds_scope(frozenset(held), wanted) is answer


@pytest.mark.parametrize(
    ("written", "caller", "matches"),
    [
        ("*@example.com", "A@EXAMPLE.com", True),
        ("*@Example.COM", "a@example.com", True),
        ("a@EXAMPLE.com", "a@example.com", True),
        ("a@example.com", "a@Example.Com", True),
        ("a@example.com", "A@example.com", False),
        ("*@example.com", "a@b@EXAMPLE.com", True),
        ("Example", "example", False),
        ("*@example.com", "a@example.com.evil", False),
    ],
)
def test_the_letter_case_of_a_mail_domain_does_not_count(written: str, caller: str, *, matches: bool) -> None:
    """In a rule and in a caller; everything else of a principal is compared exactly."""
    rule = Rule(written, "artifacts/**")
    request = Request(caller, "team-a", frozenset(), "artifacts/a", "read")
    for decide in (partial(evaluate, Policy(allow=(rule,))), CompiledPolicy(Policy(allow=(rule,))).decide):
        assert matches == decide(request).allowed
