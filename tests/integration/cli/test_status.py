"""`waylink status` says whether a person is needed, from indexes alone; `waylink rejections` lists what was refused."""

import json
import signal
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import SQLAlchemyError

from app.clock import utc_now
from app.config.nango_environment import key_name
from app.db import connections, event_claims, key_uses, refreshes, rejections
from app.db.engine import connect
from app.db.key_uses import KeyUse
from app.db.models import Audit, Destination, Event, Job, Team
from app.db.read import figures
from app.db.rejections import RefusalCount
from app.deadlines import EDIT_LEASE
from app.domain.refreshing.plan import Plan
from app.ids import first_id, new_id
from app.services.refreshing.ticking import note_tick
from tests.integration.cli.test_cli import Command
from tests.integration.status.rows import report_running
from tests.servers import PostgresServer, ValkeyServer
from tests.waiting import PATIENCE

SECRET, OLD = "hunter2", "hunter1"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def an_event(now, **changes):
    facts = {
        "id": new_id(), "environment": "default", "origin": "webhook", "state": "received", "received_at": now,
        "last_seen_at": now, "duplicates": 0, "next_at": now, "attempts": 0, "looks": 0,
    }  # fmt: skip
    return Event(**(facts | changes))


def a_job(now, event_id, **changes):
    facts = {
        "id": new_id(), "event_id": event_id, "route": new_id().hex, "route_version": 1, "team": "crm",
        "destination": "jobs", "name": "crm.x", "state": "available", "attempts": 0, "crashes": 0, "next_at": now,
        "created_at": now,
    }  # fmt: skip
    return Job(**(facts | changes))


def an_action(at, *, outcome="begun"):
    made_then = UUID(int=first_id(at).int | new_id().int & (1 << 62) - 1)
    facts = {"actor": "token:deploy", "action": "tags.added", "subject": "con_1", "detail": {}}
    return Audit(id=made_then, at=at, outcome=outcome, **facts)


def add(database, *rows):
    """The rows, and where jobs go."""
    with database.write() as session:
        if session.get(Team, "crm") is None:
            session.add(Team(name="crm", source="file", created_at=utc_now()))
            session.flush()
            place = {"kind": "celery", "queue": "team.crm.jobs", "source": "file", "created_at": utc_now()}
            session.add(Destination(team="crm", name="jobs", **place))
            session.flush()
        for row in rows:
            session.add(row)
            session.flush()


# Figures, on both databases


def event_figures(database, now):
    with database.read() as session:
        return figures.events(session, now=now)


def job_figures(database, now):
    with database.read() as session:
        return figures.jobs(session, now=now)


def test_an_empty_database_has_nothing_to_report(database, clock):
    assert event_figures(database, clock.now) == figures.EventFigures(0, None, False)
    assert job_figures(database, clock.now) == figures.JobFigures({}, {}, None)


def test_events_are_counted_by_what_they_wait_for(database, clock):
    now = clock.now
    add(
        database,
        an_event(now, next_at=now - timedelta(minutes=5)),
        an_event(now, next_at=now - timedelta(minutes=9)),
        an_event(now, next_at=now + timedelta(seconds=15), looks=1),  # a second lookup at Nango
        an_event(now, state="processed", next_at=now - HOUR),
        an_event(now, state="failed", next_at=now - HOUR),
    )
    found = event_figures(database, now)
    assert found == figures.EventFigures(3, now - timedelta(minutes=9), False)


@pytest.mark.parametrize(
    ("until", "leased"),
    [(timedelta(seconds=20), True), (timedelta(seconds=-1), False)],
    ids=["claimed", "its lease ran out"],
)
def test_a_worker_is_known_by_the_leases_it_holds_and_what_it_has_is_not_overdue(database, clock, until, leased):
    overdue, held = (an_event(clock.now, next_at=clock.now - timedelta(minutes=age)) for age in (2, 5))
    add(database, overdue, held)
    with database.write() as session:
        event_claims.take(session, [held.id], until=clock.now + until)
    found = event_figures(database, clock.now)
    assert found.leased is leased
    assert found.oldest_due == (overdue if leased else held).next_at


