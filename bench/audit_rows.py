"""Counts for the audit: rows of the database, and messages in the team's queue."""

import json
from collections import Counter
from contextlib import closing
from datetime import timedelta
from typing import Final, cast

import redis
from sqlalchemy import func, select, update

from app.clock import utc_now
from app.db import job_actions
from app.db.engine import Database
from app.db.models import Connection, Event, EventLease, Job, Link
from app.deadlines import EVENT_LEASE, JOB_LEASE
from app.domain.job_actions import JobAction
from app.domain.states import UNFINISHED_JOBS, EventState, JobState
from app.ids import EVENT, JOB, show
from app.services.maintenance import integrity
from bench.audit_ledger import EventRow, Finding, JobRow, Rows
from bench.audit_sender import digest
from tests.servers import ValkeyServer

MOMENT: Final = timedelta(milliseconds=500)


def unsettled(database: Database) -> int:
    """The number of events and jobs that are not finished."""
    with database.read() as session:
        jobs = select(func.count()).where(Job.state.in_(UNFINISHED_JOBS))
        return unprocessed(database) + session.scalars(jobs).one()


def unprocessed(database: Database) -> int:
    """The number of events that wait for an events worker, and may become jobs."""
    with database.read() as session:
        return session.scalars(select(func.count()).where(Event.state == EventState.RECEIVED)).one()


def at_work(database: Database, kind: str) -> bool:
    """A worker of this kind, `events` or `io`, has claimed something a moment ago and is not through with it."""
    now = utc_now()
    if kind == "events":
        claimed = select(EventLease.id).where(EventLease.until_at > now + EVENT_LEASE - MOMENT)
    else:
        claimed = select(Job.id).where(Job.state == JobState.RUNNING, Job.next_at > now + JOB_LEASE - MOMENT)
    with database.read() as session:
        return session.scalar(claimed.limit(1)) is not None


def expire_leases(database: Database) -> None:
    """As if the half-minute had passed after which a dead worker's claims are taken over.

    Rows that are locked are left: a connection that the network has forgotten keeps its locks for a minute.
    """
    with database.write() as session:
        batches = session.scalars(select(EventLease.id).with_for_update(skip_locked=True)).all()
        session.execute(update(EventLease).where(EventLease.id.in_(batches)).values(until_at=utc_now()))
        jobs = select(Job.id).where(Job.state == JobState.RUNNING)
        free = session.scalars(jobs.with_for_update(skip_locked=True)).all()
        session.execute(update(Job).where(Job.id.in_(free)).values(next_at=Job.created_at))


def read_rows(database: Database, teams: ValkeyServer, queue: str) -> Rows:
    """Everything there is; the team's queue is empty afterwards."""
    with database.read() as session:
        events = session.execute(select(Event.id, Event.state, Event.type, Event.connection_id, Event.body)).all()
        jobs = session.execute(select(Job.id, Job.event_id, Job.route, Job.state, Job.attempts)).all()
        links = select(Connection.connection_id).join(Link, Link.connection_ref == Connection.id)
        open_links = list(session.scalars(links.where(Link.closed_at.is_(None))))
    digests = {event.id: digest(event.body) for event in events if event.body is not None}
    return Rows(
        events=[
            EventRow(show(EVENT, event.id), event.state, event.type, event.connection_id, digests.get(event.id))
            for event in events
        ],
        open_links=open_links,
        jobs=[JobRow(show(JOB, job.id), show(EVENT, job.event_id), job.route, job.state, job.attempts) for job in jobs],
        queue=_taken(teams, queue),
    )


def redeliver_one(database: Database) -> None:
    """Let the newest completed job be delivered again."""
    newest = select(Job.id).where(Job.state == JobState.COMPLETED).order_by(Job.id.desc()).limit(1)
    with database.write() as session:
        job_actions.take(session, JobAction.REDELIVER, session.scalars(newest).all(), now=utc_now())


def broken_references(database: Database) -> list[Finding]:
    """The rows that name one that is not there, a few of each reference."""
    return [Finding("broken", found.reference, id_) for found in integrity.broken(database) for id_ in found.ids]


def _taken(teams: ValkeyServer, queue: str) -> Counter[str]:
    """The job ids that the team gets, each with how often."""
    with closing(redis.Redis.from_url(teams.url(1))) as client:
        ids: Counter[str] = Counter()
        while messages := cast("list[bytes]", client.rpop(queue, 1000)):
            ids.update(json.loads(message)["headers"]["id"] for message in messages)
        return ids
