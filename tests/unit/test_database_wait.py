"""Waiting for a database that is away, and the signals that end it."""

import os
import signal
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from app.runtime import database_wait
from app.runtime.database_wait import wait_for_database


def away() -> OperationalError:
    return OperationalError("SELECT 1", {}, psycopg.OperationalError("connection refused"))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_wait.time, "sleep", lambda _seconds: None)


def test_it_looks_until_the_database_is_there() -> None:
    answers = iter([away(), away(), "there"])

    def look() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert wait_for_database(look) == "there"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("is_lost", [False, True], ids=["raised at once", "raised while an object is finalized"])
def test_a_signal_ends_it_also_where_its_exception_is_lost(number: signal.Signals, is_lost: bool) -> None:
    looks = []
    before = signal.getsignal(number)

    def look() -> None:
        looks.append(1)
        assert len(looks) == 1, "it went on"
        with suppress(SystemExit if is_lost else ()):
            os.kill(os.getpid(), number)
        raise away()

    with pytest.raises(SystemExit) as ended:
        wait_for_database(look)
    assert ended.value.code == 0
    assert signal.getsignal(number) == before


def test_a_signal_whose_exception_is_lost_in_the_last_look_ends_it() -> None:
    def look() -> str:
        with suppress(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        return "there"

    with pytest.raises(SystemExit):
        wait_for_database(look)
