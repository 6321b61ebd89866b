"""A printed policy parses to the same policy."""

import tomllib

from acl_strategies import policies
from hypothesis import given
from hypothesis import strategies as st

from strata.acl import Policy, Rule, parse_policy, print_policy

AWKWARD = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(policy=policies)
def test_parse_of_print_is_the_policy(policy: Policy) -> None:
    """As a file of its own and inside a configuration, without warnings."""
    assert (policy, ()) == parse_policy(tomllib.loads(print_policy(policy)))
    inside = tomllib.loads(print_policy(policy, "tool.strata.acl_config"))
    assert (policy, ()) == parse_policy(inside["tool"]["strata"]["acl_config"])


@given(columns=st.lists(AWKWARD, min_size=1, unique=True), text=AWKWARD)
def test_no_name_can_break_out_of_its_quotes(columns: list[str], text: str) -> None:
    """Quotes, backslashes, line ends and control characters in names and values are escaped."""
    rows = "v = '" + text.replace("'", "''") + "'"
    rule = Rule("*", "tables/main/a/b", columns=tuple(columns), rows=rows)
    policy = Policy(allow=(rule,))
    assert policy == parse_policy(tomllib.loads(print_policy(policy)))[0]


def test_it_reads_like_something_a_person_wrote() -> None:
    """Keys that are not set are left out."""
    policy = Policy(deny=(Rule("*", "tables/*/internal/*"),), allow=(Rule("*@x.org", "**", action="read"),))
    assert (
        'default = "deny"\n\n'
        '[[deny]]\nprincipal = "*"\nresource = "tables/*/internal/*"\n\n'
        '[[allow]]\nprincipal = "*@x.org"\nresource = "**"\naction = "read"\n'
    ) == print_policy(policy)
