"""The caller's own cache shard."""

from quart import Blueprint, Response
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
    parse_body,
)
from strata.http.door.context import ask, principal, require_admin
from strata.tenants.messages import ClearCache, Cleared, DescribeCache, Warm, WarmCache, Warmed

blueprint = Blueprint("cache", __name__)

WHAT = "cache"


@blueprint.post("/v1/cache/clear")
@tag(["operations"])
@document_response(StatusAnswer)
@refuses(403)
async def clear() -> Response:
    """Drop the tenant's cached segments; needs ``admin:cache``."""
    require_admin(WHAT)
    await ask(ClearCache(principal()), Cleared)
    return json(StatusAnswer("cleared"))


@blueprint.get("/v1/cache/stats")
@tag(["operations"])
@document_response(CacheStatsAnswer)
@refuses(403)
async def stats() -> Response:
    """Counters of the tenant's cache; needs ``admin:cache``."""
    require_admin(WHAT)
    found = await ask(DescribeCache(principal()), CacheStats)
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


@blueprint.post("/v1/cache/warm")
@tag(["operations"])
@document_request(WarmBody)
@document_response(WarmAnswer)
@refuses(403, 404, 422, *BUILD)
async def warm() -> Response:
    """Read tables into the tenant's cache, by building what a scan of them would; needs ``admin:cache``."""
    require_admin(WHAT)
    body = await parse_body(WarmBody)
    parts = tuple(Warm(one.table, None if one.columns is None else tuple(one.columns)) for one in body.tables)
    found = await ask(WarmCache(principal(), parts), Warmed)
    counts = zip(parts, found.segments, found.found, found.cached, strict=True)
    tables = [WarmedTableAnswer(part.uri, *numbers) for part, *numbers in counts]
    return json(WarmAnswer(sum(found.segments), sum(found.found), sum(found.cached), tables))
