"""What tells a repeated delivery from another occurrence: repeats, and which answers were written whole.

Deliveries that the previous release takes name no web process. Repeats of them are duplicates, as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("taken_by", sa.Uuid(), nullable=True))
    op.create_table(
        "repeats",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("first_by", sa.Uuid(), nullable=False),
        sa.Column("taken_by", sa.Uuid(), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("belongs_to", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_repeats_event_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_repeats")),
        sa.UniqueConstraint("id", name=op.f("uq_repeats_id")),
    )
    op.create_index("ix_repeats_event_id", "repeats", ["event_id", "number"])
    op.create_table(
        "web_processes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("settled_before", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_processes")),
    )
    op.create_table(
        "lost_answers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lost_answers")),
    )
