"""Dead letters and failed events are red until an operator acknowledges them; what ends later is new."""

from datetime import timedelta

import pytest

from app.db import acknowledgements, audit
from app.db.audit import AuditFilters
from app.db.models import Event, Job
from app.db.read import unseen
from app.domain.acknowledging import AckKind, AckScope
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import EVENT, JOB, new_id, show
from app.services.status import acknowledging
from tests.integration.status.rows import a_job, add, an_event, destination

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ALL_JOBS, ALL_EVENTS = AckScope(AckKind.JOBS), AckScope(AckKind.EVENTS)


def dead(database, event, *ages, to="crm/jobs", now):
    """Discarded jobs that ended so long ago."""
    team, name = to.split("/")
    facts = {"state": "discarded", "team": team, "destination": name}
    jobs = [a_job(now, event.id, **facts, finished_at=now - age, problem=f"HTTP 404 {age}") for age in ages]
    add(database, *jobs)
    return jobs


def letters(database):
    with database.read() as session:
        found, more = unseen.dead_letters(session)
    assert more == 0
    return {f"{one.team}/{one.destination}": one.count for one in found}


def failed(database):
    with database.read() as session:
        found = unseen.failed_events(session)
    return found.count if found else 0


def acknowledge(database, scope, *, now, expected=None, note=None):
    with database.read() as session:
        found = acknowledging.preview(session, scope, now=now)
    return acknowledging.acknowledge(database, found, note=note, actor="cli:ops", now=now, expected=expected)


@pytest.fixture
def event(database, clock):
    found = an_event(clock.now, state="processed")
    add(database, destination("crm", "jobs"), destination("crm", "hook"), found)
    return found


def test_dead_letters_are_counted_by_destination_with_the_last_problem(database, clock, event):
    assert letters(database) == {}
    dead(database, event, 3 * HOUR, HOUR, now=clock.now)
    dead(database, event, 2 * HOUR, to="crm/hook", now=clock.now)
    add(database, a_job(clock.now, event.id), a_job(clock.now, event.id, state="completed", finished_at=clock.now))
    assert letters(database) == {"crm/hook": 1, "crm/jobs": 2}
    with database.read() as session:
        [_, jobs], _ = unseen.dead_letters(session)
    assert (jobs.since, jobs.newest, jobs.problem) == (clock.now - 3 * HOUR, clock.now - HOUR, "HTTP 404 1:00:00")


def test_all_are_acknowledged_up_to_the_newest_and_what_ends_later_is_new(database, clock, event):
    dead(database, event, 3 * HOUR, HOUR, now=clock.now)
    assert acknowledge(database, ALL_JOBS, now=clock.now) == 2
    assert letters(database) == {}
    # It ended before the moment of the acknowledgement, and was not there to be counted.
    dead(database, event, MINUTE, now=clock.now)
    assert letters(database) == {"crm/jobs": 1}


def test_of_one_destination_others_stay_red(database, clock, event):
    dead(database, event, HOUR, now=clock.now)
    dead(database, event, HOUR, to="crm/hook", now=clock.now)
    assert acknowledge(database, AckScope(AckKind.JOBS, "crm/hook"), now=clock.now) == 1
    assert letters(database) == {"crm/jobs": 1}
    dead(database, event, MINUTE, to="crm/hook", now=clock.now)
    assert letters(database) == {"crm/hook": 1, "crm/jobs": 1}


def test_one_is_acknowledged_by_its_id_until_it_is_given_up_again(database, clock, event):
    first, _ = dead(database, event, HOUR, 2 * HOUR, now=clock.now)
    scope = acknowledging.scope_of_id(show(JOB, first.id), AckKind.JOBS)
    assert acknowledge(database, scope, now=clock.now) == 1
    assert letters(database) == {"crm/jobs": 1}
    assert acknowledge(database, scope, now=clock.now) == 0
    with database.write() as session:
        session.get(Job, first.id).finished_at = clock.now  # retried, and given up once more
    assert letters(database) == {"crm/jobs": 2}


def test_failed_events_are_acknowledged_all_or_by_id(database, clock):
    rows = [
        an_event(clock.now, state="failed", processed_at=clock.now - age, problem="ValueError")
        for age in (3 * HOUR, 2 * HOUR, HOUR)
    ]
    add(database, *rows)
    assert failed(database) == 3
    assert acknowledge(database, acknowledging.scope_of_id(show(EVENT, rows[0].id), AckKind.EVENTS), now=clock.now) == 1
    assert failed(database) == 2
    assert acknowledge(database, ALL_EVENTS, now=clock.now) == 2
    assert failed(database) == 0
    with database.write() as session:
        session.get(Event, rows[0].id).processed_at = clock.now
    assert failed(database) == 1, "one that was acknowledged by its id and failed again is new"


