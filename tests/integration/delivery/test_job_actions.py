"""Actions of people on jobs: ids stay, repeating is harmless, and only the selected jobs change (promise 11)."""

import time
from datetime import timedelta
from itertools import count

import pytest
from sqlalchemy import update

from app.db import job_actions as rows
from app.db.job_actions import JobFilters, JobGroup
from app.db.models import Attempt, Audit, Destination, Job, Team
from app.domain.job_actions import TAKES, JobAction, is_as_wanted, why_left_alone
from app.domain.states import AuditOutcome, JobState
from app.errors import InvalidInput
from app.ids import JOB, new_id, show
from app.services import bulk_actions
from app.services.delivery import job_actions
from tests.integration.world import DANA, KilledError, auth, dying_at

HOUR = timedelta(hours=1)


@pytest.fixture
def world(world):
    world.route(created={"type": ["connection.created"]})
    return world


def make(world, number, **changes):
    """So many jobs of team crm, changed alike; oldest first."""
    world.receive(*[auth(connection_id=f"{new_id().hex}", tags=DANA) for _ in range(number)])
    known = {job.id for job in world.jobs()}
    world.process()
    made = [job.id for job in world.jobs() if job.id not in known]
    assert len(made) == number
    change(world, made, **changes)
    return made


def change(world, ids, **changes):
    if changes:
        with world.database.write() as session:
            session.execute(update(Job).where(Job.id.in_(ids)).values(**changes))


def job(world, job_id):
    [found] = world.all(Job, Job.id == job_id)
    return found


def chosen(world, action, **filters):
    """The preview; its numbers, its samples and the pages of a run are of the same jobs."""
    wanted = job_actions.completed_filters(action, JobFilters(**{"states": [], **filters}), now=world.clock())
    with world.database.read() as session:
        found = job_actions.preview(session, wanted)
        paged, after = [], None
        while page := rows.page(session, wanted, after=after, limit=1):
            after = page[-1]
            paged += [job_id for _, job_id in page]
    assert found.count == len(found.samples) == len(paged)
    assert {job.id for job in found.samples} == set(paged)
    return found


def run_action(world, what, ids, *, actor="cli:test"):
    """The ids that were touched."""
    with world.database.read() as session:
        found = rows.get_many(session, ids)
    asked = {"team": "crm"}
    steps = job_actions.carry_out(world.database, what, found, asked=asked, actor=actor, clock=world.clock)
    return [job for some in steps for job in some]


def audits(world):
    return world.all(Audit, Audit.action.like("job.%"))


def discarded(world, number=1, **changes):
    facts = {"state": "discarded", "attempts": 9, "crashes": 2, "fault": "team", "problem": "HTTP 500"}
    return make(world, number, **{**facts, "finished_at": world.clock.now, **changes})


def test_a_retried_job_keeps_its_id_and_its_attempts_and_begins_its_schedule_anew(world, clock):
    [job_id] = discarded(world)
    clock.move(60)
    assert run_action(world, JobAction.RETRY, [job_id]) == [job_id]
    found = job(world, job_id)
    assert (found.state, found.attempts, found.schedule_from, found.crashes) == (JobState.AVAILABLE, 9, 9, 0)
    assert (found.fault, found.problem, found.finished_at, found.next_at) == (None, None, None, clock.now)


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("what", JobAction)
def test_an_action_takes_the_states_it_says_and_leaves_the_others_as_they_are(world, what, state):
    [job_id] = make(world, 1, state=state, attempts=3, problem="before")
    taken = run_action(world, what, [job_id])
    assert taken == ([job_id] if state in TAKES[what] else [])
    if not taken:
        assert (job(world, job_id).state, job(world, job_id).problem) == (state, "before")
        assert why_left_alone(what, state)


@pytest.mark.parametrize("what", JobAction)
def test_twice_is_once(world, clock, what):
    [job_id] = make(world, 1, state=TAKES[what][0], attempts=3)
    assert run_action(world, what, [job_id]) == [job_id]
    first = job(world, job_id)
    clock.move(5)
    assert run_action(world, what, [job_id]) == []
    again = job(world, job_id)
    assert (again.state, again.next_at, again.finished_at) == (first.state, first.next_at, first.finished_at)
    assert is_as_wanted(what, JobState(again.state))


