"""Alerts about failing destinations and dead letters: once, bounded, and never in a circle."""

from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.db.models import Discards, Event, Job
from app.db.read import listing
from app.db.routes import RouteDefinition
from app.domain.destination_breaker import MIN_FAILURES, PROBE_WAITS
from app.domain.states import DestinationTransition, EventState, Fault, JobState, Origin
from app.ids import EVENT, JOB, show
from app.services.definitions import config_sync, destination_states
from app.services.definitions.config_plan import DestinationDefinition
from app.services.definitions.destination_alerts import DISCARDS_EVERY, Alerts, ChangedDestination, DiscardedJob
from app.services.routing import explanations
from tests.integration.delivery.destinations import fill
from tests.integration.world import DANA, auth, in_threads
from tests.ports import free_port

FAILING, RECOVERED, DISABLED = (
    DestinationTransition.FAILING,
    DestinationTransition.RECOVERED,
    DestinationTransition.DISABLED,
)
ANY = {"type": [{"prefix": "waylink."}]}
MINUTE = DISCARDS_EVERY.total_seconds()


def define(world, *routes):
    """Routes as (name, team, pattern); each team has one destination, `jobs`."""
    destinations = {
        (team, "jobs"): DestinationDefinition(kind="celery", queue=f"team.{team}.jobs")
        for team in ("crm", "sales", "ops")
    }
    rows = [RouteDefinition(name, team, "jobs", f"{team}.{name}", pattern) for name, team, pattern in routes]
    with world.database.write() as session:
        config_sync.apply_file(session, destinations=destinations, routes=rows, now=world.clock())


def change(world, team, change, **facts):
    changed = ChangedDestination(team=team, destination="jobs", change=change, **{"reason": "it answers 500", **facts})
    with world.database.write() as session:
        Alerts().destinations_changed(session, [changed], now=world.clock())


def discard(world, jobs, *, fault=Fault.TEAM, problem="refused"):
    dead = [
        DiscardedJob(
            id=job.id,
            event_id=job.event_id,
            team=job.team,
            destination=job.destination,
            route=job.route,
            name=job.name,
            attempts=9,
            fault=fault,
            problem=problem,
        )
        for job in jobs
    ]
    with world.database.write() as session:
        Alerts().jobs_discarded(session, dead, now=world.clock())


def announce(world):
    """Announce alerts as Beat's sweep does once a second."""
    count = Alerts().announce_waiting(world.database, clock=world.clock)
    world.process()
    return count


def alerts(world, kind=None):
    world.process()
    found = [event for event in world.all(Event) if (event.type or "").startswith("waylink.")]
    return [event for event in found if kind in {None, event.type}]


def made(world, count, name="new"):
    """That many jobs of a route of team crm."""
    define(world, (name, "crm", {"type": ["connection.created"]}), ("alerts", "ops", ANY))
    world.process(*world.receive(*[auth(connection_id=f"{name}-{n}", tags=DANA) for n in range(count)]))
    return world.jobs(name)


@pytest.mark.parametrize("kind", DestinationTransition)
def test_a_change_of_state_is_one_event_that_says_what_happened(world, kind):
    define(world, ("alerts", "ops", {"type": [f"waylink.destination.{kind}"], "payload": {"team": ["crm"]}}))
    since = world.clock() - timedelta(minutes=3)
    change(world, "crm", kind, since=since)
    [event] = alerts(world)
    assert (event.state, event.origin, event.connection_id) == (EventState.PROCESSED, Origin.SYSTEM, None)
    document = event.document
    for member in ("environment", "integration", "provider", "connection_id", "user", "organization", "error"):
        assert document[member] is None
    assert (document["tags"], document["confirmed"]) == ({}, False)
    assert document["payload"] == {
        "team": "crm",
        "destination": "jobs",
        "kind": "celery",
        "reason": "it answers 500",
        "since": since.isoformat(),
        "counts": {"waiting": 0},
        "jobs": [],
    }
    [job] = world.jobs("alerts")
    assert (job.team, job.state, job.event_id) == ("ops", JobState.AVAILABLE, event.id)


def test_an_alert_counts_the_jobs_that_wait_and_names_some(world):
    jobs = made(world, 12)
    with world.database.write() as session:
        for job in jobs[:3]:
            session.get(Job, job.id).blocked_by = "breaker"
        session.get(Job, jobs[3].id).state = JobState.COMPLETED
    change(world, "crm", FAILING)
    [event] = alerts(world)
    payload = event.document["payload"]
    assert payload["counts"] == {"waiting": 11}
    assert len(payload["jobs"]) == 10
    assert set(payload["jobs"]) < {show(JOB, job.id) for job in jobs} - {show(JOB, jobs[3].id)}


