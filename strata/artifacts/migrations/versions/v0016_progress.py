"""The progress of builds, which servers that share the database tell each other."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("builds", sa.Column("progress", sa.Float(53)))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("builds", "progress")
