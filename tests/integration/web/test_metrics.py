"""`/metrics`: counts of all processes and the state of the installation, with a token or on an address of its own."""

import socket
from datetime import timedelta

import httpx
import pytest

from app.clock import utc_now
from app.db import connections, refresh_pauses, refreshes, ticks
from app.db.connections import ConnectionKey
from app.db.models import Destination, Event, Job, Team
from app.domain.access import Scope
from app.domain.refreshing.outages import Tally, Window
from app.domain.refreshing.plan import Plan
from app.ids import new_id
from app.services import tokens
from app.services.refreshing import pausing
from tests.integration.web.web_server import KEY, WEBHOOK, WebServer, body_of, serve
from tests.servers import PostgresServer
from tests.waiting import PATIENCE, until


@pytest.fixture
def web(broker_url, tmp_path):
    with serve(database_url=f"sqlite:///{tmp_path}/waylink.db", broker_url=broker_url, folder=tmp_path) as server:
        yield server


def test_metrics_count_each_answer(web: WebServer) -> None:
    web.post(body_of(1))
    web.post(body_of(1))
    web.post(body_of(1), key="wrong")
    web.post(body_of(1), path=f"{WEBHOOK}/stranger")
    headers = viewer(web)
    web.app.counts.write()
    shown = web.client.get("/metrics", headers=headers).text
    for environment, answer in (
        ("default", "stored"),
        ("default", "duplicate"),
        ("default", "bad_signature"),
        ("", "unknown_environment"),
    ):
        assert f'waylink_webhooks_total{{answer="{answer}",environment="{environment}"}}' in shown
    assert "stranger" not in shown, "a sender's words are no labels"
    assert KEY not in shown


def test_metrics_have_what_is_late_by_integration_as_the_database_has_it(web: WebServer) -> None:
    now, headers = utc_now(), viewer(web)
    rows = [connections.new(ConnectionKey("default", name, "c"), now=now) for name in ("late", "later", "in-time")]
    late = {row.id: now - timedelta(minutes=minutes) for row, minutes in zip(rows, (6, 60, 0), strict=True)}
    with web.database.write() as session:
        connections.insert(session, rows)
        plans = {ref: Plan(at, forced=False, reason="x") for ref, at in late.items()}
        refreshes.plan(session, plans, now=now)
        ticks.note(session, ticks.REFRESH_DUE, now=now)
    pausing.pause(web.database, "default", "late", actor="cli:root", now=now)
    with web.database.write() as session:
        key = refresh_pauses.IntegrationKey("default", "late")
        refresh_pauses.lock_window(session, key, now=now)
        refresh_pauses.save_window(session, key, Window(now, Tally(renewed=2, failed=1)))
    shown = values_of(web.client.get("/metrics", headers=headers).text)
    for row in rows[:2]:
        labels = f'{{environment="default",integration="{row.integration}"}}'
        assert shown[f"waylink_refresh_planned_timestamp_seconds{labels}"] == late[row.id].timestamp()
        assert shown[f"waylink_refreshes_overdue{labels}"] == 1
    assert 'waylink_refreshes_overdue{environment="default",integration="in-time"}' not in shown
    assert shown['waylink_refreshes_paused{environment="default",integration="late"}'] == 1
    labels = 'environment="default",integration="late"'
    assert shown[f'waylink_refresh_results{{{labels},result="renewed"}}'] == 2
    assert shown[f'waylink_refresh_results{{{labels},result="failed"}}'] == 1
    assert shown["waylink_refresh_tick_timestamp_seconds"] == now.timestamp()
    with web.database.write() as session:
        refreshes.supersede(session, list(late), now=now)
    pausing.resume(web.database, "default", "late", actor="cli:root", now=now)
    gone = values_of(web.client.get("/metrics", headers=headers).text)
    assert not [name for name in gone if name.startswith(("waylink_refresh_planned", "waylink_refreshes_overdue"))]
    assert not [name for name in gone if name.startswith("waylink_refreshes_paused")]


