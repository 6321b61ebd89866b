"""Schedules of notebooks: runs at times of a clock."""

from __future__ import annotations

from functools import partial

from quart_schema import document_request, document_response, tag

from strata.http.api.notebooks.schedule_schemas import (
    AddScheduleBody,
    DeletedScheduleAnswer,
    PauseScheduleBody,
    ScheduleAnswer,
    SchedulesAnswer,
)
from strata.http.api.openapi import refuses
from strata.http.api.query_params import refuse_unknown
from strata.http.api.responses import iso, json
from strata.http.api.schemas import decode_body
from strata.http.door.routing import Answer, Call
from strata.http.routes.notebooks.rights import EXECUTE, READ, require_scope
from strata.tenants.notebooks import schedule_messages as p


@tag(["notebooks"])
@document_request(AddScheduleBody)
@document_response(ScheduleAnswer, 201)
@refuses(403, 404, 413, 422)
async def add(call: Call) -> Answer:
    """Run a notebook at times of a clock, as the caller, with the rights that the caller has then.

    Needs ``notebook:execute`` and ``notebook:read``.
    """
    for scope in (EXECUTE, READ):
        require_scope(call, scope)
    refuse_unknown(call.query, set())
    decode = partial(decode_body, AddScheduleBody, call.body)
    body = decode() if call.small else await call.context.compute(decode)
    question = p.AddSchedule(
        principal=call.context.caller,
        request_id=call.context.request_id,
        name=call.parts["notebook"],
        cron=body.cron,
        zone=body.time_zone,
        options=p.ScheduleOptions(
            parameters=body.parameters,
            seconds=body.timeout_seconds,
            overlap=body.overlap,
            missed=body.missed,
            retries=body.retries,
        ),
    )
    return json(_schedule(await call.context.ask(question, p.ScheduleView)), 201)


@tag(["notebooks"])
@document_response(SchedulesAnswer)
@refuses(403, 404)
async def schedules(call: Call) -> Answer:
    """List the schedules of a notebook, the oldest first. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, set())
    question = p.ListSchedules(principal=call.context.caller, name=call.parts["notebook"])
    found = await call.context.ask(question, tuple)
    return json(SchedulesAnswer([_schedule(one) for one in found]))


@tag(["notebooks"])
@document_response(DeletedScheduleAnswer)
@refuses(403, 404)
async def delete(call: Call) -> Answer:
    """Delete a schedule; a run of it goes on. Needs ``notebook:execute`` and ``notebook:read``."""
    for scope in (EXECUTE, READ):
        require_scope(call, scope)
    refuse_unknown(call.query, set())
    question = p.DeleteSchedule(
        principal=call.context.caller,
        request_id=call.context.request_id,
        name=call.parts["notebook"],
        schedule=call.parts["schedule"],
    )
    await call.context.ask(question, p.ScheduleDeleted)
    return json(DeletedScheduleAnswer(call.parts["schedule"]))


@tag(["notebooks"])
@document_request(PauseScheduleBody)
@document_response(ScheduleAnswer)
@refuses(403, 404, 409, 413, 422)
async def pause(call: Call) -> Answer:
    """Pause a schedule, or have it go on, also one that has stopped.

    It runs as the principal who made it, also where another one has it go on. Needs ``notebook:execute`` and
    ``notebook:read``.
    """
    for scope in (EXECUTE, READ):
        require_scope(call, scope)
    refuse_unknown(call.query, set())
    body = decode_body(PauseScheduleBody, call.body)
    question = p.PauseSchedule(
        principal=call.context.caller,
        request_id=call.context.request_id,
        name=call.parts["notebook"],
        schedule=call.parts["schedule"],
        paused=body.paused,
    )
    return json(_schedule(await call.context.ask(question, p.ScheduleView)))


def _schedule(view: p.ScheduleView) -> ScheduleAnswer:
    record, options = view.record, view.options
    return ScheduleAnswer(
        schedule=record.schedule,
        owner=record.owner,
        cron=record.cron,
        time_zone=record.zone,
        parameters=dict(options.parameters),
        timeout_seconds=options.seconds,
        overlap=options.overlap,
        missed=options.missed,
        retries=options.retries,
        next_at=iso(record.next_at),
        message=record.message or None,
        paused=options.paused,
        next_times=[iso(time) or "" for time in view.times],
    )
