"""Records of rows of the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from strata.artifacts.metadata.records import (
    Act,
    ArtifactRecord,
    ArtifactState,
    AuditRecord,
    BuildRecord,
    NameRecord,
)


def artifact_record(row: sa.Row[Any]) -> ArtifactRecord:
    """Return the record of a row of ``artifacts``."""
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    del values["tenant"], values["used_at"]
    return ArtifactRecord(**values | {"state": ArtifactState(values["state"])})


def build_record(row: Mapping[Any, Any]) -> BuildRecord:
    """Return the record of a row of ``builds``."""
    values = dict(row)
    del values["tenant"], values["name"], values["content_sha256"]
    return BuildRecord(**values | {"state": ArtifactState(values["state"])})


def audit_record(row: sa.Row[Any]) -> AuditRecord:
    """Return the record of a row of ``audit``."""
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's own way
    return AuditRecord(values.pop("id"), values.pop("at"), Act(**values))


def name_record(row: sa.Row[Any]) -> NameRecord:
    """Return the record of a row of ``names``."""
    return NameRecord(row.name, row.artifact_id, row.version, row.updated_at, owner=row.owner)
