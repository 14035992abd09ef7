"""The canary's last passages, and when the next one is due."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "canary",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Uuid()),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True)) for name in ("stored_at", "processed_at", "delivered_at")),
        sa.CheckConstraint("id = 1", name=op.f("ck_canary_single")),
        postgresql_with={"fillfactor": "50"},
    )
