"""Read ``[tool.strata.transforms]``: which computations clients may ask for, and within which limits."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from strata.config.fields import (
    EMBEDDED,
    REFERENCE,
    SIGNED,
    NotebookWorker,
    RegisteredTransform,
    TransformSection,
)
from strata.config.problems import NOT_A_TABLE, Problem
from strata.config.settings import Settings
from strata.config.values import MOST_NUMBER, suggest
from strata.file_poller import read_operator_file

SQL = "duckdb_sql@v1"
"""The transform that runs SQL in a process of this machine."""

SANDBOX = ("prefer", "require")

TRANSPORTS = ("direct", SIGNED)

TABLES = ("arrow", REFERENCE)

MOST_ENTRIES = 1000
"""Most registered transforms; more are a problem."""

PERSONAL = RegisteredTransform(SQL)
"""What personal mode can run without a registry."""

_REF = re.compile(r"[A-Za-z0-9_.*?-]{1,64}@[A-Za-z0-9_.*?-]{1,32}")
_FIELDS = attrs.fields_dict(RegisteredTransform)
_KEYS = ("enabled", "sandbox", "registry")


def parse_transforms(table: object) -> tuple[TransformSection, list[Problem]]:
    """Return the section, and a problem for each key or value that is unknown or invalid."""
    if not isinstance(table, dict):
        return TransformSection(), [Problem("transforms", NOT_A_TABLE)]
    problems = [
        Problem(f"transforms.{key[:64]}", f"unknown key{suggest(key, _KEYS)}")
        for key in table
        if key not in _KEYS
    ]
    enabled, sandbox, entries = (
        table.get("enabled", False),
        table.get("sandbox", "prefer"),
        table.get("registry", []),
    )
    if not isinstance(enabled, bool):
        problems.append(Problem("transforms.enabled", f"{str(enabled)[:64]!r} is neither true nor false."))
    if sandbox not in SANDBOX:
        problems.append(
            Problem("transforms.sandbox", f"{str(sandbox)[:64]!r} is not one of prefer, require.")
        )
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        problems.append(
            Problem(
                "transforms.registry",
                "it is not a list of tables; write [[tool.strata.transforms.registry]].",
            )
        )
        entries = []
    if len(entries) > MOST_ENTRIES:
        problems.append(
            Problem("transforms.registry", f"it has {len(entries)} entries; the maximum is {MOST_ENTRIES}.")
        )
    found = [
        _entry(entry, f"transforms.registry[{index}]", problems)
        for index, entry in enumerate(entries[:MOST_ENTRIES])
    ]
    if problems:
        return TransformSection(), problems
    return TransformSection(enabled, sandbox, tuple(found)), []


def _entry(entry: Mapping[str, Any], where: str, problems: list[Problem]) -> RegisteredTransform:
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key not in _FIELDS:
            problems.append(Problem(f"{where}.{key[:64]}", f"unknown key{suggest(key, tuple(_FIELDS))}"))
            continue
        fault = _fault(key, value)
        if fault is not None:
            problems.append(Problem(f"{where}.{key}", fault))
        values[key] = tuple(value) if isinstance(value, list) else value
    if "ref" not in entry:
        problems.append(Problem(f"{where}.ref", "it is missing; name the transforms, as in duckdb_sql@*."))
    return RegisteredTransform(**({"ref": ""} | values))


def _fault(key: str, value: object) -> str | None:
    fits, words = _CHECKS[key]
    return None if fits(value) else f"{repr(value)[:80]} is not {words}."


def is_executor_url(text: str) -> bool:
    """Return whether a text is a URL of http or https with a host, and without a user or a query."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not set(text) & set(" @?#\\")
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_MOST_SECONDS = 86_400.0
_BYTES = (
    lambda value: isinstance(value, int) and _is_number(value) and 0 <= value <= MOST_NUMBER,
    "a number of bytes; 0 is for no limit of its own",
)
_TEXTS = (
    lambda value: isinstance(value, list) and value and all(isinstance(one, str) and one for one in value),
    "a list of texts; leave it out to permit all",
)
_CHECKS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "ref": (
        lambda value: isinstance(value, str) and _REF.fullmatch(value),
        "a glob on name@version, such as duckdb_sql@*",
    ),
    "executor_url": (
        lambda value: value == EMBEDDED or (isinstance(value, str) and is_executor_url(value)),
        f"{EMBEDDED} or the base URL of an executor, such as http://executor:9000; its token has a file",
    ),
    "token_file": (lambda value: isinstance(value, str) and value, "the path of a file"),
    "transport": (lambda value: value in TRANSPORTS, "one of direct, signed"),
    "tables": (lambda value: value in TABLES, "one of arrow, reference"),
    "strata_url": (
        lambda value: isinstance(value, str) and is_executor_url(value),
        "the base URL at which executors reach this server, such as http://strata:8765",
    ),
    "timeout_seconds": (
        lambda value: _is_number(value) and 0 < value <= _MOST_SECONDS,
        "a number of seconds above 0, at most 86400",
    ),
    "max_output_bytes": _BYTES,
    "max_input_bytes": _BYTES,
    "requires_scope": (
        lambda value: isinstance(value, str) and value and value.split() == [value],
        "a scope",
    ),
    "tenants": _TEXTS,
    "scopes": _TEXTS,
}
"""By key, whether a value fits, and what it must be."""


