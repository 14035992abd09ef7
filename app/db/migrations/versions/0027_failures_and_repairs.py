"""Identical failures are told once, and the cases of connections that need their end user are kept."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from uuid_utils.compat import uuid7

from app.db.migrations import locks

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

TIME: Final = sa.DateTime(timezone=True)
CHUNK: Final = 1000

connections: Final = sa.table(
    "connections",
    sa.column("id", sa.Uuid()),
    sa.column("environment", sa.Text()),
    sa.column("integration", sa.Text()),
    sa.column("last_error_type", sa.Text()),
    sa.column("last_error_at", TIME),
    sa.column("updated_at", TIME),
)
repairs: Final = sa.table(
    "repairs",
    sa.column("id", sa.Uuid()),
    sa.column("connection_ref", sa.Uuid()),
    sa.column("environment", sa.Text()),
    sa.column("integration", sa.Text()),
    sa.column("cause", sa.Text()),
    sa.column("failing_since", TIME),
    sa.column("opened_at", TIME),
)


def upgrade() -> None:
    locks.take("connections", "events")
    op.add_column("connections", sa.Column("failing_since", TIME, nullable=True))
    op.add_column("connections", sa.Column("failure_shape", sa.Text(), nullable=True))
    op.add_column("connections", sa.Column("failure_event_id", sa.Uuid(), nullable=True))
    op.add_column("connections", sa.Column("failure_at", TIME, nullable=True))
    op.add_column("connections", sa.Column("calls_since", TIME, nullable=True))
    op.add_column("connections", sa.Column("calls", sa.Integer(), nullable=True))
    op.add_column("events", sa.Column("recurrence_of", sa.Uuid(), nullable=True))
    op.create_table(
        "repairs",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("connection_ref", sa.Uuid(), sa.ForeignKey("connections.id"), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("failing_since", TIME, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
    )
    op.create_index("ix_repairs_connection_ref", "repairs", ["connection_ref"])
    where = sa.text("closed_at IS NULL")
    op.create_index(
        "uq_repairs_open", "repairs", ["connection_ref"], unique=True, postgresql_where=where, sqlite_where=where
    )
    _open_cases()


def _open_cases() -> None:
    """Open the cases of the connections that wait for their end user already, since their last error."""
    connection = op.get_bind()
    found = connection.execute(sa.select(connections).where(sa.text("status = 'needs_reconnect'"))).all()
    for start in range(0, len(found), CHUNK):
        connection.execute(repairs.insert(), [_case(row) for row in found[start : start + CHUNK]])


def _case(row: Any) -> dict[str, Any]:
    since = row.last_error_at or row.updated_at
    return {
        "id": uuid7(),
        "connection_ref": row.id,
        "environment": row.environment,
        "integration": row.integration,
        "cause": row.last_error_type or "unknown",
        "failing_since": since,
        "opened_at": since,
    }
