"""A worker that is killed or stands still, or a database that goes, in the middle of a bulk run: each row is done once.

Real processes on PostgreSQL over TCP. A lock on one job holds the worker in the middle of a chunk.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.engine import connect
from app.db.models import Destination, Job, Team
from tests.acceptance.harness import Waylink, installation
from tests.integration.status.rows import a_job, an_event
from tests.servers import PostgresServer
from tests.waiting import until

JOBS = 4_500  # five chunks
HELD = 2_400  # the job whose lock holds the third chunk
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def waylink(postgres_url: str, broker_url: str) -> Iterator[Waylink]:
    variables = {"WAYLINK_DATABASE_URL": postgres_url, "WAYLINK_BROKER_URL": broker_url}
    with installation(WAYLINK_NANGO_SIGNING_KEYS="a-signing-key", **variables) as waylink:
        migrated = waylink.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        _discard(waylink)
        yield waylink


def _discard(waylink: Waylink) -> None:
    """Dead letters of a destination that is disabled, so that they stay where the run leaves them."""
    now = datetime.now(UTC)
    gone = {"state": "discarded", "fault": "team", "finished_at": now - timedelta(hours=1)}
    database = connect(waylink.database_url)
    with database.write() as session:
        place = {"kind": "celery", "queue": "q", "source": "api", "created_at": now, "disabled_at": now}
        session.add(Team(name="crm", source="api", created_at=now))
        session.flush()
        session.add(Destination(team="crm", name="jobs", **place))
        event = an_event(now, state="processed", type="connection.created")
        session.add(event)
        session.flush()
        session.add_all([a_job(now, event.id, route=f"r{number}", **gone) for number in range(JOBS)])
    database.close()


def _run(waylink: Waylink) -> dict[str, Any]:
    [run] = waylink.listing("bulk-runs")
    return run


def _hold(session: Session) -> None:
    """Lock a job of the third chunk, until the transaction ends."""
    job_id = session.scalars(select(Job.id).order_by(Job.id).offset(HELD).limit(1)).one()
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())


def _is_done_once(waylink: Waylink) -> None:
    run = _run(waylink)
    assert (run["counted"], run["done"], run["failed"], run["left_alone"]) == (JOBS, JOBS, 0, 0)
    assert waylink.sql("SELECT state, count(*) FROM jobs WHERE team = 'crm' GROUP BY state") == [("available", JOBS)]
    [entry] = waylink.listing("audit", "--action", "job.retried")
    assert (entry["subject"], entry["outcome"], entry["detail"]["count"]) == (run["id"], "done", JOBS)


@pytest.mark.timeout(900)
def test_a_killed_workers_run_is_carried_on_by_another_and_nothing_is_done_twice(waylink: Waylink) -> None:
    first = waylink.spawn("worker", "io")
    first.says(" ready.")
    database = connect(waylink.database_url)
    with database.write() as session:
        _hold(session)
        command = waylink.spawn("jobs", "retry", "--all", "--yes", "--json")
        until("two chunks are done", lambda: [run for run in waylink.listing("bulk-runs") if run["done"] == 2_000])
        first.kill()
    database.close()
    assert _run(waylink)["state"] == "running"
    waylink.spawn("beat")
    second = waylink.spawn("worker", "io")
    second.says(" ready.")
    # Only the time of the dead worker's lease is moved.
    waylink.sql("UPDATE bulk_runs SET next_at = now()")
    until("the end of the run", lambda: _run(waylink)["state"] == "done")
    _is_done_once(waylink)
    until("the command's end", lambda: not command.running())
    assert f'"retried": {JOBS}' in command.output


@pytest.mark.timeout(900)
def test_a_worker_that_stands_still_is_passed_by_another_and_does_nothing_twice_when_it_wakes(waylink: Waylink) -> None:
    first = waylink.spawn("worker", "io")
    first.says(" ready.")
    database = connect(waylink.database_url)
    with database.write() as session:
        _hold(session)
        command = waylink.spawn("jobs", "retry", "--all", "--yes", "--json")
        until("two chunks are done", lambda: _run(waylink)["done"] == 2_000 if waylink.listing("bulk-runs") else False)
        until("the worker waits for the job", lambda: bool(waylink.sql(WAITING)))
        with first.standing_still():
            # The server ends the transaction of the one that stands still, which waits for the lock of the job.
            until("its locks are gone", lambda: not waylink.sql(WAITING))
            session.rollback()
            waylink.spawn("beat")
            second = waylink.spawn("worker", "io")
            second.says(" ready.")
            waylink.sql("UPDATE bulk_runs SET next_at = now()")
            until("the end of the run", lambda: _run(waylink)["state"] == "done")
    database.close()
    second.kill()
    _is_done_once(waylink)
    until("the command's end", lambda: not command.running())
    # It is awake, and its part of the run is over: the next one is its own.
    assert waylink.run("jobs", "cancel", "--all", "--yes", "--json").returncode == 0
    assert waylink.sql("SELECT state, count(*) FROM jobs WHERE team = 'crm' GROUP BY state") == [("cancelled", JOBS)]


@pytest.mark.timeout(900)
def test_a_database_that_goes_in_the_middle_of_a_run_costs_no_row_and_repeats_none(
    waylink: Waylink, postgres: PostgresServer
) -> None:
    waylink.spawn("beat")
    waylink.spawn("worker", "io").says(" ready.")
    database = connect(waylink.database_url)
    with contextlib.suppress(DBAPIError), database.write() as session:
        _hold(session)
        waylink.spawn("jobs", "retry", "--all", "--yes", "--json")
        until("two chunks are done", lambda: _run(waylink)["done"] == 2_000 if waylink.listing("bulk-runs") else False)
        until("the worker waits for the job", lambda: bool(waylink.sql(WAITING)))
        postgres.kill()
    database.close()
    postgres.start()
    waylink.sql("UPDATE bulk_runs SET next_at = now() WHERE state = 'running'")
    until("the end of the run", lambda: _run(waylink)["state"] == "done")
    _is_done_once(waylink)
