"""The OpenAPI description of the surface: every answer of every route by status, type and headers.

quart-schema derives it from the routes; what all routes share, and what is not JSON, is added here.
Schemathesis checks the server against it (tests/http/api/test_schema.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from quart import current_app
from quart_schema import APIKeySecurityScheme, OpenAPIProvider
from werkzeug.routing import BaseConverter, Rule

from strata.auth import TOKEN_HEADER
from strata.http import problems
from strata.http.api import schemas, schemas_admin, schemas_registry, schemas_tables
from strata.http.api.converters import MAX_VERSION, VersionConverter
from strata.http.api.notebooks import schedule_schemas, session_schemas, worker_schemas
from strata.http.api.notebooks import schemas as schemas_notebooks
from strata.http.door.cross_site import SAFE_METHODS

F = TypeVar("F", bound=Callable[..., Any])

OPEN = frozenset({"/health", "/health/ready"})
"""Paths that need no identity."""

DOOR = (400, 401, 403, 408, 413, 429, 500, 503)
"""Statuses of any request with an identity, before its route is entered or instead of its answer; 403 where
its tenant is disabled."""

DOOR_OPEN = (408, 413, 500)
"""Statuses of any request for an open path, before its route is entered or instead of its answer."""

BUILD = (413, 501, 504)
"""Further statuses of routes that build a result first."""

_ANSWERS = "_strata_answers"
_BODY = "_strata_body"
_PARAMETERS = "_strata_parameters"
_PART = re.compile(r"<(?:[^:<>]*:)?([^<>]+)>")
_TEXT = {"type": "string"}


def answers(status: int, description: str, *media: str, headers: Collection[str] = ()) -> Callable[[F], F]:
    """Document an answer that is not JSON.

    Args:
        status: The status.
        description: One sentence.
        media: The content types; none for an answer without a body.
        headers: Headers it always has, besides those of every answer.
    """
    body: dict[str, Any] = {"description": description, "headers": _headers(headers)}
    if media:
        body["content"] = {kind: {"schema": {}} for kind in media}
    return _noted(_ANSWERS, {status: body})


def refuses(*statuses: int) -> Callable[[F], F]:
    """Document the problems a route answers with, besides those of every route."""
    return _noted(_ANSWERS, {status: _problem(status) for status in statuses})


def takes(where: str, **parameters: Mapping[str, Any]) -> Callable[[F], F]:
    """Document optional parameters in the ``query`` or a ``header``, by name: each a JSON schema.

    An underscore in a header's name stands for a hyphen.
    """
    return _parameters(where, parameters, required=False)


def needs(where: str, **parameters: Mapping[str, Any]) -> Callable[[F], F]:
    """Document required parameters, as :func:`takes` does optional ones."""
    return _parameters(where, parameters, required=True)


def takes_file(description: str) -> Callable[[F], F]:
    """Document a body that is a file of JSON and has no schema of ours."""
    body = {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}
    return _noted(_BODY, body)


def _parameters(
    where: str, parameters: Mapping[str, Mapping[str, Any]], *, required: bool
) -> Callable[[F], F]:
    described = {
        name: {
            "name": name.replace("_", "-") if where == "header" else name,
            "in": where,
            "required": required,
            "schema": dict(schema),
        }
        for name, schema in parameters.items()
    }
    return _noted(_PARAMETERS, described)


def _noted(attribute: str, more: Mapping[Any, Any]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        setattr(function, attribute, {**getattr(function, attribute, {}), **more})
        return function

    return decorate


class Description(OpenAPIProvider):
    """Builds the document."""

    def schema(self) -> dict[str, Any]:
        """Return the document."""
        document = super().schema()
        modules = (
            schemas,
            schemas_admin,
            schemas_registry,
            schemas_tables,
            schemas_notebooks,
            session_schemas,
            schedule_schemas,
            worker_schemas,
        )
        known = {id(kind): kind for module in modules for kind in vars(module).values()}
        structs = [kind for kind in known.values() if _is_struct(kind)]
        # quart-schema refers to structs inside of structs and leaves them out.
        _, inner = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
        document["components"]["schemas"] = inner | {"Problem": _PROBLEM}
        return document

    def build_path_parameter(self, name: str, converter: BaseConverter) -> dict[str, Any]:
        """Return the description of a part of a path."""
        found = super().build_path_parameter(name, converter)
        if isinstance(converter, VersionConverter):
            return {**found, "schema": {"type": "integer", "minimum": 1, "maximum": MAX_VERSION}}
        return {**found, "schema": {**found["schema"], "minLength": 1}}

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the operations of a rule, and the schemas they refer to."""
        found, components = super().build_paths(rule)
        (operations,) = found.values()
        # Not the path quart-schema makes: it takes two parts, of which the second has a type, for one.
        path = _PART.sub(r"{\1}", rule.rule)
        function = current_app.view_functions[rule.endpoint]
        noted = getattr(function, _ANSWERS, {})
        for method, operation in operations.items():
            operation["operationId"] = f"{method}_{'_'.join(re.findall(r'[a-z0-9_]+', path))}"
            operation["parameters"].extend(getattr(function, _PARAMETERS, {}).values())
            if getattr(function, _BODY, None):
                operation["requestBody"] = dict(getattr(function, _BODY))
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
            missing: tuple[int, ...] = (404,) if "{" in path else ()  # also what the part's own form excludes
            if method.upper() not in SAFE_METHODS:
                missing += (415,)  # a body that is not JSON
            common = {
                status: _problem(status) for status in (*(DOOR_OPEN if path in OPEN else DOOR), *missing)
            }
            operation["responses"] = _merged(common, operation["responses"], noted)
            if path in OPEN:
                operation["security"] = []
        return {path: operations}, components


