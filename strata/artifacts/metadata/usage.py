"""What a tenant keeps in the store: a sum that every write of a version adjusts in its own transaction."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from strata.artifacts.database.schema import tenant_usage
from strata.artifacts.metadata.records import ArtifactRecord, ArtifactState

_MINE = tenant_usage.c.tenant == sa.bindparam("of_tenant")
_CHANGE = (
    tenant_usage.update()
    .where(_MINE)
    .values(
        stored_bytes=tenant_usage.c.stored_bytes + sa.bindparam("more_bytes"),
        versions=tenant_usage.c.versions + sa.bindparam("more_versions"),
    )
)
_ADD = tenant_usage.insert()


def text_bytes(*texts: str | None) -> int:
    """Return the bytes that texts take in the database."""
    return sum(len(text.encode()) for text in texts if text is not None)


def stored_bytes(record: ArtifactRecord) -> int:
    """Return the bytes that a version takes: its texts and, while it is ready, its result."""
    texts = text_bytes(record.transform_spec, record.input_versions, record.arrow_schema)
    return texts + ((record.byte_size or 0) if record.state is ArtifactState.READY else 0)


def charge(connection: sa.Connection, tenant: str, nbytes: int, versions: int = 0) -> None:
    """Add to a tenant's sums, or take away with negative numbers.

    Args:
        connection: The transaction that writes the versions.
        tenant: The tenant.
        nbytes: Bytes, as of :func:`stored_bytes`.
        versions: Versions.
    """
    change: dict[str, Any] = {"of_tenant": tenant, "more_bytes": nbytes, "more_versions": versions}
    if not connection.execute(_CHANGE, change).rowcount:
        connection.execute(_ADD, {"tenant": tenant, "stored_bytes": nbytes, "versions": versions})
