"""Translate our policies to Cedar, from the reference page and not from our code.

Cedar matches strings with ``*`` and has no paths, so a resource is given as its decoded segments in the
request's context, and ``**`` is written out for every number of segments that a request can have.
"""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import cedarpy

from strata.acl import Policy, Request, Rule

MOST_SEGMENTS = 4
_KINDS = ("tables", "artifacts", "transforms", "streams", "notebooks", "admin")
_WELL_FORMED = re.compile(rf"(?:{'|'.join(_KINDS)})(?:/(?:[^%/*]|\*|%25|%2F|%2A)+)+")
_HELD = 'User::"somebody"'


def decide(policy: Policy, requests: list[Request]) -> list[bool]:
    """Return Cedar's decision for each request.

    Raises:
        AssertionError: If a policy was in error for a request: Cedar would ignore that policy.
    """
    results = cedarpy.is_authorized_batch(
        [_request(one) for one in requests], "\n".join(_policies(policy)), []
    )
    for result in results:
        assert not result.diagnostics.errors, result.diagnostics.errors
    return [result.allowed for result in results]


def _policies(policy: Policy) -> Iterator[str]:
    yield "forbid (principal, action, resource) when { context.malformed };"
    if policy.default == "allow":
        yield "permit (principal, action, resource);"
    for effect, rules in (("forbid", policy.deny), ("permit", policy.allow)):
        for rule in rules:
            yield f"{effect} (principal, action, resource) when {{ {' && '.join(_conditions(rule))} }};"


def _conditions(rule: Rule) -> Iterator[str]:
    if rule.principal.startswith("*@"):
        yield f'context.who like "*{_quoted(rule.principal[1:])}" && context.who != "{_quoted(rule.principal[1:])}"'
    elif rule.principal != "*":
        yield f'context.who == "{_quoted(rule.principal)}"'
    if rule.tenant is not None:
        yield f'context.tenant == "{_quoted(rule.tenant)}"'
    if rule.action is not None:
        yield f'action == Action::"{rule.action}"'
    if rule.scope is not None:
        family = f"{rule.scope.partition(':')[0]}:*"
        held = {rule.scope} | ({family} if family in ("admin:*", "notebook:*") else set())
        yield "(" + " || ".join(f'context.scopes.contains("{scope}")' for scope in sorted(held)) + ")"
    ways = [_matches(segments) for segments in _written_out(rule.resource.split("/"))]
    yield f"({' || '.join(ways)})" if ways else "false"


def _written_out(segments: list[str]) -> Iterator[list[str]]:
    if "**" not in segments:
        if len(segments) <= MOST_SEGMENTS:
            yield segments
        return
    at = segments.index("**")
    for count in range(MOST_SEGMENTS - (len(segments) - 1 - segments.count("**") + 1) + 1):
        yield from _written_out([*segments[:at], *["*"] * count, *segments[at + 1 :]])


def _matches(segments: list[str]) -> str:
    parts = [f"context.count == {len(segments)}"]
    for at, segment in enumerate(segments):
        pattern = r"*".join(_quoted(unquote(piece)).replace("*", r"\*") for piece in segment.split("*"))
        parts.append(f'context.s{at} like "{pattern}"')
    return f"({' && '.join(parts)})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _request(request: Request) -> dict[str, Any]:
    given = request.resource.split("/")
    well_formed = bool(_WELL_FORMED.fullmatch(request.resource)) and (given[0] != "tables" or len(given) == 4)
    segments = [unquote(part) for part in given] if well_formed else []
    context = {
        "who": request.principal,
        "tenant": request.tenant,
        "scopes": sorted(request.scopes),
        "malformed": not well_formed,
        "count": len(segments),
    }
    context |= {f"s{at}": segments[at] if at < len(segments) else "" for at in range(MOST_SEGMENTS)}
    return {
        "principal": _HELD,
        "action": f'Action::"{request.action}"',
        "resource": 'Resource::"it"',
        "context": context,
    }
