"""Runs that compare Nango's list with ours, and what they found; our connections by Nango's id, as its list goes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    # As in 0002: where connections are many, make this one beforehand by hand, with CONCURRENTLY.
    _partial("ix_connections_generation", "connections", ["environment", "nango_id"], "status <> 'deleted'")
    _reconciliations()
    _differences()


def _reconciliations() -> None:
    op.create_table(
        "reconciliations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("accept_deletions", sa.Boolean(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("stage_since", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=True),
        sa.Column("covered", sa.BigInteger(), nullable=False),
        sa.Column("below", sa.BigInteger(), nullable=True),
        sa.Column("relist", sa.Boolean(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("found", JSON, nullable=False),
        sa.Column("counted", JSON, nullable=False),
        sa.Column("samples", JSON, nullable=False),
        sa.Column("missed_by_webhook", sa.Integer(), nullable=False),
        sa.Column("healed", sa.Integer(), nullable=False),
        sa.Column("unhealed", sa.Integer(), nullable=False),
        sa.Column("heal_seconds_sum", sa.Double(), nullable=False),
        sa.Column("heal_seconds_max", sa.Double(), nullable=False),
        sa.Column("heal_count", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.CheckConstraint("trigger IN ('schedule', 'demand', 'import')", name=op.f("ck_reconciliations_trigger")),
        sa.CheckConstraint(
            "stage IN ('listing', 'checking', 'settling', 'done')", name=op.f("ck_reconciliations_stage")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliations")),
    )
    _partial("uq_reconciliations_open", "reconciliations", ["environment"], "finished_at IS NULL", unique=True)
    op.create_index("ix_reconciliations_environment", "reconciliations", ["environment", "id"])


def _differences() -> None:
    op.create_table(
        "differences",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.Column("since", TIME, nullable=True),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_differences")),
        sa.UniqueConstraint(
            "environment",
            "integration",
            "connection_id",
            "type",
            name=op.f("uq_differences_environment_integration_connection_id_type"),
        ),
    )
    _partial("ix_differences_told", "differences", ["environment", "event_id"], "event_id IS NOT NULL")
    _partial("ix_differences_open", "differences", ["environment", "id"], "event_id IS NULL")


def _partial(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where, if_not_exists=True)
