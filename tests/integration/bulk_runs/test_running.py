"""Bulk runs: killed, paused, cancelled or taken over at any moment, each row that matched at the start is changed once
(promises 1 and 11).
"""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import update

from app.db import bulk_runs as rows
from app.db.event_actions import EventFilters
from app.db.job_actions import JobFilters
from app.db.models import Audit, BulkRun, Event, Job
from app.db.read import figures
from app.deadlines import BULK_LEASE, MAX_CLAIMS
from app.domain.bulk_runs import OF_JOBS, BulkAct, BulkState, Change
from app.domain.job_actions import JobAction
from app.domain.states import JobState
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import BULK_RUN, new_id, show
from app.services.bulk_runs import row_acts, runner
from app.services.bulk_runs.row_acts import ReplayedEvents, written
from app.services.bulk_runs.run_requests import LONGEST_REASON, RunWanted, change_run, open_run
from app.services.bulk_runs.runner import BulkRunner
from app.services.bulk_runs.showing import shown_filter
from app.services.delivery import job_actions
from app.services.maintenance import upkeep
from app.services.routing.cache import RouteCache
from app.services.status import bulk_runs as status
from tests.integration.world import DANA, KilledError, auth, dying_at
from tests.waiting import PATIENCE

HOUR = timedelta(hours=1)
CHUNK = 3
TAKE = "WITH chosen AS \n(SELECT jobs"  # the statement that changes a chunk of jobs


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(row_acts, "CHUNK", CHUNK)
    monkeypatch.setattr(row_acts, "BATCH", CHUNK)
    monkeypatch.setattr(row_acts, "REPLAYED", CHUNK)
    monkeypatch.setattr(runner, "PAGE", 2 * CHUNK)


@pytest.fixture
def world(world):
    world.route(created={"type": ["connection.created"]})
    return world


def make(world, number, **changes):
    """So many jobs, discarded an hour ago unless told otherwise; oldest first."""
    known = {job.id for job in world.jobs()}
    world.receive(*[auth(connection_id=new_id().hex, tags=DANA) for _ in range(number)])
    world.process()
    made = [job.id for job in world.jobs() if job.id not in known]
    assert len(made) == number
    facts = {"state": "discarded", "attempts": 9, "fault": "team", "finished_at": world.clock.now - HOUR}
    change(world, made, created_at=world.clock.now - HOUR, **{**facts, **changes})
    return made


def change(world, ids, **changes):
    with world.database.write() as session:
        session.execute(update(Job).where(Job.id.in_(ids)).values(**changes))


def begin(world, action=JobAction.RETRY, *, counted=None, team=None, **filters):
    """Open a run on the jobs of these filters."""
    wanted = job_actions.completed_filters(action, JobFilters(**{"states": [], **filters}), now=world.clock())
    if counted is None:
        with world.database.read() as session:
            counted = job_actions.preview(session, wanted).count
    return begin_as(world, OF_JOBS[action], written(wanted), counted, team=team)


def begin_as(world, act, chosen, counted, **more):
    told = {"shown": {"team": "crm"}, "actor": "cli:test", "reason": "it is back"}
    wanted = RunWanted(act=act, chosen=chosen, counted=counted, **told, **more)
    with world.database.write() as session:
        return open_run(session, wanted, now=world.clock()).id


def worker(world, hinted=None):
    hint = (lambda ids: hinted(sorted(ids))) if hinted else (lambda _: None)
    return BulkRunner(world.database, world.clock, RouteCache(), hint, hint)


def work(world, hinted=None):
    worker(world, hinted).work(seconds=PATIENCE)


def change_by(world, run_id, wanted, *, team=None):
    with world.database.write() as session:
        return change_run(session, run_id, wanted, actor="operator:ada", now=world.clock(), team=team)


def run_of(world, run_id):
    with world.database.read() as session:
        return rows.get(session, run_id)


def unchanged(world, run_id):
    with world.database.read() as session:
        return {row.id: (row.result, row.why) for row in rows.unchanged(session, run_id)}


