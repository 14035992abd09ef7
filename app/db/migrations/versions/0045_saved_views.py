"""Views of lists that operators saved."""

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_views",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("page", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_saved_views"),
        sa.CheckConstraint("page IN ('events', 'jobs')", name=op.f("ck_saved_views_page")),
    )
    op.create_index("ix_saved_views_actor", "saved_views", ["actor"])
    op.create_index(
        "ix_saved_views_shared",
        "saved_views",
        ["id"],
        postgresql_where=sa.text("shared"),
        sqlite_where=sa.text("shared"),
    )
