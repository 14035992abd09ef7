"""Faults and acts between two commits of a worker: nothing is lost, doubled or left claimed (promise 1)."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from bench.audit_rows import expire_leases, unsettled
from tests.acceptance.held import Held, held
from tests.faults import Place
from tests.waiting import until

COUNT = 12  # webhooks, so that a batch is under way
POSTGRES = pytest.mark.parametrize("stack", ["postgresql"], indirect=True, scope="module")


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def stack(request: pytest.FixtureRequest) -> Iterator[Held]:
    with held(sqlite=request.param == "sqlite") as running:
        yield running


def claimed(stack: Held) -> None:
    """A batch is claimed, and Nango asked about it."""
    stack.post(*stack.new(COUNT))
    until("Nango is asked", stack.nango.keeps_back)


def applied(stack: Held) -> None:
    """A batch is committed, and its jobs are on their way to the team's broker from the events worker."""

    def is_held() -> bool:
        """An io worker has no part in it, unless something was waiting for that broker: then once more."""
        stack.post(*stack.new(COUNT))
        until("all are processed", lambda: not stack.unprocessed())
        until("jobs are being sent", lambda: stack.teams.keeps_back() or not unsettled(stack.database))
        return stack.teams.keeps_back()

    until("the events worker sends jobs", is_held)
    until("the io worker sends none", lambda: not stack.jobs("available"))


def test_a_worker_that_dies_after_the_claim(stack: Held) -> None:
    with stack.held(stack.nango):
        claimed(stack)
        stack.kill("events-1")
        assert stack.unprocessed() == COUNT
    stack.settle()


def test_a_worker_that_dies_after_its_commit_and_before_the_jobs_leave(stack: Held) -> None:
    with stack.held(stack.teams):
        applied(stack)
        running = stack.running()
        stack.kill("events-1")
        stack.teams.reset()
    assert running
    assert not running & stack.queued()
    assert running <= stack.running()
    stack.settle()
    assert {stack.times_delivered(job) for job in running} == {1}


def test_a_worker_that_dies_after_the_jobs_have_left_and_before_that_is_recorded(stack: Held) -> None:
    with stack.held(stack.teams):
        applied(stack)
        running = stack.running()
        with stack.database_held():
            stack.teams.resume()
            until("the jobs have left", lambda: running <= stack.queued())
            stack.kill("events-1")
    assert running
    assert running <= stack.running()
    stack.settle()
    assert {stack.times_delivered(job) for job in running} == {2}


def test_a_worker_that_dies_once_all_is_recorded(stack: Held) -> None:
    stack.post(*stack.new(COUNT))
    until("all is delivered", lambda: not unsettled(stack.database))
    stack.kill("events-1")
    delivered = stack.queued()
    stack.settle()
    assert {stack.times_delivered(job) for job in delivered} == {1}


@POSTGRES
def test_a_database_that_is_killed_between_claim_and_apply(stack: Held) -> None:
    place = place_of(stack)
    with stack.held(stack.nango):
        claimed(stack)
        place.kill()
        place.server.start()
    stack.settle()


@POSTGRES
def test_a_database_that_takes_no_writes_between_claim_and_apply(stack: Held) -> None:
    place, worker = place_of(stack), stack.product.processes["events-1"]
    said = len(worker.output)
    try:
        with stack.held(stack.nango):
            claimed(stack)
            place.read_only("on")
        until("the worker says so", lambda: '"database_away"' in worker.output[said:])
        assert stack.unprocessed() == COUNT
    finally:
        place.read_only("off")
    stack.settle()


@POSTGRES
def test_a_duplicate_that_comes_during_the_apply_is_no_event_of_its_own(stack: Held) -> None:
    [webhook] = stack.new()
    with ThreadPoolExecutor(1) as pool, links_locked(stack) as meets:
        [event] = stack.post(webhook)
        until("it is being applied", meets)
        posted = pool.submit(stack.post, webhook)
        until("both meet", lambda: meets(posted))
    assert posted.result() == [event]
    stack.settle()
    assert stack.get(f"/events/{event}")["duplicates"] == 1


