"""The running build of an artifact is one look into an index, however many builds a tenant has had."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("builds_by_artifact", "builds", ["tenant", "artifact_id", "version"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("builds_by_artifact", "builds")
