"""The tables. What a promise rests on is a constraint here, not a habit of the code.

One idea for all due work: `next_at` says when a row may be taken, and taking it pushes `next_at` to the end of the
lease and counts the attempt. A lease that ran out is a row that is due again.
"""

from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.db.types import UNKNOWN, Readable, StoredInteger, StoredJson, UtcDateTime

BigInt = StoredInteger()
UNFINISHED: Final = "state IN ('available', 'running', 'retryable')"  # of jobs
_QUEUE: Final = ("team", "destination", "next_at")  # the order of a destination's queue


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        UUID: Uuid(),
        str: Text(),
        bytes: LargeBinary(),
        dict[str, Any]: StoredJson(dict),
        list[Any]: StoredJson(list),
    }


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over the rows that are still of interest, so that it stays small however large the table grows."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


class Delivery(Base):
    """The duplicate window: one row per (environment, fingerprint) of the last minutes (promise 4)."""

    __tablename__ = "deliveries"

    environment: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    first_at: Mapped[datetime] = mapped_column(index=True)
    taken_by: Mapped[UUID | None]  # the web process that took the first delivery; None: one of an earlier release


class Repeat(Base):
    """A delivery of bytes that came before within their window. A worker decides whether it is a duplicate.

    Those of one event are numbered in the order of their commits. The last decided one is kept, since the next one is
    judged by the end of its answer.
    """

    __tablename__ = "repeats"
    __table_args__ = (Index("ix_repeats_event_id", "event_id", "number"),)

    number: Mapped[int] = mapped_column(BigInt.with_variant(Integer(), "sqlite"), primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)  # that of the further event, if it is one
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))  # the first of these bytes
    first_by: Mapped[UUID]  # the web process that took the first of these bytes
    taken_by: Mapped[UUID]  # the web process that took this one
    received_at: Mapped[datetime]
    belongs_to: Mapped[UUID | None]  # once decided: the event that it makes, or that it is a duplicate of


class WebProcess(Base):
    """How far a web process has reported on its answers: all before an id were whole, except for the lost ones."""

    __tablename__ = "web_processes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    settled_before: Mapped[UUID]  # the end of its answer is known for every delivery that it took before this id