def test_a_change_that_was_rolled_back_is_not_announced(world):
    define(world, ("alerts", "ops", ANY))
    with suppress(ZeroDivisionError), world.database.write() as session:
        changed = ChangedDestination(team="crm", destination="jobs", change=FAILING, reason="")
        Alerts().destinations_changed(session, [changed], now=world.clock())
        raise ZeroDivisionError
    assert alerts(world) == []


def test_a_team_takes_its_own_alerts_only(world):
    define(world, ("mine", "sales", ANY | {"payload": {"team": ["crm"]}}))
    change(world, "crm", FAILING)
    change(world, "ops", FAILING)
    assert len(alerts(world)) == 2
    [job] = world.jobs("mine")
    assert world.event(job.event_id).document["payload"]["team"] == "crm"


def test_each_change_of_a_flapping_destination_is_announced_once(world):
    define(world, ("alerts", "ops", ANY))
    for turn in (FAILING, RECOVERED, FAILING, RECOVERED):
        change(world, "crm", turn)
        world.clock.move(1)
    assert [event.type.rpartition(".")[2] for event in alerts(world)] == [
        "failing",
        "recovered",
        "failing",
        "recovered",
    ]
    assert len(world.jobs("alerts")) == 4


def test_disabling_a_disabled_destination_is_not_announced_again(world):
    define(world, ("alerts", "ops", ANY))
    for _ in range(2):
        with world.database.write() as session:
            destination_states.disable(
                session, Alerts(), team="crm", destination="jobs", reason="answered 410", now=world.clock()
            )
    [event] = alerts(world)
    assert (event.type, event.document["payload"]["reason"]) == ("waylink.destination.disabled", "answered 410")


def test_enabling_ends_what_disabling_began(world, clock):
    since = clock()
    named = {"team": "crm", "destination": "jobs"}
    define(world, ("alerts", "ops", ANY))
    with world.database.write() as session:
        destination_states.disable(session, Alerts(), **named, reason="answered 410", now=since)
    clock.move(90)
    for enabled in (True, False):
        with world.database.write() as session:
            assert destination_states.enable(session, Alerts(), **named, now=clock()) is enabled
    _, event = alerts(world)
    assert event.type == "waylink.destination.recovered"
    assert event.document["payload"]["since"] == since.isoformat()


def test_a_reason_from_outside_brings_no_credential_into_an_alert(world):
    change(world, "crm", FAILING, reason="401: Bearer s3cretS3cret0123 is not valid")
    [event] = alerts(world)
    assert "s3cret" not in repr(event.document) + repr(event.body)


def test_an_alert_does_not_go_to_the_destination_it_is_about_and_that_can_be_explained(world):
    define(world, ("own", "crm", ANY), ("other", "ops", ANY))
    change(world, "crm", FAILING)
    [event] = alerts(world)
    assert [job.route for job in world.jobs()] == ["other"]
    decisions = {decision.route.name: decision for decision in explanations.explain(world.database, event.id).decisions}
    assert (decisions["own"].matched, decisions["other"].matched) == (False, True)
    assert decisions["own"].conditions[-1].actual == "crm/jobs"


def test_two_dead_destinations_with_alerts_of_each_other_do_not_go_on_for_ever(world, clock):
    define(world, ("of_sales", "crm", ANY), ("of_crm", "sales", ANY))
    change(world, "crm", FAILING)
    change(world, "sales", FAILING)
    for _ in range(5):
        jobs = world.jobs()
        discard(world, jobs)
        clock.move(2 * MINUTE)
        announce(world)
    assert len(alerts(world)) == 2
    assert sorted((job.route, world.event(job.event_id).document["payload"]["team"]) for job in world.jobs()) == [
        ("of_crm", "crm"),
        ("of_sales", "sales"),
    ]


def test_a_dead_letter_is_announced_to_its_owner_at_once(world):
    [job] = made(world, 1)
    discard(world, [job], fault=Fault.OURS, problem="a secret cannot be opened")
    [event] = alerts(world, "waylink.job.discarded")
    assert event.environment == event.document["environment"] == "default"
    assert event.document["payload"] == {
        "team": "crm",
        "destination": "jobs",
        "since": world.clock().isoformat(),
        "counts": {"discarded": 1},
        "reason": "a secret cannot be opened",
        "fault": ["ours"],
        "routes": ["new"],
        "jobs": [show(JOB, job.id)],
    }
    assert [job.team for job in world.jobs("alerts")] == ["ops"]


def test_a_flood_of_dead_letters_is_announced_at_once_and_then_once_a_minute_with_its_count(world, clock):
    jobs = made(world, 40)
    for job in jobs:
        discard(world, [job])
        clock.move(1)
    assert announce(world) == 0
    assert [event.document["payload"]["counts"]["discarded"] for event in alerts(world)] == [1]
    clock.move(MINUTE)
    assert announce(world) == 1
    assert announce(world) == 0
    first, second = (event.document["payload"] for event in alerts(world))
    assert (first["counts"], second["counts"]) == ({"discarded": 1}, {"discarded": 39})
    assert second["jobs"] == [show(JOB, job.id) for job in jobs[1:11]]
    clock.move(2 * MINUTE)
    assert announce(world) == 0  # nothing is left to announce
    discard(world, jobs[:1])
    assert len(alerts(world)) == 3


