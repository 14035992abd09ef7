"""Promise 4: identical bytes are a duplicate while the former delivery's answer was not written whole."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.domain.event import EventType, read
from app.domain.repeats import LATEST_REPORT, AnswerEnd, RepeatDecisions, RepeatedDelivery, decide, may_recur
from app.sandbox.webhooks import auth_body, serialize

NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)
WHOLE, LOST, UNKNOWN = AnswerEnd.WHOLE, AnswerEnd.LOST, AnswerEnd.UNKNOWN
FIRST = UUID(int=100)


def repeats(count: int, *, age: timedelta = timedelta(0)) -> list[RepeatedDelivery]:
    return [RepeatedDelivery(UUID(int=101 + number), NOW - age) for number in range(count)]


def decided(*ends: AnswerEnd, same: bool = False, age: timedelta = timedelta(0)) -> RepeatDecisions:
    """Of as many repeats as `ends`, which are those of the answers before each."""
    given = repeats(len(ends), age=age)
    formers = [FIRST, *(delivery.id for delivery in given)]
    return decide(
        given, former=FIRST, event_id=FIRST, answers=dict(zip(formers, ends, strict=False)), same=same, now=NOW
    )


@pytest.mark.parametrize(
    ("ends", "belong_to"),
    [
        ([WHOLE], [101]),
        ([LOST], [100]),
        ([WHOLE, WHOLE], [101, 102]),
        ([LOST, LOST], [100, 100]),  # two retries of the first
        ([LOST, WHOLE], [100, 102]),  # a retry, then another occurrence
        ([WHOLE, LOST], [101, 101]),  # another occurrence, then its retry
        ([WHOLE, LOST, LOST, WHOLE, LOST], [101, 101, 101, 104, 104]),
    ],
)
def test_each_repeat_is_compared_with_the_delivery_before_it(ends: list[AnswerEnd], belong_to: list[int]) -> None:
    found = decided(*ends)
    assert [event_id.int for event_id in found.belongs_to.values()] == belong_to
    assert not found.waits
    assert [id_.int for id_ in found.further] == [id_.int for id_, to in found.belongs_to.items() if id_ == to]


@pytest.mark.parametrize("ends", [[WHOLE], [LOST], [UNKNOWN], [WHOLE, UNKNOWN, WHOLE]])
def test_where_both_urls_lead_here_all_are_duplicates_at_once(ends: list[AnswerEnd]) -> None:
    found = decided(*ends, same=True)
    assert set(found.belongs_to.values()) == {FIRST}
    assert (len(found.belongs_to), found.waits, found.further) == (len(ends), False, [])


def test_nothing_is_decided_beyond_an_answer_whose_end_is_not_known() -> None:
    found = decided(WHOLE, UNKNOWN, WHOLE)
    assert [id_.int for id_ in found.belongs_to] == [101]
    assert found.waits


@pytest.mark.parametrize(("age", "waits"), [(LATEST_REPORT - timedelta(seconds=1), True), (LATEST_REPORT, False)])
def test_an_answer_of_which_nothing_is_said_for_long_counts_as_lost(age: timedelta, waits: bool) -> None:
    found = decided(UNKNOWN, age=age)
    assert found.waits is waits
    assert list(found.belongs_to.values()) == ([] if waits else [FIRST])


def test_a_chain_goes_on_where_it_was_left() -> None:
    """The former delivery made an event of its own, and this is its retry."""
    [repeat] = repeats(1)
    own = UUID(int=7)
    found = decide([repeat], former=own, event_id=own, answers={own: LOST}, same=False, now=NOW)
    assert found.belongs_to == {repeat.id: own}


def auth(operation: str, **members: object) -> bytes:
    facts = {"environment": "prod", "integration": "oauth2", "provider": "github", "auth_mode": "OAUTH2"}
    return serialize(auth_body(connection_id="c-1", operation=operation, tags=None, **facts, **members))


def other(kind: str, sender: str = "nango") -> bytes:
    return serialize({"from": sender, "type": kind, "connectionId": "c-1", "providerConfigKey": "oauth2"})


FAILED = {"error": {"type": "unknown", "description": "it broke"}}
BARE = json.dumps({"action": "opened"}).encode()


@pytest.mark.parametrize(
    ("body", "apart"),
    [
        (other("sync"), True),
        (other("async_action"), True),
        (other("forward", "slack"), True),
        (BARE, True),
        (b"[1, 2]", True),
        (b"\xff", True),
        (auth("creation"), False),
        (auth("override"), False),
        (auth("creation", **FAILED), False),
        (auth("refresh", **FAILED), False),
        (auth("refresh"), False),
        (auth("deletion"), False),
        (auth("something-new"), False),
        (b'{"type":"auth"}', False),
    ],
)
def test_which_bodies_may_be_two_occurrences(body: bytes, apart: bool) -> None:
    notice = read(body)
    assert may_recur(notice) is apart
    if apart and body in {BARE, b"[1, 2]", b"\xff"}:
        assert notice.type is EventType.NANGO_UNHANDLED
