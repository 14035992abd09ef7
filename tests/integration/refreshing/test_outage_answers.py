"""Answers during an outage: what is excused and what is not, and when results are counted."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from app.db.models import RefreshPause, RefreshWindow
from app.db.read import paused_integrations
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.facts import ClaimedRefresh, IntegrationKey, RefreshFacts
from app.domain.refreshing.outages import Tally
from app.domain.refreshing.outcomes import CRASHED
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.services.refreshing import outage_watch, pausing
from app.services.refreshing.outage_watch import COUNTED_EVERY, OutageWatch
from tests.integration.world import auth

KEY = IntegrationKey("default", "oauth2")


@pytest.fixture
def claimed(world):
    return ClaimedRefresh(
        id=UUID(int=1), connection_ref=UUID(int=2), environment="default", integration="oauth2", connection_id="c-1",
        provider="oauth2", refresh_at=world.clock(), is_forced=False, attempts=1, failures=0, deadline_at=None,
        keeps=None, outcome=None, facts=RefreshFacts(status=ConnectionStatus.ACTIVE, auth_mode="OAUTH2"),
    )  # fmt: skip


def refused(world, **other):
    at = world.clock()
    return Answer(**({"outcome": RefreshOutcome.FAILED, "error": "invalid_client", "asked_at": at} | other))


def renewed(at):
    return Answer(RefreshOutcome.RENEWED, asked_at=at, answered_at=at, has_credentials=True)


def outage(world):
    outage_watch.count(world.database, {KEY: Tally(failed=9)}, asked_at=world.clock(), now=world.clock())
    assert is_paused(world)


def is_paused(world):
    with world.database.read() as session:
        return bool(paused_integrations.listed(session))


def excused(world, claimed, answer):
    with world.database.read() as session:
        return outage_watch.excused(session, claimed, answer)


def test_a_refusal_during_an_outage_is_the_providers(world, claimed):
    assert excused(world, claimed, refused(world)) == refused(world)
    outage(world)
    found = excused(world, claimed, refused(world))
    assert found.outcome is RefreshOutcome.PROVIDER_DOWN
    assert found.error == "invalid_client; 9 of 9 connections began to fail within ten minutes"
    assert excused(world, claimed, renewed(world.clock())).outcome is RefreshOutcome.RENEWED


def test_a_plan_that_kills_its_workers_is_not_excused_by_an_outage(world, claimed):
    outage(world)
    crashed = refused(world, error_type=CRASHED)
    assert excused(world, claimed, crashed) == crashed


def test_an_operators_pause_excuses_nothing(world, claimed):
    world.handle(auth(connection_id="c-1"))
    pausing.pause(world.database, "default", "oauth2", actor="cli", now=world.clock())
    assert excused(world, claimed, refused(world)) == refused(world)


def counted(world):
    with world.database.read() as session:
        return [(row.renewed, row.failed) for row in session.scalars(select(RefreshWindow))]


def test_renewals_are_counted_every_few_seconds_and_a_failure_at_once(world, claimed):
    watch, now = OutageWatch(world.database), world.clock()
    watch.observe([(claimed, renewed(now))], now=now)
    watch.observe([(claimed, renewed(now))], now=now + COUNTED_EVERY / 2)
    assert counted(world) == [(1, 0)]
    watch.observe([(claimed, refused(world))], now=now + COUNTED_EVERY / 2)
    assert counted(world) == [(2, 1)]
    watch.observe([(claimed, renewed(now))], now=now + 2 * COUNTED_EVERY)
    assert counted(world) == [(3, 1)]


def test_a_plan_that_kills_its_workers_and_an_answer_that_was_not_asked_for_count_for_no_outage(world, claimed):
    watch = OutageWatch(world.database)
    for answer in (refused(world, error_type=CRASHED), refused(world, asked_at=None)):
        watch.observe([(claimed, answer)] * 9, now=world.clock())
    assert counted(world) == []
    assert not is_paused(world)


def test_a_renewal_of_a_paused_integration_ends_its_pause_at_once(world, claimed):
    watch = OutageWatch(world.database)
    watch.observe([(claimed, renewed(world.clock()))], now=world.clock())
    outage(world)
    world.clock.move(1)  # less than COUNTED_EVERY
    with world.database.write() as session:
        watch.keep(session, [claimed], now=world.clock())
    watch.observe([(claimed, renewed(world.clock()))], now=world.clock())
    assert not is_paused(world)


def test_results_that_are_counted_together_end_no_pause_that_began_after_the_first_was_asked_for(world, claimed):
    watch, before = OutageWatch(world.database), world.clock() - timedelta(seconds=1)
    outage(world)
    world.clock.move(1)
    watch.observe([(claimed, renewed(before)), (claimed, renewed(world.clock()))], now=world.clock())
    assert is_paused(world)
    world.clock.move(60)
    watch.observe([(claimed, renewed(world.clock()))], now=world.clock())
    assert not is_paused(world)


def test_a_round_of_probes_begins_only_with_a_plan_to_probe_with(world, claimed):
    watch = OutageWatch(world.database)
    outage(world)
    world.clock.move(3600)
    other = replace(claimed, integration="other")

    def rounds(taken):
        with world.database.write() as session:
            kept = watch.keep(session, taken, now=world.clock())
            return kept, [row.probes for row in session.scalars(select(RefreshPause))]

    assert rounds([other]) == ([other], [0])
    assert rounds([claimed, other]) == ([claimed, other], [1])