def states(world, ids):
    found = {job.id: job.state for job in world.jobs()}
    return [found[job_id] for job_id in ids]


def audited(world, action="job.retried"):
    return world.all(Audit, Audit.action == action)


def counts(run):
    return run.state, run.done, run.failed, run.left_alone


def test_all_that_match_are_changed_with_one_entry_in_the_audit(world):
    ids, [other] = make(world, 8), make(world, 1, name="crm.other")
    hinted = []
    run_id = begin(world, name="crm.created")
    assert states(world, ids) == ["discarded"] * 8
    work(world, hinted.append)
    assert states(world, [*ids, other]) == ["available"] * 8 + ["discarded"]
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 8, 0, 0)
    assert [sorted(some) for some in hinted] == [ids[0:3], ids[3:6], ids[6:8]]
    [entry] = audited(world)
    assert (entry.actor, entry.subject, entry.outcome) == ("cli:test", show(BULK_RUN, run_id), "done")
    wanted = {"team": "crm", "reason": "it is back", "counted": 8, "count": 8, "failed": 0, "left_alone": 0}
    assert entry.detail == wanted


def test_a_run_that_nobody_has_carried_out_is_in_the_audit_as_begun(world):
    make(world, 2)
    begin(world)
    [entry] = audited(world)
    assert (entry.outcome, entry.detail["counted"]) == ("begun", 2)
    with world.database.read() as session:
        since, before = world.clock.now - HOUR, world.clock.now + HOUR
        assert figures.actions_begun(session, since=since, before=before) == 0, "the run has a check of its own"


def test_what_fails_after_the_start_is_not_swept_in(world, clock):
    ids = make(world, 2)
    run_id = begin(world)
    clock.move(1)
    late = make(world, 2, finished_at=clock.now)
    work(world)
    assert states(world, [*ids, *late]) == ["available"] * 2 + ["discarded"] * 2
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 2, 0, 0)


def test_a_job_that_fails_again_meanwhile_is_not_retried_twice(world, clock):
    ids = make(world, 5, state="retryable", finished_at=None)
    begin(world, states=[JobState.RETRYABLE])
    seen = []

    def fail_again(some):
        seen.extend(some)
        clock.move(1)
        change(world, some, state="retryable")

    work(world, fail_again)
    assert seen == ids


def test_completed_jobs_are_redelivered_once_although_they_complete_again(world, clock):
    at = world.clock.now - HOUR
    ids = make(world, 7, state="completed", finished_at=at)
    [earlier] = make(world, 1, state="completed", finished_at=at - timedelta(seconds=1))
    run_id = begin(world, JobAction.REDELIVER, team="crm", destination="jobs", ended_since=at - HOUR)
    seen = []

    def complete(some):
        seen.extend(some)
        clock.move(1)
        change(world, some, state="completed", finished_at=clock.now)

    work(world, complete)
    assert seen[:CHUNK] == [*ids[:2], earlier], "what was completed first comes first"
    assert sorted(seen) == [*ids, earlier]
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 8, 0, 0)


@pytest.mark.parametrize("statement", [TAKE, "UPDATE bulk_runs", "WITH chosen", "UPDATE audit"])
def test_killed_at_any_moment_it_goes_on_after_the_lease_and_does_nothing_twice(world, clock, statement):
    ids = make(world, 7)
    run_id = begin(world)
    changed, deaths = [], 0

    def note(some):
        changed.extend(some)
        if len(changed) <= CHUNK:
            raise KilledError  # after a commit

    with pytest.raises(KilledError):
        work(world, note)
    work(world, note)
    assert len(changed) == CHUNK, "the dead worker's lease holds"
    for _ in range(3):
        clock.move(BULK_LEASE.total_seconds())
        try:
            with dying_at(world.database, statement):
                work(world, changed.extend)
        except KilledError:
            deaths += 1
    assert deaths, "no statement begins so"
    clock.move(BULK_LEASE.total_seconds())
    work(world, changed.extend)
    assert changed == ids
    assert states(world, ids) == ["available"] * 7
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 7, 0, 0)


