"""Tokens that lapsed are found past those that are left out, and events of a connection that is not known by its id."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

INDEXES = (
    (
        "ix_connections_expiring",
        "connections",
        ["status", "expires_at", "alive_by", "last_error_type"],
        "expires_at IS NOT NULL",
    ),
    (
        "ix_events_without_connection",
        "events",
        ["connection_id", "id"],
        "connection_ref IS NULL AND connection_id IS NOT NULL",
    ),
)


def upgrade() -> None:
    locks.take("connections", "events")
    for name, table, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, columns, if_not_exists=True, postgresql_where=where, sqlite_where=where)
    op.drop_index("ix_connections_expires_at", table_name="connections", if_exists=True)
