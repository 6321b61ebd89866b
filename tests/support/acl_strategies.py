"""Random policies and requests over few names, so that they meet."""

from hypothesis import strategies as st

from strata.acl import ACTIONS, Policy, Request, Rule, resource_name

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
restricted_rules = st.builds(
    Rule,
    principal=st.sampled_from(("*", "*@x.org", "ann@x.org", "root")),
    resource=patterns.filter(lambda pattern: pattern.startswith("tables/")),
    tenant=st.sampled_from((None, "a", "b")),
    scope=st.sampled_from((None, "admin:acl", "admin:*")),
    action=st.sampled_from((None, "read")),
    columns=st.lists(st.sampled_from(("id", "v", "s.x")), min_size=1, unique=True).map(tuple),
    rows=st.sampled_from((None, "id > 1", "v = 'a' and id in (1, 2)")),
)
"""Allow rules limited to some columns and rows."""

open_policies = st.builds(
    Policy,
    deny=st.lists(rules, max_size=8).map(tuple),
    allow=st.lists(rules, max_size=8).map(tuple),
    default=st.sampled_from(("deny", "allow")),
)
restricted_policies = st.builds(
    Policy,
    deny=st.lists(rules, max_size=4).map(tuple),
    allow=st.lists(rules | restricted_rules, max_size=8).map(tuple),
)
policies = open_policies | restricted_policies
small_policies = st.builds(
    Policy,
    deny=st.lists(rules, max_size=2).map(tuple),
    allow=st.lists(rules, max_size=3).map(tuple),
    default=st.sampled_from(("deny", "allow")),
) | st.builds(
    Policy,
    deny=st.lists(rules, max_size=2).map(tuple),
    allow=st.lists(restricted_rules, max_size=3).map(tuple),
)
"""For what looks at every pair of rules."""
requests = st.builds(
    Request,
    principal=st.sampled_from(("ann@x.org", "bob@x.org", "@x.org", "ann", "root", "*", "*@x.org")),
    tenant=st.sampled_from(("a", "b")),
    scopes=st.frozensets(st.sampled_from(("admin:acl", "admin:*"))),
    resource=resources,
    action=st.sampled_from(ACTIONS),
)
