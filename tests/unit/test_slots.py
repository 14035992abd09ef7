"""How many jobs an endpoint has under way, by how it answers."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest

from app.db.destinations import Target
from app.services.delivery.slots import FAST_MS, IN_FLIGHT, PER_DESTINATION, PER_FAST_DESTINATION, SHARE_OF_FREE, Lines

FAST, SLOW = FAST_MS / 2, FAST_MS * 2
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def target(team, **values):
    unset = dict.fromkeys(field.name for field in fields(Target))
    return Target(**{**unset, "team": team, "name": "jobs", "kind": "http", "ready": True, **values})


@pytest.fixture
def lines():
    made = Lines(lambda _lane: False)
    made.look([target("crm"), target("erp", kind="celery")])
    return made


def window(lines, team="crm"):
    return lines.of((team, "jobs")).window


def answers(lines, *latencies, team="crm", accepted=True):
    for latency in latencies:
        lines.left((team, "jobs"), suspect=False)
        lines.landed((team, "jobs"), suspect=False, accepted=accepted, latency_ms=latency)


def test_fast_answers_open_the_window_one_by_one_up_to_its_bound(lines):
    assert window(lines) == PER_DESTINATION
    answers(lines, FAST)
    assert window(lines) == PER_DESTINATION + 1
    answers(lines, *[FAST] * 1000)
    assert window(lines) == PER_FAST_DESTINATION


def test_slow_answers_bring_it_back_to_its_usual_width_and_no_further(lines):
    answers(lines, *[FAST] * 10, SLOW)
    assert window(lines) == PER_DESTINATION + 9
    answers(lines, *[SLOW] * 1000)
    assert window(lines) == PER_DESTINATION


def test_what_is_not_accepted_opens_nothing(lines):
    answers(lines, *[FAST] * 10, accepted=False)
    assert window(lines) == PER_DESTINATION


def test_a_broker_is_never_given_more_than_a_batch(lines):
    before = window(lines, "erp")
    answers(lines, *[FAST] * 10, team="erp")
    assert window(lines, "erp") == before


def test_after_a_failure_it_starts_from_one_whatever_it_was(lines):
    answers(lines, *[FAST] * 1000)
    lines.look([target("crm", failing_since=NOW)])
    lines.look([target("crm")])
    assert window(lines) == 1
    answers(lines, *[SLOW] * 1000)
    assert window(lines) == PER_DESTINATION


def test_one_that_is_fast_leaves_three_quarters_of_what_is_free_to_others(lines):
    answers(lines, *[FAST] * 1000)
    room = {line.target.team: room for line, room in lines.rooms(IN_FLIGHT)}["crm"]
    assert room == min(PER_FAST_DESTINATION, IN_FLIGHT // SHARE_OF_FREE)
