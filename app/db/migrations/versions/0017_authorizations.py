"""Connections know when their end user authorized them: some grants count from then, however often they are renewed."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("connections")
    op.add_column("connections", sa.Column("authorized_at", sa.DateTime(timezone=True), nullable=True))
