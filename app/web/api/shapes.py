"""Shapes of lists and records: the rows of app/db/read/listing.py and others, which the commands print too."""

from typing import Any

from msgspec import Struct


class AuditEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An action with its actor and outcome. `begun`: a call to Nango was planned, and its result is unknown."""

    id: str
    at: str
    actor: str
    action: str
    subject: str
    outcome: str
    detail: dict[str, Any]


class ConnectionRow(Struct, frozen=True, kw_only=True):
    """A connection as Waylink knows it. `user` and `organization` are the owner's external ids.

    `expires_at`: when the token lapses. `grant_expires_at`: when the grant lapses, after which the end user has to
    reconnect. Each has its source: `provider`, `catalogue`, `learnt`, `policy` or `unknown`. `expires_reason`: why no
    expiry is known. `grant_reason`: what the deadline counts from, or why none is known. `not_refreshable`: why nothing
    renews the credentials; null where a renewal may. `alive_by`: `policy` or `budget`, where the grant is kept alive
    and the token is not kept fresh. `failing_since`: the first error that nothing has ended. `failures`: renewals in a
    row that failed before the planned one; null where none is planned.
    """

    id: str
    environment: str
    integration: str
    connection_id: str
    provider: str | None
    auth_mode: str | None
    status: str
    tags: dict[str, str]
    user: str | None
    organization: str | None
    linked_by: str | None
    unlinked_reason: str | None
    drift: str | None
    expires_at: str | None
    expires_source: str
    expires_reason: str | None
    grant_expires_at: str | None
    grant_source: str
    grant_reason: str | None
    not_refreshable: str | None
    alive_by: str | None
    refresh_at: str | None
    failing_since: str | None
    failures: int | None
    last_error_type: str | None
    last_error_at: str | None


class LinkRow(Struct, frozen=True, kw_only=True):
    """A link, open while `closed_at` is null."""

    linked_by: str
    opened_at: str
    closed_at: str | None
    close_reason: str | None


class RefreshOfConnection(Struct, frozen=True, kw_only=True):
    """A planned renewal, or a manual one with `requested_by`. The expiry is as it was known before and after."""

    refresh_at: str
    reason: str
    requested_by: str | None
    forced: bool
    finished_at: str | None
    outcome: str | None
    error: str | None
    previous_expires_at: str | None
    expires_at: str | None


class Sibling(Struct, frozen=True, kw_only=True):
    """Another live connection of the same owner to the same integration. Not `linked`: a newer one superseded it."""

    id: str
    connection_id: str
    status: str
    linked: bool


class ConnectionRecord(ConnectionRow, frozen=True, kw_only=True):
    """All that Waylink knows of a connection. `known_tags`: in a drift, the last tags that carried its link.
    `renewed_at`: the latest moment by which its token was surely issued.
    """

    nango_id: int | None
    tags_disagree: bool
    known_tags: dict[str, str] | None
    siblings: list[Sibling]
    observed_at: str | None
    renewed_at: str | None
    links: list[LinkRow]
    refreshes: list[RefreshOfConnection]


class EventRow(Struct, frozen=True, kw_only=True):
    """An event. Events about a destination have no environment; events about no connection name none.
    `recurrence_of`: the event of the same failure that was routed; this one was not.
    """

    id: str
    type: str | None
    origin: str
    environment: str | None
    integration: str | None
    connection_id: str | None
    state: str
    confirmed: bool | None
    duplicates: int
    recurrence_of: str | None
    tags: dict[str, str] | None
    failure: str | None
    problem: str | None
    received_at: str


class JobRow(Struct, frozen=True, kw_only=True):
    """A job. `next_at`: when it is due, or when its worker's lease ends. `blocked_by`: why it is parked. `fault`: the
    side that caused its discard. `backfill`: it was made from history.
    """

    id: str
    name: str
    team: str
    destination: str
    state: str
    attempts: int
    event_id: str
    route: str
    route_version: int
    backfill: bool
    blocked_by: str | None
    fault: str | None
    problem: str | None
    next_at: str | None
    created_at: str
    finished_at: str | None


class DecisionRow(Struct, frozen=True, kw_only=True):
    """A route that matched, with each condition, its expected and its actual value."""

    team: str
    route: str
    route_version: int
    conditions: list[Any]


class EventRecord(EventRow, frozen=True, kw_only=True):
    """An event with its document, the routes that matched, and its jobs. A team's token sees its own of these, and no
    `body`. `recurrences`: how many later events tell the same failure. `previous_id`: the event before it about the
    same connection. `trace_id`: the trace that it belongs to, with its jobs. `signing_key`: the number of the key that
    verified the webhook, in the order of the environment's live keys at that time, the newest first; null where it is
    not known, and for a team's token.
    """

    last_seen_at: str
    processed_at: str | None
    next_look_at: str | None
    signing_key: int | None
    attempts: int
    looks: int
    recurrences: int
    previous_id: str | None
    trace_id: str | None
    body: str | None
    document: dict[str, Any] | None
    route_set: int | None
    decisions: list[DecisionRow]
    jobs: list[JobRow]


class AttemptRow(Struct, frozen=True, kw_only=True):
    number: int
    started_at: str
    latency_ms: float
    outcome: str
    status: int | None
    error: str | None
    response_excerpt: str | None


class JobRecord(JobRow, frozen=True, kw_only=True):
    """A job with every delivery attempt. `trace_id`: the trace of its event."""

    trace_id: str | None
    attempt_log: list[AttemptRow]


class RejectionRow(Struct, frozen=True, kw_only=True):
    """Webhooks refused within a minute for one cause. `environment` is null where the requested one does not exist."""

    minute: str
    environment: str | None
    cause: str
    status: int
    count: int
    peak: int
    last_at: str
    last_peer: str
    last_detail: str
