"""Rows that pages show beside the large tables, as data: definitions, operators, records of runs, and figures."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from app.domain.event import EventType
from app.domain.figures import COUNTED, FigureName
from app.services.metrics.own_counts import METRICS
from bench.large_rows import DESTINATIONS, INTEGRATIONS, JOBS, ROUTES, TEAMS, Rows, Size

_EACH_TEAM: Final = f"'team' || n % {TEAMS}"
_MINUTES, _HOURS, _DAYS = 2 * 24 * 60, 30 * 24, 30  # as long as figures are kept; days as long as the events came
_TEAMS: Final = [f"team{number}" for number in range(TEAMS)]
_NAMED: Final = [f"integration{number}" for number in range(INTEGRATIONS)]
# The series of each figure, by its labels.
_SERIES: Final[dict[FigureName, list[tuple[str, ...]]]] = {
    FigureName.WEBHOOKS: [("default", answer) for answer in ("stored", "duplicate", "bad_signature", "not_stored")],
    FigureName.INGEST_SECONDS: [()],
    FigureName.EVENTS: [(kind, state) for kind in EventType for state in ("processed", "failed")],
    FigureName.JOBS: [
        (team, "jobs", outcome) for team in _TEAMS for outcome in ("completed", "retryable", "discarded")
    ],
    FigureName.JOBS_DISCARDED: [(team, "jobs", fault) for team in _TEAMS for fault in ("team", "ours")],
    FigureName.WEBHOOK_TO_JOB_SECONDS: [(team, "jobs") for team in _TEAMS],
    FigureName.REFRESHES: [("default", name, outcome) for name in _NAMED for outcome in ("renewed", "failed")],
    FigureName.NANGO_CALLS: [("default", priority, "ok") for priority in ("high", "low")],
    FigureName.RECONCILED: [("default", "missing")],
    FigureName.BACKLOG: [("events",), ("jobs",), ("refreshes",)],
    FigureName.OLDEST_DUE_SECONDS: [("events",), ("jobs",), ("refreshes",)],
}


def small(size: Size) -> list[Rows]:
    return [
        *_definitions(size),
        *_signing_in(size),
        *_bulk_runs(size),
        *_refreshing(size),
        _rejections(size),
        _reconciliations(size),
        _processes(size),
        *_figures(size),
    ]


def _definitions(size: Size) -> Iterator[Rows]:
    """A destination of each team takes its jobs, a tenth of a team's are disabled, and a route has three versions."""
    yield Rows("teams", TEAMS, {"name": "'team' || n", "source": "'api'", "created_at": size.last})
    place = {"team": _EACH_TEAM, "source": "'api'", "version": "1", "created_at": size.last}
    jobs = place | {"name": "'jobs'", "kind": "'celery'", "queue": "'team.team' || n || '.jobs'"}
    disabled = {"disabled_at": f"CASE WHEN n % 4 = 0 THEN {size.last} END"}
    disabled |= {"disabled_reason": "CASE WHEN n % 4 = 0 THEN 'by hand' END"}
    yield Rows("destinations", TEAMS, jobs | disabled)
    http = place | {"name": "'http' || n", "kind": "'http'", "url": "'https://team.example/' || n"}
    yield Rows("destinations", DESTINATIONS - TEAMS, http)
    version = {
        "team": _EACH_TEAM,
        "name": f"'route' || n / 3 % {ROUTES} / {TEAMS}",
        "version": "n % 3 + 1",
        "destination": "'jobs'",
        "job": "'crm.import'",
        "pattern": "jsonb_build_object('type', jsonb_build_array('connection.created'), 'integration', "
        f"jsonb_build_array('integration' || n % {INTEGRATIONS}))",
        "source": "'api'",
        "since_set": "n % 3",
        "until_set": "CASE WHEN n % 3 < 2 THEN n % 3 + 1 END",
        "created_at": size.last,
    }
    yield Rows("routes", ROUTES * 3, version | {"team": f"'team' || n / 3 % {TEAMS}"})


def _signing_in(size: Size) -> Iterator[Rows]:
    """A hundred operators, tokens and saved views, and links to the portals of teams."""
    count, later = 100, f"{size.last} + interval '30 days'"
    operator = {"id": size.identity("n", count), "name": "'operator' || n", "role": "'viewer'", "credentials": "false"}
    yield Rows("operators", count, operator | {"created_at": size.last})
    token = {"id": size.identity("n", count), "name": "'token' || n", "hash": "sha256(convert_to(n::text, 'UTF8'))"}
    token |= {"scopes": "'[\"viewer\"]'::jsonb", "created_at": size.last, "expires_at": later}
    yield Rows("api_tokens", count, token)
    view = {"id": size.identity("n", count), "actor": "'operator:operator' || n", "page": "'events'"}
    view |= {"name": "'View ' || n", "query": "'state=failed'", "shared": "n % 2 = 0", "created_at": size.last}
    yield Rows("saved_views", count, view)
    link = {"id": size.identity("n", count), "hash": "sha256(convert_to(n::text, 'UTF8'))", "team": _EACH_TEAM}
    link |= {"made_by": "'operator:operator1'", "uses_left": "1", "created_at": size.last, "expires_at": later}
    yield Rows("team_links", count, link)
    session = {"id": size.identity("n", count), "hash": "sha256(convert_to(n::text, 'UTF8'))", "address": "'192.0.2.1'"}
    session |= {"link_id": size.identity("n", count), "browser": "'Firefox'", "created_at": size.last}
    yield Rows("team_sessions", count, session | {"seen_at": size.last, "expires_at": later})


