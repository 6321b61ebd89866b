"""Results while they are built."""

from quart_schema import tag

from strata.http.api.openapi import BUILD, answers, refuses, takes
from strata.http.door.routing import Answer, Call
from strata.http.formats.answers import growing_answer
from strata.http.formats.negotiation import MEDIA, RESULT_PARAMETERS, form_of
from strata.tenants.messages import Opened, OpenStream


@tag(["results"])
@answers(200, "The result, as it is built.", *MEDIA.values(), headers=("X-Strata-Artifact-Uri",))
@refuses(404, 406, *BUILD)
@takes("query", **RESULT_PARAMETERS)
@takes("header", Accept={"type": "string"})
async def stream(call: Call) -> Answer:
    """Read a stream: only for the principal who asked for it."""
    found = call.context
    form = form_of(call.headers, call.query)
    question = OpenStream(found.caller, call.parts["stream_id"])
    return await growing_answer(await found.ask(question, Opened), found, form)
