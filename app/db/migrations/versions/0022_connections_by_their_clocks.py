"""Connections are found by when their tokens and grants lapse."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for clock in ("expires_at", "grant_expires_at"):
        where = sa.text(f"{clock} IS NOT NULL")
        op.create_index(
            f"ix_connections_{clock}",
            "connections",
            ["status", clock],
            if_not_exists=True,
            postgresql_where=where,
            sqlite_where=where,
        )
