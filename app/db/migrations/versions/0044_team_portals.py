"""Portals of teams: their look, the links that open them, and the sessions that these begin."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _team(table: str) -> sa.Column[str]:
    return sa.Column("team", sa.Text(), sa.ForeignKey("teams.name", name=f"fk_{table}_team"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "team_portals",
        _team("team_portals"),
        _text("title", nullable=True),
        _text("color", nullable=True),
        sa.Column("origins", JSON, nullable=False),
        _time("changed_at"),
        sa.PrimaryKeyConstraint("team", name="pk_team_portals"),
    )
    op.create_table(
        "team_links",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        _team("team_links"),
        _text("note", nullable=True),
        _text("made_by"),
        _text("origin", nullable=True),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        _time("created_at"),
        _time("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_team_links"),
        sa.UniqueConstraint("hash", name="uq_team_links_hash"),
    )
    op.create_index("ix_team_links_team", "team_links", ["team"])
    op.create_index("ix_team_links_expires_at", "team_links", ["expires_at"])
    link = sa.ForeignKey("team_links.id", name="fk_team_sessions_link_id", ondelete="CASCADE")
    op.create_table(
        "team_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("link_id", sa.Uuid(), link, nullable=False),
        *(_text(name) for name in ("address", "browser")),
        *(_time(name) for name in ("created_at", "seen_at", "expires_at")),
        sa.PrimaryKeyConstraint("id", name="pk_team_sessions"),
        sa.UniqueConstraint("hash", name="uq_team_sessions_hash"),
    )
    op.create_index("ix_team_sessions_link_id", "team_sessions", ["link_id"])
    op.create_index("ix_team_sessions_expires_at", "team_sessions", ["expires_at"])
