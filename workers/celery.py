"""The worker side: a Celery app with our tasks, and what they need, made once per process."""

from dataclasses import dataclass
from datetime import timedelta

from celery import Celery

from app.broker import Broker, make_celery
from app.clock import utc_now
from app.db.engine import Database, connect
from app.db.schema import require_current
from app.deadlines import assert_nested
from app.services.confirming import NangoClients
from app.services.delivery import Deliverer
from app.services.processing import Processor, RouteCache
from app.services.refreshing import Refresher
from app.settings import Settings
from app.wiring import policy_of
from workers.schedule import beat_schedule
from workers.tasks import events, jobs, refreshes, upkeep


@dataclass(frozen=True, slots=True)
class Runtime:
    """One process's connections and services."""

    database: Database
    internal: Broker
    processor: Processor
    deliverer: Deliverer
    refresher: Refresher
    dedupe_window: timedelta


def make_runtime(settings: Settings) -> Runtime:
    """Open what the tasks need. Raises DatabaseNotMigrated."""
    assert_nested()
    database = connect(settings.database)
    require_current(database)
    policy = policy_of(settings)
    clients = NangoClients(settings.environments)
    routes = RouteCache()
    return Runtime(
        database=database,
        internal=Broker.at("internal", settings.broker),
        processor=Processor(database, policy, clients, utc_now, routes),
        deliverer=Deliverer(database, Broker.at("teams", settings.team_broker), utc_now),
        refresher=Refresher(database, policy, clients, utc_now, routes),
        dedupe_window=timedelta(seconds=settings.dedupe_window_seconds),
    )


def make_worker(settings: Settings) -> Celery:
    """The Celery app of a worker process, with its tasks bound to this process's runtime."""
    app = make_celery(settings.broker)
    runtime = make_runtime(settings)
    events.register(app, runtime.processor, runtime.internal)
    jobs.register(app, runtime.deliverer)
    refreshes.register(app, runtime.refresher)
    upkeep.register(app, runtime.database, runtime.internal, window=runtime.dedupe_window)
    return app


def make_beat(settings: Settings) -> Celery:
    """The Celery app of Beat: it only sends."""
    app = make_celery(settings.broker)
    app.conf.beat_schedule = beat_schedule()
    # Every entry is idempotent and short-spaced: there is no state worth a file.
    app.conf.beat_scheduler = "celery.beat:Scheduler"
    app.conf.beat_max_loop_interval = 1
    return app
