from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.confirming import (
    ABOUT_TYPES,
    CONFIRMABLE_TYPES,
    EDIT_LAG,
    LINKING_TYPES,
    LONGEST_LAG,
    LOOKUP_SCHEDULE,
    NAMING_TYPES,
    NANGO_DOWN_WAIT,
    SHORTEST_WAIT,
    UNASKED_LOOKUPS,
    Absent,
    Accept,
    KnownConnection,
    LookUpAgain,
    NotAsked,
    Reject,
    Snapshot,
    Unavailable,
    confirm,
)
from app.domain.event import EventType, Notice

NOW = datetime(2026, 8, 21, 9, 0, tzinfo=UTC)
ABSENT = Absent(NOW)
TAGS = {"end_user_id": "u-1"}


def notice(kind=EventType.CONNECTION_CREATED, tags=TAGS):
    return Notice(type=kind, integration="i", connection_id="c", tags=tags)


def snapshot(tags=TAGS, *, nango_id=7, failing=False):
    return Snapshot(nango_id, tags, None, "provider", failing, NOW)


KNOWN = KnownConnection(nango_id=7, observed_at=NOW)
SECOND = timedelta(seconds=1)


def seen(ago):
    return KnownConnection(nango_id=7, observed_at=NOW - ago)


def decide(told, result, *, lookups=0, known=KNOWN):
    return confirm(told, result, lookups=lookups, known=known)


def test_the_schedule_is_the_published_one():
    assert LOOKUP_SCHEDULE == (2, 5, 15, 60)


@pytest.mark.parametrize("kind", sorted(CONFIRMABLE_TYPES))
def test_where_the_api_cannot_be_asked_the_body_holds_unconfirmed(kind):
    assert decide(notice(kind), NotAsked()) == Accept(confirmed=False)


@pytest.mark.parametrize("kind", sorted(CONFIRMABLE_TYPES))
@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(None, NANGO_DOWN_WAIT), (0.0, SHORTEST_WAIT), (0.4, 0.4), (37.0, 37.0)]
)
def test_what_could_not_be_asked_waits_without_counting_however_often(kind, retry_after, seconds):
    for lookups in (0, 4, 1000):
        verdict = decide(notice(kind), Unavailable("down", retry_after), lookups=lookups)
        assert verdict == LookUpAgain(seconds, "down", counts=False)


@pytest.mark.parametrize("kind", sorted(LINKING_TYPES))
@pytest.mark.parametrize("tags", [TAGS, None])
def test_tags_that_agree_or_are_missing_are_accepted_as_the_api_shows_them(kind, tags):
    assert decide(notice(kind, tags), snapshot()) == Accept(confirmed=True, snapshot=snapshot())


@pytest.mark.parametrize("told", [{}, {"end_user_id": "u-2"}, {**TAGS, "more": "x"}])
def test_tags_that_disagree_wait_on_the_schedule_then_the_api_holds(told):
    verdicts = [decide(notice(tags=told), snapshot(), lookups=lookups) for lookups in range(5)]
    assert [(verdict.seconds, verdict.counts) for verdict in verdicts[:4]] == [
        (seconds, True) for seconds in (2, 5, 15, 60)
    ]
    assert verdicts[4] == Accept(confirmed=True, snapshot=snapshot(), tags_disagree=True)


def edited(ago, *, tags=None, nango_id=7):
    edit = replace(
        snapshot(tags={**TAGS, "more": "x"} if tags is None else tags, nango_id=nango_id), observed_at=NOW - ago
    )
    return replace(KNOWN, edit=edit)


@pytest.mark.parametrize("kind", sorted(LINKING_TYPES))
@pytest.mark.parametrize("ago", [timedelta(0), EDIT_LAG - SECOND])
def test_what_a_list_shows_just_after_an_edit_of_other_tags_is_looked_up_again_on_the_schedule(kind, ago):
    verdicts = [decide(notice(kind), snapshot(), lookups=lookups, known=edited(ago)) for lookups in range(5)]
    assert [(verdict.seconds, verdict.counts) for verdict in verdicts[:4]] == [
        (seconds, True) for seconds in (2, 5, 15, 60)
    ]
    assert verdicts[4] == Accept(confirmed=True, snapshot=snapshot())


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(edited(EDIT_LAG), id="long after it"),
        pytest.param(edited(-SECOND), id="before it"),
        pytest.param(edited(SECOND, tags=TAGS), id="of the same tags"),
        pytest.param(edited(SECOND, nango_id=6), id="of an older generation"),
    ],
)
def test_no_other_edit_makes_a_list_be_read_again(known):
    assert decide(notice(), snapshot(), known=known) == Accept(confirmed=True, snapshot=snapshot())


