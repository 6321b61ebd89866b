"""Artifacts, builds, names."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "artifacts",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("artifact_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("provenance_hash", sa.String(64), nullable=False),
        sa.Column("query_hash", sa.String(64), nullable=False),
        sa.Column("transform_spec", sa.Text, nullable=False),
        sa.Column("input_versions", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("arrow_schema", sa.Text),
        sa.Column("row_count", sa.BigInteger),
        sa.Column("byte_size", sa.BigInteger),
        sa.Column("content_sha256", sa.String(64)),
    )
    op.create_index("artifacts_by_provenance", "artifacts", ["tenant", "provenance_hash", "state", "version"])
    op.create_index("artifacts_by_query", "artifacts", ["tenant", "query_hash", "state", "created_at"])
    op.create_index("artifacts_by_time", "artifacts", ["tenant", "created_at"])
    op.create_table(
        "builds",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("build_id", sa.String(64), primary_key=True),
        sa.Column("artifact_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("executor_ref", sa.String(256), nullable=False),
        sa.Column("input_versions", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("started_at", sa.Float(53)),
        sa.Column("completed_at", sa.Float(53)),
        sa.Column("error_message", sa.Text),
        sa.Column("error_code", sa.String(64)),
    )
    op.create_index("builds_by_state", "builds", ["state"])
    op.create_table(
        "names",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(512), primary_key=True),
        sa.Column("artifact_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("names", "builds", "artifacts"):
        op.drop_table(table)
