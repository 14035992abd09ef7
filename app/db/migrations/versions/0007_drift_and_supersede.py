"""The tags that a drifting connection had, and which newer connection took another one's place."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    # No row has a value in either column, so this takes no time, and the index starts empty.
    op.add_column("connections", sa.Column("known_tags", JSON, nullable=True))
    op.add_column("connections", sa.Column("superseded_by", sa.Uuid(), nullable=True))
    where = sa.text("superseded_by IS NOT NULL")
    op.create_index(
        "ix_connections_superseded",
        "connections",
        ["superseded_by"],
        postgresql_where=where,
        sqlite_where=where,
        if_not_exists=True,
    )