def test_of_two_workers_one_has_a_run(world):
    ids, hinted, taken = make(world, 7), [], []

    def during(some):
        hinted.extend(some)
        other = worker(world, taken.extend)
        thread = threading.Thread(target=other.work)
        thread.start()
        thread.join()

    begin(world)
    work(world, during)
    assert (hinted, taken) == (ids, [])


def test_one_worker_carries_out_one_run_at_a_time(world):
    make(world, 4)
    begin(world)
    inner = []
    one = worker(world)
    one.hint_jobs = lambda _: inner.append(one.work())
    one.work(seconds=PATIENCE)
    assert inner == [False, False]


def test_a_worker_whose_lease_was_taken_over_changes_nothing_more(world, clock):
    ids = make(world, 7)
    run_id = begin(world)
    by = {"slow": [], "other": []}

    def during(some):
        by["slow"].extend(some)
        clock.move(BULK_LEASE.total_seconds())
        work(world, by["other"].extend)

    work(world, during)
    assert by == {"slow": ids[:3], "other": ids[3:]}
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 7, 0, 0)


def test_a_paused_run_stops_after_its_chunk_and_goes_on_where_it_was(world):
    ids = make(world, 7)
    run_id = begin(world)
    work(world, lambda _: change_by(world, run_id, Change.PAUSE))
    assert counts(run_of(world, run_id)) == (BulkState.PAUSED, 3, 0, 0)
    work(world)
    assert states(world, ids) == ["available"] * 3 + ["discarded"] * 4
    change_by(world, run_id, Change.RESUME)
    work(world)
    assert states(world, ids) == ["available"] * 7
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 7, 0, 0)
    assert len(audited(world)) == 1
    assert [len(audited(world, f"bulk_run.{change}")) for change in ("paused", "resumed")] == [1, 1]


def test_a_cancelled_run_ends_there_and_says_so_in_the_audit(world):
    ids = make(world, 7)
    run_id = begin(world)
    work(world, lambda _: change_by(world, run_id, Change.CANCEL))
    work(world)
    assert states(world, ids) == ["available"] * 3 + ["discarded"] * 4
    run = run_of(world, run_id)
    assert (counts(run), run.finished_at) == ((BulkState.CANCELLED, 3, 0, 0), world.clock.now)
    [entry] = audited(world)
    assert (entry.outcome, entry.detail["cancelled"], entry.detail["count"]) == ("failed", True, 3)
    for wanted in Change:
        with pytest.raises(Conflict):
            change_by(world, run_id, wanted)
    assert run_of(world, run_id).state == BulkState.CANCELLED


def test_a_run_that_stops_between_two_calls_goes_on_with_the_next(world):
    ids = make(world, 7)
    run_id = begin(world)
    taken = []
    assert worker(world, taken.extend).work(seconds=0) is True
    assert (taken, run_of(world, run_id).state) == (ids[:3], BulkState.WAITING)
    work(world, taken.extend)
    assert taken == ids


def test_jobs_that_changed_meanwhile_are_left_alone_and_say_why(world):
    ids = make(world, 8)
    run_id = begin(world)

    def others_act(some):
        if some[0] == ids[0]:
            change(world, [ids[3]], state="completed")  # of the page that is read already
            change(world, [ids[7]], state="completed")  # of one that is not

    work(world, others_act)
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 6, 0, 2)
    assert unchanged(world, run_id) == {ids[3]: ("left_alone", "it was taken: redeliver hands it over again")}
    assert states(world, [ids[3], ids[7]]) == ["completed"] * 2


def test_the_rows_that_are_kept_are_bounded_and_all_are_counted(world, monkeypatch):
    monkeypatch.setattr(rows, "ROWS_KEPT", 2)
    ids = make(world, 6)
    run_id = begin(world)
    change(world, [ids[0]], state="completed")  # it is not met at all
    work(world, lambda some: change(world, ids[4:], state="completed") if some == ids[1:4] else None)
    run = run_of(world, run_id)
    assert (counts(run), len(unchanged(world, run_id))) == ((BulkState.DONE, 3, 0, 3), 2)


