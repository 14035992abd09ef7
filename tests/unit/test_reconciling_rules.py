from datetime import UTC, datetime, timedelta

import pytest

from app.domain.confirming import Snapshot
from app.domain.event import EventType
from app.domain.reconciling import FEW_ABSENCES, YOUNG, RecordedConnection, compare, describe, is_missing, too_many
from app.domain.states import ConnectionStatus

NOW = datetime(2026, 8, 21, 9, 0, tzinfo=UTC)
OLD = NOW - timedelta(days=30)
TAGS = {"end_user_id": "u-1"}
SECOND = timedelta(seconds=1)

CREATED, TAGS_CHANGED, DELETED = (
    EventType.CONNECTION_CREATED,
    EventType.CONNECTION_TAGS_CHANGED,
    EventType.CONNECTION_DELETED,
)
JUST = NOW - YOUNG + SECOND
FAILED, RECOVERED = EventType.CONNECTION_REFRESH_FAILED, EventType.CONNECTION_RECOVERED


def snapshot(*, nango_id=7, tags=TAGS, failing=False, observed_at=NOW):
    return Snapshot(nango_id, tags, None, "provider", failing, observed_at)


def known(*, nango_id=7, status=ConnectionStatus.ACTIVE, tags=TAGS, error=None, seen=OLD, errors_seen=OLD, **facts):
    announced, created = facts.get("announced", nango_id), facts.get("created", OLD)
    return RecordedConnection("i", "c", nango_id, announced, status, tags, error, seen, errors_seen, created)


@pytest.mark.parametrize(
    ("shown", "ours", "events"),
    [
        (snapshot(), None, (CREATED,)),
        (snapshot(), known(), ()),
        (snapshot(nango_id=8), known(), (CREATED,)),
        (snapshot(nango_id=8, tags={}, failing=True), known(), (CREATED,)),  # one event brings all of it
        (snapshot(), known(announced=None), (CREATED,)),  # only a re-authorization was announced
        (snapshot(), known(announced=6), (CREATED,)),
        (snapshot(nango_id=6), known(seen=JUST), ()),  # the list lags: an older generation
        (snapshot(nango_id=6), known(), (CREATED,)),  # no list lags so long: Nango began anew
        (snapshot(), known(nango_id=None, status=ConnectionStatus.UNCONFIRMED), (CREATED,)),
        (snapshot(), known(status=ConnectionStatus.UNCONFIRMED), (CREATED,)),
        (snapshot(), known(status=ConnectionStatus.DELETED), (CREATED,)),
        (snapshot(nango_id=8), known(status=ConnectionStatus.DELETED), (CREATED,)),
        (snapshot(nango_id=6), known(status=ConnectionStatus.DELETED, seen=JUST), ()),
        (snapshot(nango_id=6), known(status=ConnectionStatus.DELETED), (CREATED,)),
        (snapshot(tags={}), known(), (TAGS_CHANGED,)),
        (snapshot(tags={"end_user_id": "u-2"}), known(), (TAGS_CHANGED,)),
        (snapshot(failing=True), known(), (FAILED,)),
        (snapshot(failing=True), known(error="x"), ()),
        (snapshot(failing=True), known(status=ConnectionStatus.NEEDS_RECONNECT), ()),
        # Errors of which Nango's list says nothing: that it shows none is no recovery, and one that it shows is new.
        (snapshot(), known(error="crashed"), ()),
        (snapshot(), known(error="crashed", status=ConnectionStatus.NEEDS_RECONNECT), (RECOVERED,)),
        (snapshot(), known(error="token_expired", status=ConnectionStatus.NEEDS_RECONNECT), ()),
        (snapshot(failing=True), known(error="token_expired", status=ConnectionStatus.NEEDS_RECONNECT), (FAILED,)),
        (snapshot(), known(error="x"), (RECOVERED,)),
        (snapshot(), known(status=ConnectionStatus.NEEDS_RECONNECT), (RECOVERED,)),
        (snapshot(tags={}, failing=True), known(), (TAGS_CHANGED, FAILED)),
    ],
)
def test_a_difference_becomes_the_event_that_was_missed(shown, ours, events):
    assert compare(shown, ours, created_at=OLD, now=NOW) == events


def test_the_young_are_left_to_their_webhook():
    assert compare(snapshot(), None, created_at=NOW - YOUNG + SECOND, now=NOW) == ()
    assert compare(snapshot(), None, created_at=NOW - YOUNG, now=NOW) == (CREATED,)


def test_what_we_know_from_later_than_the_list_is_not_held_against_it():
    later = NOW + SECOND
    assert compare(snapshot(tags={}), known(seen=later), created_at=OLD, now=NOW) == ()
    assert compare(snapshot(failing=True), known(errors_seen=later), created_at=OLD, now=NOW) == ()
    assert compare(snapshot(tags={}), known(errors_seen=later), created_at=OLD, now=NOW) == (TAGS_CHANGED,)


def test_the_replica_may_show_for_a_while_what_we_saw_deleted():
    just = known(status=ConnectionStatus.DELETED, seen=NOW - YOUNG + SECOND)
    assert compare(snapshot(), just, created_at=OLD, now=NOW) == ()
    assert compare(snapshot(nango_id=8), just, created_at=OLD, now=NOW) == (CREATED,)  # another generation is no lag
    earlier = known(status=ConnectionStatus.DELETED, seen=NOW - YOUNG)
    assert compare(snapshot(), earlier, created_at=OLD, now=NOW) == (CREATED,)


def test_an_absent_connection_may_be_deleted_unless_we_know_better():
    assert is_missing(known(), observed_at=NOW, now=NOW)
    assert is_missing(known(seen=None), observed_at=NOW, now=NOW)
    assert not is_missing(known(status=ConnectionStatus.DELETED), observed_at=NOW, now=NOW)
    assert not is_missing(known(seen=NOW), observed_at=NOW, now=NOW)
    assert not is_missing(known(created=NOW - YOUNG + SECOND), observed_at=NOW, now=NOW)


def test_most_of_many_are_not_believed_to_be_gone():
    assert not too_many(missing=FEW_ABSENCES, shown=1)
    assert too_many(missing=2, shown=0)
    assert not too_many(missing=1, shown=0)
    assert too_many(missing=FEW_ABSENCES + 1, shown=FEW_ABSENCES)
    assert not too_many(missing=1000, shown=1000)


def test_reasons_name_keys_and_never_values_of_tags():
    ours, theirs = (
        known(tags={"plan": "secret-a", "a": "1"}),
        snapshot(tags={"plan": "secret-b", "a": "1", "z": "secret-c"}),
    )
    assert describe(TAGS_CHANGED, theirs, ours) == "tags that differ: plan, z"
    assert describe(CREATED, snapshot(nango_id=8), ours) == "Nango's id is 8, ours 7"
    texts = {describe(kind, theirs, ours) for kind in (CREATED, TAGS_CHANGED, FAILED, RECOVERED, DELETED)}
    assert len(texts) == 5
    assert "secret" not in "".join(texts)
