"""Leases of notebooks' sessions, and what operators have switched of notebooks' workers."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables: servers of the version before do not use them."""
    text = {length: _text(length) for length in (16, 64, 256)}
    op.create_table(
        "notebook_leases",
        sa.Column("tenant", text[64], primary_key=True),
        sa.Column("name", text[64], primary_key=True),
        sa.Column("owner", text[64], nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("until", sa.Float(53), nullable=False),
        sa.Column("running", sa.Text, nullable=False),
    )
    op.create_table(
        "notebook_workers",
        sa.Column("worker", text[64], primary_key=True),
        sa.Column("state", text[16], nullable=False),
        sa.Column("changed_at", sa.Float(53), nullable=False),
        sa.Column("changed_by", text[256], nullable=False),
    )
    op.create_table(
        "notebook_allowances",
        sa.Column("tenant", text[64], primary_key=True),
        sa.Column("worker", text[64], primary_key=True),
        sa.Column("places", sa.Integer, nullable=False),
    )


def _text(length: int) -> sa.String:
    """Return the type of texts that PostgreSQL, too, orders by code points, whatever its locale."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def downgrade() -> None:
    """Drop them."""
    op.drop_table("notebook_allowances")
    op.drop_table("notebook_workers")
    op.drop_table("notebook_leases")
