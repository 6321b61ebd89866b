"""The events of the package's log, as its source has them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs

import strata

PACKAGE = Path(strata.__file__).parent
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
ALWAYS = {"exc_info"}
"""Arguments that are no fields: an exception is the field ``exception``."""

COUNTED = {
    "access rules read again": {"allow", "default", "deny"},
    "connections cut": set(),  # the reasons themselves
    "request": {
        *("app_seconds", "artifact", "error", "limit", "queue_seconds", "reason", "send_seconds"),
        *("tables", "trace_id"),
    },
}
"""Fields that a call takes from a mapping; other calls name theirs."""


@attrs.define
class Event:
    """What the source says of an event: its levels, and the fields of all of its calls."""

    levels: set[str] = attrs.field(factory=set)
    fields: set[str] = attrs.field(factory=set)


def events() -> dict[str, Event]:
    """Return the events by name."""
    found: defaultdict[str, Event] = defaultdict(Event)
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):  # written by the queue of standard error itself
                facts = {
                    key.value: value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                }
                if {"event", "level"} <= facts.keys():
                    event = found[facts["event"].value]
                    event.levels.add(facts["level"].value)
                    event.fields |= facts.keys() - {"event", "level"}
            if isinstance(node, ast.Call) and (level := _level(node)) is not None:
                for name in _names(node.args[0], tree, path):
                    event = found[name]
                    event.levels.add(level)
                    if any(one.arg is None for one in node.keywords):
                        event.fields |= COUNTED[name]
                    event.fields |= {one.arg for one in node.keywords if one.arg} - ALWAYS
    return dict(found)


def _level(call: ast.Call) -> str | None:
    """Return the level of a call that writes to the log, or None."""
    function = call.func
    if isinstance(function, ast.Name):
        return "debug" if function.id == "decided" else None
    if not isinstance(function, ast.Attribute) or function.attr not in LEVELS:
        return None
    if not isinstance(function.value, ast.Name) or function.value.id not in ("log", "_log"):
        return None
    return "error" if function.attr == "exception" else function.attr


def _names(given: ast.expr, tree: ast.Module, path: Path) -> Iterator[str]:
    """Yield the events that an argument can be: a constant, one of two, or a variable's values."""
    match given:
        case ast.Constant():
            yield given.value
        case ast.IfExp():
            yield from _names(given.body, tree, path)
            yield from _names(given.orelse, tree, path)
        case ast.Name() if path.name != "decisions.py":
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                    for target, value in zip(
                        node.targets[0].elts, getattr(node.value, "elts", ()), strict=False
                    ):
                        if isinstance(target, ast.Name) and target.id == given.id:
                            yield value.value
