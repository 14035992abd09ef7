"""Connections have a number, by which their turns are spread, and a mark where nothing renews them."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("connections")
    op.add_column("connections", sa.Column("not_refreshable", sa.Text(), nullable=True))
    op.add_column("connections", sa.Column("slot", sa.BigInteger(), nullable=True))
    where = sa.text("slot IS NOT NULL")
    op.create_index("ix_connections_slot", "connections", ["slot"], postgresql_where=where, sqlite_where=where)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE IF NOT EXISTS connection_slots AS bigint")
