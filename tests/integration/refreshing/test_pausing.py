"""Promise 8: an integration's refreshes are paused while its provider is down, or while an operator says so.

No connection is blamed for it, and afterwards no minute carries a herd.
"""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.db import refreshes as refresh_rows
from app.db.models import Audit, Refresh, RefreshPause
from app.db.read import paused_integrations
from app.domain.refreshing import outages
from app.domain.refreshing.outages import Tally
from app.domain.refreshing.plan import Plan
from app.errors import Conflict, InvalidInput, NotFound
from app.services.refreshing import pausing
from tests.integration.world import auth

WHO = "token:operator"


def listed(world, **filters):
    with world.database.read() as session:
        return paused_integrations.listed(session, **filters)


def pauses(world):
    with world.database.read() as session:
        return list(session.scalars(select(RefreshPause)))


def connect(world, *names):
    for name in names:
        world.handle(auth(connection_id=name))


def observe(world, connection_id, *, failed=0, renewed=0):
    """Results of refreshes of the connection's integration."""
    now = world.clock()
    seen = [(world.connection(connection_id), Tally(renewed, failed))]
    pausing.observe(world.database, seen, began_at=now, now=now)


def test_an_operator_s_pause_is_listed_and_audited_until_it_is_resumed(world):
    connect(world, "c-1")
    pausing.pause(world.database, "default", "oauth2", actor=WHO, reason=" a migration ", now=world.clock())
    [paused] = listed(world)
    assert (paused.environment, paused.integration, paused.cause) == ("default", "oauth2", "operator")
    assert (paused.actor, paused.reason, paused.paused_at) == (WHO, "a migration", world.clock())
    assert (paused.next_probe_at, paused.share, paused.waiting) == (None, None, 0)
    assert paused.shown()["problem"] == f"paused by {WHO}: a migration"
    assert listed(world, environment="other") == []
    pausing.resume(world.database, "default", "oauth2", actor=WHO, now=world.clock())
    assert listed(world) == []
    done = [(row.actor, row.action, row.subject, row.detail) for row in world.all(Audit)]
    assert done == [
        (WHO, "refreshes.paused", "default/oauth2", {"reason": "a migration"}),
        (WHO, "refreshes.resumed", "default/oauth2", {"cause": "operator"}),
    ]


def test_what_cannot_be_paused_or_resumed_is_refused_with_the_reason(world):
    connect(world, "c-1")
    now = world.clock()
    with pytest.raises(NotFound, match="oauth3"):
        pausing.pause(world.database, "default", "oauth3", actor=WHO, now=now)
    with pytest.raises(NotFound, match="default/oauth2"):
        pausing.resume(world.database, "default", "oauth2", actor=WHO, now=now)
    with pytest.raises(InvalidInput, match="longer than 500"):
        pausing.pause(world.database, "default", "oauth2", actor=WHO, reason="x" * 501, now=now)
    pausing.pause(world.database, "default", "oauth2", actor=WHO, now=now)
    with pytest.raises(Conflict, match=f"paused already since .* by {WHO}"):
        pausing.pause(world.database, "default", "oauth2", actor=WHO, now=now)
    assert len(world.all(Audit)) == 1


def test_an_outage_pauses_its_integration_alone_and_an_answered_probe_ends_it(world):
    connect(world, "c-1")
    world.handle(auth(connection_id="c-2", integration="other"))
    observe(world, "c-1", failed=4)
    assert listed(world) == []
    world.clock.move(60)
    observe(world, "c-1", failed=4, renewed=2)
    observe(world, "c-2", renewed=3)
    [paused] = listed(world)
    assert (paused.integration, paused.cause, paused.failed, paused.renewed_or_failed) == ("oauth2", "outage", 8, 10)
    assert paused.problem == "8 of 10 connections began to fail within ten minutes"
    assert paused.next_probe_at == world.clock() + outages.FIRST_PROBE
    world.clock.move(60)
    observe(world, "c-1", failed=2)
    assert len(listed(world)) == 1
    observe(world, "c-1", renewed=1, failed=2)
    assert listed(world) == []
    observe(world, "c-1", failed=4)  # what was counted before the pause ended is forgotten
    assert listed(world) == []
    assert [row.action for row in world.all(Audit, Audit.actor == "provider")] == [
        "refreshes.paused",
        "refreshes.resumed",
    ]


def test_an_answer_that_was_asked_for_before_the_pause_does_not_end_it(world):
    connect(world, "c-1")
    before = world.clock()
    world.clock.move(1)
    observe(world, "c-1", failed=8)
    seen = [(world.connection("c-1"), Tally(renewed=1))]
    pausing.observe(world.database, seen, began_at=before, now=world.clock())
    assert len(listed(world)) == 1


def test_an_operator_takes_a_pause_over_and_no_answer_ends_it_then(world):
    connect(world, "c-1")
    observe(world, "c-1", failed=8)
    pausing.pause(world.database, "default", "oauth2", actor=WHO, now=world.clock())
    world.clock.move(60)
    observe(world, "c-1", renewed=8)
    [paused] = listed(world)
    assert (paused.cause, paused.actor, paused.next_probe_at) == ("operator", WHO, None)


def test_claimed_plans_of_a_paused_integration_are_held_and_released_without_a_herd(world):
    names = [f"c-{number}" for number in range(40)]
    connect(world, *names)
    with world.database.write() as session:  # an environment without an API key plans nothing
        plans = {world.connection(name).id: Plan(world.clock(), forced=True, reason="a test") for name in names}
        refresh_rows.plan(session, plans, now=world.clock(), failures=dict.fromkeys(plans, 2))
    observe(world, "c-0", failed=8)

    def claim():
        with world.database.write() as session:
            taken = refresh_rows.claim(session, limit=100, now=world.clock(), lease=timedelta(seconds=75))
            return pausing.keep(session, taken, now=world.clock()), len(taken)

    assert claim() == ([], 40)
    assert claim() == ([], 0)
    [pause] = pauses(world)
    held = world.all(Refresh)
    assert {(plan.outcome, plan.attempts, plan.forced) for plan in held} == {("paused", 0, True)}
    assert all(pause.probe_at <= plan.next_at <= pause.probe_at + timedelta(minutes=1) for plan in held)
    assert listed(world)[0].waiting == 40
    world.clock.now = pause.probe_at + timedelta(minutes=1)
    kept, taken = claim()
    assert (len(kept), taken) == (outages.PROBES, 40)
    assert {plan.attempts for plan in kept} == {1}
    [pause] = pauses(world)
    assert (pause.probes, pause.probe_at) == (1, world.clock() + timedelta(minutes=2))
    released = pausing.resume(world.database, "default", "oauth2", actor=WHO, now=world.clock())
    assert (released.released, released.over_seconds) == (40 - outages.PROBES, 120)
    waiting = [plan for plan in world.all(Refresh) if plan.attempts == 0]
    assert {(plan.outcome, plan.error, plan.failures) for plan in waiting} == {(None, None, 0)}
    waits = sorted((plan.next_at - world.clock()).total_seconds() for plan in waiting)
    assert waits[0] < 30
    assert 90 < waits[-1] < 120
    assert max(sum(start <= wait < start + 30 for wait in waits) for start in (0, 30, 60, 90)) <= 20
