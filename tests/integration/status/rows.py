"""Rows for tests of the status."""

from dataclasses import replace
from uuid import NAMESPACE_OID, UUID, uuid5

from app.clock import utc_now
from app.db import bulk_runs, connections, processes
from app.db.bulk_runs import Unchanged
from app.db.connections import ConnectionState
from app.db.models import Destination, Event, Job, Team
from app.db.processes import ProcessReport
from app.db.schema_version import head
from app.domain.bulk_runs import BulkAct, RowResult
from app.domain.liveness import ProcessKind, Work
from app.ids import first_id, new_id
from app.services.bulk_runs.run_requests import RunWanted, open_run
from app.services.liveness import reporter


def id_at(at):
    """An id of that time."""
    return UUID(int=first_id(at).int | new_id().int & ((1 << 80) - 1))


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


def destination(team, name, **changes):
    facts = {"kind": "celery", "queue": f"team.{team}.{name}", "source": "file", "created_at": utc_now()}
    return Destination(team=team, name=name, **facts | changes)


def a_connection(now, name, status="active", **changes):
    row = connections.new(connections.ConnectionKey("default", "oauth2", name), now=now)
    row.status = status
    for column, value in changes.items():
        setattr(row, column, value)
    return row


def add(database, *rows):
    """Store rows in this order, with the teams of destinations."""
    with database.write() as session:
        for row in rows:
            if isinstance(row, Destination) and session.get(Team, row.team) is None:
                session.add(Team(name=row.team, source="file", created_at=utc_now()))
                session.flush()
            if isinstance(row, ConnectionState):
                connections.insert(session, [row])
                continue
            session.add(row)
            session.flush()


def report_running(database, *, kinds=tuple(ProcessKind), **changes):
    """A report of a process of each kind that does its work, as of now."""
    now = utc_now()
    for kind in kinds:
        facts = {
            "id": uuid5(NAMESPACE_OID, kind), "kind": kind, "host": "h1", "pid": 7, "version": reporter.version(),
            "schema_revision": head(), "started_at": now, "seen_at": now, "written_at": now, "stopped_at": None,
            "progress": dict.fromkeys(map(str, Work), now), "task": None, "task_since": None,
        }  # fmt: skip
        with database.write() as session:
            processes.write(session, ProcessReport(**facts | changes))


def add_bulk_run(database, job_id, *, team=None, actor="operator:ada"):
    """A run on two jobs, one of which was left alone, that waits for a worker."""
    wanted = RunWanted(act=BulkAct.RETRY_JOBS, chosen="{}", shown={}, counted=2, actor=actor, team=team)
    with database.write() as session:
        run = open_run(session, wanted, now=utc_now())
        left = Unchanged(job_id, RowResult.LEFT_ALONE, "its event is not stored any more")
        bulk_runs.keep_unchanged(session, run, [left])
        bulk_runs.save(session, replace(run, done=1, left_alone=1))
    return run.id