def _bulk_runs(size: Size) -> Iterator[Rows]:
    """Finished ones; the newest has as many rows that it left alone as are kept."""
    count, jobs = 2_000, size.of(JOBS)
    run = {
        "id": size.identity("n", count),
        "act": "CASE WHEN n % 2 = 0 THEN 'jobs.retry' ELSE 'events.retry' END",
        "chosen": "'{}'",
        "actor": "'operator:operator1'",
        "state": "CASE WHEN n % 9 = 0 THEN 'failed' ELSE 'done' END",
        "counted": "100000",
        "done": "99000",
        "failed": "0",
        "left_alone": "1000",
        "created_at": size.moment("n", count),
        "finished_at": size.moment("n", count),
        "next_at": size.moment("n", count),
        "attempts": "0",
        "audit_id": size.identity("n", count),
    }
    yield Rows("bulk_runs", count, run)
    left = {"run_id": size.identity(str(count - 1), count), "row_id": size.identity("n", jobs)}
    yield Rows("bulk_run_rows", 1_000, left | {"result": "'left_alone'", "why": "'its event is not stored any more'"})


def _refreshing(size: Size) -> Iterator[Rows]:
    day = size.now.date().isoformat()
    place = {"environment": "'default'", "integration": "'integration' || n"}
    pause = place | {"cause": "'operator'", "paused_at": size.last, "actor": "'operator:operator1'", "probes": "0"}
    yield Rows("refresh_pauses", 5, pause)
    forecast = {"environment": "'default'", "day": f"(date '{day}' - n::int)::text", "made_at": size.last}
    forecast |= {"starts_at": f"timestamptz '{day}T00:00:00Z' - make_interval(days => n::int)"}
    hours = "'[" + ",".join(["40000"] * 24) + "]'"
    yield Rows("refresh_forecasts", _DAYS, forecast | {"hours": hours, "tables": "'{}'"})


def _rejections(size: Size) -> Rows:
    """Two causes in each minute."""
    minute = f"date_trunc('minute', {size.last}) - make_interval(mins => (n / 2)::int)"
    columns = {
        "minute": minute,
        "environment": "CASE WHEN n < 100 THEN 'rare' ELSE 'default' END",
        "cause": "CASE WHEN n % 2 = 0 THEN 'bad_signature' ELSE 'too_large' END",
        "status": "CASE WHEN n % 2 = 0 THEN 401 ELSE 413 END",
        "count": "7",
        "peak": "3",
        "window_at": minute,
        "window_count": "3",
        "last_at": minute,
        "last_peer": "'192.0.2.1'",
        "last_detail": "'a signature of another key'",
    }
    return Rows("rejections", size.of(2 * _DAYS * 24 * 60), columns)


def _reconciliations(size: Size) -> Rows:
    """One an hour."""
    count = size.of(_HOURS)
    at = size.moment("n", count)
    numbers = "attempts failures covered pages calls seen missed_by_webhook healed unhealed heal_seconds_sum "
    numbers += "heal_seconds_max heal_count"
    columns = {
        "id": size.identity("n", count),
        "environment": "'default'",
        "trigger": "'schedule'",
        "dry_run": "false",
        "accept_deletions": "false",
        "stage": "'done'",
        "stage_since": at,
        "created_at": at,
        "started_at": at,
        "finished_at": at,
        "next_at": at,
        "relist": "false",
        "outcome": "'completed'",
        **dict.fromkeys(("found", "counted", "samples"), "'{}'::jsonb"),
        **dict.fromkeys(numbers.split(), "0"),
    }
    return Rows("reconciliations", count, columns)


def _processes(size: Size) -> Rows:
    columns = {
        "id": size.identity("n", 16),
        "kind": "(ARRAY['web', 'events', 'io', 'beat'])[n % 4 + 1]",
        "host": "'host' || n",
        "pid": "7 + n",
        "version": "'1'",
        "schema_revision": "'0'",
        "started_at": size.last,
        "seen_at": size.last,
        "written_at": size.last,
        "database_at": size.last,
        "progress": "'{}'::jsonb",
    }
    return Rows("processes", 16, columns)


def _figures(size: Size) -> Iterator[Rows]:
    """Every series in each minute, hour and day."""
    for step, longest in (("minute", _MINUTES), ("hour", _HOURS), ("day", _DAYS)):
        count = size.of(longest)
        for name, series in _SERIES.items():
            value = "[" + ",".join(["1000000"] + ["3"] * (_width(name) - 1)) + "]"
            columns = {
                "step": f"'{step}'",
                "at": f"date_trunc('{step}', {size.last}) - n / {len(series)} * interval '1 {step}'",
                "name": f"'{name}'",
                "labels": f"({_array(series)})[n % {len(series)} + 1]",
                "value": f"'{value}'",
            }
            yield Rows("figures", count * len(series), columns)


def _width(name: FigureName) -> int:
    """Numbers of one value."""
    return next((shape.width for shape in METRICS if shape.name == COUNTED.get(name)), 1)


def _array(series: Sequence[tuple[str, ...]]) -> str:
    return "ARRAY[" + ", ".join(f"'{msgspec.json.encode(labels).decode()}'" for labels in series) + "]"