def test_changed_tags_that_were_found_disagree_with_no_later_lookup():
    found = notice(EventType.CONNECTION_TAGS_CHANGED, tags={"end_user_id": "u-2"})
    assert decide(found, snapshot(), lookups=1) == Accept(confirmed=True, snapshot=snapshot())


@pytest.mark.parametrize("kind", sorted(CONFIRMABLE_TYPES - {EventType.CONNECTION_DELETED}))
def test_what_nango_does_not_show_is_rejected_after_the_schedule(kind):
    verdicts = [decide(notice(kind), ABSENT, lookups=lookups) for lookups in range(5)]
    assert [verdict.seconds for verdict in verdicts[:4]] == [2, 5, 15, 60]
    assert all(verdict.counts for verdict in verdicts[:4])
    assert isinstance(verdicts[4], Reject)


def test_an_older_generation_in_the_list_is_a_lag_and_not_accepted():
    old = snapshot(nango_id=6)
    assert isinstance(decide(notice(), old, lookups=3), LookUpAgain)
    assert isinstance(decide(notice(), old, lookups=4), Reject)


def test_no_lag_is_so_long_that_a_lower_id_is_not_a_nango_that_began_anew():
    anew = snapshot(nango_id=6)
    assert decide(notice(), anew, known=seen(LONGEST_LAG)) == Accept(confirmed=True, snapshot=anew)
    assert isinstance(decide(notice(), anew, known=seen(LONGEST_LAG - SECOND)), LookUpAgain)
    assert isinstance(decide(notice(), anew, known=KnownConnection(nango_id=7, observed_at=None)), LookUpAgain)


def test_a_newer_generation_and_a_first_sight_are_accepted():
    assert decide(notice(), snapshot(nango_id=8)) == Accept(confirmed=True, snapshot=snapshot(nango_id=8))
    assert isinstance(decide(notice(), snapshot(), known=None), Accept)


@pytest.mark.parametrize(
    ("kind", "failing", "accepted"),
    [
        (EventType.CONNECTION_REFRESH_FAILED, True, True),
        (EventType.CONNECTION_REFRESH_FAILED, False, False),
        (EventType.CONNECTION_RECOVERED, False, True),
        (EventType.CONNECTION_RECOVERED, True, False),
    ],
)
def test_failures_and_recoveries_are_believed_when_errors_show_them(kind, failing, accepted):
    first, last = (decide(notice(kind), snapshot(failing=failing), lookups=lookups) for lookups in (0, 4))
    if accepted:
        assert first == last == Accept(confirmed=True, snapshot=snapshot(failing=failing))
    else:
        assert isinstance(first, LookUpAgain)
        assert isinstance(last, Reject)


DELETED = notice(EventType.CONNECTION_DELETED)
MISSED = replace(KNOWN, absences=1)
TOLD_OF = replace(KNOWN, nango_id=None)


def test_a_deletion_is_believed_after_two_absences():
    first = decide(DELETED, ABSENT)
    assert (first.seconds, first.counts) == (2, True)
    assert decide(DELETED, ABSENT, lookups=1, known=MISSED) == Accept(confirmed=True)


def test_an_absence_that_is_older_than_a_sighting_proves_nothing():
    known = replace(MISSED, observed_at=NOW + timedelta(microseconds=1))
    assert isinstance(decide(DELETED, ABSENT, lookups=1, known=known), LookUpAgain)
    assert isinstance(decide(DELETED, ABSENT, lookups=4, known=known), Reject)


def test_a_deletion_of_what_is_deleted_needs_no_second_absence():
    assert decide(DELETED, ABSENT, known=replace(KNOWN, deleted=True)) == Accept(confirmed=True)
    assert isinstance(decide(DELETED, snapshot(), known=replace(KNOWN, deleted=True)), LookUpAgain)


def test_a_deletion_of_what_is_still_shown_is_rejected_after_the_schedule():
    assert isinstance(decide(DELETED, snapshot(), lookups=3), LookUpAgain)
    assert isinstance(decide(DELETED, snapshot(), lookups=4), Reject)


