"""The access audit."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""

    def text(length: int) -> sa.types.TypeEngine[str]:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    number = sa.Integer().with_variant(sa.BigInteger, "postgresql")
    op.create_table(
        "accesses",
        sa.Column("id", number, primary_key=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("tenant", text(64), nullable=False),
        sa.Column("principal", text(256), nullable=False),
        sa.Column("request_id", text(128), nullable=False),
        sa.Column("action", text(16), nullable=False),
        sa.Column("outcome", text(64), nullable=False),
        sa.Column("artifact_id", text(64)),
        sa.Column("version", number),
        sa.Column("rows", sa.BigInteger),
        sa.Column("nbytes", sa.BigInteger, nullable=False),
        sa.Column("tables", sa.Text, nullable=False),
        sa.Column("byte_size", sa.Integer, nullable=False),
    )
    op.create_index("accesses_by_tenant", "accesses", ["tenant", "id"])
    op.create_index("accesses_by_time", "accesses", ["tenant", "at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("accesses")
