"""Connections know which deadlines of theirs were announced, so that each is told once."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("connections")
    op.add_column("connections", sa.Column("announced_expiry", sa.DateTime(timezone=True), nullable=True))
    op.add_column("connections", sa.Column("announced_grant", sa.DateTime(timezone=True), nullable=True))
