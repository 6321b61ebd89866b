"""Read ``[tool.strata.catalog_callers.<alias>]``: which catalogs are queried as the caller, and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from strata.auth import HEADER_NAME
from strata.config.coherence import first_names_of, own_properties
from strata.config.fields import HEADER, TOKEN_EXCHANGE, CatalogCallers
from strata.config.problems import NOT_A_TABLE, Problem
from strata.config.settings import Settings
from strata.config.values import suggest
from strata.file_poller import read_operator_file

_FIELDS: Final = attrs.fields_dict(CatalogCallers)

_PLACEHOLDER: Final = re.compile(r"\{(principal|tenant)\}")
_OF_TENANTS: Final = re.compile(r"[A-Za-z0-9_-]")
"""A character of a tenant's name: it cannot be what separates the name from the rest of an identity."""

_TAKEN: Final = frozenset(
    {
        "authorization", "connection", "content-length", "content-type", "cookie", "expect", "host",
        "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
        "x-iceberg-access-delegation",
    }
)  # fmt: skip
"""Headers that mean something else to servers of HTTP or of the Iceberg REST protocol."""

_EXCHANGE_ONLY: Final = (
    "token_url",
    "credential_file",
    "subject",
    "subject_token_type",
    "audience",
    "scope",
)

_OWN_CREDENTIALS: Final = ("token", "credential", "auth")
"""Properties of a catalog that authenticate the server itself."""

_SIGNED: Final = "rest.sigv4-enabled"
_OFF: Final = frozenset({"", "n", "no", "f", "false", "off", "0", "none"})
"""What switches a property of pyiceberg off, in lower case."""


def parse_callers(
    value: object, place: Callable[[str], str] = str
) -> tuple[dict[str, CatalogCallers], list[Problem]]:
    """Return the sections by alias, and a problem for each key or value that is unknown or invalid.

    Args:
        value: The tables by alias.
        place: Returns a path of the file as one that does not depend on the working directory.
    """
    if not isinstance(value, dict):
        return {}, [Problem("catalog_callers", NOT_A_TABLE)]
    problems: list[Problem] = []
    found = {}
    for alias, table in value.items():
        where = f"catalog_callers.{alias[:64]}"
        if not isinstance(table, dict):
            problems.append(Problem(where, NOT_A_TABLE))
            continue
        one = _section(table, where, problems)
        if one is not None and one.credential_file is not None:
            one = attrs.evolve(one, credential_file=place(one.credential_file))
        if one is not None:
            found[alias] = one
    return found, problems


