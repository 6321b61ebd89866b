"""Parsing of policies: documented blocks work as pasted, and any unknown input refuses the whole policy."""

from __future__ import annotations

import ast
import contextlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strata.acl
from strata.acl import Policy, PolicyError, Reason, Request, Rule, evaluate, parse_policy

# The product page's block, verbatim: its `default` lands in the last rule.
PRODUCT_PAGE = """
[tool.strata.acl_config]
# deny rules evaluate first; explicit denies cannot be bypassed.
[[tool.strata.acl_config.deny]]
principal = "guest@example.com"
resource = "tables/internal/*"
[[tool.strata.acl_config.allow]]
principal = "analyst@example.com"
resource = "tables/marketing/*"
scope = "notebook:write"
# default action when no rule matches (default: "deny")
default = "deny"
"""

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "acl.md").read_text("utf-8")
REFERENCE_ROWS = re.findall(
    r"^\| `(\S+)` \| `(\S+)` \| (?:`(.+?)` )?\| (\w+) \| `(\S+)` \| (\w+) by (.+?) \|$",
    REFERENCE.split("## A policy at work")[1].split("\n## ")[0],
    flags=re.MULTILINE,
)

OK: dict[str, Any] = {"principal": "ann", "resource": "artifacts/a"}


def read(toml: str) -> Any:
    return tomllib.loads(toml)["tool"]["strata"]["acl_config"]


def problems(
    mapping: object, catalogs: Mapping[str, str] | tuple[str, ...] | None = ("main",)
) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(mapping, catalogs)  # type: ignore[arg-type]  # wrong types are the point
    return caught.value.problems


def ask(policy: Policy, principal: str, resource: str, *scopes: str) -> bool:
    return evaluate(policy, Request(principal, "team-a", frozenset(scopes), resource, "read")).allowed


def test_the_product_pages_block_decides_as_the_page_says() -> None:
    """Pasted unchanged, its deny rule, its allow rule with a scope and its default all work."""
    policy, warnings = parse_policy(read(PRODUCT_PAGE), ["main"])
    assert policy == Policy(
        deny=(Rule("guest@example.com", "tables/*/internal/*"),),
        allow=(Rule("analyst@example.com", "tables/main/marketing/*", scope="notebook:write"),),
        default="deny",
    )
    assert not ask(policy, "guest@example.com", "tables/main/internal/plans")
    assert ask(policy, "analyst@example.com", "tables/main/marketing/leads", "notebook:write")
    assert ask(policy, "analyst@example.com", "tables/main/marketing/leads", "notebook:*")
    assert not ask(policy, "analyst@example.com", "tables/main/marketing/leads", "notebook:read")
    assert not ask(policy, "analyst@example.com", "tables/main/internal/plans", "notebook:write")
    assert not ask(policy, "somebody@example.com", "tables/main/marketing/leads", "notebook:write")
    (warning,) = warnings
    assert warning.startswith("allow rule 1: ")
    assert 'Write `default = "deny"` before the first' in warning


def test_the_product_pages_block_with_default_allow_keeps_its_deny() -> None:
    """The default taken from the last rule allows everything except what is denied."""
    policy, _ = parse_policy(read(PRODUCT_PAGE.replace('"deny"\n', '"allow"\n')), ["main"])
    assert policy.default == "allow"
    assert ask(policy, "guest@example.com", "tables/main/sales/orders")
    assert not ask(policy, "guest@example.com", "tables/main/internal/plans")


@pytest.mark.parametrize("row", REFERENCE_ROWS)
def test_the_references_policy_decides_as_its_table_says(row: tuple[str, ...]) -> None:
    """The reference's policy, parsed, gives every answer of the reference's table, by the rule it names."""
    principal, tenant, scopes, action, resource, answer, by = row
    policy, warnings = parse_policy(read(REFERENCE.split("```toml\n")[1].split("```")[0]), ["main"])
    assert warnings == ()
    held = frozenset(scopes.split())
    decision = evaluate(policy, Request(principal, tenant, held, resource, action))  # type: ignore[arg-type]  # from text
    assert decision.allowed == (answer == "allowed")
    if by == "default":
        assert decision.reason is Reason.DEFAULT
    else:
        effect, number = by.split(" rule ")
        assert decision.rule is getattr(policy, effect)[int(number) - 1]


