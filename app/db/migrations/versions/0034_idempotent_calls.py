"""Calls of the API with idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotent_calls",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("caller", "key")),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=False) for name in ("began_at", "held_until")),
        sa.Column("status", sa.Integer()),
        sa.Column("answer", sa.Text()),
    )
    op.create_index("ix_idempotent_calls_began_at", "idempotent_calls", ["began_at"])