def test_a_deletion_of_an_unknown_connection_has_nothing_to_undo():
    assert decide(DELETED, ABSENT, known=None) == Accept(confirmed=False)


def test_a_deletion_of_what_only_a_webhook_announced_is_looked_up_too():
    assert isinstance(decide(DELETED, snapshot(), known=TOLD_OF), LookUpAgain)
    assert isinstance(decide(DELETED, ABSENT, known=TOLD_OF), LookUpAgain)


def test_an_error_that_a_flow_should_have_ended_is_waited_out_then_the_api_holds():
    broken, failing = snapshot(failing=True), replace(KNOWN, failing=True)
    verdicts = [decide(notice(), broken, lookups=lookups, known=failing) for lookups in range(5)]
    assert [verdict.seconds for verdict in verdicts[:4]] == [2, 5, 15, 60]
    assert verdicts[4] == Accept(confirmed=True, snapshot=broken)
    assert isinstance(decide(notice(EventType.CONNECTION_TAGS_CHANGED), broken, known=failing), Accept)


def test_an_error_that_was_not_known_is_waited_out_unless_it_is_a_new_generations():
    broken = snapshot(failing=True)
    assert isinstance(decide(notice(EventType.CONNECTION_REAUTHORIZED), broken, lookups=3), LookUpAgain)
    assert isinstance(decide(notice(EventType.CONNECTION_REAUTHORIZED), broken, lookups=4), Accept)
    assert isinstance(decide(notice(), broken, known=replace(KNOWN, nango_id=broken.nango_id - 1)), Accept)
    assert isinstance(decide(notice(), broken, known=None), Accept)


ABOUT = pytest.mark.parametrize("kind", sorted(ABOUT_TYPES))
GONE = replace(KNOWN, deleted=True)
UNTOLD = replace(KNOWN, nango_id=None, observed_at=None)


@ABOUT
@pytest.mark.parametrize("result", [NotAsked(), ABSENT, Unavailable("down"), snapshot(), snapshot(nango_id=6)])
def test_what_goes_with_a_known_connection_needs_no_lookup(kind, result):
    assert decide(notice(kind), result) == Accept(confirmed=False)


@ABOUT
def test_what_names_no_connection_waits_for_none(kind):
    assert decide(Notice(type=kind, integration="i"), NotAsked(), known=None) == Accept(confirmed=False)


@ABOUT
@pytest.mark.parametrize("known", [None, UNTOLD])
def test_what_goes_with_an_unknown_connection_waits_on_the_schedule_then_goes_without(kind, known):
    verdicts = [decide(notice(kind), ABSENT, lookups=lookups, known=known) for lookups in range(5)]
    assert [(verdict.seconds, verdict.counts, verdict.found) for verdict in verdicts[:4]] == [
        (s, True, None) for s in LOOKUP_SCHEDULE
    ]
    assert isinstance(verdicts[4], Accept)
    assert verdicts[4].note


@ABOUT
@pytest.mark.parametrize("known", [None, GONE])
def test_without_a_possible_lookup_it_waits_twice(kind, known):
    verdicts = [decide(notice(kind), NotAsked(), lookups=lookups, known=known) for lookups in range(3)]
    assert [verdict.seconds for verdict in verdicts[:UNASKED_LOOKUPS]] == [2, 5]
    assert isinstance(verdicts[UNASKED_LOOKUPS], Accept)


@ABOUT
@pytest.mark.parametrize(("known", "nango_id"), [(None, 7), (UNTOLD, 7), (GONE, 8), (KNOWN, 8)])
def test_a_connection_that_no_webhook_announced_is_found_and_waited_for(kind, known, nango_id):
    verdict = decide(notice(kind), snapshot(nango_id=nango_id), lookups=1, known=known)
    assert (verdict.seconds, verdict.found) == (5, snapshot(nango_id=nango_id))
    assert isinstance(decide(notice(kind), snapshot(nango_id=nango_id), lookups=4, known=known), Accept)


@ABOUT
def test_what_goes_with_a_deleted_connection_waits_until_nango_shows_nothing_newer(kind):
    assert decide(notice(kind), NotAsked(), known=GONE).seconds == 2
    assert (
        decide(notice(kind), snapshot(), lookups=1, known=GONE).found is None
    )  # a lagging list shows the old generation
    assert decide(notice(kind), Unavailable("down"), lookups=1, known=GONE).counts is False
    assert isinstance(decide(notice(kind), ABSENT, lookups=1, known=GONE), Accept)


