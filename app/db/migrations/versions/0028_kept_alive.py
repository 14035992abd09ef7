"""Connections that are kept alive only, by policy or for want of request budget, are marked."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("connections")
    op.add_column("connections", sa.Column("alive_by", sa.Text(), nullable=True))
    where = sa.text("alive_by IS NOT NULL")
    columns = ["environment", "integration", "slot"]
    op.create_index("ix_connections_alive", "connections", columns, postgresql_where=where, sqlite_where=where)