def test_the_references_table_is_found_whole() -> None:
    """Every row of the table is found, so that the test above covers all of it."""
    section = REFERENCE.split("## A policy at work")[1].split("\n## ")[0]
    assert len(REFERENCE_ROWS) == section.count("\n| `") >= 8


def test_a_short_deny_covers_every_catalog() -> None:
    """tables/<namespace>/<table> in a deny rule covers all catalogs."""
    mapping = {"deny": [{"principal": "*", "resource": "tables/internal/*"}], "default": "allow"}
    for catalogs in (None, [], ["main"], ["main", "other"]):
        policy, _ = parse_policy(mapping, catalogs)
        assert not ask(policy, "ann", "tables/main/internal/plans")
        assert not ask(policy, "ann", "tables/other/internal/plans")
        assert ask(policy, "ann", "tables/main/public/plans")
        assert ask(policy, "ann", "tables/internal/public/plans")


def test_a_short_allow_means_the_only_catalog() -> None:
    """With one catalog, the short form is that catalog's table and no other's."""
    mapping = {"allow": [{"principal": "*", "resource": "tables/sales/*"}]}
    policy, warnings = parse_policy(mapping, ["main"])
    assert warnings == ()
    assert ask(policy, "ann", "tables/main/sales/orders")
    assert not ask(policy, "ann", "tables/later/sales/orders")


def test_a_short_allow_for_a_catalog_with_an_odd_name_stays_that_catalog() -> None:
    """A catalog named * is escaped and matches no other catalog."""
    policy, _ = parse_policy({"allow": [{"principal": "*", "resource": "tables/sales/*"}]}, ["*"])
    assert ask(policy, "ann", "tables/%2A/sales/orders")
    assert not ask(policy, "ann", "tables/main/sales/orders")


def test_a_short_allow_with_several_catalogs_is_refused_with_the_forms_to_write() -> None:
    """Leaving the warehouse out does not open every warehouse."""
    mapping = {"allow": [{"principal": "*", "resource": "tables/sales/*"}]}
    (problem,) = problems(mapping, ("other", "main"))
    assert problem.startswith("allow rule 1: 'tables/sales/*' leaves out the catalog")
    assert "'tables/main/sales/*' or 'tables/other/sales/*'" in problem
    assert "'tables/*/sales/*' to open every catalog" in problem


def test_a_short_allow_is_refused_when_the_catalogs_are_not_known() -> None:
    """Without a list of catalogs there is nothing to choose from."""
    (problem,) = problems({"allow": [{"principal": "*", "resource": "tables/sales/*"}]}, None)
    assert "write 'tables/<catalog>/sales/*'" in problem


def test_a_short_allow_without_any_catalog_opens_nothing_and_says_so() -> None:
    """The product page's block starts on a server without catalogs, and allows no table."""
    policy, warnings = parse_policy(read(PRODUCT_PAGE), [])
    assert policy.allow == ()
    assert any("has no effect" in warning for warning in warnings)


@pytest.mark.parametrize("effect", ["deny", "allow"])
def test_a_rule_for_a_catalog_that_is_not_there_is_refused(effect: str) -> None:
    """A misspelled catalog in a deny rule would deny nothing; the right name is suggested."""
    (problem,) = problems(
        {effect: [{"principal": "*", "resource": "tables/mian/sales/*"}]}, ("main", "other")
    )
    assert problem.startswith(f"{effect} rule 1: ")
    assert "did you mean `main`?" in problem


def test_wildcard_catalogs_need_no_configuration() -> None:
    """A pattern over catalogs matches whichever catalogs exist."""
    for resource in ("tables/**", "tables/m*/sales/*", "tables/*/sales/*", "**"):
        policy, _ = parse_policy({"allow": [{"principal": "*", "resource": resource}]}, ["main", "other"])
        assert ask(policy, "ann", "tables/main/sales/orders")


