"""Events that are stored without a document: it is made from that of the event they followed from.

The release before shows none for them, and its backfills pass over them.
"""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("events")
    op.add_column("events", sa.Column("cause_id", sa.Uuid(), nullable=True))
