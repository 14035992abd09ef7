"""Teams, destinations and jobs without the pipeline before them, for tests of what delivery does with many."""

from datetime import timedelta

from app.db import attempts as attempt_rows
from app.db import bulk
from app.db.models import Destination, DestinationHealth, Event, Job, Team
from app.domain.states import EventState, JobState, Origin
from app.ids import EVENT, new_id, show


def add(world, team, name="jobs", **columns):
    """A destination, over Celery unless `columns` say otherwise."""
    kind = columns.pop("kind", "celery")
    queue = columns.pop("queue", f"team.{team}.{name}") if kind == "celery" else None
    with world.database.write() as session:
        if session.get(Team, team) is None:
            session.add(Team(name=team, source="api", created_at=world.clock()))
            session.flush()
        made = {"kind": kind, "queue": queue, "source": "api", "created_at": world.clock(), **columns}
        session.add(Destination(team=team, name=name, **made))


def fill(world, team, count, name="jobs", *, late=0.0):
    """Jobs that are due since `late` seconds; their ids, in the order in which they are."""
    now = world.clock() - timedelta(seconds=late)
    event_id, ids = new_id(), [new_id() for _ in range(count)]
    with world.database.write() as session:
        event = {"id": event_id, "environment": "default", "origin": Origin.WEBHOOK, "state": EventState.PROCESSED}
        times = {"received_at": now, "last_seen_at": now, "next_at": now}
        counts = {"duplicates": 0, "attempts": 0, "looks": 0}
        document = {"id": show(EVENT, event_id), "type": "connection.created"}
        bulk.insert(session, Event, [{**event, **times, **counts, "document": document}])
        bulk.insert(
            session,
            Job,
            [
                {
                    "id": job_id,
                    "event_id": event_id,
                    "route": f"{team}-{number}",
                    "route_version": 1,
                    "team": team,
                    "destination": name,
                    "name": f"{team}.job",
                    "state": JobState.AVAILABLE,
                    "attempts": 0,
                    "crashes": 0,
                    "next_at": now - timedelta(microseconds=count - number),
                    "created_at": now,
                }
                for number, job_id in enumerate(ids)
            ],
        )
    return ids


def jobs(world, team, *conditions):
    return world.all(Job, Job.team == team, *conditions)


def states(world, team):
    """The number of jobs by state; parked jobs by the cause they wait for."""
    found = {}
    for job in jobs(world, team):
        key = job.blocked_by or str(job.state)
        found[key] = found.get(key, 0) + 1
    return found


def health(world, team, name="jobs"):
    """None before the first attempt."""
    with world.database.read() as session:
        return session.get(DestinationHealth, (team, name))


def attempts(world, team):
    return [attempt for job in jobs(world, team) for attempt in attempts_of(world, job)]


def attempts_of(world, job):
    with world.database.read() as session:
        return attempt_rows.of_job(session, session.get(Job, job.id))
