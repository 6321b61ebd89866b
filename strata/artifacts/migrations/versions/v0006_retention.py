"""Results have a last use and can be removed; each tenant's bytes are summed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXTS = ("transform_spec", "input_versions", "arrow_schema")


def upgrade() -> None:
    """Create columns, tables and indexes, and sum what tenants keep.

    The last use of older results is unknown, and counts from the first collection on.
    """
    op.add_column("artifacts", sa.Column("used_at", sa.Float(53)))
    op.create_index("artifacts_by_use", "artifacts", ["tenant", "used_at", "artifact_id", "version"])
    op.create_index("artifacts_by_content", "artifacts", ["tenant", "content_sha256"])
    op.create_index("names_by_version", "names", ["tenant", "artifact_id", "version"])
    op.create_table(
        "removed_versions",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("artifact_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("removed_at", sa.Float(53), nullable=False),
        sa.Column("byte_size", sa.BigInteger, nullable=False),
        sa.Column("content_sha256", sa.String(64)),
    )
    op.create_index("removed_versions_by_content", "removed_versions", ["content_sha256"])
    op.create_index("removed_versions_by_time", "removed_versions", ["tenant", "removed_at"])
    usage = op.create_table(
        "tenant_usage",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("versions", sa.BigInteger, nullable=False),
    )
    op.create_index("tenant_usage_by_bytes", "tenant_usage", ["stored_bytes", "tenant"])
    columns = ("tenant", "state", "byte_size", *_TEXTS)
    artifacts = sa.table("artifacts", *(sa.column(name) for name in columns))
    ready = sa.case((artifacts.c.state == "ready", sa.func.coalesce(artifacts.c.byte_size, 0)), else_=0)
    size: sa.ColumnElement[int] = ready
    for name in _TEXTS:
        size += sa.func.coalesce(_octets(artifacts.c[name]), 0)
    sums = sa.select(artifacts.c.tenant, sa.func.sum(size), sa.func.count()).group_by(artifacts.c.tenant)
    op.get_bind().execute(usage.insert().from_select(["tenant", "stored_bytes", "versions"], sums))


def _octets(column: sa.ColumnClause[str]) -> sa.ColumnElement[int]:
    """Return the bytes of a text; SQLite's ``length`` counts characters of a text, and bytes of a blob."""
    if op.get_bind().dialect.name == "sqlite":
        return sa.func.length(sa.cast(column, sa.LargeBinary))
    return sa.func.octet_length(column)


def downgrade() -> None:
    """Drop them."""
    op.drop_table("tenant_usage")
    op.drop_table("removed_versions")
    op.drop_index("names_by_version", "names")
    op.drop_index("artifacts_by_content", "artifacts")
    op.drop_index("artifacts_by_use", "artifacts")
    op.drop_column("artifacts", "used_at")
