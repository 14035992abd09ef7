"""The status by REST: the same checks as the command's, and acknowledgements that never mean more than was counted."""

import json
from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db import audit
from app.db.audit import AuditFilters
from app.ids import EVENT, JOB, new_id, show
from tests.integration.api.api_client import open_api, problem_of
from tests.integration.cli.test_cli import Command
from tests.integration.status.rows import a_job, add, an_event, destination, report_running

HOUR = timedelta(hours=1)
ALL = {"kind": "jobs"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    sqlite = request.param == "sqlite"
    return f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")


@pytest.fixture
def api(url, broker_url, tmp_path):
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as client:
        yield client


@pytest.fixture
def dead(api):
    """Two dead letters of crm/jobs and one of crm/hook, and a failed event."""
    now = utc_now()
    event = an_event(now, state="failed", processed_at=now - HOUR, problem="ValueError: no")
    facts = {"state": "discarded", "finished_at": now - HOUR, "problem": "HTTP 404"}
    jobs = [a_job(now, event.id, destination=name, **facts) for name in ("jobs", "jobs", "hook")]
    add(api.database, destination("crm", "jobs"), destination("crm", "hook"), event, *jobs)
    return event, jobs


def red(api):
    report_running(api.database)
    answer = api.json("/status", who="viewer")
    ids = [check["id"] for check in answer["data"] if check["level"] == "red"]
    assert (answer["red"], answer["needs_a_person"]) == (len(ids), bool(ids))
    assert ids == [check["id"] for check in answer["data"][: len(ids)]], "what is red comes first"
    return ids


def acknowledge(api, body, **options):
    return api("POST", "/status/acknowledgements", json=body, **options)


def test_the_report_is_that_of_the_command(api, url, broker_url, tmp_path, dead):
    report_running(api.database)
    answer = api.json("/status")
    folder = tmp_path / "command"
    folder.mkdir()
    variables = {"WAYLINK_DATABASE_URL": url, "WAYLINK_BROKER_URL": broker_url, "WAYLINK_NANGO_SIGNING_KEYS": "key"}
    told = json.loads(Command(folder, variables).inside("status", "--json").stdout)
    # The command runs with another signing key.
    ids = [[check["id"] for check in found if "key" not in check["id"]] for found in (answer["data"], told)]
    assert ids[0] == ids[1]
    red = [check for check in answer["data"] if check["level"] == "red"]
    assert red == [check for check in told if check["level"] == "red"]
    assert {check["id"] for check in red} == {"events-failed", "jobs-discarded:crm/hook", "jobs-discarded:crm/jobs"}


def test_a_file_that_was_broken_since_the_start_is_red_by_name(api, tmp_path, monkeypatch):
    assert red(api) == []
    (tmp_path / "broken.toml").write_text("[[teams")
    monkeypatch.setenv("WAYLINK_CONFIG", str(tmp_path / "broken.toml"))
    [found] = red(api)
    assert found.startswith("configuration:")
    assert "broken.toml" in found


def test_a_destination_is_acknowledged_after_it_was_counted(api, dead):
    body = ALL | {"destination": "crm/jobs"}
    counted = acknowledge(api, body | {"dry_run": True}).json()
    assert (counted["count"], counted["subject"], counted["dry_run"]) == (2, "crm/jobs", True)
    assert "jobs-discarded:crm/jobs" in red(api)
    done = acknowledge(api, body | {"expected": 2, "note": "known"})
    assert (done.status_code, done.json()["count"]) == (200, 2)
    assert red(api) == ["events-failed", "jobs-discarded:crm/hook"]
    [listed] = api.json("/status/acknowledgements")["data"]
    assert (listed["subject"], listed["note"], listed["actor"]) == ("crm/jobs", "known", "token:operator")
    with api.database.read() as session:
        [entry] = audit.newest(session, AuditFilters(action="jobs.acknowledged"))
    assert (entry.actor, entry.subject) == ("token:operator", "crm/jobs")


def test_all_and_single_ones_are_acknowledged(api, dead):
    event, jobs = dead
    assert acknowledge(api, {"kind": "jobs", "id": show(JOB, jobs[2].id)}).json()["count"] == 1
    assert acknowledge(api, {"kind": "events", "id": show(EVENT, event.id)}).json()["count"] == 1
    assert red(api) == ["jobs-discarded:crm/jobs"]
    assert acknowledge(api, ALL | {"expected": 2}).json()["count"] == 2
    assert red(api) == []
    again = acknowledge(api, ALL | {"expected": 0}).json()
    assert (again["count"], again["until"]) == (0, None)


def test_more_than_was_counted_is_a_conflict(api, dead):
    found = problem_of(acknowledge(api, ALL | {"expected": 2}), 409, "conflict")
    assert found["found"]["count"] == 3
    assert "jobs-discarded:crm/hook" in red(api)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (ALL, 422, "invalid_input"),
        (ALL | {"destination": "crm/jobs", "id": show(JOB, new_id())}, 422, "invalid_input"),
        ({"kind": "events", "destination": "crm/jobs", "dry_run": True}, 422, "invalid_input"),
        (ALL | {"destination": "nowhere", "dry_run": True}, 422, "invalid_input"),
        (ALL | {"destination": "crm/nowhere", "dry_run": True}, 404, "not_found"),
        (ALL | {"id": show(JOB, new_id())}, 404, "not_found"),
        ({"kind": "people"}, 400, "invalid_request"),
        (ALL | {"note": "x" * 501, "expected": 1}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_acknowledged_is_refused(api, dead, body, status, word):
    problem_of(acknowledge(api, body), status, word)


def test_reading_needs_a_viewer_acknowledging_an_operator_and_a_team_may_neither(api):
    for who in ("viewer", "operator"):
        assert api.get("/status", who=who).status_code == 200
        assert api.get("/status/acknowledgements", who=who).status_code == 200
    problem_of(acknowledge(api, ALL | {"dry_run": True}, who="viewer"), 403, "forbidden")
    for who in ("team", "team-viewer"):
        problem_of(api.get("/status", who=who), 403, "forbidden")
        problem_of(api.get("/status/acknowledgements", who=who), 403, "forbidden")
        problem_of(acknowledge(api, ALL | {"dry_run": True}, who=who), 403, "forbidden")
