"""Acts on results in the audit of a SQL database, and the versions that they are about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from strata.artifacts.database.schema import audit
from strata.artifacts.metadata.listings import summaries_among
from strata.artifacts.metadata.naming import ACTIONS
from strata.artifacts.metadata.records import AuditRecord, VersionSummary
from strata.artifacts.metadata.rows import audit_record
from strata.artifacts.registry.contract import Event, Version


def summaries_of(
    connection: sa.Connection, tenant: str, versions: Sequence[Version]
) -> Mapping[Version, VersionSummary]:
    """Return the summaries of the versions that exist, in one query."""
    found = summaries_among(connection, tenant, list(dict.fromkeys(versions))) if versions else ()
    return {(one.artifact_id, one.version): one for one in found}


def list_events(
    connection: sa.Connection,
    tenant: str,
    *,
    name: str | None,
    artifact_id: str | None,
    before: int | None,
    since: int | None,
    limit: int,
) -> tuple[Event, ...]:
    """Return acts on results with the versions that they are about; see :class:`.contract.RegistryStore`."""
    query = sa.select(audit).where(audit.c.tenant == tenant, audit.c.action.in_(sorted(ACTIONS)))
    if name is not None:
        query = query.where(audit.c.name == name)
    if artifact_id is not None:
        query = query.where(audit.c.artifact_id == artifact_id)
    if before is not None:
        query = query.where(audit.c.id < before)
    if since is not None:
        query = query.where(audit.c.id > since)
    query = query.order_by(audit.c.id.desc() if since is None else audit.c.id).limit(limit)
    records = [audit_record(row) for row in connection.execute(query)]
    about = [_version(record) for record in records]
    targets = summaries_of(connection, tenant, [one for one in about if one is not None])
    return tuple(
        Event(record, None if one is None else targets.get(one))
        for record, one in zip(records, about, strict=True)
    )


def _version(record: AuditRecord) -> Version | None:
    """Return the version that an act is about: the one after it, or else the one before."""
    for text in (record.act.new, record.act.old):
        told = {} if text is None else json.loads(text)
        if "artifact_id" in told:
            return told["artifact_id"], told["version"]
    return None
