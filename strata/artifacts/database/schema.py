"""The relational schema. Migrations build it; a test compares the two."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

schema = MetaData()

_NUMBER = Integer().with_variant(BigInteger, "postgresql")
"""Numbers that requests name: an integer of SQLite has 64 bits, one of PostgreSQL 32."""


def _text(length: int) -> String:
    """Return the type of texts that PostgreSQL, too, orders by code points, whatever its locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


artifacts = Table(
    "artifacts",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("artifact_id", _text(64), primary_key=True),
    Column("version", _NUMBER, primary_key=True, autoincrement=False),
    Column("state", _text(16), nullable=False),
    Column("provenance_hash", _text(64), nullable=False),
    Column("query_hash", _text(64), nullable=False),
    Column("transform_spec", Text, nullable=False),
    Column("input_versions", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("arrow_schema", Text),
    Column("row_count", BigInteger),
    Column("byte_size", BigInteger),
    Column("content_sha256", _text(64)),
    Column("used_at", Float(53)),
    Index("artifacts_by_provenance", "tenant", "provenance_hash", "state", "version"),
    Index("artifacts_by_query", "tenant", "query_hash", "state", "created_at"),
    # One for each order of a listing, so that a page begins where the last one ended.
    Index("artifacts_by_time", "tenant", "created_at", "artifact_id", "version"),
    Index("artifacts_by_rows", "tenant", "row_count", "artifact_id", "version"),
    Index("artifacts_by_bytes", "tenant", "byte_size", "artifact_id", "version"),
    Index("artifacts_by_state", "tenant", "state", "byte_size"),
    Index("artifacts_by_use", "tenant", "used_at", "artifact_id", "version"),
    Index("artifacts_by_content", "tenant", "content_sha256"),
)

# The inputs that are results themselves: the dependents of one are found without a look at any other result.
artifact_inputs = Table(
    "artifact_inputs",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("uri", _text(256), primary_key=True),
    Column("created_at", Float(53), primary_key=True),
    Column("artifact_id", _text(64), primary_key=True),
    Column("version", _NUMBER, primary_key=True, autoincrement=False),
)

builds = Table(
    "builds",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("build_id", _text(64), primary_key=True),
    Column("artifact_id", _text(64), nullable=False),
    Column("version", _NUMBER, nullable=False),
    Column("state", _text(16), nullable=False),
    Column("executor_ref", _text(256), nullable=False),
    Column("input_versions", Text, nullable=False),
    Column("name", Text),
    Column("created_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("completed_at", Float(53)),
    Column("error_message", Text),
    Column("error_code", _text(64)),
    # Of a server that shares the database: whose it is, the bytes that it commits, and how far it is.
    Column("server_id", _text(64)),
    Column("content_sha256", _text(64)),
    Column("progress", Float(53)),
    Index("builds_by_state", "state"),
    Index("builds_by_artifact", "tenant", "artifact_id", "version"),
)

audit = Table(
    "audit",
    schema,
    Column("id", _NUMBER, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("tenant", _text(64)),
    Column("principal", _text(256), nullable=False),
    Column("principal_tenant", _text(64), nullable=False),
    Column("action", _text(64), nullable=False),
    Column("old", Text),
    Column("new", Text),
    Column("request_id", _text(128), nullable=False),
    Column("name", _text(512)),
    Column("artifact_id", _text(64)),
    Index("audit_by_tenant", "tenant", "id"),
    Index("audit_by_name", "tenant", "name", "id"),
    Index("audit_by_artifact", "tenant", "artifact_id", "id"),
)

# Who read what; the tables are JSON.
accesses = Table(
    "accesses",
    schema,
    Column("id", _NUMBER, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("tenant", _text(64), nullable=False),
    Column("principal", _text(256), nullable=False),
    Column("request_id", _text(128), nullable=False),
    Column("action", _text(16), nullable=False),
    Column("outcome", _text(64), nullable=False),
    Column("artifact_id", _text(64)),
    Column("version", _NUMBER),
    Column("rows", BigInteger),
    Column("nbytes", BigInteger, nullable=False),
    Column("tables", Text, nullable=False),
    Column("byte_size", Integer, nullable=False),  # of the record, for its retention
    Index("accesses_by_tenant", "tenant", "id"),
    Index("accesses_by_time", "tenant", "at"),
)

names = Table(
    "names",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _text(512), primary_key=True),
    Column("artifact_id", _text(64), nullable=False),
    Column("version", _NUMBER, nullable=False),
    Column("updated_at", Float(53), nullable=False),
    Column("owner", _text(256)),  # none: set by a version of Strata that did not note it
    Index("names_by_version", "tenant", "artifact_id", "version"),
)

aliases = Table(
    "aliases",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _text(512), primary_key=True),
    Column("alias", _text(128), primary_key=True),
    Column("artifact_id", _text(64), nullable=False),
    Column("version", _NUMBER, nullable=False),
    Column("updated_at", Float(53), nullable=False),
    Column("owner", _text(256), nullable=False),
    Index("aliases_by_version", "tenant", "artifact_id", "version"),
)

# Changes of protected aliases that wait for a second person; a removal has the version that the alias had.
alias_requests = Table(
    "alias_requests",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _text(512), primary_key=True),
    Column("alias", _text(128), primary_key=True),
    Column("action", _text(16), nullable=False),
    Column("artifact_id", _text(64), nullable=False),
    Column("version", _NUMBER, nullable=False),
    Column("requested_by", _text(256), nullable=False),
    Column("requested_at", Float(53), nullable=False),
    Index("alias_requests_by_version", "tenant", "artifact_id", "version"),
)

tags = Table(
    "tags",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("artifact_id", _text(64), primary_key=True),
    Column("version", _NUMBER, primary_key=True, autoincrement=False),
    Column("key", _text(128), primary_key=True),
    Column("value", _text(256), nullable=False),
    Index("tags_by_key", "tenant", "key", "artifact_id", "version"),
)

pins = Table(
    "pins",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("artifact_id", _text(64), primary_key=True),
    Column("version", _NUMBER, primary_key=True, autoincrement=False),
    Column("reason", _text(256), primary_key=True),
    Column("pinned_by", _text(256), nullable=False),
    Column("pinned_at", Float(53), nullable=False),
)

# Versions that were removed: their numbers are not given again, and their bytes are removed afterwards.
removed_versions = Table(
    "removed_versions",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("artifact_id", _text(64), primary_key=True),
    Column("version", _NUMBER, primary_key=True, autoincrement=False),
    Column("removed_at", Float(53), nullable=False),
    Column("byte_size", BigInteger, nullable=False),
    Column("content_sha256", _text(64)),  # none: no bytes are left to be removed
    Column("claimed_by", _text(64)),  # the server that deletes the bytes
    Index("removed_versions_by_content", "content_sha256"),
    Index("removed_versions_by_removal", "removed_at"),
    Index("removed_versions_by_time", "tenant", "removed_at"),
)

# The servers that share the database; one without a row is dead, and so is one that was not seen to renew it.
# `expires_at` is a hint, for commands that do not watch.
servers = Table(
    "servers",
    schema,
    Column("server_id", _text(64), primary_key=True),
    Column("name", _text(256), nullable=False),
    Column("version", _text(64), nullable=False),
    Column("config_version", _text(64), nullable=False),
    Column("policy_version", _text(64)),
    Column("state", _text(16), nullable=False),
    Column("started_at", Float(53), nullable=False),
    Column("seen_at", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),
)

# What a server's tenants used of their rates, by the second; only the latest ones are kept.
usage_reports = Table(
    "usage_reports",
    schema,
    Column("server_id", _text(64), primary_key=True),
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("report", Text, nullable=False),
)

tenant_usage = Table(
    "tenant_usage",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("versions", BigInteger, nullable=False),
    Index("tenant_usage_by_bytes", "stored_bytes", "tenant"),
)

# The revision of the oldest Strata that can use the schema: a migration that only adds leaves it as it is.
schema_support = Table(
    "schema_support",
    schema,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("oldest", _text(32), nullable=False),
)

store_secrets = Table(
    "store_secrets",
    schema,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("secret", LargeBinary, nullable=False),
)

_NOTEBOOK_NAME = _text(64)

notebooks = Table(
    "notebooks",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _NOTEBOOK_NAME, primary_key=True),
    Column("title", _text(256), nullable=False),
    Column("owner", _text(256), nullable=False),
    Column("access", _text(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("updated_at", Float(53), nullable=False),
    Column("nbytes", BigInteger, nullable=False),  # of all its revisions
)

# Results of runs of cells; their bundles are blobs.
notebook_results = Table(
    "notebook_results",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _NOTEBOOK_NAME, primary_key=True),
    Column("cell", _text(64), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Float(53), nullable=False),
    Column("sha256", _text(64)),  # none: the run left no bundle
    Column("byte_size", BigInteger, nullable=False),
    Column("record", Text, nullable=False),
)

# Runs of whole notebooks.
notebook_runs = Table(
    "notebook_runs",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _NOTEBOOK_NAME, primary_key=True),
    Column("run", _text(64), primary_key=True),  # in the order of their beginnings
    Column("author", _text(256), nullable=False),
    Column("schedule", _text(64), nullable=False),  # empty: none
    Column("revision", Integer, nullable=False),
    Column("state", _text(16), nullable=False),
    Column("began_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Column("alive_until", Float(53), nullable=False),
    Column("record", Text, nullable=False),
)

notebook_schedules = Table(
    "notebook_schedules",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _NOTEBOOK_NAME, primary_key=True),
    Column("schedule", _text(64), primary_key=True),
    Column("owner", _text(256), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("cron", _text(256), nullable=False),
    Column("zone", _text(64), nullable=False),
    Column("options", Text, nullable=False),
    Column("next_at", Float(53)),  # none: it has ended
    Column("message", _text(512), nullable=False),
    Column("made_at", Float(53), nullable=False),
)
Index("notebook_schedules_by_time", notebook_schedules.c.next_at)

# Which server owns the session of a notebook, and which cell it runs.
notebook_leases = Table(
    "notebook_leases",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _NOTEBOOK_NAME, primary_key=True),
    Column("owner", _text(64), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("until", Float(53), nullable=False),
    Column("running", Text, nullable=False),  # empty: none
)

notebook_events = Table(
    "notebook_events",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _NOTEBOOK_NAME, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),  # of the last event in the row
    Column("session", _text(64), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("nbytes", Integer, nullable=False),
    Column("events", Text, nullable=False),
)

# What operators have switched: the workers themselves are in the configuration.
notebook_workers = Table(
    "notebook_workers",
    schema,
    Column("worker", _text(64), primary_key=True),
    Column("state", _text(16), nullable=False),
    Column("changed_at", Float(53), nullable=False),
    Column("changed_by", _text(256), nullable=False),
)

# How many cells of a tenant run on a worker at a time, where that is less than the configuration says.
notebook_allowances = Table(
    "notebook_allowances",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("worker", _text(64), primary_key=True),
    Column("places", Integer, nullable=False),
)

notebook_revisions = Table(
    "notebook_revisions",
    schema,
    Column("tenant", _text(64), primary_key=True),
    Column("name", _NOTEBOOK_NAME, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("author", _text(256), nullable=False),
    Column("at", Float(53), nullable=False),
    Column("nbytes", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Column("analysis", Text, nullable=False),
)
