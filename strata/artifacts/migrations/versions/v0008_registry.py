"""Owners of names, aliases, requests for protected ones, tags, pins, and what audit records are about."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create columns, tables and indexes; the owner of older names is unknown."""
    name = _ordered(512)
    label = _ordered(128)
    op.add_column("names", sa.Column("owner", sa.String(256)))
    op.add_column("audit", sa.Column("name", sa.String(512)))
    op.add_column("audit", sa.Column("artifact_id", sa.String(64)))
    op.create_index("audit_by_name", "audit", ["tenant", "name", "id"])
    op.create_index("audit_by_artifact", "audit", ["tenant", "artifact_id", "id"])
    op.create_table(
        "aliases",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", name, primary_key=True),
        sa.Column("alias", label, primary_key=True),
        sa.Column("artifact_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        sa.Column("owner", sa.String(256), nullable=False),
    )
    op.create_index("aliases_by_version", "aliases", ["tenant", "artifact_id", "version"])
    op.create_table(
        "alias_requests",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", name, primary_key=True),
        sa.Column("alias", label, primary_key=True),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("artifact_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("requested_by", sa.String(256), nullable=False),
        sa.Column("requested_at", sa.Float(53), nullable=False),
    )
    op.create_index("alias_requests_by_version", "alias_requests", ["tenant", "artifact_id", "version"])
    op.create_table(
        "tags",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("artifact_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", label, primary_key=True),
        sa.Column("value", sa.String(256), nullable=False),
    )
    op.create_index("tags_by_key", "tags", ["tenant", "key", "artifact_id", "version"])
    op.create_table(
        "pins",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("artifact_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("reason", _ordered(256), primary_key=True),
        sa.Column("pinned_by", sa.String(256), nullable=False),
        sa.Column("pinned_at", sa.Float(53), nullable=False),
    )


def _ordered(length: int) -> sa.String:
    """Return the type of texts that PostgreSQL, too, orders by code points, whatever its locale."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def downgrade() -> None:
    """Drop them."""
    for table in ("pins", "tags", "alias_requests", "aliases"):
        op.drop_table(table)
    op.drop_index("audit_by_artifact", "audit")
    op.drop_index("audit_by_name", "audit")
    op.drop_column("audit", "artifact_id")
    op.drop_column("audit", "name")
    op.drop_column("names", "owner")
