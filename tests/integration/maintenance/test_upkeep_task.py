"""The worker's periodic task stores the forecast of refreshes, after all that it has to delete."""

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import func, select

from app.brokers.celery_broker import PRUNE
from app.clock import utc_now
from app.db.models import RefreshForecast
from app.services.definitions.destination_alerts import Alerts
from app.services.maintenance.retention import RefreshRetention, Retention
from app.services.refreshing.forecasts import store
from tests.integration.world import WINDOW
from workers.tasks import upkeep


class App:
    """Keeps tasks by name; a Celery app would share them with all others of the process."""

    def __init__(self):
        self.tasks = {}

    def task(self, *, name):
        def keep(run):
            self.tasks[name] = run
            return run

        return keep


def task_of(world, foresee):
    app = App()
    retention = Retention(world.database, timedelta(days=90), utc_now)
    upkeep.register(
        app,
        world.database,
        None,
        retention,
        RefreshRetention(world.database, timedelta(days=90), utc_now),
        link=lambda: 0,
        foresee=foresee,
        window=WINDOW,
        audit_kept=None,
        alerts=Alerts(),
    )
    return app.tasks[PRUNE], retention


def test_the_task_stores_the_days_forecast_once(open_world):
    world = open_world(base_url="http://127.0.0.1:1")
    prune, _ = task_of(world, partial(store, world.database, world.policy, {}, clock=utc_now))
    before = utc_now().date()
    prune()
    prune()
    with world.database.read() as session:
        stored = session.scalar(select(func.count()).select_from(RefreshForecast))
    assert stored == 1 + (utc_now().date() - before).days


def test_a_forecast_that_fails_stops_nothing_else(open_world):
    def fails():
        raise RuntimeError("it took too long")

    prune, retention = task_of(open_world(base_url="http://127.0.0.1:1"), fails)
    with pytest.raises(RuntimeError):
        prune()
    assert retention._began_at is not None  # what is old was searched for
