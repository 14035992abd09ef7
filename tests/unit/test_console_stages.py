"""The stages of an event on one scale."""

from datetime import UTC, datetime, timedelta

from app.web.console.stages import WIDTH, Stage, bars

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_work_is_drawn_to_scale_and_idle_time_is_not():
    found = [
        Stage("waited an hour", NOON, after(3600), works=False),
        Stage("one", after(3600), after(3601), works=True),
        Stage("three", after(3601), after(3604), works=True),
    ]
    waited, one, three = bars(found, now=after(9999))
    assert (waited.seconds, one.seconds, three.seconds) == (3600, 1, 3)
    assert round(three.width / one.width, 3) == 3
    assert round(waited.width / three.width, 3) == round(4 / 3, 3), "as long as all the work, not as an hour"
    assert waited.x == 0
    assert one.x == waited.width
    assert round(three.x + three.width) == WIDTH - 4


def test_what_is_not_over_reaches_to_now_and_an_instant_is_seen():
    instant, waiting = bars(
        [Stage("at", NOON, NOON, works=True), Stage("waits", NOON, None, works=False)], now=after(60)
    )
    assert waiting.seconds == 60
    assert instant.width > 0
    [only] = bars([Stage("at", NOON, NOON, works=True)], now=NOON)
    assert only.width > 0
