"""Users and organizations that people manage: when they changed or were removed, and whose owner is asked for again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for table in ("users", "organizations"):
        op.add_column(table, sa.Column("updated_at", TIME))
        op.add_column(table, sa.Column("removed_at", TIME))
        op.add_column(table, sa.Column("former_external_id", sa.Text()))
    op.add_column("connections", sa.Column("owner_look_at", TIME))
    waiting = sa.text("owner_look_at IS NOT NULL")
    op.create_index(
        "ix_connections_owner_look_at",
        "connections",
        ["owner_look_at"],
        postgresql_where=waiting,
        sqlite_where=waiting,
        if_not_exists=True,
    )
