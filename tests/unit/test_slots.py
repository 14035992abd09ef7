"""Numbers of jobs in flight to an endpoint, by its answers."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest

from app.db.destinations import DeliveryTarget
from app.services.delivery.slots import FAST_MS, IN_FLIGHT, PER_DESTINATION, PER_FAST_DESTINATION, SHARE_OF_FREE, Slots

FAST, SLOW = FAST_MS / 2, FAST_MS * 2
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def target(team, **values):
    unset = dict.fromkeys(field.name for field in fields(DeliveryTarget))
    return DeliveryTarget(**{**unset, "team": team, "name": "jobs", "kind": "http", "ready": True, **values})


@pytest.fixture
def slots():
    made = Slots(lambda _url: False)
    made.refresh([target("crm"), target("erp", kind="celery")])
    return made


def window(slots, team="crm"):
    return slots.of((team, "jobs")).window


def answers(slots, *latencies, team="crm", accepted=True):
    for latency in latencies:
        slots.dispatched((team, "jobs"), possibly_poison=False)
        slots.completed((team, "jobs"), possibly_poison=False, accepted=accepted, latency_ms=latency)


def test_fast_answers_open_the_window_one_by_one_up_to_its_bound(slots):
    assert window(slots) == PER_DESTINATION
    answers(slots, FAST)
    assert window(slots) == PER_DESTINATION + 1
    answers(slots, *[FAST] * 1000)
    assert window(slots) == PER_FAST_DESTINATION


def test_slow_answers_bring_it_back_to_its_usual_width_and_no_further(slots):
    answers(slots, *[FAST] * 10, SLOW)
    assert window(slots) == PER_DESTINATION + 9
    answers(slots, *[SLOW] * 1000)
    assert window(slots) == PER_DESTINATION


def test_what_is_not_accepted_opens_nothing(slots):
    answers(slots, *[FAST] * 10, accepted=False)
    assert window(slots) == PER_DESTINATION


def test_a_broker_never_gets_more_than_a_batch(slots):
    before = window(slots, "erp")
    answers(slots, *[FAST] * 10, team="erp")
    assert window(slots, "erp") == before


def test_after_a_failure_it_starts_from_one_whatever_it_was(slots):
    answers(slots, *[FAST] * 1000)
    slots.refresh([target("crm", failing_since=NOW)])
    slots.refresh([target("crm")])
    assert window(slots) == 1
    answers(slots, *[SLOW] * 1000)
    assert window(slots) == PER_DESTINATION


def test_one_that_is_fast_leaves_three_quarters_of_what_is_free_to_others(slots):
    answers(slots, *[FAST] * 1000)
    room = {destination.target.team: room for destination, room in slots.allot(IN_FLIGHT)}["crm"]
    assert room == min(PER_FAST_DESTINATION, IN_FLIGHT // SHARE_OF_FREE)