def test_jobs_are_counted_by_state_and_parked_ones_are_not_due(database, clock):
    now = clock.now
    source = an_event(now)
    states = ["available", "available", "running", "retryable", "completed", "discarded", "cancelled"]
    add(database, source, *[a_job(now, source.id, state=state, next_at=now - HOUR) for state in states])
    add(database, a_job(now, source.id, next_at=now - DAY, blocked_by="operator"))
    found = job_figures(database, now)
    assert found == figures.JobFigures({"available": 2, "running": 1, "retryable": 1}, {"operator": 1}, now - HOUR)


def begun(database, now):
    with database.read() as session:
        return figures.actions_begun(session, since=now - DAY, before=now - EDIT_LEASE)


def test_actions_that_began_a_while_ago_and_have_no_end_are_counted(database, clock):
    now, minutes = clock.now, timedelta(minutes=1)
    old = [an_action(now - age) for age in (2 * minutes, HOUR, DAY + HOUR)]
    ended = [an_action(now - 2 * minutes, outcome=outcome) for outcome in ("done", "failed")]
    add(database, *old, *ended, an_action(now - EDIT_LEASE / 2))
    assert begun(database, now) == 2


def reconnecting(database):
    with database.read() as session:
        return figures.needing_reconnect(session)


def a_connection(now, name, status):
    row = connections.new(connections.ConnectionKey("default", "oauth2", name), now=now)
    row.status = status
    return row


def test_connections_whose_end_user_has_to_act_are_counted(database, clock):
    states = ["active", "needs_reconnect", "deleted", "needs_reconnect", "unconfirmed"]
    rows = [a_connection(clock.now, f"c-{number}", state) for number, state in enumerate(states)]
    assert reconnecting(database) == 0
    with database.write() as session:
        connections.insert(session, rows)
    assert reconnecting(database) == 2


def test_counting_ends_at_a_bound(database, clock, monkeypatch):
    monkeypatch.setattr(figures, "AT_MOST", 3)
    now = clock.now
    source = an_event(now)
    add(database, source, *[an_event(now) for _ in range(9)])
    add(database, *[a_job(now, source.id) for _ in range(9)])
    found, jobs = event_figures(database, now), job_figures(database, now)
    assert (found.waiting, jobs.unfinished) == (4, {"available": 4})


# The commands


@pytest.fixture
def waylink(tmp_path, broker_url: str) -> Command:
    variables = {"WAYLINK_NANGO_SIGNING_KEYS": f"{SECRET},{OLD}", "WAYLINK_BROKER_URL": broker_url}
    command = Command(tmp_path, variables)
    assert command.inside("migrate").returncode == 0
    return command


@contextmanager
def opened(waylink: Command):
    with closing(connect(waylink.database_url)) as database:
        yield database


def running(waylink: Command) -> None:
    """Processes of each kind report, where there is a database that takes it."""
    with suppress(SQLAlchemyError), opened(waylink) as database:
        report_running(database)


