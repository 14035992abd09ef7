"""Integrations whose refreshes are paused, and the recent results by which an outage of a provider is seen."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_KEY = ("environment", "integration")


def upgrade() -> None:
    op.create_table(
        "refresh_windows",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in _KEY),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("renewed", "failed", "renewed_before", "failed_before")
        ),
    )
    op.create_table(
        "refresh_pauses",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in _KEY),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("failed", sa.Integer(), nullable=True),
        sa.Column("renewed_or_failed", sa.Integer(), nullable=True),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("cause IN ('outage', 'operator')", name="cause"),
    )
