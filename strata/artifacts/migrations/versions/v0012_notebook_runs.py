"""Runs of whole notebooks, and their schedules."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""

    def text(length: int) -> sa.types.TypeEngine[str]:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    op.create_table(
        "notebook_runs",
        sa.Column("tenant", text(64), primary_key=True),
        sa.Column("name", text(64), primary_key=True),
        sa.Column("run", text(64), primary_key=True),
        sa.Column("author", text(256), nullable=False),
        sa.Column("schedule", text(64), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", text(16), nullable=False),
        sa.Column("began_at", sa.Float(53), nullable=False),
        sa.Column("ended_at", sa.Float(53)),
        sa.Column("alive_until", sa.Float(53), nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_table(
        "notebook_schedules",
        sa.Column("tenant", text(64), primary_key=True),
        sa.Column("name", text(64), primary_key=True),
        sa.Column("schedule", text(64), primary_key=True),
        sa.Column("owner", text(256), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("cron", text(256), nullable=False),
        sa.Column("zone", text(64), nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("next_at", sa.Float(53)),
        sa.Column("message", text(512), nullable=False),
        sa.Column("made_at", sa.Float(53), nullable=False),
    )
    op.create_index("notebook_schedules_by_time", "notebook_schedules", ["next_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("notebook_schedules")
    op.drop_table("notebook_runs")
