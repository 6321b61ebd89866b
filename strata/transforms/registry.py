"""Which transforms a caller may run: the first registered one that matches, for its tenant and scopes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs

from strata.auth import Principal
from strata.config.fields import RegisteredTransform
from strata.config.sections.transforms import SQL
from strata.outcomes import Reason, Refused
from strata.transforms.sql_params import PARAMS_SCHEMA

NOT_ALLOWED = Refused(
    Reason.FORBIDDEN,
    "This transform is not registered.",
    "transform_not_allowed",
    loc=("body", "transform", "executor"),
)

BUILT_IN: Mapping[str, Mapping[str, Any]] = {SQL: PARAMS_SCHEMA}
"""The transforms that this server can run, each with the JSON Schema of its ``params``."""

ANY_PARAMS: Mapping[str, Any] = {"type": "object"}
"""The JSON Schema of the parameters of what an executor runs, which it checks itself."""

_REF = re.compile(r"[A-Za-z0-9_.-]{1,64}@[A-Za-z0-9_.-]{1,32}")

GLOBS_REMEMBERED = 1024
"""Globs whose compiled form is kept; the least recently used one goes."""


@attrs.frozen
class Offer:
    """A transform that the caller may run.

    Attributes:
        ref: Its reference, such as ``duckdb_sql@v1``.
        registered: The entry that permits it, with its limits.
        schema: JSON Schema of its ``params``.
    """

    ref: str
    registered: RegisteredTransform
    schema: Mapping[str, Any]


def find(
    registry: Sequence[RegisteredTransform], ref: str, principal: Principal
) -> RegisteredTransform | Refused:
    """Return the entry by which a caller may run a transform, or a refusal (FORBIDDEN).

    Of the entries whose glob matches and whose tenants include the caller's, the first one decides.
    """
    if not _REF.fullmatch(ref):
        return NOT_ALLOWED
    for entry in registry:
        if entry.embedded and ref not in BUILT_IN:
            continue
        if not _glob(entry.ref).fullmatch(ref):
            continue
        if entry.tenants is not None and principal.tenant not in entry.tenants:
            continue
        return _with_scopes(entry, principal)
    return NOT_ALLOWED


def offers(registry: Sequence[RegisteredTransform], principal: Principal) -> Iterator[Offer]:
    """Yield the transforms that a caller may run: the built-in ones, and those that entries name in full."""
    named = (entry.ref for entry in registry if not entry.embedded and not set(entry.ref) & set("*?"))
    for ref in dict.fromkeys((*BUILT_IN, *named)):
        found = find(registry, ref, principal)
        if isinstance(found, RegisteredTransform):
            yield Offer(ref, found, BUILT_IN.get(ref, ANY_PARAMS))


def _with_scopes(entry: RegisteredTransform, principal: Principal) -> RegisteredTransform | Refused:
    if entry.requires_scope is not None and not principal.has_scope(entry.requires_scope):
        detail = f"This transform needs the scope {entry.requires_scope}."
        return Refused(Reason.FORBIDDEN, detail, "insufficient_scope", loc=("body", "transform", "executor"))
    if entry.scopes is not None and not any(principal.has_scope(scope) for scope in entry.scopes):
        detail = f"This transform needs one of the scopes {', '.join(entry.scopes)}."
        return Refused(Reason.FORBIDDEN, detail, "insufficient_scope", loc=("body", "transform", "executor"))
    return entry


@lru_cache(GLOBS_REMEMBERED)
def _glob(text: str) -> re.Pattern[str]:
    """Return a glob as a pattern: ``*`` and ``?`` only, and no character of a reference is special."""
    return re.compile("".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in text))