def test_a_cancelled_job_ends_there_and_can_be_tried_again(world, clock):
    [job_id] = make(world, 1, state="retryable", problem="HTTP 500", blocked_by="paused")
    run_action(world, JobAction.CANCEL, [job_id])
    found = job(world, job_id)
    assert (found.state, found.finished_at, found.problem) == (JobState.CANCELLED, clock.now, "HTTP 500")
    run_action(world, JobAction.RETRY, [job_id])
    assert job(world, job_id).state == JobState.AVAILABLE


def test_a_parked_job_that_is_tried_again_stays_parked(world):
    [job_id] = make(world, 1, state="retryable", blocked_by="paused")
    run_action(world, JobAction.RETRY, [job_id])
    assert (job(world, job_id).state, job(world, job_id).blocked_by) == (JobState.AVAILABLE, "paused")


def test_the_log_of_attempts_stays(world, clock):
    [job_id] = discarded(world)
    world.add(Attempt(job_id=job_id, number=9, started_at=clock.now, latency_ms=1.0, outcome="discarded"))
    run_action(world, JobAction.RETRY, [job_id])
    with world.database.read() as session:
        assert session.get(Attempt, (job_id, 9)) is not None


def test_filters_mean_what_they_say(world, clock):
    with world.database.write() as session:
        place = {"kind": "celery", "queue": "team.crm.others", "source": "file", "created_at": clock.now}
        session.add(Destination(team="crm", name="others", **place))
        session.add(Team(name="sales", source="file", created_at=clock.now))
    [early] = discarded(world, name="crm.early", finished_at=clock.now - 2 * HOUR)
    [ours] = discarded(world, fault="ours", destination="others")
    [other] = discarded(world, route="another")
    make(world, 2)
    wanted = {
        "destination": ("others", [ours]),
        "name": ("crm.early", [early]),
        "route": ("another", [other]),
        "fault": ("team", [early, other]),
        "team": ("sales", []),
        "event_id": (job(world, other).event_id, [other]),
        "event_type": ("connection.created", [early, ours, other]),
        "ended_since": (clock.now - HOUR, [ours, other]),
        "ended_until": (clock.now - HOUR, [early]),
    }
    for name, (value, ids) in wanted.items():
        assert [job.id for job in chosen(world, JobAction.RETRY, **{name: value}).samples] == ids, name
    assert [job.id for job in chosen(world, JobAction.RETRY, event_type="nango.sync").samples] == []
    assert [job.id for job in chosen(world, JobAction.RETRY, fault="team", route="another").samples] == [other]


def test_jobs_are_found_by_when_they_were_made(world):
    [first] = discarded(world)
    time.sleep(0.01)
    [second] = discarded(world)
    border = job(world, second).id
    made = world.clock.now.fromtimestamp((border.int >> 80) / 1000, tz=world.clock.now.tzinfo)
    assert [job.id for job in chosen(world, JobAction.RETRY, created_since=made).samples] == [second]
    assert [job.id for job in chosen(world, JobAction.RETRY, created_until=made).samples] == [first]


def test_an_action_by_filter_takes_ready_and_parked_jobs_alike(world):
    ready = make(world, 1)
    waiting = make(world, 1, state="retryable")
    parked = make(world, 1, blocked_by="paused")
    make(world, 1, state="running")
    assert {job.id for job in chosen(world, JobAction.CANCEL).samples} == {*ready, *waiting, *parked}
    assert [job.id for job in chosen(world, JobAction.RETRY, states=[JobState.RETRYABLE]).samples] == waiting
    assert chosen(world, JobAction.RETRY).samples == []


def test_a_preview_counts_all_shows_some_and_changes_nothing(world):
    ids = discarded(world, 3)
    found = chosen(world, JobAction.RETRY)
    assert [job.id for job in found.samples] == ids
    assert found.groups == [JobGroup("crm", "jobs", "discarded", "team", 3)]
    assert {job.state for job in world.jobs()} == {JobState.DISCARDED}


