"""Random policies and requests over few names, so that rules and requests often match.

Rules and requests are drawn from large fixed sets: one choice each instead of ten, which makes 100,000
examples a matter of minutes.
"""

import random

from hypothesis import strategies as st

from strata.acl import ACTIONS, Policy, Request, Rule, resource_name

SEGMENTS = (*"aaaaaa", "b", "b", "ab", "*", "a/b", "%")
PIECES = (*"aaaa****", "a*", "a*", "*b", "b", "ab", "a*b", "%2A", "%25", "**", "**")
PRINCIPALS = ("*", "*", "*", "*@x.org", "*@x.org", "ann@x.org", "root")
TENANTS = (None, None, None, None, "a", "b")
SCOPES = (None, None, None, None, None, None, "admin:acl", "admin:*")
RULES = 4000


def _resources(draw: random.Random) -> tuple[str, ...]:
    kinds = ["tables"] * 9 + ["artifacts", "admin", "streams"]
    found = []
    for _ in range(2000):
        kind = draw.choice(kinds)
        length = 3 if kind == "tables" else draw.randint(1, 3)
        found.append(resource_name(kind, *draw.choices(SEGMENTS, k=length)))
    return (*found, *("tables/a/b", "artifacts/", "nothing/x", "artifacts/%2") * 20)


def _is_pattern(text: str) -> bool:
    try:
        Rule("*", text)
    except ValueError:
        return False
    return True


def _patterns(draw: random.Random) -> tuple[str, ...]:
    found: list[str] = []
    while len(found) < 2000:
        kind = draw.choice(["tables"] * 8 + ["artifacts", "admin"])
        length = 3 if kind == "tables" and draw.random() < 0.8 else draw.randint(1, 4)
        text = "/".join((kind, *draw.choices(PIECES, k=length)))
        if _is_pattern(text):
            found.append(text)
    return (*found, *("**", "**/b", "**/a*/**") * 20)


def _rules(draw: random.Random, patterns: tuple[str, ...]) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            draw.choice(PRINCIPALS),
            draw.choice(patterns),
            draw.choice(TENANTS),
            draw.choice(SCOPES),
            draw.choice((None,) * 8 + ACTIONS),
        )
        for _ in range(RULES)
    )


def _restricted(draw: random.Random, patterns: tuple[str, ...]) -> tuple[Rule, ...]:
    """Draw allow rules limited to some columns and rows."""
    return tuple(
        Rule(
            draw.choice(PRINCIPALS),
            draw.choice(patterns),
            draw.choice(TENANTS),
            draw.choice(SCOPES),
            draw.choice((None, "read")),
            columns=tuple(draw.sample(("id", "v", "s.x"), draw.randint(1, 3))),
            rows=draw.choice((None, "id > 1", "v = 'a' and id in (1, 2)")),
        )
        for _ in range(RULES)
    )


PATTERNS = _patterns(random.Random(1))
TABLES = tuple(text for text in PATTERNS if text.startswith("tables/"))

RESOURCES = _resources(random.Random(4))
RULES_POOL = _rules(random.Random(2), PATTERNS)
RESTRICTED_POOL = _restricted(random.Random(3), TABLES)

resources = st.sampled_from(RESOURCES)
patterns = st.sampled_from(PATTERNS)
rules = st.sampled_from(RULES_POOL)
restricted_rules = st.sampled_from(RESTRICTED_POOL)

open_policies = st.builds(
    Policy,
    deny=st.lists(rules, min_size=1, max_size=8).map(tuple),
    allow=st.lists(rules, min_size=1, max_size=8).map(tuple),
    default=st.sampled_from(("deny", "allow")),
)
restricted_policies = st.builds(
    Policy,
    deny=st.lists(rules, max_size=4).map(tuple),
    allow=st.lists(rules | restricted_rules, min_size=2, max_size=8).map(tuple),
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
"""Policies for tests that compare every pair of rules."""

requests = st.builds(
    Request,
    principal=st.sampled_from((*["ann@x.org"] * 5, "bob@x.org", "@x.org", "ann", "root", "*", "*@x.org")),
    tenant=st.sampled_from(("a", "b")),
    scopes=st.sampled_from(
        [frozenset(s) for s in ((), ("admin:acl",), ("admin:*",), ("admin:acl", "admin:*"))]
    ),
    resource=resources,
    action=st.sampled_from((*["read"] * 6, *ACTIONS)),
)
