"""The end of results: collect those that may go, and say why one is kept."""

from __future__ import annotations

from collections.abc import Mapping

from quart_schema import document_response, tag

from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas_registry import CollectedAnswer, HoldAnswer, VerifiedAnswer, WhyAnswer
from strata.http.door.routing import Answer, Call
from strata.tenants.registry_messages import Verified, VerifyArtifact
from strata.tenants.retention_messages import ArtifactsCollected, CollectArtifacts, Retained, WhyKept
from strata.tenants.shared.authorizer import CACHE_RESOURCE

SCOPE = "admin:cache"
"""The scope of a collection, and of a verification."""

DAY_SECONDS = 86_400

MAX_DAYS = 36_500

MAX_BYTES = 2**53 - 1


def flag(query: Mapping[str, str], key: str) -> bool:
    """Return a parameter that is ``true`` or ``false``; false if it is absent.

    Raises:
        ProblemError: 400 for anything else.
    """
    text = query.get(key, "false")
    if text not in ("true", "false"):
        raise bad_parameter(key, "must be true or false")
    return text == "true"


@tag(["operations"])
@document_response(CollectedAnswer)
@refuses(403)
@takes(
    "query",
    dry_run={"type": "boolean", "default": False},
    max_idle_days={"type": "integer", "minimum": 0, "maximum": MAX_DAYS},
    max_bytes={"type": "integer", "minimum": 0, "maximum": MAX_BYTES},
    min_idle_seconds={"type": "integer", "minimum": 0, "maximum": MAX_DAYS * DAY_SECONDS},
)
async def collect(call: Call) -> Answer:
    """Remove the tenant's results that may go, the least recently used first; parameters replace limits."""
    found, query = call.context, call.query
    found.require_admin(SCOPE, CACHE_RESOURCE)
    refuse_unknown(query, {"dry_run", "max_idle_days", "max_bytes", "min_idle_seconds"})
    days = whole(query, "max_idle_days", 0, 0, MAX_DAYS) if "max_idle_days" in query else None
    size = whole(query, "max_bytes", 0, 0, MAX_BYTES) if "max_bytes" in query else None
    least = None
    if "min_idle_seconds" in query:
        least = float(whole(query, "min_idle_seconds", 0, 0, MAX_DAYS * DAY_SECONDS))
    question = CollectArtifacts(
        found.caller,
        found.request_id,
        dry_run=flag(query, "dry_run"),
        max_idle=None if days is None else float(days * DAY_SECONDS),
        max_bytes=size,
        min_idle=least,
    )
    collected = await found.ask(question, ArtifactsCollected)
    return json(
        CollectedAnswer(collected.results, collected.nbytes, collected.stored_bytes, question.dry_run)
    )


@tag(["artifacts"])
@document_response(WhyAnswer)
@refuses(404)
async def why(call: Call) -> Answer:
    """Say why a result is kept, and when it may go."""
    found, artifact_id, version = call.context, call.parts["artifact_id"], call.parts["version"]
    kept = await found.ask(WhyKept(found.caller, artifact_id, version), Retained)
    held = [HoldAnswer("name", name=name) for name in kept.names]
    held += [HoldAnswer("input", artifact_uri=uri) for uri in kept.dependents]
    held += [HoldAnswer("alias", name=name, alias=alias) for name, alias in kept.aliases]
    held += [HoldAnswer("pin", reason=reason) for reason in kept.pins]
    held += [HoldAnswer("pending")] if kept.pending else []
    held += [HoldAnswer("building")] if kept.building else []
    held += [HoldAnswer("hidden")] if kept.hidden else []
    return json(
        WhyAnswer(
            artifact_uri=artifact_uri(artifact_id, version),
            artifact_id=artifact_id,
            version=version,
            held_by=held,
            in_use=kept.in_use,
            last_used_at=iso(kept.used_at),
            may_go_at=iso(kept.may_go_at),
            goes_at=iso(kept.goes_at),
        )
    )


@tag(["artifacts"])
@document_response(VerifiedAnswer)
@refuses(403, 404)
async def verify(call: Call) -> Answer:
    """Hash the stored bytes of a result; a damaged one is given up. Needs ``admin:cache``."""
    found, artifact_id, version = call.context, call.parts["artifact_id"], int(call.parts["version"])
    found.require_admin(SCOPE, CACHE_RESOURCE)
    verified = await found.ask(VerifyArtifact(found.caller, artifact_id, version), Verified)
    record = verified.record
    return json(
        VerifiedAnswer(
            "whole" if verified.whole else "damaged",
            artifact_uri(artifact_id, version),
            artifact_id,
            version,
            record.byte_size or 0,
            record.content_sha256 or "",
        )
    )