def transforms_of(settings: Settings) -> tuple[RegisteredTransform, ...]:
    """Return the transforms that can be run; in personal mode SQL always can, if its extra is installed."""
    section = settings.transforms
    found = section.registry if section.enabled else ()
    if settings.deployment_mode == "personal" and is_installed():
        return (*found, PERSONAL)
    return found


def is_installed() -> bool:
    """Return whether the extra ``sql`` is installed."""
    return importlib.util.find_spec("duckdb") is not None


def transform_coherence(settings: Settings) -> Iterator[Problem]:
    """Yield a problem if transforms are enabled and cannot be run, or none is registered."""
    section = settings.transforms
    if not section.enabled:
        return
    if not section.registry:
        yield Problem("transforms.registry", "it is empty; register a transform, or set enabled = false.")
    elif not is_installed() and any(entry.embedded for entry in section.registry):
        yield Problem("transforms.registry", "SQL needs an extra; pip install 'strata[sql]'.")
    for index, entry in enumerate(section.registry):
        yield from _transport_problems(entry, f"transforms.registry[{index}]")
        fault = token_fault(entry)
        if fault is not None:
            yield Problem(f"transforms.registry[{index}].token_file", fault)


def _transport_problems(entry: RegisteredTransform, where: str) -> Iterator[Problem]:
    if entry.tables == REFERENCE and (entry.embedded or entry.transport == SIGNED):
        detail = 'reference is for an executor with transport = "direct"; leave one of both out.'
        yield Problem(f"{where}.tables", detail)
    if entry.transport == SIGNED and entry.embedded:
        yield Problem(f"{where}.transport", f"{EMBEDDED} fetches nothing by URLs; remove it.")
    elif entry.transport == SIGNED and entry.strata_url is None:
        detail = "signed needs strata_url: the base URL at which the executor reaches this server."
        yield Problem(f"{where}.strata_url", detail)
    elif entry.transport != SIGNED and entry.strata_url is not None:
        yield Problem(
            f"{where}.strata_url", 'it is used by transport = "signed" alone; set that, or remove it.'
        )


def token_of(entry: RegisteredTransform | NotebookWorker) -> str | None:
    """Return the bearer token of an entry's executor; None if it demands none. Blocking: reads its file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no token.
    """
    if entry.token_file is None:
        return None
    token = read_operator_file(Path(entry.token_file).expanduser()).decode("utf-8-sig").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("it holds no token")
    return token


def token_fault(entry: RegisteredTransform | NotebookWorker) -> str | None:
    """Return what is wrong with the token of an entry's executor; None: nothing is. Blocking."""
    if entry.token_file is None:
        return None
    if entry.embedded:
        return f"{EMBEDDED} demands no token; remove it."
    try:
        token_of(entry)
    except OSError:
        return "the file cannot be read; check its path and permissions."
    except ValueError:
        return "the file holds no token: one line of printable ASCII characters without a space."
    return None
