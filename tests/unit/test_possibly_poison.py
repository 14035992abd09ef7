"""Times at which a process searches for rows whose last claim brought no result."""

from datetime import UTC, datetime, timedelta

from app.services.events import possibly_poison
from app.services.events.possibly_poison import EVERY, PossiblyPoison


class Clock:
    now = datetime(2026, 8, 21, tzinfo=UTC)

    def __call__(self):
        return self.now


def test_they_are_taken_until_there_is_none_and_then_left_for_a_while():
    clock, there = Clock(), ["one", "two"]
    looks = []

    def take():
        looks.append(1)
        return there.pop(0) if there else None

    process = PossiblyPoison(clock)
    assert process.each(take) == ["one", "two"]
    assert len(looks) == 3
    there.append("three")
    clock.now += EVERY - timedelta(milliseconds=1)
    assert process.each(take) == []
    assert len(looks) == 3
    clock.now += timedelta(milliseconds=1)
    assert process.each(take) == ["three"]


def test_fresh_work_does_not_wait_for_many_of_them_and_the_next_call_goes_on(monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr(possibly_poison.time, "monotonic", lambda: next(seconds))
    process = PossiblyPoison(Clock())
    first = process.each(lambda: "one")
    assert 0 < len(first) <= possibly_poison.POSSIBLY_POISON_SECONDS
    assert process.each(lambda: "one"), "there may be more, so it searches at once"
