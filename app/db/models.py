"""The tables. Constraints of the schema hold what the promises rest on.

All due work has the same form: a row may be claimed from `next_at` on; a claim sets `next_at` to the end of its lease
and counts an attempt. A row whose lease has ended is due again. A claim of events does not change their rows: one row
of `event_leases` holds the batch.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
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

from app.db.types import UNKNOWN, JsonText, Readable, StoredInteger, StoredJson, UtcDateTime

BigInt = StoredInteger()
UNFINISHED: Final = "state IN ('available', 'running', 'retryable')"  # of jobs
_QUEUE: Final = ("team", "destination", "next_at")  # the order of a destination's queue
_SQLITE_ONLY: Final = {"dialect": "sqlite"}


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
    """A partial index, which stays small in a large table."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


def _sqlite_foreign_key(
    columns: Sequence[str], target: Sequence[str], *, ondelete: str | None = None
) -> ForeignKeyConstraint:
    """A foreign key of a table that is written per event: on SQLite only.

    PostgreSQL would look up and lock the row that each new row names, eight times per event. There, the order of writes
    and the locks of `app.db.owner_locks` keep the references whole; the tests on SQLite prove the order, and
    `waylink check --integrity` finds what is broken. Other tables have their foreign keys on both.
    """
    return ForeignKeyConstraint(columns, target, ondelete=ondelete, info=_SQLITE_ONLY).ddl_if(dialect="sqlite")


class Delivery(Base):
    """The duplicate window: one row per (environment, fingerprint) of the last minutes (promise 4)."""

    __tablename__ = "deliveries"

    environment: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    first_at: Mapped[datetime] = mapped_column(index=True)
    taken_by: Mapped[UUID | None]  # the web process that received the first delivery; None: of an earlier release


class Repeat(Base):
    """A repeated delivery: identical bytes within their window. A worker decides whether it is a duplicate.

    Repeats of one event are numbered in the order of their commits. The last decided one is kept, since the end of its
    answer decides the next one.
    """

    __tablename__ = "repeats"
    __table_args__ = (Index("ix_repeats_event_id", "event_id", "number"),)

    number: Mapped[int] = mapped_column(BigInt.with_variant(Integer(), "sqlite"), primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)  # also the id of the further event, if it is one
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))  # of the first delivery
    first_by: Mapped[UUID]  # the web process that received the first delivery
    taken_by: Mapped[UUID]  # the web process that received this delivery
    received_at: Mapped[datetime]
    belongs_to: Mapped[UUID | None]  # once decided: its own event, or the event that it is a duplicate of
    traceparent: Mapped[str | None]  # as an event's


class WebProcess(Base):
    """A web process's report: its answers to deliveries before an id are whole, except the lost ones."""

    __tablename__ = "web_processes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    settled_before: Mapped[UUID]  # a delivery id: all answers before it are reported


