from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.delivery_answer import DeliveryAnswer
from app.domain.retrying import (
    JITTER,
    LONGEST_RETRY_AFTER,
    SCHEDULE,
    AnswerClass,
    GiveUp,
    RetryAt,
    after_failure,
    classify,
    fault_of,
    problem_of,
    retry_after,
)
from app.domain.states import Fault

NOW = datetime(2026, 8, 21, 9, 0, tzinfo=UTC)


def test_the_published_schedule():
    assert [wait.total_seconds() for wait in SCHEDULE] == [5, 30, 120, 600, 3600, 10_800, 28_800, 43_200]


@pytest.mark.parametrize("attempts", range(1, len(SCHEDULE) + 1))
def test_each_failure_waits_its_time_and_a_little_more(attempts):
    wait = SCHEDULE[attempts - 1]
    assert after_failure(attempts, now=NOW, chance=0.0) == RetryAt(NOW + wait)
    latest = after_failure(attempts, now=NOW, chance=0.999999).at
    assert NOW + wait < latest < NOW + wait * (1 + JITTER)


def test_after_the_last_wait_it_is_given_up_with_the_number_of_attempts():
    for attempts in (len(SCHEDULE) + 1, len(SCHEDULE) + 2, 1000):
        assert after_failure(attempts, now=NOW, chance=0.5) == GiveUp(f"{attempts} attempts failed")


def test_no_wait_overtakes_the_next_one():
    for earlier, later in pairwise(SCHEDULE):
        assert earlier * (1 + JITTER) < later
    assert sum(SCHEDULE, timedelta()) > timedelta(days=1)


def test_a_retry_after_makes_a_wait_longer_and_never_shorter():
    assert after_failure(1, now=NOW, chance=0.0, retry_after=timedelta(minutes=3)) == RetryAt(
        NOW + timedelta(minutes=3)
    )
    assert after_failure(4, now=NOW, chance=0.0, retry_after=timedelta(0)) == RetryAt(NOW + SCHEDULE[3])


@pytest.mark.parametrize(
    ("answer", "answer_class", "problem"),
    [
        (DeliveryAnswer(), AnswerClass.ACCEPTED, None),
        (DeliveryAnswer(status=200), AnswerClass.ACCEPTED, None),
        (DeliveryAnswer(status=204), AnswerClass.ACCEPTED, None),
        (DeliveryAnswer(status=302), AnswerClass.FAILED, "answered 302: redirects are not followed"),
        (DeliveryAnswer(status=400), AnswerClass.JOB_REFUSED, "answered 400"),
        (DeliveryAnswer(status=422), AnswerClass.JOB_REFUSED, "answered 422"),
        (DeliveryAnswer(status=409), AnswerClass.JOB_REFUSED, "answered 409"),
        (DeliveryAnswer(status=401), AnswerClass.FAILED, "answered 401"),
        (DeliveryAnswer(status=404), AnswerClass.FAILED, "answered 404"),
        (DeliveryAnswer(status=408), AnswerClass.FAILED, "answered 408"),
        (DeliveryAnswer(status=410), AnswerClass.GONE, "answered 410"),
        (DeliveryAnswer(status=429), AnswerClass.FAILED, "answered 429"),
        (DeliveryAnswer(status=500), AnswerClass.FAILED, "answered 500"),
        (DeliveryAnswer(status=503), AnswerClass.FAILED, "answered 503"),
        (DeliveryAnswer(status=101), AnswerClass.FAILED, "answered 101"),
        (DeliveryAnswer(error="no answer within 15 s"), AnswerClass.FAILED, "no answer within 15 s"),
    ],
)
def test_what_an_answer_says(answer, answer_class, problem):
    assert classify(answer) is answer_class
    assert problem_of(answer) == problem


@given(st.integers(100, 599))
def test_every_status_is_classified_and_only_2xx_is_no_problem(status):
    answer = DeliveryAnswer(status=status)
    assert (classify(answer) is AnswerClass.ACCEPTED) == (problem_of(answer) is None) == (200 <= status < 300)


def test_each_answer_is_our_fault_or_the_teams():
    assert fault_of(DeliveryAnswer(error="the address is not allowed", ours=True)) is Fault.OURS
    assert fault_of(DeliveryAnswer(error="no connection")) is Fault.TEAM
    assert fault_of(DeliveryAnswer(status=500)) is Fault.TEAM


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", timedelta(seconds=120)),
        (" 0 ", timedelta(0)),
        ("99999999", LONGEST_RETRY_AFTER),
        ("9" * 5000, None),
        (format_datetime(NOW + timedelta(minutes=5), usegmt=True), timedelta(minutes=5)),
        (format_datetime(NOW - timedelta(minutes=5), usegmt=True), timedelta(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(header, wait):
    assert retry_after(DeliveryAnswer(status=429, retry_after=header), now=NOW) == wait
    assert retry_after(DeliveryAnswer(status=503, retry_after=header), now=NOW) == wait
    assert retry_after(DeliveryAnswer(status=500, retry_after=header), now=NOW) is None


@given(st.text())
def test_no_header_breaks_anything(header):
    wait = retry_after(DeliveryAnswer(status=429, retry_after=header), now=NOW)
    assert wait is None or timedelta(0) <= wait <= LONGEST_RETRY_AFTER
