"""Rows for `bench.listings`: ten million events, a million connections, a million jobs, in the states that cost most.

Everything that a list or the status filters by has a value that most rows have, and one that only the oldest rows have.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text

from app.db.bounded_connection import unbounded
from app.db.engine import Database

EVENTS, CONNECTIONS, JOBS = 10_000_000, 1_000_000, 1_000_000
TEAMS, INTEGRATIONS, ORGANIZATIONS, AUDITED = 20, 50, 10_000, 1_000_000
OLDEST: Final = 1_000  # rows of each table that have what no other has: `rare`
SPAN: Final = timedelta(days=30)  # over which the events came
WAITING: Final = 0.02  # of the events, the newest


def fill(database: Database, *, now: datetime, share: float = 1.0) -> None:
    """Replace what the tables hold. share: of the rows named above."""
    counts = {
        "organizations": ORGANIZATIONS,
        "users": CONNECTIONS,
        "connections": CONNECTIONS,
        "links": CONNECTIONS,
        "refreshes": CONNECTIONS,
        "refreshes over": CONNECTIONS,
        "repairs": CONNECTIONS // 10,
        "events": EVENTS,
        "jobs": JOBS,
        "audit": AUDITED,
    }
    counts = {name: int(count * share) for name, count in counts.items()}
    counts |= {"teams": TEAMS, "destinations": TEAMS}
    rows = _rows(now, counts)
    with database.engine.connect() as connection:
        with connection.begin(), unbounded(connection):
            # Foreign keys hold by construction; checking each would take most of the time.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text(f"TRUNCATE {', '.join({name.split()[0] for name in rows})} CASCADE"))
            for name, columns in rows.items():
                connection.execute(text(_insert(name.split()[0], columns, counts[name])))
        with connection.begin(), unbounded(connection):
            connection.execute(text("ANALYZE"))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection, unbounded(connection):
        connection.execute(text("VACUUM"))


def _insert(table: str, columns: Mapping[str, str], count: int) -> str:
    names, values = ", ".join(columns), ", ".join(columns.values())
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(0, {count - 1}) AS n"


def _rows(now: datetime, counts: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """SQL expressions of `n`, the number of the row, by table and column. A second word keeps apart rows of one."""
    events, connections, jobs = counts["events"], counts["connections"], counts["jobs"]
    began, span = int((now - SPAN).timestamp() * 1000), int(SPAN.total_seconds() * 1000)

    def milliseconds(number: str, of: int) -> str:
        return f"({began} + ({number})::bigint * {span} / {of})"

    def identity(number: str, of: int) -> str:
        """Ids in the order of their numbers, over the whole span."""
        moment, rest = (f"lpad(to_hex({part}), 12, '0')" for part in (milliseconds(number, of), number))
        return f"({moment} || '70008000' || {rest})::uuid"

    def moment(number: str, of: int) -> str:
        return f"to_timestamp({milliseconds(number, of)} / 1000.0)"

    last = f"timestamptz '{now.isoformat()}'"
    team, rare = f"'team' || n % {TEAMS}", f"n < {OLDEST}"
    integration = f"CASE WHEN {rare} THEN 'rare' ELSE 'integration' || n % {INTEGRATIONS} END"
    environment = f"CASE WHEN {rare} THEN 'rare' ELSE 'default' END"
    owner, started = identity("n", connections), moment("n", connections)
    organization = f"n % {counts['organizations']}"
    received, worked = moment("n", events), moment("n", jobs)
    waits = f"n >= {events} - {int(events * WAITING)}"
    return {
        "teams": {"name": "'team' || n", "source": "'api'", "created_at": last},
        "destinations": {
            "team": "'team' || n",
            "name": "'jobs'",
            "kind": "'celery'",
            "queue": "'team.team' || n || '.jobs'",
            "source": "'api'",
            "version": "1",
            "created_at": last,
            "disabled_at": f"CASE WHEN n % 4 = 0 THEN {last} END",
            "disabled_reason": "CASE WHEN n % 4 = 0 THEN 'by hand' END",
        },
        "organizations": {
            "id": identity("n", counts["organizations"]),
            "external_id": "'o' || n",
            "name": "'Organization ' || n",
            "created_at": last,
        },
        "users": {
            "id": owner,
            "external_id": "'u' || n",
            "email": "'u' || n || '@people.example'",
            "organization_id": identity(organization, counts["organizations"]),
            "created_at": last,
        },
        "connections": {
            "id": owner,
            "environment": environment,
            "integration": integration,
            "connection_id": "md5(n::text)::uuid::text",
            "nango_id": "n",
            "provider": f"CASE WHEN {rare} THEN 'rare' ELSE 'provider' || n % 10 END",
            "auth_mode": "'OAUTH2'",
            "status": "CASE WHEN n % 20 = 0 THEN 'needs_reconnect' WHEN n % 20 = 1 THEN 'deleted' ELSE 'active' END",
            "tags": "jsonb_build_object('end_user_id', 'u' || n, 'plan', (ARRAY['pro', 'free'])[n % 2 + 1])",
            "tags_disagree": "false",
            "drift": f"CASE WHEN {rare} THEN 'tags_missing' END",
            "unlinked_reason": "CASE WHEN n % 20 = 7 THEN 'unknown_user' END",
            "wanted_user": "CASE WHEN n % 20 = 7 THEN 'x' || n END",
            # Half of the tokens have expired: nine of ten are left out of the lapsed ones, the earliest first.
            "expires_at": f"{last} - make_interval(secs => 7200 - n * 14400.0 / {connections})",
            "expires_source": "CASE WHEN n % 3 = 0 THEN 'catalogue' ELSE 'provider' END",
            "grant_expires_at": f"{last} + make_interval(hours => n % 2000)",
            "alive_by": f"CASE WHEN n % 10 < 5 AND n < {connections} * 0.45 THEN 'budget' END",
            "slot": "n",
            "last_error_type": f"CASE WHEN n % 10 >= 5 AND n < {connections} * 0.45 THEN 'NangoRefreshFailed' END",
            "failing_since": f"CASE WHEN n % 10 >= 5 AND n < {connections} * 0.45 THEN {last} END",
            "absences": "0",
            "created_at": started,
            "updated_at": started,
        },
        "links": {
            "id": owner,
            "connection_ref": owner,
            "user_id": owner,
            "organization_id": identity(organization, counts["organizations"]),
            "linked_by": "'end_user_id'",
            "opened_at": started,
        },
        "refreshes": {
            "id": owner,
            "connection_ref": owner,
            "refresh_at": f"{last} + make_interval(secs => 3600 - n * 7200.0 / {connections})",
            "next_at": f"{last} + make_interval(secs => 3600 - n * 7200.0 / {connections})",
            "deadline_at": f"{last} + make_interval(secs => 1800 - n * 7200.0 / {connections})",
            "keeps": "'token'",
            "urgent_at": f"{last} + make_interval(secs => 3600 - n * 7200.0 / {connections})",
            "forced": "false",
            "reason": "'before the expiry'",
            "requested_by": f"CASE WHEN {rare} THEN 'cli:rare' END",
            "attempts": "0",
            "failures": "0",
            "created_at": started,
            "outcome": f"CASE WHEN {rare} THEN 'paused' WHEN n % 5 = 0 THEN 'rate_limited' END",
        },
        "refreshes over": {
            "id": identity(f"n + {connections}", connections),
            "connection_ref": owner,
            "refresh_at": started,
            "next_at": started,
            "forced": "false",
            "reason": "'before the expiry'",
            "attempts": "1",
            "failures": "0",
            "created_at": started,
            "finished_at": f"{last} - make_interval(secs => n)",
            "outcome": f"CASE WHEN {rare} THEN 'exhausted' ELSE 'renewed' END",
        },
        "repairs": {
            "id": owner,
            "connection_ref": owner,
            "environment": environment,
            "integration": integration,
            "cause": "'exhausted'",
            "failing_since": started,
            "opened_at": started,
        },
        "events": {
            "id": identity("n", events),
            "environment": environment,
            "origin": f"CASE WHEN {rare} THEN 'operator' WHEN n % 10 = 0 THEN 'reconcile' ELSE 'webhook' END",
            "state": f"CASE WHEN {waits} THEN 'received' WHEN n % 100 = 0 THEN 'failed' ELSE 'processed' END",
            "received_at": received,
            "last_seen_at": received,
            "duplicates": "0",
            "next_at": received,
            "attempts": "0",
            "looks": "0",
            "type": f"CASE WHEN {rare} THEN 'connection.deleted' WHEN n % 3 = 0 THEN 'connection.created' "
            "WHEN n % 3 = 1 THEN 'nango.sync' ELSE 'connection.reauthorized' END",
            "integration": integration,
            "connection_id": f"md5((n % {connections})::text)::uuid::text",
            "connection_ref": identity(f"n % {connections}", connections),
            "confirmed": "true",
            "tags": "jsonb_build_object('end_user_id', 'u' || n, 'organization_id', 'o' || n % 1000, 'plan', 'pro')",
            "route_set": "1",
            "problem": f"CASE WHEN {waits} THEN 'Nango could not be reached' WHEN n % 100 = 0 THEN 'not confirmed' END",
            "failure": f"CASE WHEN NOT {waits} AND n % 100 = 0 THEN 'not_confirmed' END",
            "processed_at": f"CASE WHEN NOT {waits} THEN {received} END",
        },
        "jobs": {
            "id": identity("n", jobs),
            "event_id": identity(f"n * {events // jobs}", events),
            "route": f"CASE WHEN {rare} THEN 'rare' ELSE 'route' || n % 10 END",
            "route_version": "1",
            "team": team,
            "destination": "'jobs'",
            "name": f"CASE WHEN {rare} THEN 'rare' ELSE 'crm.import' END",
            "state": "CASE n / 20 % 10 WHEN 0 THEN 'available' WHEN 1 THEN 'available' WHEN 2 THEN 'retryable' "
            "WHEN 3 THEN 'running' WHEN 4 THEN 'discarded' WHEN 5 THEN 'cancelled' ELSE 'completed' END",
            "attempts": "1",
            "crashes": "CASE n / 20 % 10 WHEN 3 THEN 1 ELSE 0 END",
            "next_at": worked,
            "blocked_by": "CASE n / 20 % 10 WHEN 1 THEN 'breaker' END",
            "problem": "CASE n / 20 % 10 WHEN 4 THEN 'answered 500' END",
            "fault": f"CASE n / 20 % 10 WHEN 4 THEN CASE WHEN {rare} THEN 'ours' ELSE 'team' END END",
            "created_at": worked,
            "finished_at": f"CASE WHEN n / 20 % 10 >= 4 THEN {worked} END",
        },
        "audit": {
            "id": identity("n", counts["audit"]),
            "at": moment("n", counts["audit"]),
            "actor": f"CASE WHEN {rare} THEN 'cli:rare' ELSE 'token:app' END",
            "action": f"CASE WHEN {rare} THEN 'rare.done' ELSE 'connection.tags_set' END",
            "subject": "'con_' || n",
            "detail": "'{}'::jsonb",
            "outcome": f"CASE WHEN {rare} THEN 'failed' ELSE 'done' END",
        },
    }
