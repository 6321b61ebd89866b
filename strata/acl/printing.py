"""A policy as the TOML it could have been read from."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .model import Policy, Rule

_KEYS = ("principal", "resource", "tenant", "scope", "action")


def print_policy(policy: Policy, table: str = "") -> str:
    """Write a policy; :func:`~strata.acl.parse_policy` reads the same policy out of it.

    Args:
        policy: The policy.
        table: The table it stands in, such as ``tool.strata.acl_config``; none for a file of its own.
    """
    lines = [f"[{table}]"] if table else []
    lines.append(f"default = {_text(policy.default)}")
    prefix = f"{table}." if table else ""
    for effect, rules in (("deny", policy.deny), ("allow", policy.allow)):
        for rule in rules:
            lines += ["", f"[[{prefix}{effect}]]", *print_rule(rule)]
    return "\n".join(lines) + "\n"


def print_rule(rule: Rule) -> Iterator[str]:
    """Yield the keys of a rule, one line each."""
    for key in _KEYS:
        value = getattr(rule, key)
        if value is not None:
            yield f"{key} = {_text(value)}"
    if rule.columns is not None:
        yield f"columns = [{', '.join(_text(name) for name in rule.columns)}]"
    if rule.rows is not None:
        yield f"rows = {_text(rule.rows)}"


def _text(value: str) -> str:
    # A JSON string is a basic string of TOML, but for the one control character that JSON lets stand.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
