"""What delivery needs: HTTP destinations with sealed secrets, their health, routes that can be off, parked jobs.

And indexes of acts that the audit has as begun, and of tags.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
UNFINISHED = "state IN ('available', 'running', 'retryable')"


def upgrade() -> None:
    _destinations()
    _discards()
    _jobs()
    op.add_column("events", sa.Column("untold", sa.Text(), nullable=True))
    op.add_column("routes", sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.true()))
    _partial("ix_audit_begun", ["id"], "outcome = 'begun'", table="audit")
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "ix_connections_tags",
            "connections",
            ["tags"],
            postgresql_using="gin",
            postgresql_ops={"tags": "jsonb_path_ops"},
            if_not_exists=True,
        )
    op.add_column("teams", sa.Column("retired_at", TIME, nullable=True))


def _destinations() -> None:
    for column in (
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("broker_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("timeout_seconds", sa.Double(), nullable=True),
        sa.Column("rate_per_second", sa.Double(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("updated_at", TIME, nullable=True),
        sa.Column("disabled_at", TIME, nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
    ):
        op.add_column("destinations", column)
    owner = (["team", "destination"], ["destinations.team", "destinations.name"])
    op.create_table(
        "destination_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(*owner, name=op.f("fk_destination_secrets_team_destination")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destination_secrets")),
    )
    op.create_index("ix_destination_secrets_team", "destination_secrets", ["team", "destination"])
    op.create_table(
        "destination_health",
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("window_at", TIME, nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("failing_since", TIME, nullable=True),
        sa.Column("probe_at", TIME, nullable=True),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("last_succeeded_at", TIME, nullable=True),
        sa.Column("last_failed_at", TIME, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("paced_to", TIME, nullable=True),
        sa.ForeignKeyConstraint(*owner, name=op.f("fk_destination_health_team_destination")),
        sa.PrimaryKeyConstraint("team", "destination", name=op.f("pk_destination_health")),
    )


def _discards() -> None:
    op.create_table(
        "discards",
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("since", TIME, nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.PrimaryKeyConstraint("team", "destination", "environment", name=op.f("pk_discards")),
    )


def _jobs() -> None:
    op.add_column("jobs", sa.Column("backfill", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("fault", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("schedule_from", sa.Integer(), nullable=False, server_default=sa.text("0")))
    # As in 0003: where jobs are many, make these beforehand by hand, with CONCURRENTLY. Each destination's jobs stand
    # in a line of their own, and parked ones in neither that a claim reads: a dead destination's backlog would be read
    # by each.
    op.drop_index("ix_jobs_due", "jobs")
    op.drop_index("ix_jobs_suspects", "jobs")
    _line("ix_jobs_ready", "blocked_by IS NULL AND crashes = 0")
    _line("ix_jobs_held", "blocked_by IS NULL AND crashes > 0")
    _line("ix_jobs_parked", "blocked_by IS NOT NULL")
    _partial("ix_jobs_cancelled", ["id"], "state = 'cancelled'")
    _partial("ix_jobs_completed", ["team", "destination", "finished_at"], "state = 'completed'")


def _line(name: str, condition: str) -> None:
    _partial(name, ["team", "destination", "next_at"], f"{UNFINISHED} AND {condition}")


def _partial(name: str, columns: list[str], condition: str, *, table: str = "jobs") -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where, if_not_exists=True)
