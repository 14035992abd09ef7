"""Processes, each with when its main loop last answered and what it has done."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    json = postgresql.JSONB() if on_postgresql else sa.JSON()
    op.create_table(
        "processes",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("schema_revision", sa.Text(), nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=False) for name in ("started_at", "seen_at")),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("database_at", sa.DateTime(timezone=True)),
        sa.Column("stopped_at", sa.DateTime(timezone=True)),
        sa.Column("progress", json, nullable=False),
        sa.Column("task", sa.Text()),
        sa.Column("task_since", sa.DateTime(timezone=True)),
        sa.CheckConstraint("kind IN ('web', 'events', 'io', 'beat')", name=op.f("ck_processes_kind")),
        # No index but the key's, and room in each page: an update writes one row and no index.
        postgresql_with={"fillfactor": "50"},
    )