def caller_coherence(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each section that does not fit its catalog or the other settings; blocking."""
    if not settings.catalog_callers:
        return
    for alias, one in settings.catalog_callers.items():
        where = f"catalog_callers.{alias[:64]}"
        yield from (Problem(where, text) for text in _faults_with_catalog(settings, alias, one))
        if settings.auth_mode == "none":
            yield Problem(where, "without authentication there is no caller; set auth_mode = trusted_proxy.")
        if settings.multi_tenant_enabled and "{tenant}" not in one.identity:
            text = (
                "two tenants may have a principal of one name; write the tenant, too, such as "
                "identity = '{tenant}/{principal}'."
            )
            yield Problem(f"{where}.identity", text)
        if one.credential_file is not None:
            fault = _credential_fault(one.credential_file)
            if fault is not None:
                yield Problem(f"{where}.credential_file", fault)
    yield from _differing(settings)


def _faults_with_catalog(settings: Settings, alias: str, one: CatalogCallers) -> Iterator[str]:
    properties = settings.catalogs.get(alias)
    if properties is None:
        yield f"no catalog has this alias{suggest(alias, tuple(settings.catalogs))}"
        return
    if properties.get("type") != "rest" or "py-catalog-impl" in properties:
        yield "only a REST catalog is queried under the identity of the caller; its type must be rest."
    signed = {**own_properties(alias), **properties}.get(_SIGNED, "")
    if signed.strip().lower() not in _OFF:
        whose = f"catalogs.{alias}." if _SIGNED in properties else "in pyiceberg's own variables or file, "
        yield f"{whose}{_SIGNED} signs each request as the server's own, for every principal; remove it."
    if one.pass_by == TOKEN_EXCHANGE:
        for key in _OWN_CREDENTIALS:
            if any(given == key or given.startswith(f"{key}.") for given in properties):
                yield f"catalogs.{alias}.{key} is the server's own credential; remove it, or pass by header."


def _differing(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each alias of a catalog that has another alias with another section."""
    first: dict[str, str] = {}
    names = first_names_of(settings)
    for alias in settings.catalogs:
        other = first.setdefault(names[alias], alias)
        if settings.catalog_callers.get(alias) != settings.catalog_callers.get(other):
            text = f"catalogs.{other} is the same catalog; give both aliases the same section."
            yield Problem(f"catalog_callers.{alias[:64]}", text)


def _credential_fault(path: str) -> str | None:
    try:
        text = read_operator_file(Path(path).expanduser()).decode()
    except (OSError, ValueError, RuntimeError):  # unreadable, not a path, home of an unknown user
        return "the file cannot be read; check its path and permissions."
    client, colon, secret = text.strip().partition(":")
    if not client or not colon or not secret:
        return "the file must have client_id:client_secret."
    return None


def _section(table: Mapping[str, Any], where: str, problems: list[Problem]) -> CatalogCallers | None:
    before = len(problems)
    for key, value in table.items():
        if key not in _FIELDS:
            problems.append(Problem(f"{where}.{key[:64]}", f"unknown key{suggest(key, tuple(_FIELDS))}"))
            continue
        fits, words = _CHECKS[key]
        if not isinstance(value, str) or not fits(value):
            shown = "" if key == "credential_file" else f"{repr(value)[:80]} is not "
            problems.append(Problem(f"{where}.{key}", f"{shown}{words}."))
    by = table.get("pass_by")
    if by is None:
        problems.append(Problem(f"{where}.pass_by", f"it is missing; write {HEADER} or {TOKEN_EXCHANGE}."))
    if by == HEADER:
        problems += [
            Problem(f"{where}.{key}", "it belongs to pass_by = token_exchange; remove it.")
            for key in _EXCHANGE_ONLY
            if key in table
        ]
    if by == TOKEN_EXCHANGE:
        if "header" in table:
            problems.append(Problem(f"{where}.header", "it belongs to pass_by = header; remove it."))
        problems += [
            Problem(f"{where}.{key}", "it is missing; an exchange needs it.")
            for key in ("token_url", "credential_file")
            if key not in table
        ]
        if table.get("subject") == "identity" and "subject_token_type" not in table:
            text = "it is missing; name the token service's type of a bare identity."
            problems.append(Problem(f"{where}.subject_token_type", text))
    return CatalogCallers(**table) if len(problems) == before else None


def _is_form(text: str) -> bool:
    """Test whether different callers have different identities of this form."""
    names = _PLACEHOLDER.findall(text)
    if sorted(names) not in (["principal"], ["principal", "tenant"]):
        return False
    left = _PLACEHOLDER.sub("", text)
    between = _PLACEHOLDER.split(text)[2] if len(names) == 2 else ":"  # noqa: PLR2004  # both
    separated = any(not _OF_TENANTS.match(character) for character in between)
    return left.isprintable() and not {"{", "}"} & set(left) and separated


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False


def _is_line(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and len(text) <= 1024  # noqa: PLR2004  # characters


_CHECKS: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "pass_by": (lambda text: text in (HEADER, TOKEN_EXCHANGE), f"one of {HEADER}, {TOKEN_EXCHANGE}"),
    "identity": (
        _is_form,
        "a form such as {principal} or {tenant}/{principal}, with a character such as / between the two",
    ),
    "header": (
        lambda text: HEADER_NAME.fullmatch(text) and text.lower() not in _TAKEN,
        "a name of a header that has no other meaning",
    ),
    "token_url": (_is_url, "the URL of a token service, without a user in it"),
    "credential_file": (bool, "the path of a file"),
    "subject": (lambda text: text in ("jwt", "identity"), "one of jwt, identity"),
    "subject_token_type": (lambda text: _is_line(text) and ":" in text, "a URI"),
    "audience": (_is_line, "a text of 1 to 1024 characters"),
    "scope": (_is_line, "a text of 1 to 1024 characters"),
}
"""By key, whether a value fits, and what it must be."""
