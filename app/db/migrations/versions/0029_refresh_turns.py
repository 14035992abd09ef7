"""Turns of integrations whose refreshes are limited."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refresh_turns",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("environment", "integration")),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=False) for name in ("next_at", "held_until")),
    )
