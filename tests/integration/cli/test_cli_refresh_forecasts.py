"""`waylink refreshes forecast`, and the same over REST."""

import io
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from app.cli import output
from app.db import refresh_forecasts as rows
from app.db.engine import connect
from app.db.models import Connection, Refresh
from app.domain.refreshing.forecasting import DAYS, HOURS, hour_of
from app.ids import new_id
from tests.integration.api.api_client import open_api, problem_of
from tests.integration.cli.test_cli import Command, one_line_error
from tests.integration.world import dump
from tests.ports import free_port

HOUR = timedelta(hours=1)
KEYS = {"WAYLINK_NANGO_API_KEY": "4d70f328-6b39-451e-b92f-21969323b448", "WAYLINK_NANGO_BASE_URL": "http://127.0.0.1:9"}
SIGNING = {"WAYLINK_NANGO_SIGNING_KEYS": "a-signing-key-of-the-tests"}


def fill(database, count=48):
    """Tokens of an hour, renewed one after the other; one that nothing renews; and yesterday's forecast."""
    now = datetime.now(UTC)
    shared = {"tags": {}, "tags_disagree": False, "absences": 0, "created_at": now, "updated_at": now}
    kind = {"environment": "default", "status": "active", "provider": "other", "auth_mode": "OAUTH2"}
    with database.write() as session:
        for number in range(count + 1):
            due_at = now + timedelta(minutes=48 * number / count)
            lasting = "nothing renews it" if number == count else None
            connection = Connection(
                **{
                    "id": new_id(),
                    "integration": "crm",
                    "connection_id": f"c-{number}",
                    "slot": number,
                    **shared,
                    **kind,
                },
                expires_at=due_at + HOUR / 5,
                expires_source="provider",
                renewed_at=due_at - HOUR * 4 / 5,
                not_refreshable=lasting,
            )
            session.add(connection)
            session.flush()
            facts = {"reason": "a test's", "attempts": 0, "failures": 0, "created_at": due_at - HOUR * 4 / 5}
            moments = dict.fromkeys(("refresh_at", "next_at"), due_at)
            session.add(Refresh(id=new_id(), connection_ref=connection.id, forced=False, **facts, **moments))
        starts_at = hour_of(now) - 30 * HOUR
        rows.add(
            session,
            "default",
            starts_at.date().isoformat(),
            made_at=starts_at,
            starts_at=starts_at,
            hours=[60] * HOURS,
            tables={},
        )


@pytest.fixture
def waylink(tmp_path):
    command = Command(tmp_path, {**KEYS, **SIGNING, "WAYLINK_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"})
    assert command.inside("migrate").returncode == 0
    return command


def opened(command):
    return closing(connect(command.database_url))


def test_the_forecast_tells_of_hours_days_the_budget_and_what_lapses(waylink):
    with opened(waylink) as database:
        fill(database)
    [found] = waylink.json("refreshes", "forecast")
    assert (found["environment"], found["connections"], found["carried"]) == ("default", 49, 49)
    assert (len(found["hours"]), len(found["days"])) == (HOURS, DAYS)
    assert all(50 < hour["refreshes"] < 70 for hour in found["hours"])
    assert (found["budget"]["limit"], found["budget"]["per_minute"], found["budget"]["minutes_over"]) == (200, 80, 0)
    assert found["hours"][0]["budget"] == 80 * 60
    [lapse] = found["lapses"]
    assert (lapse["integration"], lapse["clock"], lapse["why"]) == ("crm", "token", "not_refreshable")
    assert found["past"]["forecast"] == 60 * HOURS
    assert found["past"]["happened"] == 0
    assert found["past"]["difference"] is None