def values_of(shown: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in shown.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def viewer(web: WebServer, *, team: str | None = None) -> dict[str, str]:
    """The headers of a call with a token that reads, of a team if one is named."""
    scopes, lifetime, now = set() if team else {Scope.VIEWER}, timedelta(days=1), utc_now()
    with web.database.write() as session:
        if team:
            session.add(Team(name=team, source="api", created_at=now))
            session.flush()
        made = tokens.issue(session, "scraper", scopes=scopes, team=team, lifetime=lifetime, actor="test", now=now)
    return {"authorization": f"Bearer {made.secret}"}


def test_metrics_need_a_token_from_this_machine_too(web: WebServer) -> None:
    for headers in ({}, {"authorization": "Bearer wl_" + "x" * 43}, {"authorization": "Basic eDp5"}):
        answer = web.client.get("/metrics", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert web.client.get("/metrics", headers=viewer(web, team="crm")).status_code == 403


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-host"])
def test_open_metrics_are_for_requests_of_this_machine_alone(broker_url, tmp_path, header: str) -> None:
    url = f"sqlite:///{tmp_path}/waylink.db"
    with serve(database_url=url, broker_url=broker_url, folder=tmp_path, WAYLINK_OPEN_METRICS="true") as web:
        assert web.client.get("/metrics").status_code == 200
        assert web.client.get("/metrics", headers={header: "203.0.113.7"}).status_code == 401


def test_metrics_on_an_address_of_their_own_need_no_token(broker_url, tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/waylink.db"
    with socket.create_server(("127.0.0.1", 0)) as own:
        address = "http://{}:{}".format(*own.getsockname())
        with serve(database_url=url, broker_url=broker_url, folder=tmp_path, metrics_on=own) as web:
            web.post(body_of(1))
            web.app.counts.write()
            shown = values_of(httpx.get(f"{address}/metrics", timeout=PATIENCE, trust_env=False).text)
            assert shown['waylink_webhooks_total{answer="stored",environment="default"}'] == 1
            assert shown["waylink_database_up"] == 1
            for path in ("/", "/healthz", "/api/v1/events", WEBHOOK):
                assert httpx.get(f"{address}{path}", timeout=PATIENCE, trust_env=False).status_code == 404
            assert web.client.get("/metrics").status_code == 401


def test_without_the_database_only_the_process_s_own_gauges_are_shown_and_no_count(
    postgres: PostgresServer, postgres_url: str, broker_url: str, tmp_path
) -> None:
    """A count of this process alone would be lower than that of all, which Prometheus takes for a restart."""
    with serve(database_url=postgres_url, broker_url=broker_url, folder=tmp_path, WAYLINK_OPEN_METRICS="true") as web:
        web.post(body_of(1))
        web.app.counts.write()
        stored = 'waylink_webhooks_total{answer="stored",environment="default"}'
        assert values_of(web.client.get("/metrics").text)[stored] == 1
        postgres.stop()
        try:
            shown = values_of(web.client.get("/metrics").text)
            assert shown["waylink_database_up"] == 0
            assert "waylink_storing" in shown
            assert stored not in shown
            assert not [name for name in shown if name.startswith("waylink_backlog")]
        finally:
            postgres.start()
        assert values_of(web.client.get("/metrics").text)[stored] == 1


def test_queues_and_destinations_are_shown_with_the_age_of_what_waits(web: WebServer) -> None:
    before = utc_now() - timedelta(minutes=10)
    with web.database.write() as session:
        session.add(Team(name="crm", source="api", created_at=before))
        session.flush()
        for name, disabled in (("jobs", None), ("old", before)):
            session.add(Destination(team="crm", name=name, kind="celery", queue="team.crm.jobs", source="api",
                                    created_at=before, disabled_at=disabled))  # fmt: skip
        session.flush()
        for number in range(3):
            event = new_id()
            session.add(Event(id=event, environment="default", origin="webhook", state="received", received_at=before,
                              last_seen_at=before, duplicates=0, next_at=before, attempts=0, looks=0))  # fmt: skip
            session.flush()
            session.add(Job(id=new_id(), event_id=event, route="r", route_version=1, team="crm",
                            destination="old" if number == 2 else "jobs", name="x", state="available", attempts=0,
                            crashes=0, next_at=before, created_at=before,
                            blocked_by="disabled" if number == 2 else None))  # fmt: skip
    shown = values_of(web.client.get("/metrics", headers=viewer(web)).text)
    assert shown['waylink_backlog{queue="events"}'] == 3
    assert shown['waylink_backlog{queue="jobs"}'] == 2
    assert shown['waylink_backlog{queue="refreshes"}'] == 0
    assert shown['waylink_oldest_due_seconds{queue="refreshes"}'] == 0
    assert shown['waylink_jobs_unfinished{state="parked"}'] == 1
    jobs, old = ('destination="jobs"', 'destination="old"')
    assert shown[f'waylink_destination_jobs{{{jobs},state="waiting",team="crm"}}'] == 2
    assert shown[f'waylink_destination_jobs{{{old},state="parked",team="crm"}}'] == 1
    assert shown[f'waylink_destination_state{{{old},state="disabled",team="crm"}}'] == 1
    assert shown[f'waylink_destination_state{{{jobs},state="disabled",team="crm"}}'] == 0
    for name in ('waylink_oldest_due_seconds{queue="events"}', 'waylink_oldest_due_seconds{queue="jobs"}',
                 f'waylink_destination_oldest_due_seconds{{{jobs},team="crm"}}'):  # fmt: skip
        assert 600 <= shown[name] < 600 + PATIENCE
    assert shown[f'waylink_destination_oldest_due_seconds{{{old},team="crm"}}'] == 0


def test_processes_that_report_are_counted_by_kind(web: WebServer) -> None:
    headers = viewer(web)
    running = 'waylink_processes{kind="web",state="running"}'
    until("it has reported", lambda: values_of(web.client.get("/metrics", headers=headers).text)[running] == 1)
    shown = values_of(web.client.get("/metrics", headers=headers).text)
    kinds = ("web", "events", "io", "beat")
    assert [shown[f'waylink_processes{{kind="{kind}",state="running"}}'] for kind in kinds] == [1, 0, 0, 0]
    assert [shown[f'waylink_processes{{kind="{kind}",state="silent"}}'] for kind in kinds] == [0, 0, 0, 0]
    assert shown['waylink_heartbeat_age_seconds{kind="web"}'] < PATIENCE
