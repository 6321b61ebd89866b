"""Build a result, or find it."""

from quart_schema import document_request, document_response, tag

from strata.http.api.openapi import BUILD, answers, refuses
from strata.http.api.responses import (
    ARROW_STREAM,
    artifact_uri,
    data_url,
    iso,
    json,
    stream_answer,
)
from strata.http.api.schemas import (
    ChangedInputAnswer,
    ExplainAnswer,
    ExplainBody,
    MaterializeAnswer,
    MaterializeBody,
    TransformBody,
    decode_body,
)
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.tenants.messages import (
    Explain,
    Explanation,
    Materialize,
    Materialized,
    Mode,
    OpenArtifact,
    Opened,
    OpenStream,
    Question,
    Transformation,
)

MAX_NAME = 512


@tag(["results"])
@document_request(MaterializeBody)
@document_response(MaterializeAnswer)
@answers(200, "Where the result is, or will be; or the result itself.", ARROW_STREAM)
@refuses(403, 404, 422, *BUILD)
async def materialize(call: Call) -> Answer:
    """Materialize a scan; with ``Accept: application/vnd.apache.arrow.stream`` the answer is the result."""
    found, body = call.context, decode_body(MaterializeBody, call.body)
    try:
        mode = Mode(body.mode)
    except ValueError:
        loc = [{"loc": ["body", "mode"], "msg": "must be stream or artifact"}]
        raise ProblemError(Problem(400, "mode must be stream or artifact.", "invalid_mode", loc)) from None
    direct = (call.header(b"accept") or "").split(";")[0].strip() == ARROW_STREAM
    question = Materialize(
        found.caller,
        _transformation(body.inputs, body.transform),
        Mode.STREAM if direct else mode,
        _name(body.name),
        body.refresh,
    )
    result = await found.ask(question, Materialized)
    return await _direct(found, result) if direct else _described(result, mode)


def _described(found: Materialized, mode: Mode) -> Answer:
    url = None
    if found.hit:
        url = data_url(found.artifact_id, found.version)
    elif found.stream_id is not None:
        url = f"/v1/streams/{found.stream_id}"
    state = "ready" if found.hit else "building" if mode is Mode.STREAM else "pending"
    uri = artifact_uri(found.artifact_id, found.version)
    return json(
        MaterializeAnswer(
            found.hit, uri, state, build_id=found.build_id, stream_id=found.stream_id, stream_url=url
        )
    )


async def _direct(found: Context, result: Materialized) -> Answer:
    who = found.caller
    question: Question = OpenArtifact(who, result.artifact_id, result.version)
    if result.stream_id is not None:
        question = OpenStream(who, result.stream_id)
    return await stream_answer(await found.ask(question, Opened), found)


@tag(["results"])
@document_request(ExplainBody)
@document_response(ExplainAnswer)
@refuses(403, 404, 422)
async def explain(call: Call) -> Answer:
    """Say what materialize would do, and do nothing."""
    body = decode_body(ExplainBody, call.body)
    what = _transformation(body.inputs, body.transform)
    found = await call.context.ask(Explain(call.context.caller, what, _name(body.name)), Explanation)
    changed = [ChangedInputAnswer(item.uri, item.old_version, item.new_version) for item in found.changed]
    built = found.artifact
    reason = None
    if changed:
        since = f" since {iso(built.created_at)}" if built is not None else ""
        reason = f"{len(changed)} of {len(found.versions)} inputs changed{since}."
    return json(
        ExplainAnswer(
            would_hit=found.would_hit,
            artifact_uri=artifact_uri(built.artifact_id, built.version) if built is not None else None,
            would_build=not found.would_hit,
            is_stale=bool(changed),
            stale_reason=reason,
            changed_inputs=changed,
            resolved_input_versions=dict(found.versions),
        )
    )


def _transformation(inputs: list[str], transform: TransformBody) -> Transformation:
    return Transformation(tuple(inputs), transform.executor, transform.params)


def _name(name: str | None) -> str | None:
    if name is None or (0 < len(name) <= MAX_NAME and name.isprintable() and name.strip() == name):
        return name
    detail = f"A name is 1 to {MAX_NAME} printable characters without surrounding space."
    raise ProblemError(Problem(400, detail, "invalid_name", [{"loc": ["body", "name"], "msg": "not a name"}]))
