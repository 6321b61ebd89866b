"""Read ``[[tool.strata.notebook_workers]]``: where cells of notebooks run, and what each may use there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from strata.config.fields import EMBEDDED, NotebookWorker
from strata.config.problems import Problem
from strata.config.sections.transforms import is_executor_url, token_fault
from strata.config.settings import Settings
from strata.config.values import MOST_NUMBER, suggest

MOST_WORKERS: Final = 100
"""Most workers; more are a problem."""

PERSONAL: Final = NotebookWorker("local")
"""The worker of personal mode, where none is configured."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIELDS: Final = attrs.fields_dict(NotebookWorker)


def parse_workers(value: object) -> tuple[tuple[NotebookWorker, ...], list[Problem]]:
    """Return the workers, and a problem for each key or value that is unknown or invalid."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        text = "it is not a list of tables; write [[tool.strata.notebook_workers]]."
        return (), [Problem("notebook_workers", text)]
    problems: list[Problem] = []
    if len(value) > MOST_WORKERS:
        problems.append(
            Problem("notebook_workers", f"it has {len(value)} workers; the maximum is {MOST_WORKERS}.")
        )
    found = [
        _worker(one, f"notebook_workers[{place}]", problems) for place, one in enumerate(value[:MOST_WORKERS])
    ]
    names = [worker.name for worker in found]
    problems += [
        Problem("notebook_workers", f"two workers have the name {name[:64]}.")
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    return ((), problems) if problems else (tuple(found), [])


def workers_of(settings: Settings) -> tuple[NotebookWorker, ...]:
    """Return the workers; personal mode has one by default."""
    if not settings.notebook_workers and settings.deployment_mode == "personal":
        return (PERSONAL,)
    return settings.notebook_workers


def worker_coherence(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each worker whose token cannot be read; blocking."""
    for place, worker in enumerate(settings.notebook_workers):
        fault = token_fault(worker)
        if fault is not None:
            yield Problem(f"notebook_workers[{place}].token_file", fault)


def _worker(table: Mapping[str, Any], where: str, problems: list[Problem]) -> NotebookWorker:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _FIELDS:
            problems.append(Problem(f"{where}.{key[:64]}", f"unknown key{suggest(key, tuple(_FIELDS))}"))
            continue
        fits, words = _CHECKS[key]
        if not fits(value):
            problems.append(Problem(f"{where}.{key}", f"{repr(value)[:80]} is not {words}."))
        values[key] = tuple(value) if isinstance(value, list) else value
    if "name" not in table:
        problems.append(Problem(f"{where}.name", "it is missing; name the worker."))
    return NotebookWorker(**({"name": ""} | values))


def _whole(least: int, most: int, what: str) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
        f"a number of {what} from {least} to {most}",
    )


_MEBIBYTE = 1024 * 1024
_CHECKS: Final[Mapping[str, tuple[Callable[[Any], Any], str]]] = {
    "name": (
        lambda value: isinstance(value, str) and _NAME.fullmatch(value),
        "a name of up to 64 letters, digits, dots, hyphens and underscores",
    ),
    "url": (
        lambda value: value == EMBEDDED or (isinstance(value, str) and is_executor_url(value)),
        f"{EMBEDDED} or the base URL of an executor, such as http://executor:9000; its token has a file",
    ),
    "token_file": (lambda value: isinstance(value, str) and value, "the path of a file"),
    "runtime_id": (
        lambda value: isinstance(value, str) and value.strip() and len(value) <= 256,  # noqa: PLR2004  # characters
        "a text of 1 to 256 characters",
    ),
    "enabled": (lambda value: isinstance(value, bool), "true or false"),
    "tenants": (
        lambda value: (
            isinstance(value, list) and value and all(isinstance(one, str) and one for one in value)
        ),
        "a list of tenants; leave it out to permit all",
    ),
    "max_concurrent": _whole(1, 1000, "cells"),
    "max_concurrent_per_tenant": _whole(1, 1000, "cells"),
    "memory_bytes": _whole(64 * _MEBIBYTE, MOST_NUMBER, "bytes"),
    "cpu_seconds": _whole(1, 86_400, "seconds"),
    "wall_seconds": (
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400  # noqa: PLR2004  # a day
        ),
        "a number of seconds above 0, at most 86400",
    ),
    "output_bytes": _whole(_MEBIBYTE, MOST_NUMBER, "bytes"),
    "console_bytes": _whole(0, 16 * _MEBIBYTE, "bytes"),
}
"""By key, whether a value fits, and what it must be."""
