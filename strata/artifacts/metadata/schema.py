"""The relational schema. Migrations build it; a test compares the two."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text

schema = MetaData()

artifacts = Table(
    "artifacts",
    schema,
    Column("tenant", String(64), primary_key=True),
    Column("artifact_id", String(64), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("provenance_hash", String(64), nullable=False),
    Column("query_hash", String(64), nullable=False),
    Column("transform_spec", Text, nullable=False),
    Column("input_versions", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("arrow_schema", Text),
    Column("row_count", BigInteger),
    Column("byte_size", BigInteger),
    Column("content_sha256", String(64)),
    Index("artifacts_by_provenance", "tenant", "provenance_hash", "state", "version"),
    Index("artifacts_by_query", "tenant", "query_hash", "state", "created_at"),
    Index("artifacts_by_time", "tenant", "created_at"),
)

builds = Table(
    "builds",
    schema,
    Column("tenant", String(64), primary_key=True),
    Column("build_id", String(64), primary_key=True),
    Column("artifact_id", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("executor_ref", String(256), nullable=False),
    Column("input_versions", Text, nullable=False),
    Column("name", Text),
    Column("created_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("completed_at", Float(53)),
    Column("error_message", Text),
    Column("error_code", String(64)),
    Index("builds_by_state", "state"),
    Index("builds_by_artifact", "tenant", "artifact_id", "version"),
)

audit = Table(
    "audit",
    schema,
    Column("id", Integer, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("tenant", String(64)),
    Column("principal", String(256), nullable=False),
    Column("principal_tenant", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("old", Text),
    Column("new", Text),
    Column("request_id", String(128), nullable=False),
    Index("audit_by_tenant", "tenant", "id"),
)

names = Table(
    "names",
    schema,
    Column("tenant", String(64), primary_key=True),
    Column("name", String(512), primary_key=True),
    Column("artifact_id", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", Float(53), nullable=False),
)
