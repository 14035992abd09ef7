"""Jobs say the same, and the same is done with them, whether decisions and first attempts are in their rows or, as the
releases before migration 0013 store them, in tables of their own.
"""

from datetime import timedelta

import pytest
from sqlalchemy import text

from app.db.models import Event
from app.db.read import listing
from app.domain.patterns import compile_pattern
from app.domain.states import JobState
from app.services.maintenance import integrity
from app.services.people import erasure
from app.services.routing import backfills, explanations, replays
from app.services.routing.backfills import Span
from app.services.routing.cache import RouteCache
from app.services.routing.replays import Routes
from tests.integration.people.test_erasing import TAGS, assert_nowhere, erase, user_id
from tests.integration.world import DANA, OMAR, auth, rewrite_as_before, sync
from tests.ports import free_port

DAY = timedelta(days=1)
PATTERNS = {
    "created": {"type": ["connection.created"]},
    "named": {"type": ["connection.created"], "tags": {"end_user_display_name": [{"exists": True}]}},
    "linked": {"type": ["connection.linked"]},
    "forwarded": {"payload": {"who": [{"exists": True}]}},
}


@pytest.fixture
def world(open_world, broker_url, valkey):
    """Events with jobs of all kinds: completed at the first or at a later attempt, waiting, discarded, replayed."""
    made = open_world(teams_url=valkey.url(1))
    away = open_world(teams_url=f"redis://127.0.0.1:{free_port()}/1")
    made.route(**PATTERNS)
    made.handle(auth(tags=TAGS))
    away.deliverer.deliver()
    made.clock.move(60)
    made.handle(auth(connection_id="moved", tags=TAGS))
    made.deliverer.deliver()
    made.handle(auth("override", connection_id="moved", tags=OMAR))
    made.handle(sync(type="forward", **{"from": "github"}, payload={"who": "Omar", "free": "text"}))
    made.handle(sync(type="forward", **{"from": "github"}, payload={"nobody": "is meant"}))
    made.deliverer.deliver()
    discarded = made.handle(auth(connection_id="discarded", tags=DANA))
    with made.database.write() as session:
        session.execute(
            text(
                "UPDATE jobs SET state = 'discarded', fault = 'team', problem = 'no', finished_at = created_at "
                "WHERE state = 'available'"
            )
        )
    made.route(**PATTERNS | {"created": {"type": ["connection.created"], "provider": [{"exists": True}]}})
    with made.database.write() as session:
        replays.replay(session, matching(made, discarded), again=True, actor="cli:test", now=made.clock())
    made.handle(auth(connection_id="waiting", tags=DANA))
    assert {job.state for job in made.jobs()} >= {JobState.COMPLETED, JobState.AVAILABLE, JobState.DISCARDED}
    return made


def matching(world, event_id, by=Routes.NOW):
    return replays.match(world.database, event_id, by, RouteCache().current(world.database))


def events(world):
    return [event.id for event in world.all(Event)]


def shown(world):
    """Everything that is shown of events and jobs, also to their team."""
    with world.database.read() as session:
        return [
            *(listing.event(session, id_) for id_ in events(world)),
            *(listing.event(session, job.event_id, team="crm") for job in world.jobs()),
            *(listing.job(session, job.id) for job in world.jobs()),
        ]


def explained(world):
    explain = explanations.explain
    return [
        *(explain(world.database, id_, now=now) for id_ in events(world) for now in (False, True)),
        *(trial for pattern in PATTERNS.values() for trial in tried(world, pattern)),
    ]


def tried(world, pattern):
    options = {"now": world.clock(), "since": DAY, "at_most": 100, "against": None}
    return list(explanations.try_on_history(world.database, compile_pattern(pattern), **options))


def replayed(world):
    """The plan of each event's replay, its result, and the event afterwards. Each replay is undone."""
    done = []
    for id_ in events(world):
        for by in Routes:
            found = matching(world, id_, by)
            for again in (False, True):
                with world.database.dry_run() as session:
                    planned = replays.preview(session, found, again=again)
                    carried = replays.replay(session, found, again=again, actor="cli:test", now=world.clock())
                    after = listing.event(session, id_)
                assert steps(carried) == steps(planned)
                known = {f"job_{job.id.hex}" for job in world.jobs()}
                made = [job | ({} if job["id"] in known else {"id": "new"}) for job in after["jobs"]]
                done.append((steps(carried), after | {"jobs": made}))
    return done


def steps(replay):
    return [(step.decision.route.name, step.decision.route.version, step.outcome, step.why) for step in replay.steps]


def backfilled(world):
    """The events that a backfill of each route would find."""
    found = []
    for name in PATTERNS:
        with world.database.read() as session:
            route = backfills.live_route(session, team="crm", name=name)
        span = Span(world.clock.now - DAY, world.clock.now + DAY, False, None)
        found.append(list(backfills.scan(world.database, route, span, limit=100))[-1])
    return found


def named(world):
    """The places in which an erasure would find the person."""
    return erasure.preview(world.database, user_id(world))


@pytest.mark.parametrize("asked", [shown, explained, replayed, backfilled, named])
def test_either_form_says_the_same(world, asked):
    before = asked(world)
    assert before
    rewrite_as_before(world.database)
    with world.database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM decisions")) == len(world.jobs())
        assert session.scalar(text("SELECT count(*) FROM attempts WHERE outcome = 'completed'")) >= 3
    assert asked(world) == before
    assert not integrity.broken(world.database)


def test_forms_beside_each_other_say_what_each_says_alone(world):
    rewrite_as_before(world.database)
    world.handle(auth(connection_id="later", tags=DANA))
    world.deliverer.deliver()
    later = shown(world), explained(world), backfilled(world)
    rewrite_as_before(world.database)
    assert (shown(world), explained(world), backfilled(world)) == later


def test_an_erasure_leaves_the_same_of_either_form(world):
    """The person is gone from both, and what is left of other people's is told in the same words."""
    rewrite_as_before(world.database)
    world.handle(auth(connection_id="beside", tags=TAGS))
    world.deliverer.deliver()
    erase(world, user_id(world))
    assert_nowhere(world)
    after = shown(world), replayed(world), backfilled(world)
    rewrite_as_before(world.database)
    assert (shown(world), replayed(world), backfilled(world)) == after