def test_the_forecast_fits_a_terminal_of_80_columns(waylink, monkeypatch):
    with opened(waylink) as database:
        fill(database)
    written = io.StringIO()
    monkeypatch.setattr(output, "_console", lambda: Console(width=80, file=written, highlight=False))
    told = waylink.inside("refreshes", "forecast").stdout
    lines = [*told.splitlines(), *written.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert any("budget: 80 a minute of the account's 200" in line for line in lines)
    assert sum("Z  " in line for line in lines) >= HOURS + DAYS


def test_without_connections_and_without_an_earlier_forecast_it_says_so(waylink):
    told = waylink.inside("refreshes", "forecast").stdout
    assert told.startswith("default: 0 connections\n")
    assert "no earlier forecast to compare" in told
    refused = waylink.inside("refreshes", "forecast", "--environment", "elsewhere")
    assert "elsewhere" in one_line_error(refused, 1)


DISABLED = """
[refresh.crm]
enabled = false
"""


def test_a_changed_file_is_simulated_against_the_policies_that_a_worker_noted(waylink):
    told = waylink.inside("refreshes", "simulate").stderr
    assert told == "no worker has noted its policies yet: compared with the defaults\n"
    with opened(waylink) as database:
        fill(database)
    with opened(waylink) as database, database.write() as session:
        noted = {"refresh": {"crm": {"force_every": "20m"}}, "refresh_providers": {}, "environments": {}}
        day = {"made_at": datetime.now(UTC), "starts_at": datetime.now(UTC), "hours": [], "tables": noted}
        rows.add(session, "default", "2999-01-01", **day)
    (waylink.folder / "waylink.toml").write_text(DISABLED)
    found = waylink.json("refreshes", "simulate")
    assert found["in_force_known"]
    [crm] = found["environments"][0]["integrations"]
    assert (crm["integration"], crm["connections"]) == ("crm", 49)
    assert crm["before"]["forced_per_day"] > 3000
    assert crm["after"] == {"calls_per_day": 0.0, "forced_per_day": 0.0, "busiest_minute": 0, "lapses": 49}
    assert found["environments"][0]["total"]["after"] == crm["after"]
    other = waylink.folder / "other.toml"
    other.write_text("")
    [crm] = waylink.json("refreshes", "simulate", "--file", str(other))["environments"][0]["integrations"]
    assert 1300 < crm["after"]["calls_per_day"] < 1600
    assert (crm["after"]["forced_per_day"], crm["after"]["lapses"]) == (0, 1)


def test_a_simulation_changes_nothing_and_fits_a_terminal(waylink, monkeypatch):
    with opened(waylink) as database:
        fill(database)
        before = dump(database)
    (waylink.folder / "waylink.toml").write_text(DISABLED)
    written = io.StringIO()
    monkeypatch.setattr(output, "_console", lambda: Console(width=80, file=written, highlight=False))
    told = waylink.inside("refreshes", "simulate").stdout.splitlines()
    lines = written.getvalue().splitlines()
    assert max(map(len, [*told, *lines])) <= 80
    assert len(lines) == 3  # a heading, the integration and all
    assert " → 0 " in lines[1]
    with opened(waylink) as database:
        assert dump(database) == before


def test_a_file_that_is_wrong_is_refused_with_its_fault(waylink):
    wrong = waylink.folder / "wrong.toml"
    wrong.write_text('[refresh.crm]\nmargin = "20m"\n')
    told = one_line_error(waylink.inside("refreshes", "simulate", "--file", str(wrong)), 2)
    assert "refresh.crm.margin" in told
    assert "earlier, Nango renews nothing" in told


def bury(database, count=6):
    """Grants that died seven days after their authorization, an hour after their last renewal."""
    now, shared = datetime.now(UTC), {"tags": {}, "tags_disagree": False, "absences": 0}
    kind = {"environment": "default", "status": "needs_reconnect", "provider": "other", "auth_mode": "OAUTH2"}
    with database.write() as session:
        for number in range(count):
            moments = dict.fromkeys(("created_at", "updated_at"), now)
            authorized_at = now - 7 * 24 * HOUR
            of = Connection(
                **{"id": new_id(), "integration": "mail", "connection_id": f"m-{number}", **shared, **kind, **moments},
                authorized_at=authorized_at,
            )
            session.add(of)
            session.flush()
            for outcome, at in (("renewed", now - 2 * HOUR), ("renewed", now - HOUR), ("exhausted", now)):
                facts = {"forced": False, "reason": "a test's", "attempts": 1, "failures": 0, "outcome": outcome}
                times = dict.fromkeys(("refresh_at", "next_at", "created_at", "finished_at"), at)
                session.add(Refresh(id=new_id(), connection_ref=of.id, **facts, **times))


def test_what_is_learnt_is_shown_with_a_table_to_paste(waylink, monkeypatch):
    assert waylink.inside("refreshes", "learnt").stdout == "no grant has died, as far as refreshes have found\n"
    with opened(waylink) as database:
        bury(database)
    found = waylink.json("refreshes", "learnt")
    [mail] = found["integrations"]
    assert (mail["deaths"], mail["at_common_age"], mail["proposal"]) == (6, 6, 'refresh_life = "7d"')
    written = io.StringIO()
    monkeypatch.setattr(output, "_console", lambda: Console(width=80, file=written, highlight=False))
    told = waylink.inside("refreshes", "learnt").stdout
    assert max(map(len, [*told.splitlines(), *written.getvalue().splitlines()])) <= 80
    assert told.endswith(f"{found['policy']}\n")
    assert "[refresh.mail]" in told


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, valkey, tmp_path):
    url = f"sqlite:///{tmp_path}/w.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    valkey.start()
    with open_api(database_url=url, broker_url=valkey.url(0), folder=tmp_path, **KEYS) as client:
        yield client


