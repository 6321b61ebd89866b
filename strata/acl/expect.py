"""Expected decisions of a policy, as a test file kept beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from .explain import Explanation, explain
from .model import ACTIONS, Policy, Request
from .parse import PolicyError
from .patterns import caller_problem

_KEYS: Final = ("principal", "resource", "allowed", "tenant", "scopes", "action", "why")
_REQUIRED: Final = ("principal", "resource", "allowed")
_ONE_TENANT: Final = "_default"


@attrs.frozen
class Expectation:
    """A request and its expected decision.

    Attributes:
        request: The request.
        allowed: Whether it should be allowed.
        why: The author's remark, repeated if the expectation fails.
    """

    request: Request
    allowed: bool
    why: str = ""


@attrs.frozen
class Outcome:
    """Result of one expectation.

    Attributes:
        expectation: The expectation.
        explanation: The policy's decision, explained.
    """

    expectation: Expectation
    explanation: Explanation

    @property
    def met(self) -> bool:
        """Whether the policy decides as expected."""
        return self.expectation.allowed == self.explanation.decision.allowed


def parse_expectations(mapping: Mapping[str, object]) -> tuple[Expectation, ...]:
    """Parse a TOML file's content, ``{"expect": [{"principal": …, "resource": …, "allowed": true}, …]}``.

    Raises:
        PolicyError: With every problem found: unknown or missing keys, wrong types, no expectation at all.
    """
    problems: list[str] = [f"unknown key `{key}`; write [[expect]]" for key in mapping if key != "expect"]
    entries = mapping.get("expect", [])
    found: list[Expectation] = []
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        problems.append("there is no [[expect]]; write at least one")
    else:
        for number, entry in enumerate(entries, 1):
            wrong = tuple(_problems(entry))
            problems += [f"expect {number}: {problem}" for problem in wrong]
            if not wrong:
                found.append(_expectation(entry))
    if problems:
        raise PolicyError(tuple(problems))
    return tuple(found)


def _problems(entry: object) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield "must be a table"
        return
    yield from (f"unknown key `{key}`; the keys are {', '.join(_KEYS)}" for key in entry if key not in _KEYS)
    yield from (f"`{key}` is missing" for key in _REQUIRED if key not in entry)
    for key in ("principal", "resource", "tenant", "action", "why"):
        if key in entry and not isinstance(entry[key], str):
            yield f"`{key}` must be a string"
    if "allowed" in entry and not isinstance(entry["allowed"], bool):
        yield "`allowed` must be true or false"
    scopes = entry.get("scopes", [])
    if (
        not isinstance(scopes, Sequence)
        or isinstance(scopes, str)
        or not all(isinstance(s, str) for s in scopes)
    ):
        yield '`scopes` must be a list of strings; write ["…"]'
    elif isinstance(entry.get("principal"), str) and isinstance(entry.get("tenant", ""), str):
        problem = caller_problem(entry["principal"], entry.get("tenant", _ONE_TENANT), scopes)
        if problem is not None:
            yield problem
    if isinstance(entry.get("action"), str) and entry["action"] not in ACTIONS:
        yield f"unknown action {entry['action']!r}; the actions are {', '.join(ACTIONS)}"


def _expectation(entry: Mapping[str, object]) -> Expectation:
    scopes = entry.get("scopes", [])
    assert isinstance(scopes, Sequence)
    request = Request(
        principal=str(entry["principal"]),
        tenant=str(entry.get("tenant", _ONE_TENANT)),
        scopes=frozenset(map(str, scopes)),
        resource=str(entry["resource"]),
        action=entry.get("action", "read"),  # type: ignore[arg-type]  # checked above
    )
    return Expectation(request, bool(entry["allowed"]), str(entry.get("why", "")))


def check_expectations(policy: Policy, expected: Sequence[Expectation]) -> tuple[Outcome, ...]:
    """Decide the request of each expectation by a policy; returns the outcomes in the same order."""
    return tuple(Outcome(one, explain(policy, one.request)) for one in expected)
