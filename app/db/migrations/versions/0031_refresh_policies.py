"""Refresh policies that plans follow."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refresh_policies",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("environment", "integration")),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("process_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("only_missing", sa.Boolean(), nullable=False),
        sa.Column("after", sa.Text()),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("planned", "moved", "closed")),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