def test_the_forecast_over_rest_is_the_same(api):
    fill(api.database)
    [found] = api.json("/refreshes/forecast?environment=default", who="viewer")["data"]
    assert (found["connections"], len(found["hours"]), len(found["days"])) == (49, HOURS, DAYS)
    assert found["lapses"][0]["why"] == "not_refreshable"
    problem_of(api.get("/refreshes/forecast?environment=elsewhere"), 404, "not_found")
    problem_of(api.get("/refreshes/forecast", who="team"), 403, "forbidden")


def test_policies_are_simulated_over_rest_against_those_in_force(api):
    fill(api.database)
    [found] = api("POST", "/refreshes/simulate", json={"refresh": {"crm": {"enabled": False}}}).json()["data"]
    [crm] = found["integrations"]
    assert (crm["before"]["lapses"], crm["after"]["lapses"], crm["after"]["calls_per_day"]) == (1, 49, 0)
    own = {"environments": {"other": {"refresh": {"crm": {"enabled": False}}}}, "environment": "default"}
    [found] = api("POST", "/refreshes/simulate", json=own).json()["data"]
    assert found["total"]["before"] == found["total"]["after"]


@pytest.mark.parametrize(
    ("body", "status", "word", "names"),
    [
        ({"refresh": {"crm": {"margin": "20m"}}}, 422, "invalid_input", "refresh.crm.margin"),
        ({"refresh": {"crm": {"color": "red"}}}, 422, "invalid_input", "refresh.crm.color"),
        ({"refresh": {"crm": 1}}, 400, "invalid_request", "refresh"),
        ({"refresh": {str(number): {} for number in range(20_001)}}, 413, "too_large", "65536"),
        ({"environment": "elsewhere"}, 422, "invalid_input", "environment"),
    ],
)
def test_wrong_policies_are_refused_with_their_place(api, body, status, word, names):
    assert names in problem_of(api("POST", "/refreshes/simulate", json=body), status, word)["detail"]


def test_a_simulation_needs_an_operator(api):
    problem_of(api("POST", "/refreshes/simulate", who="viewer", json={}), 403, "forbidden")


def test_what_is_learnt_is_shown_over_rest(api):
    assert api.json("/refreshes/learnt", who="viewer") == {"data": [], "policy": ""}
    bury(api.database, 4)
    found = api.json("/refreshes/learnt?environment=default", who="viewer")
    assert found["policy"] == ""
    assert found["data"][0]["why_not"].startswith("4 died; at least 5 are needed")
