"""The rows of `bench.large_tables` as data: SQL expressions of `n`, the number of a row, by table and column.

Whatever a list or the status filters by has a value that most rows have, and `rare`, which only the OLDEST rows have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

EVENTS, CONNECTIONS, JOBS, AUDITED = 10_000_000, 1_000_000, 1_000_000, 1_000_000
ORGANIZATIONS, TEAMS, DESTINATIONS, ROUTES, INTEGRATIONS = 10_000, 20, 200, 1_000, 50
OLDEST: Final = 1_000  # rows of each table that have what no other has
SPAN: Final = timedelta(days=30)  # over which the events came
WAITING: Final = 0.02  # of the events, the newest

_RARE: Final = f"n < {OLDEST}"
_TEAM: Final = f"'team' || n % {TEAMS}"
_INTEGRATION: Final = f"CASE WHEN {_RARE} THEN 'rare' ELSE 'integration' || n % {INTEGRATIONS} END"
_ENVIRONMENT: Final = f"CASE WHEN {_RARE} THEN 'rare' ELSE 'default' END"
_FAILS: Final = "n % 10 >= 5 AND n < {connections} * 0.45"  # connections whose renewals do


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table, `n` of which counts from 0. columns: SQL expressions of `n`."""

    table: str
    count: int
    columns: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Size:
    """The moment of the newest rows, and the share of the rows that tables have. Its methods answer SQL expressions."""

    now: datetime
    share: float = 1.0

    def of(self, count: int) -> int:
        return max(1, int(count * self.share))

    @property
    def last(self) -> str:
        return f"timestamptz '{self.now.isoformat()}'"

    def moment(self, number: str, of: int) -> str:
        """The time of a row among so many that are spread over the span."""
        return f"to_timestamp({self._milliseconds(number, of)} / 1000.0)"

    def identity(self, number: str, of: int) -> str:
        """Its id: they are in the order of the numbers."""
        moment, rest = (f"lpad(to_hex({part}), 12, '0')" for part in (self._milliseconds(number, of), number))
        return f"({moment} || '70008000' || {rest})::uuid"

    def _milliseconds(self, number: str, of: int) -> str:
        began, span = int((self.now - SPAN).timestamp() * 1000), int(SPAN.total_seconds() * 1000)
        return f"({began} + ({number})::bigint * {span} / {of})"


def large(size: Size) -> list[Rows]:
    """Tables that grow with what comes."""
    return [
        _organizations(size),
        _users(size),
        _connections(size),
        _links(size),
        _open_refreshes(size),
        _finished_refreshes(size),
        _repairs(size),
        _events(size),
        _jobs(size),
        _attempts(size),
        _audit(size),
    ]


def _organizations(size: Size) -> Rows:
    count = size.of(ORGANIZATIONS)
    columns = {
        "id": size.identity("n", count),
        "external_id": "'o' || n",
        "name": "'Organization ' || n",
        "created_at": size.last,
    }
    return Rows("organizations", count, columns)


def _users(size: Size) -> Rows:
    count, organizations = size.of(CONNECTIONS), size.of(ORGANIZATIONS)
    columns = {
        "id": size.identity("n", count),
        "external_id": "'u' || n",
        "email": "'u' || n || '@people.example'",
        "display_name": "'Person ' || n",
        "organization_id": size.identity(f"n % {organizations}", organizations),
        "created_at": size.last,
    }
    return Rows("users", count, columns)


def _connections(size: Size) -> Rows:
    count = size.of(CONNECTIONS)
    started, fails = size.moment("n", count), _FAILS.format(connections=count)
    columns = {
        "id": size.identity("n", count),
        "environment": _ENVIRONMENT,
        "integration": _INTEGRATION,
        "connection_id": "md5(n::text)::uuid::text",
        "nango_id": "n",
        "provider": f"CASE WHEN {_RARE} THEN 'rare' ELSE 'provider' || n % 10 END",
        "auth_mode": "'OAUTH2'",
        "status": "CASE WHEN n % 20 = 0 THEN 'needs_reconnect' WHEN n % 20 = 1 THEN 'deleted' ELSE 'active' END",
        "tags": "jsonb_build_object('end_user_id', 'u' || n, 'plan', (ARRAY['pro', 'free'])[n % 2 + 1])",
        "tags_disagree": "false",
        "drift": f"CASE WHEN {_RARE} THEN 'tags_wiped' END",
        "unlinked_reason": "CASE WHEN n % 20 = 7 THEN 'unknown_user' END",
        "wanted_user": "CASE WHEN n % 20 = 7 THEN 'x' || n END",
        # Half of the tokens have expired: nine of ten are left out of the lapsed ones, the earliest first.
        "expires_at": f"{size.last} - make_interval(secs => 7200 - n * 14400.0 / {count})",
        "expires_source": "CASE WHEN n % 3 = 0 THEN 'catalogue' ELSE 'provider' END",
        "grant_expires_at": f"{size.last} + make_interval(hours => n % 2000)",
        "alive_by": f"CASE WHEN n % 10 < 5 AND n < {count} * 0.45 THEN 'budget' END",
        "slot": "n",
        "last_error_type": f"CASE WHEN {fails} THEN 'NangoRefreshFailed' END",
        "failing_since": f"CASE WHEN {fails} THEN {size.last} END",
        "absences": "0",
        "created_at": started,
        "updated_at": started,
    }
    return Rows("connections", count, columns)