def test_a_run_takes_no_more_than_were_counted(world):
    ids = make(world, 8)
    run_id = begin(world, counted=4)
    work(world)
    assert states(world, ids) == ["available"] * 4 + ["discarded"] * 4
    run = run_of(world, run_id)
    assert (counts(run), run.counted) == ((BulkState.DONE, 4, 0, 0), 4)


def test_a_filter_that_matches_nothing_any_more_ends_at_once(world):
    ids = make(world, 2)
    run_id = begin(world)
    change(world, ids, state="completed")
    work(world)
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 0, 0, 2)


@pytest.mark.parametrize("chosen", ["", "{", "[]", "null", '{"states": "all"}', '{"states": ["lost"]}', "{}"])
def test_a_filter_that_cannot_be_read_is_not_taken_for_everything(world, chosen):
    ids = make(world, 2)
    run_id = begin_as(world, BulkAct.RETRY_JOBS, chosen, 2)
    work(world)
    run = run_of(world, run_id)
    assert (run.state, run.done) == (BulkState.FAILED, 0)
    assert "cannot be read" in run.problem
    assert states(world, ids) == ["discarded"] * 2
    assert audited(world)[0].outcome == "failed"


def test_a_run_that_is_claimed_again_and_again_without_a_result_is_given_up(world, clock):
    make(world, 2)
    run_id = begin(world)
    for _ in range(MAX_CLAIMS):
        with pytest.raises(KilledError), dying_at(world.database, TAKE):
            work(world)
        clock.move(BULK_LEASE.total_seconds())
    work(world)
    run = run_of(world, run_id)
    assert (run.state, run.problem) == (BulkState.FAILED, f"claimed {MAX_CLAIMS} times without a result")


def test_an_act_of_a_later_release_is_left_to_its_workers_and_red_once_nobody_does_it(world, clock):
    run_id = begin_as(world, BulkAct.RETRY_JOBS, "{}", 1)
    with world.database.write() as session:
        session.execute(update(BulkRun).values(act="jobs.polish"))
    work(world)
    assert run_of(world, run_id).state == BulkState.WAITING
    clock.move(61)
    assert "does not know" in check(world).cause


def check(world):
    with world.database.read() as session:
        [found] = status.checks(status.read(session, now=world.clock()))
    return found


def test_a_run_that_stands_still_is_red_with_its_name_and_a_paused_one_is_not(world, clock):
    make(world, 4)
    run_id = begin(world)
    assert (check(world).level, check(world).value) == ("ok", 1)
    clock.move(61)
    found = check(world)
    assert (found.level, found.value, found.repair) == ("red", 1, "waylink worker io")
    assert show(BULK_RUN, run_id) in found.cause
    change_by(world, run_id, Change.PAUSE)
    assert (check(world).level, check(world).value) == ("ok", 0)
    change_by(world, run_id, Change.RESUME)
    work(world)
    assert check(world).level == "ok"


def test_failed_events_are_retried_once_each_and_later_ones_not(world, clock):
    ids = [receipt.event_id for receipt in world.receive(*[auth(connection_id=new_id().hex) for _ in range(7)])]
    failed = {"state": "failed", "failure": "error", "processed_at": clock.now}
    with world.database.write() as session:
        session.execute(update(Event).where(Event.id.in_(ids)).values(**failed))
    run_id = begin_as(world, BulkAct.RETRY_EVENTS, written(EventFilters(failure="error")), 7)
    taken = []

    def fail_again(some):
        taken.extend(some)
        clock.move(1)
        with world.database.write() as session:
            session.execute(update(Event).where(Event.id.in_(some)).values(**failed | {"processed_at": clock.now}))

    work(world, fail_again)
    assert taken == ids
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 7, 0, 0)


