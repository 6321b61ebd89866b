"""What a policy is expected to decide, as a file that a platform team keeps beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from .explain import Explanation, explain
from .model import ACTIONS, Policy, Request
from .parse import PolicyError

_KEYS: Final = ("principal", "resource", "allowed", "tenant", "scopes", "action", "why")
_REQUIRED: Final = ("principal", "resource", "allowed")
_ONE_TENANT: Final = "_default"


@attrs.frozen
class Expectation:
    """A request and the answer it should get.

    Attributes:
        request: The request.
        allowed: The answer.
        why: A remark of its author, repeated when it fails.
    """

    request: Request
    allowed: bool
    why: str = ""


@attrs.frozen
class Outcome:
    """What became of an expectation.

    Attributes:
        expectation: What was expected.
        explanation: What the policy says.
    """

    expectation: Expectation
    explanation: Explanation

    @property
    def met(self) -> bool:
        """Whether the policy says what was expected."""
        return self.expectation.allowed == self.explanation.decision.allowed


def parse_expectations(mapping: Mapping[str, object]) -> tuple[Expectation, ...]:
    """Read ``{"expect": [{"principal": …, "resource": …, "allowed": true}, …]}``, a TOML file's content.

    Raises:
        PolicyError: With everything that is not understood.
    """
    problems: list[str] = [f"unknown key `{key}`; write [[expect]]" for key in mapping if key != "expect"]
    entries = mapping.get("expect", [])
    found: list[Expectation] = []
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        problems.append("there is no [[expect]]; a file that expects nothing tests nothing")
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
    """Ask a policy each expectation's request."""
    return tuple(Outcome(one, explain(policy, one.request)) for one in expected)
