"""A web process's reports on its answers: none that is open is reported, and every lost one is named."""

from contextlib import suppress
from uuid import UUID

import pytest

from app.ids import new_id
from app.web import written_responses
from app.web.written_responses import AnswerLog, Sending


def test_whole_answers_are_reported_without_being_listed() -> None:
    log, delivery = AnswerLog(), new_id()
    log.answered()
    report = log.report([])
    assert report is not None
    assert (report.process, report.lost) == (log.process, ())
    assert report.settled_before > delivery
    assert log.report([]) is None, "nothing is new"


def test_nothing_is_reported_from_the_first_open_one_on() -> None:
    log = AnswerLog()
    first, second, third = (new_id() for _ in range(3))
    log.answered()
    report = log.report([third, second])
    assert report is not None
    assert first < report.settled_before == second


def test_an_answer_that_is_on_its_way_is_open_until_its_end_is_known() -> None:
    log, ends = AnswerLog(), list[bool | None]([None, None, True])
    first, second = new_id(), new_id()
    log.watch(second, lambda: ends.pop(0))
    log.watch(first, lambda: False)
    report = log.report([])
    assert report is not None
    assert (report.settled_before, report.lost) == (second, (first,))
    log.recorded(report)
    assert log.report([]) is None
    report = log.report([])
    assert report is not None
    assert report.settled_before > second
    assert report.lost == ()


def test_a_client_that_takes_no_answer_does_not_keep_the_others_open_for_ever() -> None:
    log, stuck = AnswerLog(), new_id()
    log.watch(stuck, lambda: None)
    log.answered()
    report = [log.report([]) for _ in range(written_responses.MAX_REPORTS + 1)]
    assert report[0] is not None
    assert report[0].settled_before == stuck
    assert report[-1] is not None
    assert report[-1].lost == (stuck,)
    assert report[-1].settled_before > stuck


def test_lost_ones_are_reported_until_they_are_recorded() -> None:
    log = AnswerLog()
    first, second = new_id(), new_id()
    log.lost(first)
    report = log.report([])
    assert report is not None
    log.lost(second)
    assert log.report([]).lost == (first, second)  # type: ignore[union-attr]
    log.recorded(report)
    log.answered()
    assert log.report([]).lost == (second,)  # type: ignore[union-attr]


def test_while_the_database_is_away_the_lost_ones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_responses, "MAX_LOST", 3)
    log, ids = AnswerLog(), [new_id() for _ in range(5)]
    for id_ in ids:
        log.lost(id_)
    report = log.report([])
    assert report is not None
    assert report.lost == tuple(ids[2:]), "those forgotten count as whole: delivered twice rather than lost"


class Line:
    """A connection whose state a test sets."""

    def __init__(self, *, is_open: bool = True, written: bool | None = True) -> None:
        self.is_open, self.end = is_open, written

    def written(self) -> bool | None:
        return self.end


def test_an_answer_by_messages_is_open_until_it_was_sent() -> None:
    with Sending(Line()) as sending:
        sending.begin()
        assert sending.written() is None
        sending.sent()
    assert sending.written() is True


@pytest.mark.parametrize("end", [True, False])
def test_an_answer_by_messages_ends_as_its_connection_says_and_stays_so(end: bool) -> None:
    line = Line(written=None)
    with Sending(line) as sending:
        sending.begin()
        sending.sent()
    assert sending.written() is None
    line.end = end
    assert sending.written() is end
    line.end = not end
    assert sending.written() is end


def test_an_answer_that_was_never_sent_is_lost() -> None:
    sending = Sending(Line())
    with suppress(RuntimeError), sending:
        sending.begin()
        raise RuntimeError
    assert sending.written() is False


@pytest.mark.parametrize("line", [None, Line(is_open=False)])
def test_an_answer_that_goes_nowhere_is_lost(line: Line | None) -> None:
    with Sending(line) as sending:
        sending.begin()
        sending.sent()
    assert sending.written() is False


def test_each_process_reports_under_an_id_of_its_own() -> None:
    assert AnswerLog().process != AnswerLog().process != UUID(int=0)
