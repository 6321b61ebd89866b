"""Listings go forward in an index, and dependents are found by their input."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ARTIFACT = "strata://artifact/"
_LONGEST_URI = 256


def upgrade() -> None:
    """Create the indexes and the table of inputs, and fill it."""
    op.drop_index("artifacts_by_time", "artifacts")
    op.create_index("artifacts_by_time", "artifacts", ["tenant", "created_at", "artifact_id", "version"])
    op.create_index("artifacts_by_rows", "artifacts", ["tenant", "row_count", "artifact_id", "version"])
    op.create_index("artifacts_by_bytes", "artifacts", ["tenant", "byte_size", "artifact_id", "version"])
    op.create_index("artifacts_by_state", "artifacts", ["tenant", "state", "byte_size"])
    inputs = op.create_table(
        "artifact_inputs",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("uri", sa.String(256), primary_key=True),
        sa.Column("created_at", sa.Float(53), primary_key=True),
        sa.Column("artifact_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    )
    names = ("tenant", "artifact_id", "version", "created_at", "input_versions")
    artifacts = sa.table("artifacts", *(sa.column(name) for name in names))
    query = sa.select(artifacts).where(artifacts.c.input_versions.like(f"%{_ARTIFACT}%"))
    rows = [
        {name: getattr(row, name) for name in names[:4]} | {"uri": uri}
        for row in op.get_bind().execute(query)
        for uri in json.loads(row.input_versions)
        if uri.startswith(_ARTIFACT) and len(uri) <= _LONGEST_URI
    ]
    op.bulk_insert(inputs, rows)


def downgrade() -> None:
    """Drop them."""
    op.drop_table("artifact_inputs")
    for name in ("artifacts_by_state", "artifacts_by_bytes", "artifacts_by_rows", "artifacts_by_time"):
        op.drop_index(name, "artifacts")
    op.create_index("artifacts_by_time", "artifacts", ["tenant", "created_at"])