def test_an_acknowledgement_of_all_takes_the_place_of_single_ones(database, clock, event):
    first, second = dead(database, event, HOUR, 2 * HOUR, now=clock.now)
    for job in (first, second):
        acknowledge(database, acknowledging.scope_of_id(show(JOB, job.id), AckKind.JOBS), now=clock.now)
    dead(database, event, MINUTE, now=clock.now)
    acknowledge(database, ALL_JOBS, now=clock.now)
    with database.read() as session:
        assert [one["subject"] for one in acknowledging.listed(session)] == [None]


def test_it_is_audited_with_its_count_and_listed_with_its_note(database, clock, event):
    dead(database, event, HOUR, now=clock.now)
    acknowledge(database, AckScope(AckKind.JOBS, "crm/jobs"), now=clock.now, note="their release of Monday")
    with database.read() as session:
        [entry] = audit.newest(session, AuditFilters(action="jobs.acknowledged"))
        [listed] = acknowledging.listed(session)
    assert (entry.actor, entry.subject, entry.detail["count"]) == ("cli:ops", "crm/jobs", 1)
    until = (clock.now - HOUR).isoformat()
    told = {
        "kind": "jobs",
        "subject": "crm/jobs",
        "until": until,
        "actor": "cli:ops",
        "note": "their release of Monday",
    }
    assert listed == told | {"at": clock.now.isoformat()}


def test_without_anything_new_nothing_is_written(database, clock, event):
    assert acknowledge(database, ALL_JOBS, now=clock.now) == 0
    with database.read() as session:
        assert acknowledging.listed(session) == []
        assert audit.newest(session, AuditFilters()) == []


def test_more_than_was_previewed_is_refused(database, clock, event):
    dead(database, event, HOUR, 2 * HOUR, now=clock.now)
    with pytest.raises(Conflict, match="look again"):
        acknowledge(database, ALL_JOBS, now=clock.now, expected=1)
    assert letters(database) == {"crm/jobs": 2}


def test_what_is_not_there_or_needs_no_look_is_refused(database, clock, event):
    [job] = dead(database, event, HOUR, now=clock.now)
    done = a_job(clock.now, event.id, state="completed", finished_at=clock.now)
    add(database, done)
    for scope, error in (
        (AckScope(AckKind.JOBS, "crm/nowhere"), NotFound),
        (AckScope(AckKind.JOBS, show(JOB, new_id())), NotFound),
        (AckScope(AckKind.EVENTS, show(EVENT, new_id())), NotFound),
        (AckScope(AckKind.JOBS, show(JOB, done.id)), Conflict),
        (AckScope(AckKind.EVENTS, show(EVENT, event.id)), Conflict),
    ):
        with pytest.raises(error):
            acknowledge(database, scope, now=clock.now)
    with pytest.raises(InvalidInput, match="note"):
        acknowledge(database, AckScope(AckKind.JOBS, show(JOB, job.id)), now=clock.now, note="x" * 501)


def test_single_acknowledgements_are_bounded_and_pruned(database, clock, event, monkeypatch):
    monkeypatch.setattr(acknowledging, "SINGLE_AT_MOST", 1)
    first, second = dead(database, event, HOUR, 2 * HOUR, now=clock.now)
    acknowledge(database, AckScope(AckKind.JOBS, show(JOB, first.id)), now=clock.now)
    with pytest.raises(Conflict, match="acknowledge more at once"):
        acknowledge(database, AckScope(AckKind.JOBS, show(JOB, second.id)), now=clock.now)
    acknowledge(database, AckScope(AckKind.JOBS, "crm/jobs"), now=clock.now)
    with database.write() as session:
        assert acknowledgements.prune(session, before=clock.now + HOUR, limit=10) == 1
    with database.read() as session:
        assert [one["subject"] for one in acknowledging.listed(session)] == ["crm/jobs"]


def test_counting_ends_at_a_bound_that_destinations_share(database, clock, event, monkeypatch):
    monkeypatch.setattr(unseen, "AT_MOST", 6)
    ages = [number * MINUTE for number in range(9)]
    dead(database, event, *ages, now=clock.now)
    dead(database, event, *ages, to="crm/hook", now=clock.now)
    assert letters(database) == {"crm/hook": 4, "crm/jobs": 4}
    monkeypatch.setattr(unseen, "NAMED", 1)
    with database.read() as session:
        found, more = unseen.dead_letters(session)
    assert ([one.destination for one in found], more) == (["hook"], 1)
