"""Names of results."""

from quart_schema import document_response, tag

from strata.artifacts import NameRecord
from strata.http.api.openapi import refuses
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas import NameAnswer, NameListAnswer
from strata.http.door.routing import Answer, Call
from strata.tenants.messages import GetName, ListNames


def _answer(record: NameRecord) -> NameAnswer:
    uri = artifact_uri(record.artifact_id, record.version)
    return NameAnswer(record.name, uri, record.version, iso(record.updated_at) or "")


@tag(["names"])
@document_response(NameListAnswer)
async def names(call: Call) -> Answer:
    """List the tenant's names."""
    found = await call.context.ask(ListNames(call.context.caller), tuple)
    return json(NameListAnswer([_answer(record) for record in found]))


@tag(["names"])
@document_response(NameAnswer)
@refuses(404)
async def name(call: Call) -> Answer:
    """Resolve a name; names may contain slashes."""
    question = GetName(call.context.caller, call.parts["name"])
    return json(_answer(await call.context.ask(question, NameRecord)))
