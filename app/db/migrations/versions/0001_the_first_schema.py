"""The first schema: every table of the design (docs/concepts.md draws how they hang together)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Spelled out here, not imported from the models: a migration never changes again.
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "connections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("nango_id", sa.BigInteger(), nullable=True),
        sa.Column("announced_nango_id", sa.BigInteger(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("auth_mode", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("tags_disagree", sa.Boolean(), nullable=False),
        sa.Column("drift", sa.Text(), nullable=True),
        sa.Column("unlinked_reason", sa.Text(), nullable=True),
        sa.Column("wanted_user", sa.Text(), nullable=True),
        sa.Column("wanted_email", sa.Text(), nullable=True),
        sa.Column("wanted_organization", sa.Text(), nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("last_error_type", sa.Text(), nullable=True),
        sa.Column("last_error_at", TIME, nullable=True),
        sa.Column("errors_seen_at", TIME, nullable=True),
        sa.Column("observed_at", TIME, nullable=True),
        sa.Column("absences", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint(
            "status IN ('unconfirmed', 'active', 'needs_reconnect', 'deleted')", name=op.f("ck_connections_status")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint(
            "environment",
            "integration",
            "connection_id",
            name=op.f("uq_connections_environment_integration_connection_id"),
        ),
    )
    op.create_index("ix_connections_connection_id", "connections", ["connection_id"], unique=False)
    op.create_index(
        "ix_connections_wanted_email",
        "connections",
        ["wanted_email"],
        unique=False,
        postgresql_where=sa.text("unlinked_reason IS NOT NULL"),
        sqlite_where=sa.text("unlinked_reason IS NOT NULL"),
    )
    op.create_index(
        "ix_connections_wanted_organization",
        "connections",
        ["wanted_organization"],
        unique=False,
        postgresql_where=sa.text("unlinked_reason IS NOT NULL"),
        sqlite_where=sa.text("unlinked_reason IS NOT NULL"),
    )
    op.create_index(
        "ix_connections_wanted_user",
        "connections",
        ["wanted_user"],
        unique=False,
        postgresql_where=sa.text("unlinked_reason IS NOT NULL"),
        sqlite_where=sa.text("unlinked_reason IS NOT NULL"),
    )

    op.create_table(
        "deliveries",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("first_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("environment", "fingerprint", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_first_at", "deliveries", ["first_at"], unique=False)

    op.create_table(
        "organizations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
        sa.UniqueConstraint("external_id", name=op.f("uq_organizations_external_id")),
    )
    op.create_table(
        "route_set",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_route_set_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route_set")),
    )
    op.create_table(
        "teams",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_teams")),
    )
    op.create_table(
        "destinations",
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("retired_at", TIME, nullable=True),
        sa.CheckConstraint("kind IN ('celery', 'http')", name=op.f("ck_destinations_kind")),
        sa.ForeignKeyConstraint(["team"], ["teams.name"], name=op.f("fk_destinations_team")),
        sa.PrimaryKeyConstraint("team", "name", name=op.f("pk_destinations")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=False),
        sa.Column("duplicates", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("integration", sa.Text(), nullable=True),
        sa.Column("connection_id", sa.Text(), nullable=True),
        sa.Column("connection_ref", sa.Uuid(), nullable=True),
        sa.Column("confirmed", sa.Boolean(), nullable=True),
        sa.Column("tags", JSON, nullable=True),
        sa.Column("document", JSON, nullable=True),
        sa.Column("route_set", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("processed_at", TIME, nullable=True),
        sa.CheckConstraint(
            "origin IN ('webhook', 'reconcile', 'refresh', 'operator', 'system')", name=op.f("ck_events_origin")
        ),
        sa.CheckConstraint("state IN ('received', 'processed', 'failed')", name=op.f("ck_events_state")),
        sa.ForeignKeyConstraint(
            ["connection_ref"], ["connections.id"], name=op.f("fk_events_connection_ref"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_connection", "events", ["connection_ref", "id"], unique=False)
    op.create_index(
        "ix_events_due",
        "events",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("state = 'received'"),
        sqlite_where=sa.text("state = 'received'"),
    )
    op.create_index("ix_events_received_at", "events", ["received_at"], unique=False)

    op.create_table(
        "refreshes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connection_ref", sa.Uuid(), nullable=False),
        sa.Column("refresh_at", TIME, nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["connection_ref"], ["connections.id"], name=op.f("fk_refreshes_connection_ref")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refreshes")),
    )
    op.create_index("ix_refreshes_connection_ref", "refreshes", ["connection_ref"], unique=False)
    op.create_index(
        "ix_refreshes_due",
        "refreshes",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "uq_refreshes_open",
        "refreshes",
        ["connection_ref"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )

    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_users_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("external_id", name=op.f("uq_users_external_id")),
    )
    op.create_index("ix_users_email", "users", [sa.text("lower(email)")])
    op.create_index("ix_users_organization_id", "users", ["organization_id"], unique=False)

    op.create_table(
        "decisions",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("route_version", sa.Integer(), nullable=False),
        sa.Column("conditions", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_decisions_event_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id", "route", name=op.f("pk_decisions")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("route_version", sa.Integer(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("blocked_by", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('available', 'running', 'retryable', 'completed', 'discarded', 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_jobs_event_id")),
        sa.ForeignKeyConstraint(
            ["team", "destination"], ["destinations.team", "destinations.name"], name=op.f("fk_jobs_team_destination")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("event_id", "route", name=op.f("uq_jobs_event_id_route")),
    )
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('available', 'running', 'retryable')"),
        sqlite_where=sa.text("state IN ('available', 'running', 'retryable')"),
    )

    op.create_table(
        "links",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connection_ref", sa.Uuid(), nullable=False),
        sa.Column("nango_id", sa.BigInteger(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("linked_by", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("close_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("user_id IS NOT NULL OR organization_id IS NOT NULL", name=op.f("ck_links_owner")),
        sa.ForeignKeyConstraint(["connection_ref"], ["connections.id"], name=op.f("fk_links_connection_ref")),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_links_organization_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_links_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_links")),
    )
    op.create_index("ix_links_connection_ref", "links", ["connection_ref"], unique=False)
    op.create_index("ix_links_organization_id", "links", ["organization_id"], unique=False)
    op.create_index("ix_links_user_id", "links", ["user_id"], unique=False)
    op.create_index(
        "uq_links_open",
        "links",
        ["connection_ref"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
        sqlite_where=sa.text("closed_at IS NULL"),
    )

    op.create_table(
        "routes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("pattern", JSON, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("since_set", sa.BigInteger(), nullable=False),
        sa.Column("until_set", sa.BigInteger(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["team", "destination"], ["destinations.team", "destinations.name"], name=op.f("fk_routes_team_destination")
        ),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_routes")),
    )
    op.create_index(
        "uq_routes_live",
        "routes",
        ["name"],
        unique=True,
        postgresql_where=sa.text("until_set IS NULL"),
        sqlite_where=sa.text("until_set IS NULL"),
    )

    op.create_table(
        "attempts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("response_excerpt", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_attempts")),
    )
    op.execute("INSERT INTO route_set (id, version) VALUES (1, 0)")
