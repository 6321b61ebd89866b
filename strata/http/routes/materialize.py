"""Build a result, or find it."""

from functools import partial

from quart_schema import document_request, document_response, tag

from strata.http.api.openapi import BUILD, answers, refuses, takes
from strata.http.api.responses import (
    artifact_uri,
    data_url,
    iso,
    json,
)
from strata.http.api.schemas import (
    ChangedInputAnswer,
    ExplainAnswer,
    ExplainBody,
    MaterializeAnswer,
    MaterializeBody,
    TransformAnswer,
    TransformBody,
    TransformLimitsAnswer,
    TransformListAnswer,
    decode_body,
)
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.formats.answers import growing_answer
from strata.http.formats.negotiation import MEDIA, RESULT_PARAMETERS, STORED, Form, asked_instead, form_of
from strata.http.problems import Problem, ProblemError
from strata.http.routes.registry.naming import checked_name
from strata.tenants.discovery_messages import ListTransforms
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
from strata.tenants.transforms.requests import Offered


@tag(["results"])
@document_request(MaterializeBody)
@document_response(MaterializeAnswer)
@answers(200, "Where the result is, or will be; or the result itself.", *MEDIA.values())
@refuses(403, 404, 406, 422, *BUILD)
@takes("query", **RESULT_PARAMETERS)
@takes("header", Accept={"type": "string"})
async def materialize(call: Call) -> Answer:
    """Materialize a scan; where ``Accept`` names a format, such as ``text/csv``, the answer is the result."""
    found = call.context
    decode = partial(decode_body, MaterializeBody, call.body)
    body = decode() if call.small else await call.context.compute(decode)
    try:
        mode = Mode(body.mode)
    except ValueError:
        loc = [{"loc": ["body", "mode"], "msg": "must be stream or artifact"}]
        raise ProblemError(Problem(400, "mode must be stream or artifact.", "invalid_mode", loc)) from None
    found.inputs = body.inputs
    direct = "format" in call.query or asked_instead(call.headers, "application/json")
    form = form_of(call.headers, call.query) if direct else STORED
    question = Materialize(
        found.caller,
        _transformation(body.inputs, body.transform),
        Mode.STREAM if direct else mode,
        _name(body.name),
        body.refresh,
        found.request_id,
    )
    result = await found.ask(question, Materialized)
    return await _direct(found, result, form) if direct else _described(result, mode)


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


async def _direct(found: Context, result: Materialized, form: Form) -> Answer:
    who = found.caller
    question: Question = OpenArtifact(who, result.artifact_id, result.version)
    if result.stream_id is not None:
        question = OpenStream(who, result.stream_id)
    return await growing_answer(await found.ask(question, Opened), found, form)


@tag(["results"])
@document_request(ExplainBody)
@document_response(ExplainAnswer)
@refuses(403, 404, 422)
async def explain(call: Call) -> Answer:
    """Say what materialize would do, and do nothing."""
    decode = partial(decode_body, ExplainBody, call.body)
    body = decode() if call.small else await call.context.compute(decode)
    call.context.inputs = body.inputs
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
    return None if name is None else checked_name(name, "body", "name")


def _offered(found: Offered) -> TransformAnswer:
    registered, limits = found.offer.registered, found.limits
    return TransformAnswer(
        ref=found.offer.ref,
        executor=registered.executor_url if registered.embedded else "executor",
        params_schema=dict(found.offer.schema),
        limits=TransformLimitsAnswer(
            timeout_seconds=registered.timeout_seconds,
            max_output_bytes=found.max_output_bytes,
            max_input_bytes=registered.max_input_bytes or None,
            memory_bytes=limits.transform_memory,
            spill_bytes=limits.transform_spill,
            threads=limits.transform_threads,
        ),
    )


@tag(["results"])
@document_response(TransformListAnswer)
async def transforms(call: Call) -> Answer:
    """List the registered transforms that the caller may run, besides ``scan@v1``, with their limits."""
    found = await call.context.ask(ListTransforms(call.context.caller), tuple)
    return json(TransformListAnswer([_offered(one) for one in found]))