class LostAnswer(Base):
    """A delivery whose answer was not written completely: Nango is expected to retry it."""

    __tablename__ = "lost_answers"

    id: Mapped[UUID] = mapped_column(primary_key=True)


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (
        _sqlite_foreign_key(["connection_ref"], ["connections.id"], ondelete="SET NULL"),
        CheckConstraint("state IN ('received', 'processed', 'failed')", name="state"),
        CheckConstraint("origin IN ('webhook', 'reconcile', 'refresh', 'operator', 'system')", name="origin"),
        _partial("ix_events_due", "next_at", where="state = 'received'"),
        _partial("ix_events_suspects", "next_at", where="state = 'received' AND attempts > 0"),
        _partial("ix_events_failed", "id", where="state = 'failed'"),
        _partial("ix_events_failed_at", "processed_at", where="state = 'failed'"),  # for those that are new
        _partial("ix_events_of_connection", "connection_ref", "id", where="connection_ref IS NOT NULL"),
        # Those that name one which is not known.
        _partial(
            "ix_events_without_connection",
            "connection_id",
            "id",
            where="connection_ref IS NULL AND connection_id IS NOT NULL",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    origin: Mapped[str]
    state: Mapped[str]
    received_at: Mapped[datetime]  # in the order of ids, by which queries filter times
    last_seen_at: Mapped[datetime]
    duplicates: Mapped[int]
    body: Mapped[bytes | None]  # the webhook's, or that of one of Waylink's own events (`app.domain.own_event`)
    next_at: Mapped[datetime]
    attempts: Mapped[int]  # claims whose lease ended without a result; after five the event fails
    looks: Mapped[int]  # successful lookups at Nango that did not confirm it
    # Filled when the event is processed.
    type: Mapped[str | None]
    integration: Mapped[str | None]
    connection_id: Mapped[str | None]
    connection_ref: Mapped[UUID | None]
    confirmed: Mapped[bool | None]
    tags: Mapped[dict[str, Any] | None]
    document: Mapped[dict[str, Any] | None]  # as matched against the routes of `route_set`
    cause_id: Mapped[UUID | None]  # the event whose document this one's is made from, see `documents`
    route_set: Mapped[int | None] = mapped_column(BigInt)
    failure: Mapped[str | None]  # crashed, error, not_confirmed
    problem: Mapped[str | None]  # the reason why it waits or failed, with the traceback of a fault
    untold: Mapped[str | None]  # the reason why it was suppressed: not routed
    processed_at: Mapped[datetime | None]
    recurrence_of: Mapped[
        UUID | None
    ]  # the event of the same failure that was routed; no foreign key: it may be deleted
    traceparent: Mapped[str | None]  # the trace that it belongs to, with its jobs (`app.domain.traceparent`)


class EventLease(Base):
    """A batch of events that a worker has claimed. The transaction with the result deletes the row.

    A release that knows no leases may claim such events as well: `events.state` and `attempts` say whose result counts.
    """

    __tablename__ = "event_leases"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_ids: Mapped[list[Any]] = mapped_column(ARRAY(Uuid()).with_variant(JsonText(list), "sqlite"))
    until_at: Mapped[datetime]  # from then on the events count an attempt, and are due again


class Connection(Base):
    """The record of a connection of Nango; `nango_id` is its generation (Nango contract: Connection identity)."""

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
        # For lists by a clock, and for tokens that lapsed: of one status, the earliest first.
        _partial(
            "ix_connections_expiring",
            "status",
            "expires_at",
            "alive_by",
            "last_error_type",
            where="expires_at IS NOT NULL",
        ),
        _partial("ix_connections_grant_expires_at", "status", "grant_expires_at", where="grant_expires_at IS NOT NULL"),
        _partial("ix_connections_alive", "environment", "integration", "slot", where="alive_by IS NOT NULL"),
        # For the next number on SQLite; PostgreSQL has a sequence, `connection_slots`.
        _partial("ix_connections_slot", "slot", where="slot IS NOT NULL"),
        # For reconciliations: a page of Nango's list, newest first, is a span of ids.
        _partial("ix_connections_generation", "environment", "nango_id", where="status <> 'deleted'"),
        # For queries by tag; SQLite has no such index.
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
    known_tags: Mapped[dict[str, Any] | None]  # the last tags that carried the link, while there is drift
    unlinked_reason: Mapped[str | None]
    superseded_by: Mapped[UUID | None]  # the link of the same owner's newer connection
    # The owner that the tags name, by external ids, so that users and organizations added later are linked.
    wanted_user: Mapped[str | None]
    wanted_email: Mapped[str | None]
    wanted_organization: Mapped[str | None]
    owner_look_at: Mapped[datetime | None]  # the next owner lookup (directory policy `sql`)
    expires_at: Mapped[datetime | None]  # of the credentials, as last read; only times of them are stored
    expires_source: Mapped[str | None]  # `app.domain.refreshing.clocks`, as for the grant; None: not read yet
    grant_expires_at: Mapped[datetime | None]  # when only the end user can renew the credentials
    grant_source: Mapped[str | None]
    grant_reason: Mapped[str | None]  # what the deadline counts from, or why there is none
    renewed_at: Mapped[datetime | None]  # the latest moment by which the token was surely issued
    authorized_at: Mapped[datetime | None]  # when the end user authorized it; None: not seen
    not_refreshable: Mapped[str | None]  # why nothing renews the credentials, where a renewal has shown it
    announced_expiry: Mapped[datetime | None]  # the deadlines that `token.expiring` told of last
    announced_grant: Mapped[datetime | None]
    alive_by: Mapped[str | None]  # `policy` or `budget`, where its grant is kept alive and its token is not kept fresh
    slot: Mapped[int | None] = mapped_column(BigInt)  # its number, by which its turn in a window follows
    last_error_type: Mapped[str | None]
    last_error_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]  # the first error that nothing has ended
    # The failure that teams were told of last, so that the same one is told once (`app.domain.recurring_failures`).
    failure_shape: Mapped[str | None]
    failure_event_id: Mapped[UUID | None]
    failure_at: Mapped[datetime | None]  # when the same failure was posted last
    calls_since: Mapped[datetime | None]  # the day of `calls`
    calls: Mapped[int | None]  # of Waylink's own for this connection's token (`app.domain.refreshing.daily_calls`)
    errors_seen_at: Mapped[datetime | None]  # time of the newest call that showed errors, or none
    observed_at: Mapped[datetime | None]  # time of the newest call or webhook that changed this row
    absences: Mapped[int]  # lookups in a row that did not find it
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class User(Base):
    __tablename__ = "users"
    __table_args__ = (
        _sqlite_foreign_key(["organization_id"], ["organizations.id"]),
        Index("ix_users_email", text("lower(email)")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    display_name: Mapped[str | None]
    organization_id: Mapped[UUID | None] = mapped_column(index=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    # A removed user with closed links keeps its row, under an external id that cannot be claimed.
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
    """The ownership of a connection from `opened_at` to `closed_at`. Rows are closed, never deleted."""

    __tablename__ = "links"
    __table_args__ = (
        _sqlite_foreign_key(["connection_ref"], ["connections.id"]),
        _sqlite_foreign_key(["user_id"], ["users.id"]),
        _sqlite_foreign_key(["organization_id"], ["organizations.id"]),
        CheckConstraint("user_id IS NOT NULL OR organization_id IS NOT NULL", name="owner"),
        _partial("uq_links_open", "connection_ref", where="closed_at IS NULL", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    connection_ref: Mapped[UUID] = mapped_column(index=True)
    nango_id: Mapped[int | None] = mapped_column(BigInt)
    user_id: Mapped[UUID | None] = mapped_column(index=True)
    organization_id: Mapped[UUID | None] = mapped_column(index=True)
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
    """A route that matched an event, with the conditions, of an earlier release: jobs have them now (`decisions`)."""

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
        _sqlite_foreign_key(["event_id"], ["events.id"]),
        _sqlite_foreign_key(["team", "destination"], ["destinations.team", "destinations.name"]),
        CheckConstraint(
            "state IN ('available', 'running', 'retryable', 'completed', 'discarded', 'cancelled')", name="state"
        ),
        # A claim reads the jobs of one destination, so that no backlog delays another. `held`: jobs that run or whose
        # worker was killed; parked jobs are in neither.
        _partial("ix_jobs_ready", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NULL AND crashes = 0"),
        _partial("ix_jobs_held", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NULL AND crashes > 0"),
        _partial("ix_jobs_parked", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NOT NULL"),
        _partial("ix_jobs_discarded", "id", where="state = 'discarded'"),
        # For those of a destination that are new.
        _partial("ix_jobs_discarded_at", "team", "destination", "finished_at", where="state = 'discarded'"),
        _partial("ix_jobs_cancelled", "id", where="state = 'cancelled'"),
        # For finding jobs that a team's broker lost, by the time of their delivery.
        _partial("ix_jobs_completed", "team", "destination", "finished_at", where="state = 'completed'"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
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
    # The decision that made it, see `decisions`; `route_version` may be a later one.
    matched_version: Mapped[int | None]
    conditions: Mapped[list[Any] | None] = mapped_column(JsonText(list))
    # The first attempt, if a broker accepted it, see `attempts`.
    started_at: Mapped[datetime | None]
    latency_ms: Mapped[float | None]


class Attempt(Base):
    """An attempt to deliver a job. A first one that a broker accepted is in the job's row instead (`attempts`)."""

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
    """One renewal, planned or manual. A plan is open while `finished_at` is null; a connection has one at most."""

    __tablename__ = "refreshes"
    __table_args__ = (
        # Two indexes by connection, so that a claim, which rewrites open plans, writes one of them only: its pages are
        # anywhere.
        _partial("uq_refreshes_open", "connection_ref", where="finished_at IS NULL", unique=True),
        _partial("ix_refreshes_over", "connection_ref", "id", where="finished_at IS NOT NULL"),
        _partial("ix_refreshes_due", "next_at", where="finished_at IS NULL"),
        _partial("ix_refreshes_exhausted", "id", where="outcome = 'exhausted'"),  # for ages at which grants died
        # For what happened in an hour, to compare it with a forecast.
        _partial("ix_refreshes_finished", "finished_at", where="finished_at IS NOT NULL"),
        # Plans whose turn was put off beyond their deadline.
        _partial("ix_refreshes_late", "deadline_at", where="finished_at IS NULL AND next_at > deadline_at"),
        _partial("ix_refreshes_urgent", "urgent_at", where="finished_at IS NULL AND urgent_at IS NOT NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    connection_ref: Mapped[UUID] = mapped_column(ForeignKey("connections.id"))
    refresh_at: Mapped[datetime]  # as planned
    next_at: Mapped[datetime]  # due, or the end of the lease
    deadline_at: Mapped[datetime | None]  # what `keeps` names lapses then, where no refresh comes before
    keeps: Mapped[str | None]  # `token` or `grant`
    urgent_at: Mapped[datetime | None]  # `app.domain.refreshing.plan`: the order of claims
    forced: Mapped[bool]
    reason: Mapped[str]
    requested_by: Mapped[str | None]  # the actor of a manual refresh; None: planned
    attempts: Mapped[int]
    failures: Mapped[int]  # failed plans in a row before this one
    created_at: Mapped[datetime]
    asked_at: Mapped[datetime | None]  # when the GET was sent; None: none was
    answered_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[str | None]
    previous_expires_at: Mapped[datetime | None]  # as known before this refresh
    expires_at: Mapped[datetime | None]  # as read by this refresh
    previous_grant_expires_at: Mapped[datetime | None]
    grant_expires_at: Mapped[datetime | None]


class RefreshWindow(Base):
    """Recent results of an integration's refreshes, by which an outage is seen (`app.domain.refreshing.outages`)."""

    __tablename__ = "refresh_windows"

    environment: Mapped[str] = mapped_column(primary_key=True)
    integration: Mapped[str] = mapped_column(primary_key=True)
    began_at: Mapped[datetime]
    renewed: Mapped[int]
    failed: Mapped[int]
    renewed_before: Mapped[int]  # in the window before
    failed_before: Mapped[int]


class RefreshTurns(Base):
    """The turns of an integration whose refreshes are limited (`app.domain.refreshing.limits`)."""

    __tablename__ = "refresh_turns"

    environment: Mapped[str] = mapped_column(primary_key=True)
    integration: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[datetime]
    held_until: Mapped[datetime]


class RefreshPause(Base):
    """An integration whose refreshes are paused. A plan that is due meanwhile stays open, with the outcome `paused`."""

    __tablename__ = "refresh_pauses"
    __table_args__ = (CheckConstraint("cause IN ('outage', 'operator')", name="cause"),)

    environment: Mapped[str] = mapped_column(primary_key=True)
    integration: Mapped[str] = mapped_column(primary_key=True)
    cause: Mapped[str]
    paused_at: Mapped[datetime]
    actor: Mapped[str | None]  # of an operator's pause, as its reason
    reason: Mapped[str | None]
    failed: Mapped[int | None]  # connections that began to fail, as the outage was seen
    renewed_or_failed: Mapped[int | None]
    probes: Mapped[int]  # rounds of them that began
    probe_at: Mapped[datetime | None]  # the next round; None: it lasts until it is resumed


class RefreshPolicyState(Base):
    """The refresh policy of an integration that its processes go by, and how far its open plans follow a change."""

    __tablename__ = "refresh_policies"

    environment: Mapped[str] = mapped_column(primary_key=True)
    integration: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]  # `app.domain.refreshing.replanning`
    process_started_at: Mapped[datetime]  # of the newest process that goes by it
    only_missing: Mapped[bool]  # the policy before is not known: only connections without a plan are looked at
    after: Mapped[str | None]  # the last connection, by Nango's id, that was looked at; None: none was
    planned: Mapped[int]  # connections that got a plan, so far
    moved: Mapped[int]  # plans that were moved
    closed: Mapped[int]  # plans that ended
    finished_at: Mapped[datetime | None]  # when the last connection had been looked at; None: some have not


class RefreshForecast(Base):
    """The forecast of a day's refreshes, one for each environment and day (UTC), to compare with what happened."""

    __tablename__ = "refresh_forecasts"

    environment: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    made_at: Mapped[datetime]
    starts_at: Mapped[datetime]  # of the first hour
    hours: Mapped[list[Any]] = mapped_column(JsonText(list))  # calls of each hour
    tables: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))  # the refresh policies in force


class Tick(Base):
    """The last time that a task of Beat's ran, written at most every few seconds."""

    __tablename__ = "ticks"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Process(Base):
    """A running process, or one that ended within a day; written by itself every few seconds.

    Times are by its own clock, but for `database_at`.
    """

    __tablename__ = "processes"
    __table_args__ = (
        CheckConstraint("kind IN ('web', 'events', 'io', 'beat')", name="kind"),
        {"postgresql_with": {"fillfactor": "50"}},  # an update finds room beside the row, and no index changes
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    schema_revision: Mapped[str]  # the one that its release needs
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # when its main loop last answered
    written_at: Mapped[datetime]
    database_at: Mapped[datetime | None]  # `written_at` by PostgreSQL's clock; None on SQLite, which has no other clock
    stopped_at: Mapped[datetime | None]  # of a clean stop
    progress: Mapped[dict[str, Any]]  # by kind of work, when it did some last
    task: Mapped[str | None]  # of those that it works on, the one that began first
    task_since: Mapped[datetime | None]


class Acknowledgement(Base):
    """Dead letters (`jobs`) or failed events that an operator has looked at, up to a moment.

    A row per kind and subject; the audit has the earlier ones.
    """

    __tablename__ = "acknowledgements"
    __table_args__ = (CheckConstraint("kind IN ('jobs', 'events')", name="kind"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)  # empty: all; a destination, `team/name`; or one's id
    until_at: Mapped[datetime]  # those that ended until then
    at: Mapped[datetime]
    actor: Mapped[str]
    note: Mapped[str | None]


class ProcessMetrics(Base):
    """The counts of one process since its start, written over every few seconds; one row has the ended ones'."""

    __tablename__ = "process_metrics"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]  # of the process; empty: of the ended ones
    seen_at: Mapped[datetime]  # by the database's clock
    ended: Mapped[bool] = mapped_column(server_default=false())  # stopped, and to be added to the ended ones
    counts: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))  # `app.domain.metric_counts`
    gauges: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))


class Canary(Base):
    """One row: the canary that is on its way or came last, and when one passed each stage before it.

    The moments of the canary itself are those of its event and job.
    """

    __tablename__ = "canary"
    __table_args__ = (CheckConstraint("id = 1", name="single"), {"postgresql_with": {"fillfactor": "50"}})

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[UUID | None]  # no foreign key: it is not stored yet, or erased
    next_at: Mapped[datetime]
    stored_at: Mapped[datetime | None]
    processed_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]


class Figure(Base):
    """A figure of one span of time: what was counted in it, or the highest value that was seen."""

    __tablename__ = "figures"

    step: Mapped[str] = mapped_column(primary_key=True)  # `minute`, `hour` or `day`
    at: Mapped[datetime] = mapped_column(primary_key=True)  # when the span begins
    name: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[str] = mapped_column(primary_key=True)  # their values, as a JSON list
    value: Mapped[list[Any]] = mapped_column(JsonText(list))  # as in `app.domain.metric_counts`


class FigureTotals(Base):
    """The counts of all processes up to which figures are recorded: one row."""

    __tablename__ = "figure_totals"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]  # the minute in which they were read
    counts: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))


class Repair(Base):
    """The case of a connection that needs its end user: from the failure to the repair."""

    __tablename__ = "repairs"
    __table_args__ = (_partial("uq_repairs_open", "connection_ref", where="closed_at IS NULL", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)  # in the order of `opened_at`
    connection_ref: Mapped[UUID] = mapped_column(ForeignKey("connections.id"), index=True)
    environment: Mapped[str]
    integration: Mapped[str]
    cause: Mapped[str]  # the error's type
    failing_since: Mapped[datetime]
    opened_at: Mapped[datetime]  # when `connection.needs_reconnect` told of it
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]  # `app.domain.repairs`


class IdempotentCall(Base):
    """A call of the API that was made with an idempotency key, kept for a day."""

    __tablename__ = "idempotent_calls"

    caller: Mapped[str] = mapped_column(primary_key=True)  # the actor's name in the audit
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]  # of method, path, query and body
    began_at: Mapped[datetime] = mapped_column(index=True)
    held_until: Mapped[datetime]  # the call may be under way until then
    status: Mapped[int | None]  # None: no answer is recorded
    answer: Mapped[str | None]  # JSON


class NotificationChannel(Base):
    """A channel of notifications: the message that is under way to it, and how the last ones fared."""

    __tablename__ = "notification_channels"

    name: Mapped[str] = mapped_column(primary_key=True)
    looked_at: Mapped[datetime]  # when the checks were last looked at for it
    message_id: Mapped[str | None]  # of the message under way; None: there is none
    message: Mapped[dict[str, Any] | None] = mapped_column(JsonText(dict))
    attempts: Mapped[int]  # of that message
    next_at: Mapped[datetime]
    failures: Mapped[int]  # in a row
    failing_since: Mapped[datetime | None]
    error: Mapped[str | None]  # of the last failure
    sent_at: Mapped[datetime | None]  # when a message was last taken


class NotificationCheck(Base):
    """A check that is not well, or was not a moment ago, as one channel knows it (`app.domain.notifying.Watched`)."""

    __tablename__ = "notification_checks"

    channel: Mapped[str] = mapped_column(primary_key=True)
    check_id: Mapped[str] = mapped_column(primary_key=True)
    level: Mapped[str]
    since: Mapped[datetime]
    well_since: Mapped[datetime | None]
    told: Mapped[str | None]  # the level that the channel was told; None: none
    facts: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))  # name, value, cause and repair


