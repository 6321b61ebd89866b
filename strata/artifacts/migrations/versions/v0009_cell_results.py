"""Results of runs of notebooks' cells."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    name = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    op.create_table(
        "notebook_results",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", name, primary_key=True),
        sa.Column("cell", sa.String(64), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("byte_size", sa.BigInteger, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("notebook_results")
