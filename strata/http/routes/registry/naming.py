"""Names and aliases of results that callers set and drop."""

from __future__ import annotations

from quart_schema import document_request, document_response, tag

from strata.artifacts import NameRecord
from strata.artifacts.registry.contract import AliasRecord, PendingChange
from strata.http.api.administration import require_writes
from strata.http.api.openapi import refuses
from strata.http.api.query_params import MAX_VERSION
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas import decode_body
from strata.http.api.schemas_registry import (
    AliasAnswer,
    AliasBody,
    AliasItem,
    AliasListAnswer,
    AliasPendingAnswer,
    AliasSetAnswer,
    NameBody,
    NameDroppedAnswer,
    NameSetAnswer,
)
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.tenants.messages import GetName
from strata.tenants.registry_messages import (
    AliasChanged,
    DropAlias,
    DropName,
    GetAlias,
    ListAliases,
    NameDropped,
    SetAlias,
    SetName,
)

MAX_NAME = 512
"""Characters of the longest name."""

MAX_ALIAS = 128
"""Characters of the longest alias, and of the longest key of a tag."""


def is_label(text: str, most: int) -> bool:
    """Whether a text is 1 to ``most`` printable characters without surrounding space."""
    return 0 < len(text) <= most and text.isprintable() and text.strip() == text


def checked_name(name: str, *loc: str) -> str:
    """Return a name that may be set.

    Raises:
        ProblemError: 400 for any other text.
    """
    if not is_label(name, MAX_NAME) or "/aliases/" in f"{name}/":  # /v1/names/{name}/aliases has those
        detail = (
            f"A name is 1 to {MAX_NAME} printable characters without surrounding space, and no part of it is"
            " /aliases."
        )
        raise ProblemError(Problem(400, detail, "invalid_name", [{"loc": list(loc), "msg": "not a name"}]))
    return name


def checked_alias(alias: str, *loc: str) -> str:
    """Return an alias that may be set.

    Raises:
        ProblemError: 400 for any other text.
    """
    if not is_label(alias, MAX_ALIAS) or "@" in alias or "/" in alias:
        detail = f"An alias is 1 to {MAX_ALIAS} printable characters without @, / and surrounding space."
        raise ProblemError(Problem(400, detail, "invalid_alias", [{"loc": list(loc), "msg": "not an alias"}]))
    return alias


def known_version(version: int) -> int:
    """Return a version that may exist.

    Raises:
        ProblemError: 404 for any other number.
    """
    if not 1 <= version <= MAX_VERSION:
        raise ProblemError(Problem(404, "Artifact not found"))
    return version


@tag(["names"])
@document_request(NameBody)
@document_response(NameSetAnswer)
@refuses(403, 404, 409, 422)
async def set_name(call: Call) -> Answer:
    """Point a name at a ready result; a name that exists is moved, unless it belongs to another principal."""
    found = call.context
    require_writes(found)
    body = decode_body(NameBody, call.body)
    name = checked_name(body.name, "body", "name")
    version = known_version(body.version)
    question = SetName(found.caller, name, body.artifact_id, version, found.request_id)
    record = await found.ask(question, NameRecord)
    uri = artifact_uri(record.artifact_id, record.version)
    return json(NameSetAnswer(f"strata://name/{record.name}", uri))


@tag(["names"])
@document_response(NameDroppedAnswer)
@refuses(403, 404)
async def drop_name(call: Call) -> Answer:
    """Remove a name; the result that it pointed at stays."""
    found = call.context
    require_writes(found)
    dropped = await found.ask(DropName(found.caller, call.parts["name"], found.request_id), NameDropped)
    record = dropped.record
    return json(NameDroppedAnswer("deleted", record.name, artifact_uri(record.artifact_id, record.version)))


@tag(["names"])
@document_request(AliasBody)
@document_response(AliasSetAnswer)
@document_response(AliasPendingAnswer, 202)
@refuses(403, 404, 409, 422)
async def set_alias(call: Call) -> Answer:
    """Point an alias of a name at a ready result; of a protected alias, ask a second person for it."""
    found, alias = call.context, call.parts["alias"]
    require_writes(found)
    body = decode_body(AliasBody, call.body)
    name = checked_name(call.parts["name"], "path", "name")
    checked_alias(alias, "path", "alias")
    version = known_version(body.version)
    question = SetAlias(found.caller, name, alias, body.artifact_id, version, found.request_id)
    return _changed(await found.ask(question, AliasChanged), "applied")


@tag(["names"])
@document_response(AliasSetAnswer)
@document_response(AliasPendingAnswer, 202)
@refuses(403, 404, 409)
async def drop_alias(call: Call) -> Answer:
    """Remove an alias of a name; of a protected alias, ask a second person for it."""
    found = call.context
    require_writes(found)
    question = DropAlias(found.caller, call.parts["name"], call.parts["alias"], found.request_id)
    return _changed(await found.ask(question, AliasChanged), "deleted")


def _changed(changed: AliasChanged, status: str) -> Answer:
    one = changed.change
    if isinstance(one, PendingChange):
        detail = "The alias is protected: another principal with the scope admin:registry has to approve it."
        return json(AliasPendingAnswer("pending", one.name, one.alias, detail), 202)
    return json(AliasSetAnswer(status, one.name, one.alias, artifact_uri(one.artifact_id, one.version)))


@tag(["names"])
@document_response(AliasAnswer)
@refuses(404)
async def alias(call: Call) -> Answer:
    """Resolve an alias of a name."""
    question = GetAlias(call.context.caller, call.parts["name"], call.parts["alias"])
    one = await call.context.ask(question, AliasRecord)
    uri, since = artifact_uri(one.artifact_id, one.version), iso(one.updated_at) or ""
    return json(AliasAnswer(one.name, one.alias, uri, one.artifact_id, one.version, "ready", since))


@tag(["names"])
@document_response(AliasListAnswer)
@refuses(404)
async def aliases(call: Call) -> Answer:
    """List the aliases of a name."""
    found, name = call.context, call.parts["name"]
    listed = await found.ask(ListAliases(found.caller, name), tuple)
    if not listed:  # an alias may exist without its name
        await found.ask(GetName(found.caller, name), NameRecord)
    items = [AliasItem(one.alias, one.artifact_id, one.version, iso(one.updated_at) or "") for one in listed]
    return json(AliasListAnswer(name, items))
