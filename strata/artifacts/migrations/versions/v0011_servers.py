"""Servers that share the database: their leases, whose a build is, and who deletes bytes."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and columns that may be null: servers of the version before run on."""
    text = {length: _text(length) for length in (16, 32, 64, 256)}
    op.create_table(
        "servers",
        sa.Column("server_id", text[64], primary_key=True),
        sa.Column("name", text[256], nullable=False),
        sa.Column("version", text[64], nullable=False),
        sa.Column("config_version", text[64], nullable=False),
        sa.Column("policy_version", text[64]),
        sa.Column("state", text[16], nullable=False),
        sa.Column("started_at", sa.Float(53), nullable=False),
        sa.Column("seen_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )
    op.add_column("builds", sa.Column("server_id", text[64]))
    op.add_column("builds", sa.Column("content_sha256", text[64]))
    op.add_column("removed_versions", sa.Column("claimed_by", text[64]))
    op.create_index("removed_versions_by_removal", "removed_versions", ["removed_at"])


def _text(length: int) -> sa.String:
    """Return the type of texts that PostgreSQL, too, orders by code points, whatever its locale."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def downgrade() -> None:
    """Drop them."""
    op.drop_index("removed_versions_by_removal", "removed_versions")
    op.drop_column("removed_versions", "claimed_by")
    op.drop_column("builds", "content_sha256")
    op.drop_column("builds", "server_id")
    op.drop_table("servers")