def test_a_default_in_the_last_deny_rule_is_hoisted_too() -> None:
    """A policy with deny rules only may have its default in the same place."""
    policy, warnings = parse_policy({"deny": [OK, {**OK, "default": "allow"}]})
    assert policy == Policy(deny=(Rule(**OK), Rule(**OK)), default="allow")
    assert len(warnings) == 1
    assert warnings[0].startswith("deny rule 2: ")


def test_a_default_in_its_own_place_needs_no_warning() -> None:
    """A default in the right place gives no warning."""
    assert parse_policy({"default": "allow", "deny": [OK]}) == (
        Policy(deny=(Rule(**OK),), default="allow"),
        (),
    )


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"allow": [{**OK, "default": "deny"}, OK]}, "allow rule 1: `default` is of the policy"),
        ({"default": "deny", "allow": [{**OK, "default": "deny"}]}, "policy: `default` is given 2 times"),
        (
            {"deny": [{**OK, "default": "deny"}], "allow": [{**OK, "default": "deny"}]},
            "`default` is given 2 times",
        ),
        ({"default": "permit"}, 'must be "deny" or "allow", not \'permit\''),
        ({"default": True}, "not a boolean"),
        ({"default": "Deny"}, "not 'Deny'"),
        ({"allow": [{**OK, "default": 1}]}, "allow rule 1: `default` must be"),
        ({"alow": []}, "policy: unknown key `alow`; did you mean `allow`?"),
        ({"rules": []}, "policy: unknown key `rules`"),
        (
            {"allow": [{**OK, "resorce": "x"}]},
            "allow rule 1: unknown key `resorce`; did you mean `resource`?",
        ),
        ({"allow": [{"principal": "ann"}]}, "allow rule 1: `resource` is missing"),
        ({"deny": [{"resource": "artifacts/a"}]}, "deny rule 1: `principal` is missing"),
        ({"deny": [{**OK, "principal": 7}]}, "deny rule 1: `principal` must be a string, not a number"),
        ({"deny": [{**OK, "scope": ["a"]}]}, "deny rule 1: `scope` must be a string, not a list"),
        ({"deny": [{**OK, "action": "reed"}]}, "did you mean `read`?"),
        ({"deny": [{**OK, "resource": "artifact/a"}]}, "deny rule 1: 'artifact/a': unknown kind"),
        ({"deny": [{**OK, "resource": "tables/internal/**"}]}, "can be read as a catalog or as a namespace"),
        ({"deny": [{**OK, "principal": "al*"}]}, "a wildcard is"),
        ({"deny": [{**OK, "tenant": "*"}]}, "leave `tenant` out"),
        ({"deny": [{**OK, "scope": ""}]}, "deny rule 1: scope ''"),
        ({"deny": ["guest"]}, "deny rule 1: must be a table, not 'guest'"),
        ({"deny": dict(OK)}, "write [[…deny]]"),
        ({"deny": "guest"}, "deny: must be a list of rules, not 'guest'"),
        ({"allow": None}, "allow: must be a list of rules"),
        ([], "policy: must be a table, not a list"),
        ("deny", "policy: must be a table, not 'deny'"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused_whole(mapping: object, says: str) -> None:
    """A misspelled key or a wrong type is an error with its place, never an ineffective rule."""
    (problem,) = problems(mapping)
    assert says in problem


def test_all_problems_are_listed_at_once() -> None:
    """All problems are reported together."""
    found = problems(
        {
            "dney": [],
            "default": "no",
            "deny": [{"principal": 1, "resorce": "x"}, {**OK, "resource": "nowhere"}],
            "allow": [{**OK, "scope": "a b"}, {**OK, "resource": "tables/other/a/b"}],
        }
    )
    for part in (
        "`dney`",
        "default",
        "`principal`",
        "`resorce`",
        "`resource` is missing",
        "nowhere",
        "a b",
        "other",
    ):
        assert any(part in problem for problem in found), part
    assert len(found) == 8


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["deny", "allow", "default", "principal", "resource", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(mapping=junk)
def test_any_toml_is_a_policy_or_a_list_of_problems(mapping: object) -> None:
    """Any TOML file gives a policy or its problems."""
    with contextlib.suppress(PolicyError):
        policy, _ = parse_policy(mapping)  # type: ignore[arg-type]  # wrong types are the point
        assert isinstance(policy, Policy)


def test_the_library_imports_nothing_of_strata() -> None:
    """No module of the package imports another part of Strata."""
    for module in Path(strata.acl.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] == "strata" for alias in node.names), module.name
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, module.name
                assert (node.module or "").split(".")[0] != "strata", module.name


@pytest.mark.parametrize("effect", ["deny", "allow"])
@pytest.mark.parametrize(
    "short", ["tables/main/*", "tables/main/orders", "tables/m*/orders", "tables/*ai*/*"]
)
def test_a_short_form_that_names_a_catalog_is_refused(effect: str, short: str) -> None:
    """It would mean that namespace in every catalog, and deny nothing in the catalog it seems to name."""
    (problem,) = problems({effect: [{"principal": "*", "resource": short}]})

    assert f"{short!r} is the short form of a namespace, but 'main' is a catalog" in problem
    assert "write 'tables/main/<namespace>/<table>'" in problem
    assert f"or 'tables/*/{short.removeprefix('tables/')}'" in problem


@pytest.mark.parametrize("short", ["tables/*/orders", "tables/mainly/*", "tables/m%2A/x", "tables/Main/*"])
def test_a_short_form_that_names_no_catalog_is_a_namespace(short: str) -> None:
    """A wildcard alone, a longer name, an escaped star and other letters are no name of a catalog."""
    policy, _ = parse_policy({"deny": [{"principal": "*", "resource": short}]}, ["main"])
    assert [short.replace("tables/", "tables/*/")] == [rule.resource for rule in policy.deny]


NAMES = {"main": "main", "alt": "main", "archive": "archive"}


@pytest.mark.parametrize("effect", ["deny", "allow"])
@pytest.mark.parametrize(
    "resource", ["tables/alt/hr/*", "tables/al*/hr/*", "tables/a*/hr/*", "tables/alt/**/x"]
)
def test_a_rule_on_another_name_of_a_catalog_is_refused(effect: str, resource: str) -> None:
    """Requests are decided under the first name, so the rule would never apply to them."""
    (problem,) = problems({effect: [{"principal": "*", "resource": resource}]}, NAMES)

    assert "names 'alt', another name of 'main'" in problem
    assert "write 'tables/main/…'" in problem


@pytest.mark.parametrize(
    "resource", ["tables/main/hr/*", "tables/*/hr/*", "tables/**", "**", "tables/archive/*/*"]
)
def test_a_rule_that_matches_the_first_name_covers_all_names(resource: str) -> None:
    """Rules of the first name, of all names, and of other catalogs are as before."""
    policy, _ = parse_policy({"deny": [{"principal": "*", "resource": resource}]}, NAMES)
    assert [resource] == [rule.resource for rule in policy.deny]


def test_a_short_allow_means_the_only_catalog_of_several_names() -> None:
    """Two names of one catalog are one catalog."""
    rule = {"principal": "ann", "resource": "tables/hr/*"}
    policy, _ = parse_policy({"allow": [rule]}, {"main": "main", "alt": "main"})
    assert ["tables/main/hr/*"] == [rule.resource for rule in policy.allow]


@pytest.mark.parametrize("principal", ["(null)", "-", "None", "null", "nil", "undefined"])
def test_a_rule_for_what_programs_write_for_no_user_has_a_warning(principal: str) -> None:
    """Every request without an identity would be that one user."""
    _, (warning,) = parse_policy({"allow": [{**OK, "principal": principal}]}, ["main"])
    assert f"allow rule 1: the principal {principal!r} is what programs write for no user" in warning


def test_a_scope_with_a_comma_is_refused() -> None:
    """No caller can hold it: scopes are separated by spaces."""
    (problem,) = problems({"allow": [{**OK, "scope": "a,b"}]})
    assert "no spaces or commas" in problem
