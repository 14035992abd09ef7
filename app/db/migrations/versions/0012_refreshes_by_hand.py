"""Refreshes by hand are in the history, with the expiry before and after; what expired and has no plan is looked at.

Earlier releases stopped planning for a token that expired and was not renewed, and its connection stayed `active`.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite
from uuid_utils.compat import uuid7

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TIME: Final = sa.DateTime(timezone=True)
SPREAD: Final = timedelta(hours=1)
CHUNK: Final = 1000

connections: Final = sa.table(
    "connections",
    sa.column("id", sa.Uuid()),
    sa.column("status", sa.Text()),
    sa.column("expires_at", TIME),
)
refreshes: Final = sa.table(
    "refreshes",
    sa.column("id", sa.Uuid()),
    sa.column("connection_ref", sa.Uuid()),
    sa.column("refresh_at", TIME),
    sa.column("next_at", TIME),
    sa.column("forced", sa.Boolean()),
    sa.column("reason", sa.Text()),
    sa.column("attempts", sa.Integer()),
    sa.column("failures", sa.Integer()),
    sa.column("created_at", TIME),
    sa.column("finished_at", TIME),
)


def upgrade() -> None:
    op.add_column("refreshes", sa.Column("requested_by", sa.Text(), nullable=True))
    op.add_column("refreshes", sa.Column("previous_expires_at", TIME, nullable=True))
    where = sa.text("status = 'needs_reconnect'")
    op.create_index(
        "ix_connections_needs_reconnect",
        "connections",
        ["id"],
        postgresql_where=where,
        sqlite_where=where,
        if_not_exists=True,
    )
    _look_at_the_expired(datetime.now(UTC))


def _look_at_the_expired(now: datetime) -> None:
    connection = op.get_bind()
    stored = now.replace(tzinfo=None) if connection.dialect.name == "sqlite" else now
    planned = sa.exists().where(refreshes.c.connection_ref == connections.c.id, refreshes.c.finished_at.is_(None))
    expired = sa.select(connections.c.id).where(
        connections.c.status == "active",
        connections.c.expires_at < stored,
        ~planned,
    )
    found = list(connection.scalars(expired))
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    adding = insert(refreshes).on_conflict_do_nothing()  # a worker of the release before may plan meanwhile
    for start in range(0, len(found), CHUNK):
        connection.execute(adding, [_plan(ref, stored) for ref in found[start : start + CHUNK]])


def _plan(connection_ref: UUID, now: datetime) -> dict[str, Any]:
    due_at = now + SPREAD * random.random()
    return {
        "id": uuid7(),
        "connection_ref": connection_ref,
        "refresh_at": due_at,
        "next_at": due_at,
        "forced": False,
        "reason": "expired, and an earlier release planned nothing more",
        "attempts": 0,
        "failures": 0,
        "created_at": now,
        "finished_at": None,
    }
