"""What servers that share the database tell each other of tenants' rates."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "usage_reports",
        sa.Column("server_id", _server_id(), primary_key=True),
        sa.Column("number", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True),
        sa.Column("report", sa.Text, nullable=False),
    )


def _server_id() -> sa.String:
    """Return the type of texts that PostgreSQL, too, orders by code points, whatever its locale."""
    return sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def downgrade() -> None:
    """Drop it."""
    op.drop_table("usage_reports")
