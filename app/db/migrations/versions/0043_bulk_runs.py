"""Bulk runs, and those of their rows that were not changed."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    states = "'waiting', 'running', 'paused', 'cancelled', 'done', 'failed'"
    op.create_table(
        "bulk_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("team", sa.Text()),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("counted", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("done", "failed", "left_alone")),
        sa.Column("after_id", sa.Uuid()),
        sa.Column("after_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Uuid()),
        sa.Column("problem", sa.Text()),
        sa.Column("audit_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bulk_runs"),
        sa.CheckConstraint(f"state IN ({states})", name=op.f("ck_bulk_runs_state")),
    )
    where = sa.text("state IN ('waiting', 'running')")
    op.create_index("ix_bulk_runs_due", "bulk_runs", ["next_at"], postgresql_where=where, sqlite_where=where)
    run = sa.ForeignKey("bulk_runs.id", name="fk_bulk_run_rows_run_id", ondelete="CASCADE")
    op.create_table(
        "bulk_run_rows",
        sa.Column("run_id", sa.Uuid(), run, nullable=False),
        sa.Column("row_id", sa.Uuid(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "row_id", name="pk_bulk_run_rows"),
    )
