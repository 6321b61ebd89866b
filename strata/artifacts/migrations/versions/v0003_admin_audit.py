"""Who has done what to which tenant by the admin API."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("tenant", sa.String(64)),
        sa.Column("principal", sa.String(256), nullable=False),
        sa.Column("principal_tenant", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("old", sa.Text),
        sa.Column("new", sa.Text),
        sa.Column("request_id", sa.String(128), nullable=False),
    )
    op.create_index("audit_by_tenant", "audit", ["tenant", "id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("audit")