class LostAnswer(Base):
    """A delivery whose answer was not written whole to its connection: Nango is expected to send it again."""

    __tablename__ = "lost_answers"

    id: Mapped[UUID] = mapped_column(primary_key=True)


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("state IN ('received', 'processed', 'failed')", name="state"),
        CheckConstraint("origin IN ('webhook', 'reconcile', 'refresh', 'operator', 'system')", name="origin"),
        _partial("ix_events_due", "next_at", where="state = 'received'"),
        _partial("ix_events_suspects", "next_at", where="state = 'received' AND attempts > 0"),
        _partial("ix_events_failed", "id", where="state = 'failed'"),
        _partial("ix_events_of_connection", "connection_ref", "id", where="connection_ref IS NOT NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    origin: Mapped[str]
    state: Mapped[str]
    received_at: Mapped[datetime]  # ids are in the same order: whoever looks for a time looks for ids
    last_seen_at: Mapped[datetime]
    duplicates: Mapped[int]
    body: Mapped[bytes | None]  # the webhook as it came; None for events of our own
    next_at: Mapped[datetime]
    attempts: Mapped[int]  # claims without a result; five of them and the event is given up
    looks: Mapped[int]  # successful look-ups at Nango that did not settle it yet
    # Filled when the event is processed.
    type: Mapped[str | None]
    integration: Mapped[str | None]
    connection_id: Mapped[str | None]
    connection_ref: Mapped[UUID | None] = mapped_column(ForeignKey("connections.id", ondelete="SET NULL"))
    confirmed: Mapped[bool | None]
    tags: Mapped[dict[str, Any] | None]
    document: Mapped[dict[str, Any] | None]  # as judged against the routes of `route_set`
    route_set: Mapped[int | None] = mapped_column(BigInt)
    failure: Mapped[str | None]  # one word: crashed, error, not_confirmed
    problem: Mapped[str | None]  # why it waits or failed, with the traceback of a fault of ours
    untold: Mapped[str | None]  # why it was not routed: the teams had been told before
    processed_at: Mapped[datetime | None]


class Connection(Base):
    """Our record of Nango's connection; `nango_id` is its generation (Nango contract: Connection identity)."""

    __tablename__ = "connections"
    __table_args__ = (
        UniqueConstraint("environment", "integration", "connection_id"),
        CheckConstraint("status IN ('unconfirmed', 'active', 'needs_reconnect', 'deleted')", name="status"),
        Index("ix_connections_connection_id", "connection_id"),
        _partial("ix_connections_wanted_user", "wanted_user", where="unlinked_reason IS NOT NULL"),
        _partial("ix_connections_wanted_email", "wanted_email", where="unlinked_reason IS NOT NULL"),
        _partial("ix_connections_wanted_organization", "wanted_organization", where="unlinked_reason IS NOT NULL"),
        _partial("ix_connections_superseded", "superseded_by", where="superseded_by IS NOT NULL"),
        _partial("ix_connections_owner_look_at", "owner_look_at", where="owner_look_at IS NOT NULL"),
        _partial("ix_connections_needs_reconnect", "id", where="status = 'needs_reconnect'"),
        # Nango lists its newest first: a page of its list is a span of ours.
        _partial("ix_connections_generation", "environment", "nango_id", where="status <> 'deleted'"),
        # Finds those with a tag; SQLite has no such index.
        Index("ix_connections_tags", "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}).ddl_if(
            dialect="postgresql"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    integration: Mapped[str]
    connection_id: Mapped[str]
    nango_id: Mapped[int | None] = mapped_column(BigInt)
    announced_nango_id: Mapped[int | None] = mapped_column(BigInt)  # the generation whose creation was routed
    provider: Mapped[str | None]
    auth_mode: Mapped[str | None]
    status: Mapped[str]
    tags: Mapped[dict[str, Any]]
    tags_disagree: Mapped[bool]
    drift: Mapped[str | None]
    known_tags: Mapped[dict[str, Any] | None]  # the last that carried the link, kept for as long as there is drift
    unlinked_reason: Mapped[str | None]
    superseded_by: Mapped[UUID | None]  # the link of the same owner's newer connection that took the place of its own
    # The owner the tags name, in the application's own ids, so that late users find their connections.
    wanted_user: Mapped[str | None]
    wanted_email: Mapped[str | None]
    wanted_organization: Mapped[str | None]
    owner_look_at: Mapped[datetime | None]  # when the application's database is asked again (policy `sql`)
    expires_at: Mapped[datetime | None]  # of the credentials, as last read; the only thing kept of them
    last_error_type: Mapped[str | None]
    last_error_at: Mapped[datetime | None]
    errors_seen_at: Mapped[datetime | None]  # when the newest view that told of errors, or of none, was asked for
    observed_at: Mapped[datetime | None]  # when the newest view of Nango's that shaped this row was asked for
    absences: Mapped[int]  # looks for a deletion in a row that did not find it
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class User(Base):
    __tablename__ = "users"
    __table_args__ = (Index("ix_users_email", text("lower(email)")),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    display_name: Mapped[str | None]
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"), index=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    # A removed user whose links are history stays as a row, under an external id that nobody can claim.
    removed_at: Mapped[datetime | None]
    former_external_id: Mapped[str | None]


class Organization(Base):
    __tablename__ = "organizations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]  # as a user's
    former_external_id: Mapped[str | None]


class Link(Base):
    """The dated fact that a connection belongs to somebody. Closed, never deleted."""

    __tablename__ = "links"
    __table_args__ = (
        CheckConstraint("user_id IS NOT NULL OR organization_id IS NOT NULL", name="owner"),
        _partial("uq_links_open", "connection_ref", where="closed_at IS NULL", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    connection_ref: Mapped[UUID] = mapped_column(ForeignKey("connections.id"), index=True)
    nango_id: Mapped[int | None] = mapped_column(BigInt)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"), index=True)
    linked_by: Mapped[str]
    event_id: Mapped[UUID | None]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    close_reason: Mapped[str | None]


class Team(Base):
    __tablename__ = "teams"

    name: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]  # `file` (read-only elsewhere) or `api`
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class Destination(Base):
    __tablename__ = "destinations"
    __table_args__ = (CheckConstraint("kind IN ('celery', 'http')", name="kind"),)

    team: Mapped[str] = mapped_column(ForeignKey("teams.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    queue: Mapped[str | None]
    url: Mapped[str | None]  # HTTP
    broker_sealed: Mapped[bytes | None]  # the URL of a Celery team's own broker, encrypted; None: the default one
    timeout_seconds: Mapped[float | None]  # HTTP; None: the default
    rate_per_second: Mapped[float | None]  # jobs at most; None: no limit
    source: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))  # of the definition, against concurrent edits
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]  # its jobs are parked
    disabled_reason: Mapped[str | None]
    retired_at: Mapped[datetime | None]


class DestinationSecret(Base):
    """A signing secret of an HTTP destination, encrypted. Several are live during a rotation."""

    __tablename__ = "destination_secrets"
    __table_args__ = (
        ForeignKeyConstraint(["team", "destination"], ["destinations.team", "destinations.name"]),
        Index("ix_destination_secrets_team", "team", "destination"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    team: Mapped[str]
    destination: Mapped[str]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]  # None: until it is rotated


class DestinationHealth(Base):
    """The state of a destination's circuit breaker, apart from its definition, which hardly changes."""

    __tablename__ = "destination_health"
    __table_args__ = (ForeignKeyConstraint(["team", "destination"], ["destinations.team", "destinations.name"]),)

    team: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    window_at: Mapped[datetime]  # the beginning of the window of `succeeded` and `failed`
    succeeded: Mapped[int]
    failed: Mapped[int]
    failing_since: Mapped[datetime | None]  # set while the breaker is open
    probe_at: Mapped[datetime | None]  # the next probe
    probes: Mapped[int]  # probes that failed in a row
    last_succeeded_at: Mapped[datetime | None]
    last_failed_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    paced_to: Mapped[datetime | None]  # of the rate limit, see `app.domain.pacing`


class Discards(Base):
    """Dead letters of a destination that wait to be announced, together at `next_at`."""

    __tablename__ = "discards"

    team: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[datetime]
    since: Mapped[datetime | None]  # when the first was discarded; None while `count` is 0
    count: Mapped[int]
    facts: Mapped[dict[str, Any]]  # the rest of the announcement


class RouteSetVersion(Base):
    """One row with one number, which grows with every change of a route: workers see changes by one cheap read."""

    __tablename__ = "route_set"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(BigInt)


class RouteVersion(Base):
    """A version of a route, in force from route set `since_set` up to, not including, `until_set`.

    The routes of a past set are the rows whose span contains it, so every old decision can be repeated.
    """

    __tablename__ = "routes"
    __table_args__ = (
        ForeignKeyConstraint(["team", "destination"], ["destinations.team", "destinations.name"]),
        _partial("uq_routes_live", "team", "name", where="until_set IS NULL", unique=True),
    )

    team: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    destination: Mapped[str]
    job: Mapped[str]
    pattern: Mapped[dict[str, Any]]
    enabled: Mapped[bool] = mapped_column(server_default=true())
    source: Mapped[str]
    since_set: Mapped[int] = mapped_column(BigInt)
    until_set: Mapped[int | None] = mapped_column(BigInt)
    created_at: Mapped[datetime]


class Decision(Base):
    """A route that matched an event, with the conditions."""

    __tablename__ = "decisions"
    __table_args__ = (ForeignKeyConstraint(["event_id"], ["events.id"], ondelete="CASCADE"),)

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(primary_key=True, server_default=text("''"))  # empty in old rows: see `decisions`
    route: Mapped[str] = mapped_column(primary_key=True)
    route_version: Mapped[int]
    conditions: Mapped[list[Any]]
    created_at: Mapped[datetime]


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("event_id", "team", "route"),
        ForeignKeyConstraint(["team", "destination"], ["destinations.team", "destinations.name"]),
        CheckConstraint(
            "state IN ('available', 'running', 'retryable', 'completed', 'discarded', 'cancelled')", name="state"
        ),
        # A claim reads the jobs of one destination, so that no backlog delays another. `held`: jobs that run or whose
        # worker was killed; parked jobs are in neither.
        _partial("ix_jobs_ready", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NULL AND crashes = 0"),
        _partial("ix_jobs_held", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NULL AND crashes > 0"),
        _partial("ix_jobs_parked", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NOT NULL"),
        _partial("ix_jobs_discarded", "id", where="state = 'discarded'"),
        _partial("ix_jobs_cancelled", "id", where="state = 'cancelled'"),
        # For finding jobs that a team's broker lost, by the time of their delivery.
        _partial("ix_jobs_completed", "team", "destination", "finished_at", where="state = 'completed'"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id"))
    route: Mapped[str]
    route_version: Mapped[int]
    team: Mapped[str]
    destination: Mapped[str]
    name: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int]  # attempts begun, shown to the team
    crashes: Mapped[int]  # claims in a row without a result
    next_at: Mapped[datetime]
    blocked_by: Mapped[str | None]  # the reason why it is parked
    problem: Mapped[str | None]
    fault: Mapped[str | None]  # of a discarded job: `team` or `ours`
    backfill: Mapped[bool] = mapped_column(server_default=false())  # made by a backfill
    schedule_from: Mapped[int] = mapped_column(server_default=text("0"))  # attempts before the schedule was restarted
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Attempt(Base):
    __tablename__ = "attempts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    latency_ms: Mapped[float]
    outcome: Mapped[str]  # completed, retryable, discarded
    status: Mapped[int | None]  # HTTP destinations: the answer's status
    error: Mapped[str | None]
    response_excerpt: Mapped[str | None]


class Refresh(Base):
    """One renewal, planned or by hand. A plan is open while `finished_at` is null; a connection has at most one."""

    __tablename__ = "refreshes"
    __table_args__ = (
        _partial("uq_refreshes_open", "connection_ref", where="finished_at IS NULL", unique=True),
        _partial("ix_refreshes_due", "next_at", where="finished_at IS NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    connection_ref: Mapped[UUID] = mapped_column(ForeignKey("connections.id"), index=True)
    refresh_at: Mapped[datetime]  # as planned
    next_at: Mapped[datetime]  # due, or the end of the lease
    forced: Mapped[bool]
    reason: Mapped[str]
    requested_by: Mapped[str | None]  # who asked for it by hand; None for one that was planned
    attempts: Mapped[int]
    failures: Mapped[int]  # failed plans in a row before this one
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[str | None]
    previous_expires_at: Mapped[datetime | None]  # as known before this refresh
    expires_at: Mapped[datetime | None]  # as read by this refresh


class Rejection(Base):
    """What web refused, a row per minute, environment and cause: a flood costs a handful of rows, however long.

    `environment` is empty where the one that was asked for is not configured.
    """

    __tablename__ = "rejections"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[int]
    count: Mapped[int] = mapped_column(BigInt)
    # Nango's breaker counts within ten seconds: the newest ten with their count, and the most that any ten had.
    peak: Mapped[int] = mapped_column(BigInt)
    window_at: Mapped[datetime]
    window_count: Mapped[int] = mapped_column(BigInt)
    last_at: Mapped[datetime]
    last_peer: Mapped[str]
    last_detail: Mapped[str]


class SigningKeyUse(Base):
    """How often webhooks were signed with a key. The key itself is not here: `key` is its name (`key_name`)."""

    __tablename__ = "signing_key_uses"

    environment: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInt)
    first_at: Mapped[datetime]  # when a web process first knew it as live
    live_at: Mapped[datetime]  # when one last did; noted once an hour
    last_at: Mapped[datetime | None]  # when it last signed a webhook


class ApiToken(Base):
    """Who may call the API. Revoked tokens stay, so that the audit's names can be looked up."""

    __tablename__ = "api_tokens"
    __table_args__ = (_partial("uq_api_tokens_live", "name", where="revoked_at IS NULL", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)  # SHA-256; why: docs/decisions, "tokens hashed without salt"
    scopes: Mapped[list[Any]]
    team: Mapped[str | None] = mapped_column(ForeignKey("teams.name"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]  # to some minutes
    revoked_at: Mapped[datetime | None]


class Audit(Base):
    """What somebody did through Waylink. `detail` never holds a secret."""

    __tablename__ = "audit"
    __table_args__ = (
        CheckConstraint("outcome IN ('begun', 'done', 'failed')", name="outcome"),
        Index("ix_audit_subject", "subject", "id"),
        _partial("ix_audit_begun", "id", where="outcome = 'begun'"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]
    outcome: Mapped[str]


class Lease(Base):
    """Who works alone on something across calls to others, where no transaction may be open. Ends by itself."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[UUID]
    until_at: Mapped[datetime]


class Reconciliation(Base):
    """One comparison of an environment's list at Nango with ours, and its report. One at a time per environment."""

    __tablename__ = "reconciliations"
    __table_args__ = (
        CheckConstraint("trigger IN ('schedule', 'demand', 'import')", name="trigger"),
        CheckConstraint("stage IN ('listing', 'checking', 'settling', 'done')", name="stage"),
        _partial("uq_reconciliations_open", "environment", where="finished_at IS NULL", unique=True),
        Index("ix_reconciliations_environment", "environment", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    trigger: Mapped[str]
    dry_run: Mapped[bool]
    accept_deletions: Mapped[bool]  # an operator said that absences are to be believed, however many
    stage: Mapped[str]
    stage_since: Mapped[datetime]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    next_at: Mapped[datetime]  # due, or the end of the lease
    attempts: Mapped[int]  # claims without a result
    failures: Mapped[int]  # calls in a row that Nango did not answer
    holder: Mapped[UUID | None]  # who holds the lease
    covered: Mapped[int] = mapped_column(BigInt)  # rows of the listing that is under way
    below: Mapped[int | None] = mapped_column(BigInt)  # the lowest of Nango's ids that it has shown so far
    relist: Mapped[bool]  # the second look is a listing, being cheaper than looking up each
    pages: Mapped[int]
    calls: Mapped[int]
    seen: Mapped[int] = mapped_column(BigInt)  # connections that Nango's list showed
    found: Mapped[dict[str, Any]]  # differences at the first look, by type
    counted: Mapped[dict[str, Any]]  # those still there at the second, each of which became an event
    samples: Mapped[dict[str, Any]]  # a few of the found, by type
    missed_by_webhook: Mapped[int]  # of the counted, those that a webhook should have told of
    healed: Mapped[int]  # their events processed
    unhealed: Mapped[int]  # their events failed
    heal_seconds_sum: Mapped[float]  # from Nango's `created` to processed, of connections whose webhook was missed
    heal_seconds_max: Mapped[float]
    heal_count: Mapped[int]
    outcome: Mapped[str | None]
    problem: Mapped[str | None]


class Difference(Base):
    """Something that Nango's list showed otherwise than we know it, from its first sight until its event is settled."""

    __tablename__ = "differences"
    __table_args__ = (
        UniqueConstraint("environment", "integration", "connection_id", "type"),
        _partial("ix_differences_told", "environment", "event_id", where="event_id IS NOT NULL"),
        _partial("ix_differences_open", "environment", "id", where="event_id IS NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    integration: Mapped[str]
    connection_id: Mapped[str]
    type: Mapped[str]
    first_seen_at: Mapped[datetime]
    since: Mapped[datetime | None]  # Nango's `created`, for connections we did not know
    event_id: Mapped[UUID | None]  # once it was seen twice


# Where one of these cannot be read, it has happened, at a time that nobody knows: what ended does not begin again.
_ENDS: Final = frozenset(
    {
        "closed_at",
        "disabled_at",
        "failing_since",
        "finished_at",
        "processed_at",
        "removed_at",
        "retired_at",
        "revoked_at",
        "destination_secrets.expires_at",
    }
)


def _stand_in(column: Column[Any]) -> Any:
    """What a value of the column that cannot be read is read as."""
    if isinstance(column.type, UtcDateTime):
        ends = not _ENDS.isdisjoint({column.name, str(column)})
        return UNKNOWN if ends or not column.nullable else None
    if column.nullable:
        return None
    return column.type.kind() if isinstance(column.type, StoredJson) else 0


for _table in Base.metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, Readable):
            _column.type = _column.type.of(_column, _stand_in(_column))
