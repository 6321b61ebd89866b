"""Notebooks and their revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    name = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    op.create_table(
        "notebooks",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", name, primary_key=True),
        sa.Column("title", sa.String(256), nullable=False),
        sa.Column("owner", sa.String(256), nullable=False),
        sa.Column("access", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        sa.Column("nbytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "notebook_revisions",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", name, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("author", sa.String(256), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("nbytes", sa.BigInteger, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("analysis", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("notebook_revisions")
    op.drop_table("notebooks")