@pytest.mark.parametrize(
    ("what", "filters"),
    [
        (JobAction.RETRY, {"states": [JobState.COMPLETED]}),
        (JobAction.CANCEL, {"states": [JobState.DISCARDED]}),
        (JobAction.REDELIVER, {"states": [JobState.AVAILABLE]}),
        (JobAction.CANCEL, {"ended_since": HOUR}),
    ],
)
def test_filters_that_contradict_the_action_are_refused(world, what, filters):
    with pytest.raises(InvalidInput):
        chosen(world, what, **filters)


def test_what_is_redelivered_is_bounded_so_that_going_on_sends_nothing_a_third_time(world, clock):
    ids = make(world, 3, state="completed", finished_at=clock.now - HOUR)
    make(world, 1, state="completed", finished_at=clock.now - 5 * HOUR)
    since, until = clock.now - 2 * HOUR, clock.now
    place = {"team": "crm", "destination": "jobs", "ended_since": since}
    assert [job.id for job in chosen(world, JobAction.REDELIVER, **place).samples] == ids
    assert run_action(world, JobAction.REDELIVER, ids[:2]) == ids[:2]
    clock.move(60)
    change(world, ids[:2], state="completed", finished_at=clock.now)
    assert [job.id for job in chosen(world, JobAction.REDELIVER, **place, ended_until=until).samples] == ids[2:]


def test_an_action_goes_in_chunks_and_the_audit_has_one_row_with_the_count(world, monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 2)
    ids = discarded(world, 5)
    with world.database.read() as session:
        found = rows.get_many(session, ids)
    steps = list(
        job_actions.carry_out(
            world.database, JobAction.RETRY, found, asked={"team": "crm"}, actor="token:x", clock=world.clock
        )
    )
    assert [len(touched) for touched in steps] == [2, 2, 1]
    [row] = audits(world)
    assert (row.actor, row.action, row.subject) == ("token:x", "job.retried", "jobs")
    assert (row.outcome, row.detail) == (AuditOutcome.DONE, {"team": "crm", "count": 5})


def test_an_interrupted_action_is_reported_and_completed_by_repeating_it(world, monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 2)
    ids = discarded(world, 5)
    with world.database.read() as session:
        found = rows.get_many(session, ids)
    steps = job_actions.carry_out(world.database, JobAction.RETRY, found, asked={}, actor="cli:test", clock=world.clock)
    assert len(next(steps)) == 2
    steps.close()
    [row] = audits(world)
    assert (row.outcome, row.detail) == (AuditOutcome.FAILED, {"count": 2})
    assert len(run_action(world, JobAction.RETRY, ids)) == 3


def test_killed_between_two_chunks_the_audit_knows_how_many_it_were(world, monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 2)
    ids = discarded(world, 4)
    with pytest.raises(KilledError), dying_at(world.database, "UPDATE audit"):
        run_action(world, JobAction.RETRY, ids)
    [row] = audits(world)
    assert (row.outcome, row.detail["count"]) == (AuditOutcome.BEGUN, 2)
    assert sum(job.state == JobState.AVAILABLE for job in world.jobs()) == 2


def test_an_action_on_one_job_is_audited_by_its_id(world):
    [job_id] = make(world, 1)
    run_action(world, JobAction.CANCEL, [job_id])
    [row] = audits(world)
    assert (row.action, row.subject, row.outcome) == ("job.cancelled", show(JOB, job_id), "done")


def test_a_job_that_changed_since_it_was_chosen_is_left_alone(world):
    ids = discarded(world, 2)
    found = chosen(world, JobAction.RETRY).samples
    change(world, ids[:1], state="completed")
    numbers = count()
    steps = job_actions.carry_out(world.database, JobAction.RETRY, found, asked={}, actor="cli:test", clock=world.clock)
    assert [some for some in steps if next(numbers) >= 0] == [ids[1:]]
    assert job(world, ids[0]).state == JobState.COMPLETED