class Rejection(Base):
    """Rejected deliveries, a row per minute, environment and cause, so that a flood writes few rows.

    `environment` is empty where the requested one is not configured.
    """

    __tablename__ = "rejections"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[int]
    count: Mapped[int] = mapped_column(BigInt)
    # Nango's breaker counts within ten seconds: the newest ten seconds with their count, and the largest count of any.
    peak: Mapped[int] = mapped_column(BigInt)
    window_at: Mapped[datetime]
    window_count: Mapped[int] = mapped_column(BigInt)
    last_at: Mapped[datetime]
    last_peer: Mapped[str]
    last_detail: Mapped[str]


class SigningKeyUse(Base):
    """The use of a signing key by webhooks. `key` is its name (`key_name`), not the key."""

    __tablename__ = "signing_key_uses"

    environment: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInt)
    first_at: Mapped[datetime]  # when a web process first had it configured
    live_at: Mapped[datetime]  # when one last had; written once an hour
    last_at: Mapped[datetime | None]  # when it last signed a webhook


class ApiToken(Base):
    """A token of the API. Revoked ones are kept, so that the audit's names can be looked up."""

    __tablename__ = "api_tokens"
    __table_args__ = (_partial("uq_api_tokens_live", "name", where="revoked_at IS NULL", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)  # SHA-256 (docs/decisions, "tokens hashed without salt")
    scopes: Mapped[list[Any]]
    team: Mapped[str | None] = mapped_column(ForeignKey("teams.name"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]  # to within some minutes
    revoked_at: Mapped[datetime | None]


class Operator(Base):
    """A person who signs in: with a password, or as a subject of the identity provider."""

    __tablename__ = "operators"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'operator', 'team')", name="role"),
        CheckConstraint("(role = 'team') = (team IS NOT NULL)", name="team"),
        CheckConstraint("role <> 'team' OR NOT credentials", name="credentials"),
        CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name="identity"),
        CheckConstraint("issuer IS NULL OR password_hash IS NULL", name="password"),
        UniqueConstraint("issuer", "subject"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    team: Mapped[str | None] = mapped_column(ForeignKey("teams.name"))
    credentials: Mapped[bool]  # may read live credentials of connections
    password_hash: Mapped[str | None]  # argon2id, with its parameters and salt
    issuer: Mapped[str | None]  # of an account of the identity provider
    subject: Mapped[str | None]
    created_at: Mapped[datetime]
    signed_in_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]


