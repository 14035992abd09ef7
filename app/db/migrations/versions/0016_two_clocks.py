"""Connections have two clocks: the expiry of the token and the deadline of the grant, each with its source.

The release before goes on writing connections and leaves the new columns as they are; the next look at a token sets
them.
"""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("connections")
    op.add_column("connections", sa.Column("expires_source", sa.Text(), nullable=True))
    op.add_column("connections", sa.Column("grant_expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("connections", sa.Column("grant_source", sa.Text(), nullable=True))
    op.add_column("connections", sa.Column("grant_reason", sa.Text(), nullable=True))
    op.add_column("connections", sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=True))
