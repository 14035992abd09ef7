"""Operators who sign in, with their links and sessions, and the attempts that are throttled."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "operators",
        sa.Column("id", sa.Uuid(), nullable=False),
        _text("name"),
        _text("role"),
        sa.Column("team", sa.Text(), sa.ForeignKey("teams.name", name="fk_operators_team"), nullable=True),
        sa.Column("credentials", sa.Boolean(), nullable=False),
        _text("password_hash", nullable=True),
        _text("issuer", nullable=True),
        _text("subject", nullable=True),
        _time("created_at"),
        _time("signed_in_at", nullable=True),
        _time("disabled_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_operators"),
        sa.UniqueConstraint("name", name="uq_operators_name"),
        sa.UniqueConstraint("issuer", "subject", name="uq_operators_issuer_subject"),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'team')", name=op.f("ck_operators_role")),
        sa.CheckConstraint("(role = 'team') = (team IS NOT NULL)", name=op.f("ck_operators_team")),
        sa.CheckConstraint("role <> 'team' OR NOT credentials", name=op.f("ck_operators_credentials")),
        sa.CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name=op.f("ck_operators_identity")),
        sa.CheckConstraint("issuer IS NULL OR password_hash IS NULL", name=op.f("ck_operators_password")),
    )
    op.create_table(
        "operator_links",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        _operator("operator_links"),
        _time("created_at"),
        _time("expires_at"),
        sa.PrimaryKeyConstraint("hash", name="pk_operator_links"),
        sa.UniqueConstraint("operator_id", name="uq_operator_links_operator_id"),
    )
    op.create_table(
        "operator_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        _operator("operator_sessions"),
        *(_text(name) for name in ("method", "address", "browser")),
        *(_time(name) for name in ("created_at", "seen_at", "expires_at")),
        sa.PrimaryKeyConstraint("id", name="pk_operator_sessions"),
        sa.UniqueConstraint("hash", name="uq_operator_sessions_hash"),
    )
    op.create_index("ix_operator_sessions_operator_id", "operator_sessions", ["operator_id"])
    op.create_index("ix_operator_sessions_expires_at", "operator_sessions", ["expires_at"])
    op.create_table(
        "sign_in_attempts",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _time("last_at"),
        _time("next_at"),
        sa.PrimaryKeyConstraint("key", name="pk_sign_in_attempts"),
    )
    op.create_index("ix_sign_in_attempts_last_at", "sign_in_attempts", ["last_at"])


def _operator(table: str) -> sa.Column[object]:
    key = sa.ForeignKey("operators.id", name=f"fk_{table}_operator_id", ondelete="CASCADE")
    return sa.Column("operator_id", sa.Uuid(), key, nullable=False)
