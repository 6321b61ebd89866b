"""Names of results."""

from quart import Blueprint, Response
from quart_schema import document_response, tag

from strata.artifacts import NameRecord
from strata.http.api.openapi import refuses
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas import NameAnswer, NameListAnswer
from strata.http.door.context import ask, principal
from strata.tenants.messages import GetName, ListNames

blueprint = Blueprint("names", __name__)


def _answer(record: NameRecord) -> NameAnswer:
    uri = artifact_uri(record.artifact_id, record.version)
    return NameAnswer(record.name, uri, record.version, iso(record.updated_at) or "")


@blueprint.get("/v1/names")
@tag(["names"])
@document_response(NameListAnswer)
async def names() -> Response:
    """List the tenant's names."""
    return json(NameListAnswer([_answer(record) for record in await ask(ListNames(principal()), tuple)]))


@blueprint.get("/v1/names/<path:name>")
@tag(["names"])
@document_response(NameAnswer)
@refuses(404)
async def name(name: str) -> Response:
    """Resolve a name; names may contain slashes."""
    return json(_answer(await ask(GetName(principal(), name), NameRecord)))
