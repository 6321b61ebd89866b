"""Print a policy as TOML."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .model import Policy, Rule

_KEYS = ("principal", "resource", "tenant", "scope", "action")


def print_policy(policy: Policy, table: str = "") -> str:
    """Return a policy as TOML; :func:`~strata.acl.parse_policy` parses it to an equal policy.

    Args:
        policy: The policy.
        table: The TOML table to put it in, such as ``tool.strata.acl_config``; empty: the top level.
    """
    lines = [f"[{table}]"] if table else []
    lines.append(f"default = {_text(policy.default)}")
    prefix = f"{table}." if table else ""
    for effect, rules in (("deny", policy.deny), ("allow", policy.allow)):
        for rule in rules:
            lines += ["", f"[[{prefix}{effect}]]", *print_rule(rule)]
    return "\n".join(lines) + "\n"


def print_rule(rule: Rule) -> Iterator[str]:
    """Yield the keys of a rule as TOML, one line each."""
    for key in _KEYS:
        value = getattr(rule, key)
        if value is not None:
            yield f"{key} = {_text(value)}"
    if rule.columns is not None:
        yield f"columns = [{', '.join(_text(name) for name in rule.columns)}]"
    if rule.rows is not None:
        yield f"rows = {_text(rule.rows)}"


def _text(value: str) -> str:
    # A JSON string is a TOML basic string, except for U+007F, which JSON leaves unescaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
