"""Figures over time: each count is in one minute, hour and day, whichever process records it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.db import process_metrics
from app.db.engine import Database
from app.domain.figures import COUNTED, FigureName, Step
from app.errors import InvalidInput
from app.services.maintenance import upkeep
from app.services.metrics import figure_points
from app.services.metrics.figures import FigureRecorder
from app.services.metrics.own_counts import METRICS

START = datetime(2026, 11, 30, 23, 58, 30, tzinfo=UTC)
SHAPES = {shape.name: shape for shape in METRICS}
WEBHOOKS, TO_JOB = (SHAPES[COUNTED[name]] for name in (FigureName.WEBHOOKS, FigureName.WEBHOOK_TO_JOB_SECONDS))


class Clock:
    now = START

    def __call__(self) -> datetime:
        return self.now


def count(database: Database, number: int, stored: int, fast: int = 0, slow: int = 0) -> None:
    """Counts of a process: webhooks, and jobs that took up to 25 ms and up to half a second."""
    buckets = [0] * (TO_JOB.width - 1)
    buckets[0], buckets[TO_JOB.buckets.index(0.5)] = fast, slow
    counts = {WEBHOOKS: {("default", "stored"): (stored,)}, TO_JOB: {("crm", "jobs"): (7, *buckets)}}
    with database.write() as session:
        process_metrics.begin(session, UUID(int=number), kind="web", now=START)
        process_metrics.write(session, UUID(int=number), counts=counts, gauges={}, now=START)


def shown(database: Database, name: FigureName, step: Step, **more: datetime) -> list[tuple[str, float]]:
    between = {"since": START - timedelta(days=1), "until": START + timedelta(days=2)} | more
    with database.read() as session:
        return [(point["at"][5:16], point["value"]) for point in figure_points.read(session, name, step, **between)]


def test_each_count_is_in_one_minute_hour_and_day_whichever_process_records_it(database: Database) -> None:
    clock = Clock()
    recorders = [FigureRecorder(database, clock) for _ in range(2)]

    def pass_by(seconds: int) -> None:
        clock.now += timedelta(seconds=seconds)
        for recorder in recorders:
            recorder.record()

    count(database, 1, stored=5)
    pass_by(0)  # the beginning: what was counted before is of no minute
    count(database, 1, stored=7)
    count(database, 2, stored=10)
    pass_by(20)
    assert shown(database, FigureName.WEBHOOKS, Step.MINUTE) == []
    pass_by(40)
    assert shown(database, FigureName.WEBHOOKS, Step.MINUTE) == [("11-30T23:58", 12)]
    count(database, 2, stored=11)
    pass_by(60)
    pass_by(60)
    count(database, 1, stored=8)
    with database.write() as session:  # it ends, and its counts are where those of ended processes are
        process_metrics.write(session, UUID(int=2), counts=None, gauges={}, now=START, ended=True)
        assert process_metrics.retire(session, now=START, limit=10) == 1
    pass_by(60)
    minutes = [("11-30T23:58", 12), ("11-30T23:59", 1), ("12-01T00:01", 1)]
    assert shown(database, FigureName.WEBHOOKS, Step.MINUTE) == minutes
    assert shown(database, FigureName.WEBHOOKS, Step.HOUR) == [("11-30T23:00", 13), ("12-01T00:00", 1)]
    assert shown(database, FigureName.WEBHOOKS, Step.DAY) == [("11-30T00:00", 13), ("12-01T00:00", 1)]
    assert shown(database, FigureName.WEBHOOKS, Step.MINUTE, since=START + timedelta(minutes=1)) == minutes[1:]
    assert shown(database, FigureName.WEBHOOKS, Step.MINUTE, until=START + timedelta(minutes=1)) == minutes[:2]
    assert shown(database, FigureName.BACKLOG, Step.HOUR)[0] == ("11-30T23:00", 0)


def test_of_what_has_a_duration_the_middle_and_the_slow_ones_are_told(database: Database) -> None:
    clock = Clock()
    recorder = FigureRecorder(database, clock)
    recorder.record()
    count(database, 1, stored=0, fast=90, slow=10)
    clock.now += timedelta(minutes=1)
    recorder.record()
    with database.read() as session:
        (point,) = figure_points.read(
            session, FigureName.WEBHOOK_TO_JOB_SECONDS, Step.DAY, since=START, until=clock.now
        )
    assert point["labels"] == {"team": "crm", "destination": "jobs"}
    assert point["value"] == 100
    assert 0 < point["p50"] <= 0.025
    assert 0.25 < point["p99"] <= 0.5


def test_more_points_than_an_answer_has_are_refused(database: Database, monkeypatch) -> None:
    monkeypatch.setattr("app.db.figures.POINTS", 1)
    clock = Clock()
    recorder = FigureRecorder(database, clock)
    for stored in range(4):
        recorder.record()
        count(database, 1, stored=stored)
        clock.now += timedelta(minutes=1)
    with pytest.raises(InvalidInput, match="longer step"):
        shown(database, FigureName.WEBHOOKS, Step.MINUTE)


def test_old_figures_are_deleted_by_their_step(database: Database) -> None:
    clock = Clock()
    recorder = FigureRecorder(database, clock)
    recorder.record()
    count(database, 1, stored=1)
    clock.now += timedelta(minutes=1)
    recorder.record()
    for days, left in ((1, 3), (3, 2), (31, 1), (732, 0)):
        upkeep.prune(database, window=timedelta(seconds=150), clock=lambda: START + timedelta(days=days))  # noqa: B023
        steps = [step for step in Step if shown(database, FigureName.WEBHOOKS, step)]
        assert len(steps) == left