def _links(size: Size) -> Rows:
    count, organizations = size.of(CONNECTIONS), size.of(ORGANIZATIONS)
    owner = size.identity("n", count)
    columns = {
        "id": owner,
        "connection_ref": owner,
        "user_id": owner,
        "organization_id": size.identity(f"n % {organizations}", organizations),
        "linked_by": "'end_user_id'",
        "opened_at": size.moment("n", count),
    }
    return Rows("links", count, columns)


def _open_refreshes(size: Size) -> Rows:
    count = size.of(CONNECTIONS)
    owner, due = size.identity("n", count), f"make_interval(secs => 3600 - n * 7200.0 / {count})"
    columns = {
        "id": owner,
        "connection_ref": owner,
        "refresh_at": f"{size.last} + {due}",
        "next_at": f"{size.last} + {due}",
        "deadline_at": f"{size.last} + {due} - interval '30 minutes'",
        "keeps": "'token'",
        "urgent_at": f"{size.last} + {due}",
        "forced": "false",
        "reason": "'before the expiry'",
        "requested_by": f"CASE WHEN {_RARE} THEN 'cli:rare' END",
        "attempts": "0",
        "failures": "0",
        "created_at": size.moment("n", count),
        "outcome": f"CASE WHEN {_RARE} THEN 'paused' WHEN n % 5 = 0 THEN 'rate_limited' END",
    }
    return Rows("refreshes", count, columns)


def _finished_refreshes(size: Size) -> Rows:
    count = size.of(CONNECTIONS)
    started = size.moment("n", count)
    columns = {
        "id": size.identity(f"n + {count}", count),
        "connection_ref": size.identity("n", count),
        "refresh_at": started,
        "next_at": started,
        "forced": "false",
        "reason": "'before the expiry'",
        "attempts": "1",
        "failures": "0",
        "created_at": started,
        "finished_at": f"{size.last} - make_interval(secs => n)",
        "outcome": f"CASE WHEN {_RARE} THEN 'exhausted' ELSE 'renewed' END",
    }
    return Rows("refreshes", count, columns)


