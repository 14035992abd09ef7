"""Events without a connection, and those of rare types, are found by indexes of their own, for searches."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

RARE = (
    "connection.creation_failed",
    "connection.reauthorization_failed",
    "connection.refresh_failed",
    "connection.deleted",
    "connection.tags_changed",
    "connection.needs_reconnect",
    "token.expiring",
    "nango.unhandled",
    "waylink.destination.failing",
    "waylink.destination.disabled",
    "waylink.destination.recovered",
    "waylink.job.discarded",
)
INDEXES = (
    ("ix_events_alone", ["id"], "connection_ref IS NULL AND type IS NOT NULL"),
    ("ix_events_rare_type", ["type", "id"], f"type IN {RARE}"),
)


def upgrade() -> None:
    locks.take("events")
    for name, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, "events", columns, if_not_exists=True, postgresql_where=where, sqlite_where=where)
