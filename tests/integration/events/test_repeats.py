"""Promise 4: of forwards, syncs and async actions a genuine second one is an event of its own, a retry is not."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import select, update

from app.config.nango_environment import Environment, SigningKeys
from app.db import event_claims
from app.db import repeats as repeat_rows
from app.db.models import Delivery, Event, LostAnswer, Repeat, WebProcess
from app.domain.repeats import DECIDE_AGAIN_AFTER, LATEST_REPORT
from app.domain.states import EventState, Origin
from app.ids import new_id
from app.services.maintenance import upkeep
from tests.integration.sandbox.sandbox_server import SIGNING_KEY
from tests.integration.world import DANA, WINDOW, KilledError, auth, dying_at, failure, in_threads, sync

KINDS = {
    "sync": sync(),
    "async_action": sync(type="async_action", payload={"id": "7", "statusUrl": "/action/7"}),
    "forward": sync(type="forward", **{"from": "slack"}, payload={"a": 1}),
    "bare": b'{"action":"opened","number":1}',
}
SYNC = KINDS["sync"]


class Web:
    """A web process, as far as the database sees it: it takes deliveries and reports on its answers."""

    def __init__(self, world):
        self.world, self.id = world, uuid4()

    def take(self, *bodies):
        """Store these in one commit; their own ids."""
        deliveries = [self.world.delivery(body, by=self.id) for body in bodies]
        self.world.deliver(*deliveries)
        return [delivery.event_id for delivery in deliveries]

    def report(self, *lost):
        """All that was taken so far was answered whole, these excepted."""
        with self.world.database.write() as session:
            repeat_rows.record_answers(session, self.id, settled_before=new_id(), lost=lost)


@pytest.fixture
def routed(world):
    """Every event becomes a job, and what a sync or forward goes with is known."""
    world.route(all={"id": [{"exists": True}]})
    world.handle(auth(tags=DANA))
    with world.database.write() as session:
        session.execute(update(Event).values(body=b"the creation"))
    return world


@pytest.fixture
def web(routed):
    return Web(routed)


def jobs_of_events(world):
    """The events that webhooks other than the creation made, each with its jobs, oldest first."""
    jobs = world.jobs("all")
    events = world.all(Event, Event.origin == Origin.WEBHOOK, Event.body != b"the creation")
    return [(event.id, sum(job.event_id == event.id for job in jobs)) for event in events]


def all_processed(world):
    return {event.state for event in world.all(Event)} == {EventState.PROCESSED}


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_one_after_a_whole_answer_is_an_event_with_a_job_of_its_own(routed, web, clock, kind):
    [first] = web.take(KINDS[kind])
    routed.process()
    web.report()
    clock.move(10)
    [second] = web.take(KINDS[kind])
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]
    before, after = routed.event(first), routed.event(second)
    assert (before.body, before.type, before.duplicates) == (after.body, after.type, after.duplicates)
    assert (after.received_at, after.origin, after.duplicates) == (clock.now, Origin.WEBHOOK, 0)
    assert after.document == {
        **before.document,
        "id": after.document["id"],
        "occurred_at": after.document["occurred_at"],
    }
    assert all_processed(routed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_retry_of_what_was_not_answered_whole_is_a_duplicate(routed, web, clock, kind):
    [first] = web.take(KINDS[kind])
    routed.process()
    web.report(first)
    clock.move(10)
    web.take(KINDS[kind])
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1)]
    assert routed.event(first).duplicates == 1
    assert all_processed(routed)


def test_twins_in_one_commit_are_two_events_once_both_were_answered(routed, web, clock):
    first, second = web.take(SYNC, SYNC)
    routed.process()
    assert jobs_of_events(routed) == [(first, 1)], "the first is not kept waiting"
    assert routed.event(first).next_at - clock.now == DECIDE_AGAIN_AFTER
    web.report()
    clock.now += DECIDE_AGAIN_AFTER
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]
    assert all_processed(routed)


def test_the_answers_of_a_process_that_reports_no_more_count_as_lost(routed, web, clock):
    """It was killed between its commit and its answer: Nango sends again, to another one."""
    web.report()
    [first] = web.take(SYNC)
    routed.process()
    other = Web(routed)
    clock.move(3)
    other.take(SYNC)
    other.report()
    for _ in range(LATEST_REPORT // DECIDE_AGAIN_AFTER - 1):
        routed.process()
        assert routed.event(first).state == EventState.RECEIVED
        clock.now = routed.event(first).next_at
    clock.now += DECIDE_AGAIN_AFTER
    routed.process()
    assert jobs_of_events(routed) == [(first, 1)]
    assert routed.event(first).duplicates == 1
    assert all_processed(routed)


def test_a_chain_of_occurrences_and_retries_across_processes_is_one_job_for_each_occurrence(routed, clock):
    """A whole, B whole, C lost and its retry D lost and its retry E whole, F whole."""
    webs = [Web(routed), Web(routed)]
    ids = []
    for number, lost in enumerate([False, False, True, True, False, False]):
        [delivery] = webs[number % 2].take(SYNC)
        ids.append(delivery)
        webs[number % 2].report(*([delivery] if lost else []))
        clock.move(5)
        if number % 3 == 2:
            routed.process()
    routed.process()
    routed.process()
    a, b, c, _, _, f = ids
    assert jobs_of_events(routed) == [(a, 1), (b, 1), (c, 1), (f, 1)]
    assert routed.event(a).duplicates == 2
    assert all_processed(routed)


def test_the_order_of_commits_counts_and_not_the_clocks_of_the_hosts(routed, web, clock):
    """The retry comes to a host whose clock is behind."""
    [first] = web.take(SYNC)
    web.report()
    clock.move(20)
    early = routed.delivery(SYNC, by=uuid4())  # its id is smaller than that of the one before it
    [second] = web.take(SYNC)
    web.report(second)
    routed.deliver(early)
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]


def test_where_both_urls_lead_here_identical_bytes_are_one_event(database, clock, open_world):
    environment = Environment(
        "default", "http://127.0.0.1:1", "acme", SigningKeys((SecretStr(SIGNING_KEY),)), both_urls=True
    )
    world = open_world()
    world.processor.policy = type(world.policy)({"default": environment})
    world.route(all={"id": [{"exists": True}]})
    web = Web(world)
    [first, *_] = web.take(KINDS["bare"], KINDS["bare"])
    web.report()
    web.take(KINDS["bare"])
    for _ in range(2):
        world.process()
    assert jobs_of_events(world) == [(first, 1)]
    assert world.event(first).duplicates == 2
    assert all_processed(world)


@pytest.mark.parametrize("body", [auth("override", tags=DANA), failure("refresh"), failure()])
def test_auth_events_stay_one_whether_or_not_the_answer_arrived(routed, web, clock, body):
    [first] = web.take(body)
    routed.process()
    web.report()
    clock.move(10)
    web.take(body, body)
    assert routed.event(first).state == EventState.RECEIVED, "its connection is looked up again"
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1)]
    assert routed.event(first).duplicates == 2
    assert routed.all(Repeat) == []
    assert all_processed(routed)


def test_a_worker_that_is_killed_while_it_makes_the_further_event_makes_it_once(routed, web, clock):
    [first] = web.take(SYNC)
    web.report()
    clock.move(10)
    [second] = web.take(SYNC)
    for statement in ("INSERT INTO events", "UPDATE repeats"):
        with dying_at(routed.database, statement), pytest.raises(KilledError):
            routed.process()
        assert jobs_of_events(routed) == [(first, 0)]
        routed.outlive_lease()
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]


def test_two_workers_at_once_make_each_further_event_once(open_world, routed, web):
    other = open_world()
    other.route(all={"id": [{"exists": True}]})
    ids = web.take(*[SYNC] * 15)
    web.report()
    for _ in range(3):
        in_threads(routed.process, other.process)
    routed.process()
    assert jobs_of_events(routed) == [(id_, 1) for id_ in ids]


def test_many_repeats_are_decided_a_few_at_a_time_and_none_is_left(routed, web):
    ids = web.take(*[SYNC] * (2 * repeat_rows.PER_CHECK + 5))
    web.report()
    routed.process()
    assert len(jobs_of_events(routed)) == repeat_rows.PER_CHECK + 1
    for _ in range(4):
        routed.process()
    assert jobs_of_events(routed) == [(id_, 1) for id_ in ids]
    assert all_processed(routed)


def test_what_waits_for_its_connection_keeps_its_schedule_while_it_is_repeated(world, clock):
    web = Web(world)
    first, second = web.take(sync("unknown"), sync("unknown"))
    for seconds in (2, 5):
        world.process()
        event = world.event(first)
        assert (event.state, event.next_at - clock.now) == (EventState.RECEIVED, timedelta(seconds=seconds))
        clock.move(seconds)
    world.process()
    assert world.event(first).next_at - clock.now == DECIDE_AGAIN_AFTER, "it was processed, and its repeat is undecided"
    web.report()
    clock.now += DECIDE_AGAIN_AFTER
    world.process()
    world.wait_for(second)
    assert world.event(first).state == EventState.PROCESSED
    assert world.event(second).problem == "no creation of its connection came"


def test_a_retry_of_a_further_one_that_failed_revives_it(routed, web, clock):
    [first] = web.take(SYNC)
    web.report()
    [second] = web.take(SYNC)
    routed.process()
    with routed.database.write() as session:
        event = session.get(Event, second)
        event.state, event.failure, event.attempts = EventState.FAILED, "error", 1
    web.report(second)
    clock.move(5)
    web.take(SYNC)
    routed.process()
    assert routed.event(second).state == EventState.RECEIVED
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]


def test_a_repeat_of_a_delivery_that_an_earlier_release_took_is_a_duplicate_at_once(routed, web):
    [first] = routed.receive(SYNC)
    with routed.database.write() as session:
        session.execute(update(Delivery).values(taken_by=None))
    web.take(SYNC)
    web.report()
    routed.process()
    assert jobs_of_events(routed) == [(first.event_id, 1)]
    assert all_processed(routed)


def test_a_repeat_whose_first_commit_may_have_succeeded_is_stored_again_without_a_second_event(routed, web):
    [first] = web.take(SYNC)
    web.report()
    again = routed.delivery(SYNC, by=web.id)
    for _ in range(2):
        routed.deliver(again)
    web.report()
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (again.event_id, 1)]


def test_a_repeat_that_became_a_new_event_after_the_window_is_no_second_one(routed, web, clock):
    """Its first commit was of unknown end and counted it, the second one came when the window was over."""
    [first] = web.take(SYNC)
    web.report()
    clock.move(WINDOW.total_seconds() - 1)
    again = routed.delivery(SYNC, by=web.id)
    routed.deliver(again)
    clock.move(1)
    routed.deliver(again)
    web.report()
    for _ in range(3):
        routed.process()
    assert jobs_of_events(routed) == [(first, 1), (again.event_id, 1)]


def test_a_megabyte_that_comes_twice_is_kept_twice(routed, web):
    body = json.dumps({**json.loads(KINDS["forward"]), "payload": "x" * 1024 * 1024}, separators=(",", ":")).encode()
    first, second = web.take(body, body)
    web.report()
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]
    assert routed.event(second).body == body


def test_a_batch_without_repeats_asks_for_none(routed, web):
    web.take(SYNC, KINDS["forward"], auth("override", tags=DANA))
    seen = []

    def note(_connection, _cursor, statement, *_):
        seen.append(statement)

    sqlalchemy_event.listen(routed.database.engine, "before_cursor_execute", note)
    routed.process()
    sqlalchemy_event.remove(routed.database.engine, "before_cursor_execute", note)
    assert seen
    assert not [
        statement
        for statement in seen
        if "repeats" in statement or "web_processes" in statement or "lost_answers" in statement
    ]


def test_what_is_over_is_forgotten_and_what_is_undecided_stays(routed, web, clock):
    [first] = web.take(SYNC)
    web.report()
    web.take(SYNC)
    routed.process()
    routed.process()
    web.take(KINDS["forward"], KINDS["forward"])
    web.report(first)

    def prune(after):
        upkeep.prune(routed.database, window=WINDOW, clock=lambda: clock.now + after)
        return [len(list(of)) for of in (routed.all(Repeat), routed.all(WebProcess), routed.all(LostAnswer))]

    assert prune(timedelta(0)) == [2, 1, 1]
    assert prune(2 * WINDOW + timedelta(seconds=60)) == [1, 1, 1], "what was decided is of a window that ended"
    assert prune(timedelta(days=8)) == [1, 0, 0]


def test_the_last_decided_repeat_stays_while_the_one_after_it_is_undecided(routed, web, clock):
    """It was answered whole, and the first of the bytes was not."""
    [first] = web.take(SYNC)
    web.report(first)
    [second] = web.take(SYNC)
    web.report()
    routed.process()
    assert routed.event(first).duplicates == 1
    [third] = web.take(SYNC)
    pruned_at = clock.now + 2 * WINDOW + timedelta(seconds=60)
    upkeep.prune(routed.database, window=WINDOW, clock=lambda: pruned_at)
    for _ in range(2):
        routed.process()
    assert jobs_of_events(routed) == [(first, 1), (third, 1)]
    assert second != third


def test_a_repeat_that_a_worker_of_the_release_before_did_not_see_is_processed_later(routed, web, clock):
    [first] = web.take(SYNC)
    web.report()
    [second] = web.take(SYNC)
    with routed.database.write() as session:
        session.execute(update(Event).where(Event.id == first).values(state=EventState.PROCESSED))
    assert upkeep.recheck_repeats(routed.database, now=clock.now) == 0
    clock.now += LATEST_REPORT + timedelta(seconds=1)
    assert upkeep.recheck_repeats(routed.database, now=clock.now) == 1
    for _ in range(2):
        routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]
    assert upkeep.recheck_repeats(routed.database, now=clock.now) == 0


def test_an_event_that_goes_takes_its_repeats_with_it(routed, web):
    web.take(SYNC, SYNC)
    assert len(routed.all(Repeat)) == 1
    with routed.database.write() as session:
        session.delete(session.scalar(select(Event).where(Event.body == SYNC)))
    assert routed.all(Repeat) == []


def test_repeats_of_a_failed_event_become_events_when_it_is_revived(routed, web, clock):
    [first] = web.take(SYNC)
    with routed.database.write() as session:
        event_claims.give_up(session, [first], problem="crashed", now=clock.now)
    web.report()
    [second] = web.take(SYNC)
    routed.process()
    routed.process()
    assert jobs_of_events(routed) == [(first, 1), (second, 1)]
