"""What a tenant does now: its builds and streams on this server, and the end of builds by filter."""

from functools import partial

import msgspec
from quart_schema import document_request, document_response, tag

from strata.http.api import administration as admin
from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import bad_parameter, refuse_unknown, text, whole
from strata.http.api.responses import artifact_uri, json
from strata.http.api.schemas import decode_body
from strata.http.api.schemas_admin import (
    BuildLineAnswer,
    BuildLinesAnswer,
    StopBuildsBody,
    StoppedAnswer,
    StreamLineAnswer,
    StreamLinesAnswer,
    TableAccessAnswer,
)
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.tenants.lifecycle import operator_actions as act
from strata.tenants.retention_messages import (
    BuildLine,
    BuildsListed,
    BuildsStopped,
    ListBuilds,
    ListStreams,
    StopBuilds,
    StreamsListed,
    WorkFilter,
)

NOTED = 20
"""Most ids of builds that a record of the audit has."""

RESOURCE = "admin/tenants"
MAX_PAGE = 200

BUILD_STATES = ("waiting", "building", "committing", "elsewhere")
STREAM_STATES = ("unread", "being read", "read")

LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50}
AFTER = {"type": "string", "minLength": 1, "maxLength": 128, "description": "`next` of the page before."}
PRINCIPAL = {"type": "string", "minLength": 1, "maxLength": 256}

BUSY = Problem(
    503,
    "The tenant's actor has not answered in time; builds may have ended. Ask again.",
    "tenant_busy",
    retry_after=1,
)


@tag(["administration"])
@document_response(BuildLinesAnswer)
@takes(
    "query",
    limit=LIMIT,
    after=AFTER,
    principal=PRINCIPAL,
    state={"type": "string", "enum": list(BUILD_STATES)},
)
@refuses(403, 404)
async def builds(call: Call) -> Answer:
    """List the tenant's builds under way: table, snapshot, rule, rows, state; needs ``admin:tenants``."""
    tenant = await _reached(call)
    limit, after, chosen = _asked(call, BUILD_STATES)
    found = await act.work(call.context.registry, tenant, ListBuilds(chosen, after, limit))
    if not isinstance(found, BuildsListed):
        return json(BuildLinesAnswer([], limit, None, asked=False))
    following = found.builds[-1].place if found.more else None
    return json(BuildLinesAnswer([_build(one) for one in found.builds], limit, following, asked=True))


@tag(["administration"])
@document_response(StreamLinesAnswer)
@takes(
    "query",
    limit=LIMIT,
    after=AFTER,
    principal=PRINCIPAL,
    state={"type": "string", "enum": list(STREAM_STATES)},
)
@refuses(403, 404)
async def streams(call: Call) -> Answer:
    """List the tenant's streams that wait for their reader or were read; needs ``admin:tenants``."""
    tenant = await _reached(call)
    limit, after, chosen = _asked(call, STREAM_STATES)
    found = await act.work(call.context.registry, tenant, ListStreams(chosen, after, limit))
    if not isinstance(found, StreamsListed):
        return json(StreamLinesAnswer([], limit, None, asked=False))
    lines = [
        StreamLineAnswer(one.stream_id, one.owner, one.state, _uri(one.artifact), round(one.seconds, 1))
        for one in found.streams
    ]
    return json(StreamLinesAnswer(lines, limit, lines[-1].stream_id if found.more else None, asked=True))


@tag(["administration"])
@document_request(StopBuildsBody)
@document_response(StoppedAnswer)
@refuses(403, 404, 422, 503)
async def stop(call: Call) -> Answer:
    """End builds of the tenant: those named, of a principal, or in a state; needs ``admin:tenants``.

    A result that is whole already stays; its readers' streams break off for the others. Of a principal, a
    build ends if no other principal asked for it.
    """
    found, tenant = call.context, await _reached(call)
    decode = partial(decode_body, StopBuildsBody, call.body)
    body = decode() if call.small else await found.compute(decode)
    named = body.build_ids is not None or body.principal is not None or body.state is not None
    if named == body.all:
        detail = "Name build_ids, principal or state, or set all to true, and not both."
        raise ProblemError(
            Problem(400, detail, "no_filter", [{"loc": ["body"], "msg": "names no builds, or too much"}])
        )
    noted = msgspec.structs.replace(
        body, build_ids=None if body.build_ids is None else body.build_ids[:NOTED]
    )
    await admin.note(found, "builds.stop", tenant, None, msgspec.to_builtins(noted))
    ids = None if body.build_ids is None else frozenset(body.build_ids)
    chosen = WorkFilter(ids, body.principal, body.state)
    live = found.registry.find(tenant)
    done = await act.work(found.registry, tenant, StopBuilds(chosen))
    if isinstance(done, BuildsStopped):
        return json(StoppedAnswer(tenant, done.chosen, done.stopped))
    if live is not None and found.registry.resting(tenant) is None:
        raise ProblemError(BUSY)
    return json(StoppedAnswer(tenant, 0, 0))


async def _reached(call: Call) -> str:
    """Return the tenant of a call whose caller may administer it."""
    tenant: str = call.parts["tenant"]
    call.context.require_admin(admin.TENANTS, RESOURCE)
    await admin.require_known(call.context, tenant)
    return tenant


def _asked(call: Call, states: tuple[str, ...]) -> tuple[int, str, WorkFilter]:
    query = call.query
    refuse_unknown(query, {"limit", "after", "principal", "state"})
    state = query.get("state")
    if state is not None and state not in states:
        raise bad_parameter("state", f"must be one of {', '.join(states)}")
    chosen = WorkFilter(None, text(query, "principal", 256), state)
    return whole(query, "limit", 50, 1, MAX_PAGE), text(query, "after", 128) or "", chosen


def _uri(artifact: tuple[str, int] | None) -> str | None:
    return None if artifact is None else artifact_uri(*artifact)


def _build(one: BuildLine) -> BuildLineAnswer:
    return BuildLineAnswer(
        build_id=one.build_id,
        artifact_uri=_uri(one.artifact),
        state=one.state,
        waits_for=one.waits_for,
        principals=list(one.principals),
        tables=[TableAccessAnswer(*table) for table in one.tables],
        tables_cut=one.tables_cut,
        rows_done=one.rows_done,
        rows_planned=one.rows_planned,
        bytes=one.nbytes,
        progress=one.progress,
        readers=one.readers,
    )