def test_events_are_replayed_through_the_routes_in_force(world):
    make(world, 5)
    ids = sorted(job.event_id for job in world.jobs())
    world.route(created={"type": ["connection.created"]}, more={"type": ["connection.created"]})
    chosen = written(ReplayedEvents(filters=EventFilters(type="connection.created")))
    hinted = []
    run_id = begin_as(world, BulkAct.REPLAY_EVENTS, chosen, 5)
    work(world, hinted.extend)
    new = [job for job in world.jobs() if job.route == "more"]
    assert sorted(job.event_id for job in new) == ids
    assert sorted(hinted) == sorted(job.id for job in new)
    assert counts(run_of(world, run_id)) == (BulkState.DONE, 5, 0, 0)
    assert len(audited(world, "event.replayed")) == 1
    again = begin_as(world, BulkAct.REPLAY_EVENTS, chosen, 5)
    work(world)
    assert counts(run_of(world, again)) == (BulkState.DONE, 0, 0, 5)
    assert {why for _, why in unchanged(world, again).values()} == {"it has a job, which is discarded"}


def test_a_chunk_takes_the_same_statements_however_many_rows_it_has(world, monkeypatch):
    def statements(number):
        monkeypatch.setattr(row_acts, "CHUNK", number)
        monkeypatch.setattr(row_acts, "BATCH", number)
        monkeypatch.setattr(runner, "PAGE", 2 * number)
        make(world, 2 * number)
        begin(world)
        made = []

        def note(_connection, _cursor, sql, *_rest):
            made.append(sql)

        sqlalchemy_event.listen(world.database.engine, "before_cursor_execute", note)
        try:
            work(world)
        finally:
            sqlalchemy_event.remove(world.database.engine, "before_cursor_execute", note)
        return len(made)

    assert statements(2) == statements(20)


def test_a_reason_is_bounded_and_nothing_begins_without_room_for_it(world):
    make(world, 1)
    wanted = RunWanted(
        act=BulkAct.RETRY_JOBS, chosen="{}", shown={}, counted=1, actor="x", reason="r" * (LONGEST_REASON + 1)
    )
    with pytest.raises(InvalidInput), world.database.write() as session:
        open_run(session, wanted, now=world.clock())
    assert world.all(BulkRun) == []


def test_a_team_has_its_own_runs_only(world):
    make(world, 1)
    own, other = begin(world, team="crm"), begin(world)
    for run_id in (other, new_id()):
        with pytest.raises(NotFound):
            change_by(world, run_id, Change.PAUSE, team="crm")
    assert change_by(world, own, Change.PAUSE, team="crm").state == BulkState.PAUSED
    with world.database.read() as session:
        assert [run.id for run in rows.newest(session, team="crm")] == [own]
        assert [run.id for run in rows.newest(session)] == [other, own]


def test_finished_runs_are_kept_for_a_month_and_others_as_long_as_they_take(world, clock):
    make(world, 2)
    done, waiting = begin(world), begin(world)
    work(world)
    with world.database.write() as session:
        session.execute(update(BulkRun).where(BulkRun.id == waiting).values(state="paused", finished_at=None))

    def kept():
        upkeep.prune(world.database, window=HOUR, audit_kept=None, clock=clock)
        return {run.id for run in world.all(BulkRun)}

    clock.move((upkeep.REPORTS_KEPT - HOUR).total_seconds())
    assert kept() == {done, waiting}
    clock.move(2 * HOUR.total_seconds())
    assert kept() == {waiting}


def test_the_filter_is_shown_as_people_name_it(world):
    [job_id] = make(world, 1)
    [job] = [job for job in world.jobs() if job.id == job_id]
    filters = job_actions.completed_filters(JobAction.RETRY, JobFilters([], event_id=job.event_id), now=world.clock())
    assert shown_filter(written(filters)) == {"states": ["discarded"], "event_id": f"evt_{job.event_id.hex}"}
    assert shown_filter("{") == {}