def status(waylink: Command, code: int) -> dict[str, dict]:
    running(waylink)
    done = waylink.inside("status", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    checks = json.loads(done.stdout)
    assert all(list(check) == ["id", "name", "level", "value", "cause", "repair"] for check in checks)
    assert any(check["level"] == "red" for check in checks) is (code == 1)
    assert all(check["cause"] and check["repair"] for check in checks if check["level"] == "red")
    found = {check["name"]: check for check in checks}
    assert len(found) == len(checks) == len({check["id"] for check in checks}), "names tell checks apart"
    return found


def refuse(waylink: Command, count: int, *, environment="default", cause="bad_signature", age=timedelta(0)) -> None:
    with opened(waylink) as database, database.write() as session:
        at = utc_now() - age
        rejections.add(session, [RefusalCount(environment, cause, 401, count, at, "192.0.2.7", "")])


def test_status_is_0_when_all_is_well(waylink: Command) -> None:
    found = status(waylink, 0)
    assert {"database", "internal broker", "team broker", "queue waylink.events", "queue waylink.io"} <= found.keys()
    assert (found["events waiting"]["value"], found["events worker"]["value"]) == (0, "nothing to do")
    assert found["breaker default"]["value"] == "closed"
    assert found["environment default"]["value"] == "signing keys only"
    shown = waylink.inside("status")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[0] == "nothing needs a person"
    assert len(shown.stdout.splitlines()) <= 23
    assert "events-waiting" not in shown.stdout
    assert "ok   events-waiting: 0" in waylink.inside("status", "--all").stdout


def test_a_fresh_backlog_is_no_alarm_and_an_old_one_without_a_worker_is(waylink: Command) -> None:
    with opened(waylink) as database:
        add(database, an_event(utc_now()))
        assert status(waylink, 0)["events waiting"]["value"] == 1
        add(database, an_event(utc_now(), next_at=utc_now() - timedelta(seconds=90)))
        found = status(waylink, 1)
        assert (found["events waiting"]["level"], found["events worker"]["level"]) == ("red", "red")
        assert found["events worker"]["repair"] == "waylink worker events"
        claimed = an_event(utc_now())
        add(database, claimed)
        with database.write() as session:
            event_claims.take(session, [claimed.id], until=utc_now() + timedelta(seconds=20))
        found = status(waylink, 1)
        assert (found["events waiting"]["level"], found["events worker"]["level"]) == ("red", "ok")


def test_jobs_that_no_worker_delivers_are_an_alarm(waylink: Command) -> None:
    with opened(waylink) as database:
        source = an_event(utc_now(), state="processed")
        add(database, source, a_job(utc_now(), source.id, next_at=utc_now() - timedelta(seconds=90)))
    found = status(waylink, 1)
    assert (found["jobs available"]["level"], found["jobs available"]["value"]) == ("red", 1)


def test_interrupted_actions_are_shown_with_where_to_check(waylink: Command) -> None:
    assert status(waylink, 0)["acts without an end"]["value"] == 0
    with opened(waylink) as database:
        add(database, an_action(utc_now() - HOUR), an_action(utc_now() - HOUR, outcome="done"))
    shown = status(waylink, 0)["acts without an end"]
    assert (shown["level"], shown["value"], shown["repair"]) == ("hint", 1, "waylink audit --outcome begun")
    [act] = waylink.json("audit", "--outcome", "begun")
    assert (act["action"], act["outcome"]) == ("tags.added", "begun")
    assert waylink.inside("audit", "--outcome", "odd").returncode == 2


def test_connections_that_need_a_reconnect_are_shown_and_where_they_are_listed(waylink: Command) -> None:
    assert status(waylink, 0)["connections needing reconnect"]["value"] == 0
    with opened(waylink) as database, database.write() as session:
        connections.insert(session, [a_connection(utc_now(), "c-1", "needs_reconnect")])
    shown = status(waylink, 0)["connections needing reconnect"]  # for their end users, not for an operator
    assert (shown["level"], shown["value"], shown["repair"]) == ("hint", 1, "waylink connections --needs-reconnect")
    assert [connection["connection_id"] for connection in waylink.json("connections", "--needs-reconnect")] == ["c-1"]


def late_connection(now, name, *, expires, due):
    row = a_connection(now, name, "active")
    row.expires_at = now + expires
    return row, Plan(now + due, forced=False, reason="x")


def insert_late(waylink: Command, *late) -> None:
    with opened(waylink) as database, database.write() as session:
        connections.insert(session, [row for row, _ in late])
        refreshes.plan(session, {row.id: plan for row, plan in late}, now=utc_now())


@pytest.fixture
def asking(waylink: Command) -> Command:
    """With an API key, so that tokens are renewed."""
    waylink.variables |= {"WAYLINK_NANGO_API_KEY": "k", "WAYLINK_RECONCILE_EVERY": "0"}
    return waylink


def test_overdue_refreshes_and_lapsed_tokens_are_an_alarm_that_says_where_to_look(asking: Command) -> None:
    found = status(asking, 0)
    for check in ("refreshes overdue", "tokens lapsed", "integrations paused"):
        assert (found[check]["level"], found[check]["value"], found[check]["cause"]) == ("ok", 0, "")
    insert_late(asking, late_connection(utc_now(), "c-1", expires=HOUR, due=timedelta(minutes=-6)))
    found = status(asking, 1)
    assert (found["refreshes overdue"]["level"], found["refreshes overdue"]["value"]) == ("red", 1)
    assert "default/oauth2 1, since " in found["refreshes overdue"]["cause"]
    assert found["tokens lapsed"]["level"] == "ok"
    insert_late(asking, late_connection(utc_now(), "c-2", expires=timedelta(minutes=-6), due=timedelta(minutes=-20)))
    found = status(asking, 1)
    assert (found["tokens lapsed"]["level"], found["tokens lapsed"]["value"]) == ("red", 1)
    assert len(asking.json("refreshes", "--state", "overdue")) == found["refreshes overdue"]["value"] == 2
    assert len(asking.json("connections", "--status", "active", "--expires-before", "0s")) == 1


def test_paused_integrations_are_an_alarm_that_names_them(asking: Command) -> None:
    insert_late(asking, late_connection(utc_now(), "c-1", expires=HOUR, due=HOUR))
    assert asking.inside("refreshes", "pause", "default/oauth2").returncode == 0
    found = status(asking, 1)["integrations paused"]
    assert (found["level"], found["value"]) == ("red", 1)
    assert "default/oauth2" in found["cause"]
    assert asking.inside("refreshes", "resume", "default/oauth2").returncode == 0
    status(asking, 0)


def test_a_refresh_task_that_has_stopped_is_an_alarm_and_one_that_never_ran_is_not(asking: Command) -> None:
    assert status(asking, 0)["refresh scheduler"]["value"] == "never"
    with opened(asking) as database:
        note_tick(database, now=utc_now() - timedelta(minutes=4))
        found = status(asking, 1)["refresh scheduler"]
        assert (found["level"], found["value"], found["repair"]) == ("red", "stands still", "waylink worker io")
        note_tick(database, now=utc_now())
    assert status(asking, 0)["refresh scheduler"]["value"] == "ticks"


def test_without_an_api_key_nothing_is_refreshed_and_no_tick_is_missed(waylink: Command) -> None:
    with opened(waylink) as database:
        note_tick(database, now=utc_now() - HOUR)
    assert "refresh scheduler" not in status(waylink, 0)


def test_failed_events_and_discarded_jobs_are_an_alarm_until_they_are_acknowledged(waylink: Command) -> None:
    assert status(waylink, 0)["jobs discarded"]["value"] == 0
    with opened(waylink) as database:
        source = an_event(utc_now(), state="failed", processed_at=utc_now(), problem="ValueError: no")
        add(database, source, a_job(utc_now(), source.id, state="discarded", finished_at=utc_now(), problem="HTTP 404"))
    found = status(waylink, 1)
    assert (found["events failed"]["value"], found["jobs discarded crm/jobs"]["value"]) == (1, 1)
    assert "ValueError: no" in found["events failed"]["cause"]
    assert "HTTP 404" in found["jobs discarded crm/jobs"]["cause"]
    for check in ("events failed", "jobs discarded crm/jobs"):
        assert waylink.inside(*found[check]["repair"].split()[1:], "--yes").returncode == 0
    status(waylink, 0)


@pytest.mark.parametrize(
    ("count", "changes", "state"),
    [
        (2, {}, "closed"),
        (3, {}, "near"),
        (6, {}, "open_likely"),
        (6, {"age": timedelta(seconds=70), "cause": "no_signature"}, "closed"),
        (6, {"cause": "method"}, "closed"),
        (6, {"environment": "", "cause": "unknown_environment"}, "closed"),
    ],
)
def test_a_breaker_that_may_open_is_an_alarm_for_a_minute(waylink: Command, count, changes, state) -> None:
    refuse(waylink, count, **changes)
    found = status(waylink, 0 if state == "closed" else 1)
    assert found["breaker default"]["value"] == state


@pytest.mark.parametrize("cause", ["overload", "database_away", "fault"])
def test_webhooks_that_could_not_be_stored_are_an_alarm_however_few(waylink: Command, cause: str) -> None:
    assert status(waylink, 0)["storing"]["value"] == 0
    refuse(waylink, 1, cause=cause)
    found = status(waylink, 1)
    assert (found["storing"]["level"], found["storing"]["value"]) == ("red", 1)
    assert found["breaker default"]["value"] == "closed", "so few do not open it"


def test_webhooks_that_could_not_be_stored_a_while_ago_are_no_alarm(waylink: Command) -> None:
    refuse(waylink, 1, cause="overload", age=timedelta(minutes=5))
    refuse(waylink, 1, cause="bad_signature")
    assert status(waylink, 0)["storing"]["level"] == "ok"


@pytest.mark.parametrize("command", ["status", "check"])
def test_a_database_that_takes_no_writes_is_an_alarm(
    tmp_path, postgres: PostgresServer, postgres_url: str, broker_url: str, command: str
) -> None:
    variables = {"WAYLINK_NANGO_SIGNING_KEYS": SECRET, "WAYLINK_BROKER_URL": broker_url}
    waylink = Command(tmp_path, {**variables, "WAYLINK_DATABASE_URL": postgres_url})
    assert waylink.inside("migrate").returncode == 0
    postgres.administer(f"ALTER DATABASE {make_url(postgres_url).database} SET default_transaction_read_only = on")
    done = waylink.inside(command, "--json")
    assert done.returncode == 1
    [found] = [row for row in json.loads(done.stdout) if "database" in (row.get("id"), row.get("what"))]
    assert found["level" if command == "status" else "result"] in ("red", "bad")
    assert "takes no writes" in found["cause" if command == "status" else "detail"]


def test_rejections_of_the_last_hour_are_shown_by_cause(waylink: Command) -> None:
    refuse(waylink, 2)
    refuse(waylink, 40, environment="", cause="unknown_environment")
    refuse(waylink, 500, cause="too_large", age=timedelta(hours=2))
    found = status(waylink, 0)
    assert found["rejections"]["value"] == 42
    assert found["rejections bad_signature"]["cause"] == "default 2"
    assert found["rejections unknown_environment"]["cause"] == "(unknown) 40"
    assert "rejections too_large" not in found


def test_keys_are_shown_by_name_and_position_with_their_last_use(waylink: Command) -> None:
    found = status(waylink, 0)
    assert found["key default/1"]["cause"] == "no web process has run with it yet"
    with opened(waylink) as database, database.write() as session:
        uses = [KeyUse("default", key_name(SECRET), 3), KeyUse("default", key_name(OLD), 0)]
        key_uses.add(session, [*uses, KeyUse("default", "0123abcd", 7), KeyUse("gone", "4567cdef", 1)], now=utc_now())
    found = status(waylink, 0)
    assert (found["key default/1"]["value"], found["key default/2"]["value"]) == (key_name(SECRET), key_name(OLD))
    assert ", 3 webhooks since " in found["key default/1"]["cause"]
    assert found["key default/2"]["cause"].startswith("never used since ")
    assert found["retired key default/0123abcd"]["cause"].startswith("no longer live; last used ")
    assert "retired key gone/4567cdef" in found
    for text_ in (json.dumps(found), waylink.inside("status").stdout):
        assert SECRET not in text_
        assert OLD not in text_


def test_a_broker_that_is_away_is_an_alarm_and_the_rest_is_still_shown(waylink: Command, valkey: ValkeyServer) -> None:
    valkey.stop()
    try:
        found = status(waylink, 1)
    finally:
        valkey.start()
    assert [found[name]["level"] for name in ("internal broker", "team broker", "database")] == ["red", "red", "ok"]
    assert "events waiting" in found


def test_a_database_that_is_away_or_not_migrated_is_an_alarm(tmp_path, broker_url: str) -> None:
    command = Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": SECRET, "WAYLINK_BROKER_URL": broker_url})
    found = status(command, 1)
    assert "`waylink migrate`" in found["database"]["cause"]
    assert found["internal broker"]["level"] == "ok"
    command.variables["WAYLINK_DATABASE_URL"] = f"postgresql://waylink:{SECRET}@127.0.0.1:1/waylink"
    found = status(command, 1)
    assert found["database"]["value"] == "away"
    assert SECRET not in json.dumps(found)


def with_password(url: str, password: str) -> str:
    return make_url(url).set(password=password).render_as_string(hide_password=False)


def test_status_and_check_say_why_database_and_brokers_do_not_answer(
    tmp_path, broker_url: str, postgres_url: str
) -> None:
    command = Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": "key"})
    right = make_url(postgres_url)
    gone = right.set(database="nosuch").render_as_string(hide_password=False)
    wrong_user = right.set(username="stranger", password=SECRET).render_as_string(hide_password=False)
    causes = {
        wrong_user: 'password authentication failed for user "stranger"',
        gone: 'database "nosuch" does not exist',
    }
    command.variables["WAYLINK_BROKER_URL"] = with_password(broker_url, SECRET)
    for url, cause in causes.items():
        command.variables["WAYLINK_DATABASE_URL"] = url
        found = {check["name"]: check["cause"] for check in json.loads(command.inside("status", "--json").stdout)}
        done = command.inside("check", "--json")
        checked = {check["what"]: check["detail"] for check in json.loads(done.stdout)}
        for told in (found, checked):
            assert cause in told["database"]
            for broker in ("internal broker", "team broker"):
                assert told[broker].endswith("does not answer: the user or the password is refused"), told
        assert SECRET not in json.dumps([found, checked]) + done.stderr


def test_a_database_of_a_later_release_is_reported_as_newer(waylink: Command) -> None:
    with closing(connect(waylink.database_url)) as database, database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    found = status(waylink, 1)["database"]
    assert (found["value"], "a later release has been here" in found["cause"]) == ("newer", True)


def test_wrong_use_of_status_and_rejections_is_2(waylink: Command) -> None:
    for arguments in (["status", "x"], ["rejections", "--since", "soon"], ["rejections", "--since", "9" * 5000 + "d"]):
        assert waylink.inside(*arguments).returncode == 2, arguments
    assert waylink.inside("rejections", "--since", "99999d").returncode == 0


def test_rejections_are_listed_newest_first_and_filtered(waylink: Command) -> None:
    refuse(waylink, 2, age=2 * HOUR)
    refuse(waylink, 5, environment="", cause="unknown_environment", age=HOUR)
    first, second = waylink.json("rejections")
    assert (first["environment"], first["cause"], first["count"]) == (None, "unknown_environment", 5)
    assert second.items() >= {"environment": "default", "status": 401, "peak": 2, "last_peer": "192.0.2.7"}.items()
    for arguments, causes in (
        (["--environment", "default"], ["bad_signature"]),
        (["--unknown-environment"], ["unknown_environment"]),
        (["--cause", "bad_signature"], ["bad_signature"]),
        (["--since", "90m"], ["unknown_environment"]),
        (["--limit", "1"], ["unknown_environment"]),
    ):
        assert [rejection["cause"] for rejection in waylink.json("rejections", *arguments)] == causes, arguments
    assert "192.0.2.7" in waylink.inside("rejections").stdout


def test_a_kind_of_process_that_does_not_run_is_an_alarm_by_name(waylink: Command) -> None:
    assert status(waylink, 0)["processes io"]["value"] == 1
    with opened(waylink) as database:
        ages_ago = utc_now() - HOUR
        report_running(database, kinds=["io"], written_at=ages_ago, seen_at=ages_ago)
    done = waylink.inside("status")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "1 thing needs a person"
    assert "RED  processes:io: 0" in done.stdout
    assert "-> waylink worker io" in done.stdout


def test_before_the_first_start_every_kind_of_process_is_missing(waylink: Command) -> None:
    rows = json.loads(waylink.inside("status", "--json").stdout)
    kinds = [f"processes:{kind}" for kind in ("web", "events", "io", "beat")]
    assert [row["id"] for row in rows if row["level"] == "red"] == kinds


def test_a_lock_that_is_held_on_sqlite_is_an_alarm_by_name(waylink: Command) -> None:
    running(waylink)
    with opened(waylink) as database, database.write() as session:
        session.execute(text("UPDATE ticks SET name = name"))
        done = waylink.inside("status", "--json")
    [found] = [row for row in json.loads(done.stdout) if row["id"] == "database"]
    assert (done.returncode, found["level"], found["value"]) == (1, "red", "locked")
    status(waylink, 0)


def test_watching_shows_the_status_again_and_ends_with_ctrl_c(waylink: Command) -> None:
    running(waylink)
    argv = [sys.executable, "-m", "app.cli", "status", "--watch", "--every", "1", "--json"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, cwd=waylink.folder, env=waylink.environ(), **piped) as watching:
        first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
        watching.send_signal(signal.SIGINT)
        _, told = watching.communicate(timeout=PATIENCE)
    assert {row["id"] for row in first} == {row["id"] for row in second}
    assert watching.returncode in {0, 1}
    assert "Traceback" not in told
