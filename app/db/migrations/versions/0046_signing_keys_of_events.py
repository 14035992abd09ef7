"""The number of the signing key that verified an event's webhook."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("events")
    op.add_column("events", sa.Column("signing_key", sa.SmallInteger(), nullable=True))
