"""Refreshes that found a dead grant are read from an index."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("outcome = 'exhausted'")
    op.create_index(
        "ix_refreshes_exhausted",
        "refreshes",
        ["id"],
        if_not_exists=True,
        postgresql_where=where,
        sqlite_where=where,
    )
