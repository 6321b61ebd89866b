"""Run cells in a process of its own, each with and without each name: what the interpreter itself does.

Its input is JSON: the seeds as expressions, and a list of ``[source, names, drives]``. Its answer is a list of
``[reads, defines, deletes, error]`` each.
"""

from __future__ import annotations

import builtins
import json
import sys
from types import FunctionType, ModuleType, SimpleNamespace


class Thing(SimpleNamespace):
    """A seed with attributes."""

    def __init__(self, **values):
        super().__init__(**({"size": 1, "parts": [1]} | values))


class Manager:
    """A context manager that suppresses nothing."""

    def __init__(self, value=5):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *error):
        return False


def shown(value: object) -> str:
    """Return a text of a value that is the same in each run."""
    if isinstance(value, FunctionType | ModuleType | type | Manager):
        return f"{type(value).__name__} {getattr(value, '__name__', '')}"
    return repr(value) if " at 0x" not in repr(value) else type(value).__name__


def run(source: str, seeds: dict[str, str]) -> tuple[dict[str, object], dict[str, object], str]:
    """Run a cell; returns what it was given, what it left, and how it ended."""
    given = {name: eval(text, {"Thing": Thing, "Manager": Manager}) for name, text in seeds.items()}
    space: dict[str, object] = dict(given)
    try:
        exec(compile(source, "<cell>", "exec", dont_inherit=True), space)
    except BaseException as error:  # noqa: BLE001  # whatever the cell raises is its outcome
        return given, space, f"{type(error).__name__}: {error}"
    return given, space, ""


def outcome(source: str, seeds: dict[str, str], but: str) -> object:
    """Return all that can be seen of a run, besides the name in question itself."""
    given, space, error = run(source, seeds)
    hidden = {
        but,
        "__builtins__",
        "__annotations__",
        "__doc__",
        "__annotate__",
        "__conditional_annotations__",
    }
    left = {
        name: shown(value)
        for name, value in space.items()
        # A change in place of a seed is seen by the seed's own name.
        if name not in hidden and (value is not given.get(name) or shown(value) != shown(given[name]))
    }
    return error, left, sorted(set(given) - set(space) - hidden)


def main() -> None:
    known, cases = json.load(sys.stdin)
    answers = []
    for source, names, drives in cases:
        reads, defines, deletes, errors = set(), set(), set(), []
        for drive in drives:
            every = {
                name: (known | drive).get(name, "'seed'") for name in names if not hasattr(builtins, name)
            }
            before = {
                name: shown(eval(text, {"Thing": Thing, "Manager": Manager})) for name, text in every.items()
            }
            given, space, error = run(source, every)
            errors += [error] if error else []
            for name, value in space.items():
                changed = name in given and value is given[name] and shown(value) != before[name]
                if name not in given or value is not given[name] or changed:
                    defines.add(name)
            deletes |= set(given) - set(space)
            for name in every:
                without = {one: text for one, text in every.items() if one != name}
                if outcome(source, every, name) != outcome(source, without, name):
                    reads.add(name)
        hidden = {"__builtins__", "__annotations__", "__doc__", "__annotate__", "__conditional_annotations__"}
        answers.append([sorted(reads), sorted(defines - hidden), sorted(deletes), errors])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