def _repairs(size: Size) -> Rows:
    connections, count = size.of(CONNECTIONS), size.of(CONNECTIONS // 10)
    owner, started = size.identity("n", connections), size.moment("n", connections)
    columns = {
        "id": owner,
        "connection_ref": owner,
        "environment": _ENVIRONMENT,
        "integration": _INTEGRATION,
        "cause": "'exhausted'",
        "failing_since": started,
        "opened_at": started,
    }
    return Rows("repairs", count, columns)


def _events(size: Size) -> Rows:
    count, connections = size.of(EVENTS), size.of(CONNECTIONS)
    received, waits = size.moment("n", count), f"n >= {count} - {int(count * WAITING)}"
    connection_id = f"md5((n % {connections})::text)::uuid::text"
    tags = "jsonb_build_object('end_user_id', 'u' || n, 'organization_id', 'o' || n % 1000, 'plan', 'pro')"
    columns = {
        "id": size.identity("n", count),
        "environment": _ENVIRONMENT,
        "origin": f"CASE WHEN {_RARE} THEN 'operator' WHEN n % 10 = 0 THEN 'reconcile' ELSE 'webhook' END",
        "state": f"CASE WHEN {waits} THEN 'received' WHEN n % 100 = 0 THEN 'failed' ELSE 'processed' END",
        "received_at": received,
        "last_seen_at": received,
        "duplicates": "0",
        "body": _body(connection_id),
        "next_at": received,
        "attempts": "0",
        "looks": "0",
        "type": f"CASE WHEN {_RARE} THEN 'connection.deleted' WHEN n % 3 = 0 THEN 'connection.created' "
        "WHEN n % 3 = 1 THEN 'nango.sync' ELSE 'connection.reauthorized' END",
        "integration": _INTEGRATION,
        "connection_id": connection_id,
        "connection_ref": size.identity(f"n % {connections}", connections),
        "confirmed": "true",
        "tags": tags,
        # Of those that are routed to a job.
        "document": f"CASE WHEN n % 10 = 0 THEN jsonb_build_object('type', 'connection.created', 'tags', {tags}, "
        f"'connection', jsonb_build_object('connection_id', {connection_id}, 'integration', {_INTEGRATION})) END",
        "route_set": "1",
        "problem": f"CASE WHEN {waits} THEN 'Nango could not be reached' WHEN n % 100 = 0 THEN 'not confirmed' END",
        "failure": f"CASE WHEN NOT {waits} AND n % 100 = 0 THEN 'not_confirmed' END",
        "processed_at": f"CASE WHEN NOT {waits} THEN {received} END",
    }
    return Rows("events", count, columns)


def _body(connection_id: str) -> str:
    """A webhook of some 400 bytes, so that as many rows as in production fit on a page of the table."""
    facts = (
        '{"authMode":"OAUTH2","connectionId":"%s","environment":"prod","from":"nango","operation":"creation",'
        '"provider":"google-mail","providerConfigKey":"integration%s","success":true,"tags":{"end_user_email":'
        '"u%s@people.example","end_user_id":"u%s","organization_id":"o%s","plan":"pro","region":"eu-west-1",'
        '"source":"bench"},"type":"auth"}'
    )
    return f"convert_to(format('{facts}', {connection_id}, n % {INTEGRATIONS}, n, n, n % 1000), 'UTF8')"


def _jobs(size: Size) -> Rows:
    count, events = size.of(JOBS), size.of(EVENTS)
    worked, kind = size.moment("n", count), "n / 20 % 10"
    columns = {
        "id": size.identity("n", count),
        "event_id": size.identity(f"n * {events // count}", events),
        "route": f"CASE WHEN {_RARE} THEN 'rare' ELSE 'route' || n % 10 END",
        "route_version": "1",
        "team": _TEAM,
        "destination": "'jobs'",
        "name": f"CASE WHEN {_RARE} THEN 'rare' ELSE 'crm.import' END",
        "state": f"CASE {kind} WHEN 0 THEN 'available' WHEN 1 THEN 'available' WHEN 2 THEN 'retryable' "
        "WHEN 3 THEN 'running' WHEN 4 THEN 'discarded' WHEN 5 THEN 'cancelled' ELSE 'completed' END",
        "attempts": "1",
        "crashes": f"CASE {kind} WHEN 3 THEN 1 ELSE 0 END",
        "next_at": worked,
        "blocked_by": f"CASE {kind} WHEN 1 THEN 'breaker' END",
        "problem": f"CASE {kind} WHEN 4 THEN 'answered 500' END",
        "fault": f"CASE {kind} WHEN 4 THEN CASE WHEN {_RARE} THEN 'ours' ELSE 'team' END END",
        "created_at": worked,
        "finished_at": f"CASE WHEN {kind} >= 4 THEN {worked} END",
        "started_at": f"CASE WHEN {kind} >= 6 THEN {worked} END",
        "latency_ms": f"CASE WHEN {kind} >= 6 THEN 12.5 END",
    }
    return Rows("jobs", count, columns)


def _attempts(size: Size) -> Rows:
    """Of the jobs that wait for another attempt, or are dead letters: numbers 40 to 59 and 80 to 99 of each 200."""
    jobs = size.of(JOBS)
    job = f"((n / 40 * 200 + n % 40 / 20 * 40 + 40 + n % 20) % {jobs})"
    columns = {
        "job_id": size.identity(job, jobs),
        "number": "1",
        "started_at": size.moment(job, jobs),
        "latency_ms": "31.5",
        "outcome": "CASE WHEN n % 40 < 20 THEN 'retryable' ELSE 'discarded' END",
        "status": "500",
        "error": "'answered 500'",
        "response_excerpt": "'Internal Server Error'",
    }
    return Rows("attempts", jobs // 5, columns)


def _audit(size: Size) -> Rows:
    count = size.of(AUDITED)
    columns = {
        "id": size.identity("n", count),
        "at": size.moment("n", count),
        "actor": f"CASE WHEN {_RARE} THEN 'cli:rare' ELSE 'token:app' END",
        "action": f"CASE WHEN {_RARE} THEN 'rare.done' ELSE 'connection.tags_set' END",
        "subject": "'con_' || n",
        "detail": "'{}'::jsonb",
        "outcome": f"CASE WHEN {_RARE} THEN 'failed' ELSE 'done' END",
    }
    return Rows("audit", count, columns)
