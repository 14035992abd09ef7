"""Forecasts of refreshes are kept for a while, and what happened is counted from an index of finished refreshes."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refresh_forecasts",
        sa.Column("environment", sa.Text(), primary_key=True),
        sa.Column("day", sa.Text(), primary_key=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hours", sa.Text(), nullable=False),
        sa.Column("tables", sa.Text(), nullable=False),
    )
    where = sa.text("finished_at IS NOT NULL")
    op.create_index(
        "ix_refreshes_finished",
        "refreshes",
        ["finished_at"],
        if_not_exists=True,
        postgresql_where=where,
        sqlite_where=where,
    )
