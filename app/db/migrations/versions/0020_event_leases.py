"""A claim of events is one row for all of them, and their own rows stay as they are."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "event_leases",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("event_ids", sa.ARRAY(sa.Uuid()).with_variant(sa.Text(), "sqlite"), nullable=False),
        sa.Column("until_at", sa.DateTime(timezone=True), nullable=False),
    )