def test_a_minute_that_ended_unnoticed_ends_with_the_next_dead_letter(world, clock):
    jobs = made(world, 3)
    discard(world, jobs[:1])
    discard(world, jobs[1:2])
    clock.move(MINUTE)
    discard(world, jobs[2:])
    assert [event.document["payload"]["counts"]["discarded"] for event in alerts(world)] == [1, 2]


def test_an_announcement_has_the_faults_of_all_its_dead_letters(world, clock):
    jobs = made(world, 3)
    for job, fault in zip(jobs, (Fault.TEAM, Fault.TEAM, Fault.OURS), strict=True):
        discard(world, [job], fault=fault)
    clock.move(MINUTE)
    announce(world)
    assert [event.document["payload"]["fault"] for event in alerts(world)] == [["team"], ["ours", "team"]]


def test_each_destination_has_its_own_minute(world):
    define(
        world,
        ("one", "crm", {"type": ["connection.created"]}),
        ("two", "sales", {"type": ["connection.created"]}),
    )
    world.handle(auth(tags=DANA))
    discard(world, world.jobs())
    assert sorted(event.document["payload"]["team"] for event in alerts(world)) == ["crm", "sales"]


def test_workers_that_discard_at_the_same_moment_lose_no_count(world, clock):
    jobs = made(world, 8)
    in_threads(*[lambda job=job: discard(world, [job]) for job in jobs])
    clock.move(MINUTE)
    announce(world)
    assert sum(event.document["payload"]["counts"]["discarded"] for event in alerts(world)) == 8
    with world.database.read() as session:
        assert len(session.scalars(select(Discards)).all()) == 1


def test_a_crash_before_the_commit_announces_nothing_and_counts_nothing(world):
    [job] = made(world, 1)
    with suppress(ZeroDivisionError), world.database.write() as session:
        dead = DiscardedJob(
            id=job.id, event_id=job.event_id, team="crm", destination="jobs", route="new", name="crm.new", attempts=1,
            fault=Fault.TEAM, problem="x",
        )  # fmt: skip
        Alerts().jobs_discarded(session, [dead], now=world.clock())
        raise ZeroDivisionError
    assert alerts(world) == []
    discard(world, [job])
    assert len(alerts(world)) == 1


def test_a_destination_that_does_not_answer_is_announced_when_its_breaker_opens_and_closes(open_world, valkey, clock):
    valkey.start()
    world, down = (open_world(teams_url=url) for url in (valkey.url(1), f"redis://127.0.0.1:{free_port()}/1"))
    define(world, ("alerts", "ops", ANY))
    fill(world, "crm", MIN_FAILURES + 3)
    down.deliverer.deliver()
    down.deliverer.deliver()
    [failing] = alerts(world)
    assert failing.type == "waylink.destination.failing"
    counts = failing.document["payload"]["counts"]
    assert counts["failed"] >= MIN_FAILURES
    assert counts["succeeded"] == 0
    clock.move(2 * PROBE_WAITS[0].total_seconds())
    world.deliverer.deliver()
    world.deliverer.deliver()
    assert [event.type for event in alerts(world)][1:] == ["waylink.destination.recovered"]
    world.deliverer.deliver()
    assert {job.state for job in world.jobs("alerts")} == {JobState.COMPLETED}


def test_a_job_whose_schedule_is_over_is_announced_when_it_is_recorded(open_world, clock):
    down = open_world(teams_url=f"redis://127.0.0.1:{free_port()}/1")
    define(down, ("alerts", "ops", ANY))
    [job_id] = fill(down, "crm", 1)
    with down.database.write() as session:
        session.get(Job, job_id).attempts = 8
    down.deliverer.deliver()
    [event] = alerts(down)
    assert (event.type, event.document["payload"]["jobs"]) == ("waylink.job.discarded", [show(JOB, job_id)])
    assert event.document["payload"]["fault"] == ["team"]


def test_an_alert_is_listed_and_shown_like_any_event(world):
    define(world, ("alerts", "ops", ANY))
    change(world, "crm", FAILING)
    [event] = alerts(world)
    with world.database.read() as session:
        [row] = listing.events(session, listing.ListFilters(limit=5, type="waylink.destination.failing"))
        shown = listing.event(session, event.id, team="ops")
    assert (row["id"], row["environment"], row["connection_id"]) == (show(EVENT, event.id), None, None)
    assert shown["document"]["payload"]["destination"] == "jobs"
    assert len(shown["jobs"]) == 1
