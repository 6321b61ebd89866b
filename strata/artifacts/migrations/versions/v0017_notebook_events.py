"""The events of notebooks' sessions, with which a server goes on that adopts one."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table: servers of the version before do not use it."""
    op.create_table(
        "notebook_events",
        sa.Column("tenant", _text(64), primary_key=True),
        sa.Column("name", _text(64), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("session", _text(64), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("nbytes", sa.Integer, nullable=False),
        sa.Column("events", sa.Text, nullable=False),
    )


def _text(length: int) -> sa.String:
    """Return the type of texts that PostgreSQL, too, orders by code points, whatever its locale."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def downgrade() -> None:
    """Drop it."""
    op.drop_table("notebook_events")