@POSTGRES
def test_an_owner_who_is_removed_during_the_apply_owns_nothing_afterwards(stack: Held) -> None:
    first, second = stack.new(2, owner="leaver")
    stack.post(first)
    until("the owner is there", lambda: not unsettled(stack.database))
    [user] = stack.get("/users", external_id="leaver")["data"]
    with ThreadPoolExecutor(1) as pool, links_locked(stack) as meets:
        stack.post(second)
        until("it is being applied", meets)
        removed = pool.submit(stack.ask, "DELETE", f"/users/{user['id']}", params={"force": "true"})
        until("both meet", lambda: meets(removed))
    assert removed.result()[0] == 200
    stack.unlinked |= {first.sent.connection_id, second.sent.connection_id}
    stack.settle()


def test_acts_on_a_claimed_event_leave_it_to_its_worker(stack: Held) -> None:
    with stack.held(stack.nango):
        [event] = stack.post(*stack.new())
        until("Nango is asked", stack.nango.keeps_back)
        assert stack.ask("POST", f"/events/{event}/retry") == (200, {"id": event, "changed": False})
        assert stack.ask("POST", f"/events/{event}/replay", json={})[0] == 409
    stack.settle()


def test_acts_on_running_jobs_leave_them_to_their_worker(stack: Held) -> None:
    with stack.held(stack.teams):
        applied(stack)
        job, *others = stack.jobs("running")
        assert stack.ask("POST", f"/jobs/{job['id']}/cancel")[0] == 409
        for act in ("retry", "redeliver"):
            status, answer = stack.ask("POST", f"/jobs/{job['id']}/{act}")
            assert (status, answer["changed"], answer["state"]) == (200, False, "running")
        status, answer = stack.ask("POST", f"/events/{job['event_id']}/replay", json={"again": True})
        assert (status, {step["outcome"] for step in answer["steps"]}) == (200, {"left_alone"})
        status, answer = stack.ask("POST", "/jobs/cancel", json={"ids": [other["id"] for other in others]})
        assert (status, answer["changed"], len(answer["left_alone"])) == (200, 0, len(others))
    stack.settle()
    assert {stack.times_delivered(each["id"]) for each in (job, *others)} == {1}


@POSTGRES
def test_a_claim_that_runs_out_under_a_live_worker_is_another_workers(stack: Held) -> None:
    with stack.held(stack.nango):
        claimed(stack)
        with stack.product.processes["events-1"].standing_still():
            stack.nango.resume()  # the answer is there when it goes on
            stack.start("events-2")
            expire_leases(stack.database)
            until("another has done it", lambda: not unsettled(stack.database))
            stack.kill("events-2")
    stack.post(*stack.new(COUNT))
    until("it goes on", lambda: not stack.unprocessed())
    stack.settle()


@POSTGRES
def test_jobs_whose_lease_runs_out_under_a_live_worker_are_another_workers(stack: Held) -> None:
    with stack.held(stack.teams):
        applied(stack)
        running = stack.running()
        with stack.product.processes["events-1"].standing_still():
            expire_leases(stack.database)
            until("another has delivered them", lambda: not unsettled(stack.database))
    stack.post(*stack.new(COUNT))
    until("it goes on", lambda: not unsettled(stack.database))
    stack.settle()
    assert {stack.times_delivered(job) for job in running} <= {1, 2}  # what waits for too long is not sent any more
    attempts = {job: stack.get(f"/jobs/{job}")["attempt_log"] for job in running}
    assert [[attempt["number"] for attempt in log] for log in attempts.values()] == [[2]] * len(running)


def place_of(stack: Held) -> Place:
    assert stack.product.place is not None
    return stack.product.place


@contextmanager
def links_locked(stack: Held) -> Iterator[Any]:
    """No link can be written. Gives a function: whether a transaction waits for that; or, of a call that is under way,
    whether it has ended or waits as well.
    """
    url = make_url(place_of(stack).direct_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as session, psycopg.connect(url, autocommit=True) as other:
        session.execute("LOCK TABLE links IN SHARE MODE")

        def meets(call: Future[Any] | None = None) -> bool:
            [waiting] = other.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted").fetchone() or (0,)
            return waiting >= 1 if call is None else call.done() or waiting >= 2

        yield meets
        session.rollback()