class OperatorLink(Base):
    """A link with which an operator sets a password, once. Only the SHA-256 of its secret is stored."""

    __tablename__ = "operator_links"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    operator_id: Mapped[UUID] = mapped_column(ForeignKey("operators.id", ondelete="CASCADE"), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class OperatorSession(Base):
    """A browser that is signed in. Only the SHA-256 of its secret is stored; a session that ends is deleted."""

    __tablename__ = "operator_sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[bytes] = mapped_column(unique=True)
    operator_id: Mapped[UUID] = mapped_column(ForeignKey("operators.id", ondelete="CASCADE"), index=True)
    method: Mapped[str]  # `password`, `link` or `oidc`
    address: Mapped[str]
    browser: Mapped[str]  # its User-Agent
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # to within a minute
    expires_at: Mapped[datetime] = mapped_column(index=True)  # whatever happens


class SignInAttempt(Base):
    """Failed attempts to sign in with one name or from one address, or a success of the two together.

    The key is a hash: what was typed as a name may have been a password.
    """

    __tablename__ = "sign_in_attempts"

    key: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(index=True)
    next_at: Mapped[datetime]


class Audit(Base):
    """An action through Waylink. `detail` never holds a secret."""

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
    """An exclusive lease across calls to other systems, during which no transaction may be open. Ends by itself."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[UUID]
    until_at: Mapped[datetime]


class Reconciliation(Base):
    """A comparison of an environment's list at Nango with the stored connections, with its report. One at a time."""

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
    accept_deletions: Mapped[bool]  # an operator accepted any number of absences
    stage: Mapped[str]
    stage_since: Mapped[datetime]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    next_at: Mapped[datetime]  # due, or the end of the lease
    attempts: Mapped[int]  # claims without a result
    failures: Mapped[int]  # unanswered calls in a row
    holder: Mapped[UUID | None]  # the lease's holder
    covered: Mapped[int] = mapped_column(BigInt)  # rows read by the current listing
    below: Mapped[int | None] = mapped_column(BigInt)  # the lowest Nango id of the current listing so far
    relist: Mapped[bool]  # the second check is a listing, where that takes fewer calls than lookups
    pages: Mapped[int]
    calls: Mapped[int]
    seen: Mapped[int] = mapped_column(BigInt)  # connections in Nango's list
    found: Mapped[dict[str, Any]]  # differences of the first check, by type
    counted: Mapped[dict[str, Any]]  # differences of the second check, by type, each with an event
    samples: Mapped[dict[str, Any]]  # some of the found differences, by type
    missed_by_webhook: Mapped[int]  # counted differences whose webhook was missed
    healed: Mapped[int]  # counted differences whose event is processed
    unhealed: Mapped[int]  # counted differences whose event failed
    heal_seconds_sum: Mapped[float]  # from Nango's `created` to processed, of connections whose webhook was missed
    heal_seconds_max: Mapped[float]
    heal_count: Mapped[int]
    outcome: Mapped[str | None]
    problem: Mapped[str | None]


class Difference(Base):
    """A difference between Nango's list and a stored connection, from the first check until its event is finished."""

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
    since: Mapped[datetime | None]  # Nango's `created`, of unknown connections
    event_id: Mapped[UUID | None]  # set by the second check


SQLITE_FOREIGN_KEYS: Final[Sequence[ForeignKeyConstraint]] = [
    constraint
    for table in Base.metadata.sorted_tables
    for constraint in sorted(table.foreign_key_constraints, key=lambda one: tuple(one.column_keys))
    if constraint.info == _SQLITE_ONLY
]

# An unreadable value of these columns is read as an unknown time: an ended row stays ended.
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
    """The substitute for an unreadable value of the column."""
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