def _merged(
    common: Mapping[int, Any], documented: Mapping[int, Any], noted: Mapping[int, Any]
) -> dict[str, Any]:
    """Return responses by status, in order; two of one status have the content types of both."""
    found: dict[int, Any] = {**common, **documented}
    for status, answer in noted.items():
        content = {**documented.get(status, {}).get("content", {}), **answer.get("content", {})}
        found[status] = {**answer, **({"content": content} if content else {})}
    return {
        str(status): {**found[status], "headers": _EVERY | found[status].get("headers", {})}
        for status in sorted(found)
    }


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct


def _headers(names: Collection[str]) -> dict[str, Any]:
    return {name: {"required": True, "schema": _TEXT} for name in names}


def _problem(status: int) -> dict[str, Any]:
    needs_retry = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    # Not of a refusal that waiting does not change, such as a full quota.
    retry = {"required": status == HTTPStatus.TOO_MANY_REQUESTS, "schema": {"type": "integer", "minimum": 1}}
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {"Retry-After": retry} if needs_retry else {},
        "content": {problems.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


_EVERY = {
    "X-Request-ID": {
        "description": "The request's id: its own where that is 1 to 128 printable ASCII characters.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "X-Content-Type-Options": {"required": True, "schema": {"type": "string", "const": "nosniff"}},
}

_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457 problem details, with the `detail` string every client reads.",
    "type": "object",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "request_id": {"type": "string", "minLength": 1, "maxLength": 128},
        "error": _TEXT,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": _TEXT,
                },
                "required": ["loc", "msg"],
            },
        },
        "limit": {
            "description": "Which of the caller's limits was reached, and its value.",
            "type": "object",
            "properties": {"name": _TEXT, "value": {"type": "number"}},
            "required": ["name", "value"],
            "additionalProperties": False,
        },
        "retry_after_seconds": {
            "description": "Exact seconds of Retry-After, which is whole.",
            "type": "number",
            "minimum": 0,
        },
    },
    "required": ["type", "title", "status", "detail", "request_id"],
    "additionalProperties": False,
}

SECURITY_SCHEME = "proxyToken"

SECURITY = APIKeySecurityScheme(name=TOKEN_HEADER, in_="header")
"""The proxy's own proof; with it the proxy states the caller, in headers the operator may name."""
