"""Figures of one name over a time are found by an index of their own."""

from alembic import op

from app.db.migrations import locks

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("figures")
    op.create_index("ix_figures_name", "figures", ["step", "name", "at"], if_not_exists=True)
