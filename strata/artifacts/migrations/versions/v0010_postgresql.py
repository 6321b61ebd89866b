"""Which versions of Strata can use the schema; on PostgreSQL, texts ordered by code points and long numbers.

From here on a migration that only adds tables, or columns that have a default or may be null, lets servers of
the version before run on (expand). One that ends that sets ``schema_support.oldest`` to its own revision, and
comes a version after the one that stopped using what it removes (contract).
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NUMBERS = (
    ("artifacts", "version"),
    ("artifact_inputs", "version"),
    ("builds", "version"),
    ("names", "version"),
    ("aliases", "version"),
    ("alias_requests", "version"),
    ("tags", "version"),
    ("pins", "version"),
    ("removed_versions", "version"),
    ("audit", "id"),
)
SORTED = (("artifacts_by_rows", "row_count"), ("artifacts_by_bytes", "byte_size"))


def upgrade() -> None:
    """Create the table; on PostgreSQL, change the columns."""
    support = op.create_table(
        "schema_support",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("oldest", sa.String(32), nullable=False),
    )
    op.bulk_insert(support, [{"id": 1, "oldest": revision}])
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    found = connection.execute(
        sa.text(
            "SELECT table_name, column_name, character_maximum_length FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND data_type = 'character varying' "
            "AND table_name != 'alembic_version' AND collation_name IS NULL ORDER BY 1, 2"
        )
    ).all()
    for table, column, length in found:
        op.execute(f'ALTER TABLE {table} ALTER COLUMN "{column}" TYPE varchar({length}) COLLATE "C"')
    for table, column in NUMBERS:
        op.execute(f'ALTER TABLE {table} ALTER COLUMN "{column}" TYPE bigint')
    op.execute("ALTER SEQUENCE audit_id_seq AS bigint")
    for index, column in SORTED:  # an unknown value sorts below all others, as on SQLite
        op.drop_index(index, "artifacts")
        op.execute(f"CREATE INDEX {index} ON artifacts (tenant, {column} NULLS FIRST, artifact_id, version)")


def downgrade() -> None:
    """Drop the table; what is changed on PostgreSQL fits the older schema."""
    op.drop_table("schema_support")
