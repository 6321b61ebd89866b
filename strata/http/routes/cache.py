"""The caller's own cache shard."""

from functools import partial

from quart_schema import document_request, document_response, tag

from strata.cache import CacheStats
from strata.http.api.openapi import BUILD, refuses
from strata.http.api.responses import json
from strata.http.api.schemas import (
    CacheStatsAnswer,
    StatusAnswer,
    WarmAnswer,
    WarmBody,
    WarmedTableAnswer,
    decode_body,
)
from strata.http.door.routing import Answer, Call
from strata.tenants.messages import ClearCache, Cleared, DescribeCache, Warm, WarmCache, Warmed

ADMIN = ("admin:cache", "admin/cache")
"""The scope and the resource of the access rules that its routes need."""


@tag(["operations"])
@document_response(StatusAnswer)
@refuses(403)
async def clear(call: Call) -> Answer:
    """Drop the tenant's cached segments; needs ``admin:cache``."""
    call.context.require_admin(*ADMIN)
    await call.context.ask(ClearCache(call.context.caller), Cleared)
    return json(StatusAnswer("cleared"))


@tag(["operations"])
@document_response(CacheStatsAnswer)
@refuses(403)
async def stats(call: Call) -> Answer:
    """Counters of the tenant's cache; needs ``admin:cache``."""
    call.context.require_admin(*ADMIN)
    found = await call.context.ask(DescribeCache(call.context.caller), CacheStats)
    asked = found.hits + found.misses
    return json(
        CacheStatsAnswer(
            hits=found.hits,
            misses=found.misses,
            hit_rate=found.hits / asked if asked else 0.0,
            segments=found.segments,
            size_bytes=found.bytes,
            max_size_bytes=found.budget,
            evictions=found.evictions,
            damaged=found.damaged,
        )
    )


@tag(["operations"])
@document_request(WarmBody)
@document_response(WarmAnswer)
@refuses(403, 404, 422, *BUILD)
async def warm(call: Call) -> Answer:
    """Read tables into the tenant's cache, by building what a scan of them would; needs ``admin:cache``."""
    call.context.require_admin(*ADMIN)
    decode = partial(decode_body, WarmBody, call.body)
    body = decode() if call.small else await call.context.compute(decode)
    call.context.inputs = [one.table for one in body.tables]
    parts = tuple(Warm(one.table, None if one.columns is None else tuple(one.columns)) for one in body.tables)
    found = await call.context.ask(WarmCache(call.context.caller, parts), Warmed)
    counts = zip(parts, found.segments, found.found, found.cached, strict=True)
    tables = [WarmedTableAnswer(part.uri, *numbers) for part, *numbers in counts]
    return json(WarmAnswer(sum(found.segments), sum(found.found), sum(found.cached), tables))
