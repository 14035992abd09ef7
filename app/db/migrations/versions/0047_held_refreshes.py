"""Plans that a pause holds are found by an index of their own, which is empty while nothing is paused."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("refreshes")
    where = sa.text("finished_at IS NULL AND outcome IN ('paused', 'provider_down')")
    op.create_index(
        "ix_refreshes_held",
        "refreshes",
        ["connection_ref"],
        if_not_exists=True,
        postgresql_where=where,
        sqlite_where=where,
    )