@ABOUT
def test_a_question_that_nango_does_not_take_is_not_waited_for_without_end(kind):
    refused = Unavailable("no such id can be", retry_after=60, refused=True)
    verdicts = [decide(notice(kind), refused, lookups=lookups, known=None) for lookups in range(5)]
    assert [(verdict.seconds, verdict.counts) for verdict in verdicts[:4]] == [(s, True) for s in LOOKUP_SCHEDULE]
    assert isinstance(verdicts[4], Accept)


NAMING = pytest.mark.parametrize("kind", sorted(NAMING_TYPES))
NOT_KNOWN = pytest.mark.parametrize(("known", "nango_id"), [(None, 7), (UNTOLD, 7), (GONE, 8), (KNOWN, 8)])


@NAMING
@NOT_KNOWN
def test_a_connection_that_a_failed_flow_names_is_made_first(kind, known, nango_id):
    verdict = decide(notice(kind), snapshot(nango_id=nango_id), known=known)
    assert (verdict.seconds, verdict.found) == (2, snapshot(nango_id=nango_id))
    assert decide(notice(kind), snapshot(nango_id=nango_id), lookups=4, known=known) == Accept(confirmed=False)


@NAMING
@pytest.mark.parametrize(
    ("result", "known"),
    [
        (ABSENT, None), (ABSENT, GONE), (NotAsked(), None), (NotAsked(), KNOWN), (snapshot(), KNOWN),
        (snapshot(), GONE), (snapshot(nango_id=6), KNOWN),
        (Unavailable("down"), KNOWN), (Unavailable("no such id", refused=True), None),
    ],
)  # fmt: skip
def test_a_failed_flow_waits_for_nothing_else(kind, result, known):
    assert decide(notice(kind), result, known=known) == Accept(confirmed=False)


@NAMING
@pytest.mark.parametrize("known", [None, UNTOLD, GONE])
def test_a_failed_flow_waits_while_nango_cannot_say_whether_its_connection_is_there(kind, known):
    assert decide(notice(kind), Unavailable("down"), lookups=9, known=known).counts is False


@NOT_KNOWN
@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("kind", [EventType.CONNECTION_REFRESH_FAILED, EventType.CONNECTION_RECOVERED])
def test_a_connection_that_a_refresh_names_is_made_first_whatever_its_state(kind, failing, known, nango_id):
    result = snapshot(nango_id=nango_id, failing=failing)
    for lookups, seconds in enumerate(LOOKUP_SCHEDULE):
        verdict = decide(notice(kind), result, lookups=lookups, known=known)
        assert (verdict.seconds, verdict.counts, verdict.found) == (seconds, True, result)
    believed = failing is (kind is EventType.CONNECTION_REFRESH_FAILED)
    assert isinstance(decide(notice(kind), result, lookups=4, known=known), Accept if believed else Reject)


@NOT_KNOWN
def test_a_connection_that_a_deletion_names_is_made_when_nango_shows_it_to_the_end(known, nango_id):
    result = snapshot(nango_id=nango_id)
    verdicts = [
        decide(notice(EventType.CONNECTION_DELETED), result, lookups=lookups, known=known) for lookups in range(5)
    ]
    assert [verdict.found for verdict in verdicts] == [None, None, None, None, result]
    assert isinstance(verdicts[4], Reject)


@pytest.mark.parametrize("known", [KNOWN, GONE])
def test_what_is_known_already_is_made_by_no_rejected_deletion(known):
    assert decide(notice(EventType.CONNECTION_DELETED), snapshot(), lookups=4, known=known).found is None


def test_every_type_that_comes_from_outside_is_asked_about_or_waits_for_its_connection():
    """Of the others, each is concluded of a connection that is known, or is about none."""
    sets = [CONFIRMABLE_TYPES, NAMING_TYPES, ABOUT_TYPES]
    assert sum(map(len, sets)) == len(frozenset().union(*sets))
    assert set(EventType) - frozenset().union(*sets) == {
        EventType.CONNECTION_LINKED,
        EventType.CONNECTION_NEEDS_RECONNECT,
        EventType.TOKEN_EXPIRING,
        EventType.DESTINATION_FAILING,
        EventType.DESTINATION_DISABLED,
        EventType.DESTINATION_RECOVERED,
        EventType.JOB_DISCARDED,
    }
