"""Celery apps of the workers and of Beat, one per process, with tasks that call the services."""

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from celery import Celery

from app.brokers.celery_broker import Broker, make_celery
from app.brokers.hints import Hints
from app.clock import utc_now
from app.config.refresh_tables import tables_of, written
from app.config.settings import Settings
from app.config.settings_groups import BeatSettings
from app.db.engine import connect
from app.db.schema_version import require_current
from app.deadlines import STATEMENT, assert_nested
from app.domain.liveness import ProcessKind, Work
from app.runtime.database_wait import wait_for_database
from app.runtime.wiring import clients_of, deliverer_of, directory_of, policy_of, reconciler_of, traces_of
from app.services.bulk_runs.connection_acts import ConnectionActs
from app.services.bulk_runs.runner import BulkRunner
from app.services.definitions.destination_alerts import Alerts
from app.services.delivery.loop import DeliveryLoop
from app.services.events.processor import Processor
from app.services.linking.requery import ask_again
from app.services.linking.waiting import link_waiting
from app.services.liveness.pulse import Pulse
from app.services.liveness.reporter import Reporter
from app.services.maintenance.retention import RefreshRetention, Retention
from app.services.metrics.figures import FigureRecorder
from app.services.metrics.reporting import CountsWriter
from app.services.refreshing.forecasts import store as store_forecasts
from app.services.refreshing.keeping import Keeper
from app.services.refreshing.planned import refresher_of
from app.services.refreshing.policy_changes import PolicyChanges
from app.services.refreshing.ticking import Ticker
from app.services.routing.cache import RouteCache
from workers.celery_consumer import CONSUMER, Consumer
from workers.outage_tolerance import PatientTask
from workers.schedule import beat_schedule
from workers.scheduler import SCHEDULER, PatientScheduler
from workers.tasks import bulk_runs, events, jobs, reconciliations, refreshes, upkeep

if TYPE_CHECKING:
    from app.traces.process import ProcessTraces

IO_THREADS: Final = 8
DELIVERIES: Final = "deliveries"  # the part of the process that the pulse knows the delivery loop by


class Worker(NamedTuple):
    """A worker process: its Celery app, the delivery loop, and its signs of life.

    In the kind `events` the loop sends the jobs that are made there for brokers that take them at once. In the kind
    `io` it delivers all others.
    """

    app: Celery
    deliveries: DeliveryLoop
    reporter: Reporter
    traces: "ProcessTraces | None" = None  # to be closed when its work has ended


def make_worker(settings: Settings, *, kind: str) -> Worker:
    """A worker process of the kind `events` or `io`, once the database answers. Raises DatabaseNotMigrated."""
    assert_nested()
    database = connect(settings.database, statement_seconds=STATEMENT.total_seconds())
    wait_for_database(lambda: require_current(database))
    policy, routes, clients = policy_of(settings), RouteCache(), clients_of(settings)
    hints, teams = Hints(Broker.at("internal", settings.broker)), Broker.at("teams", settings.team_broker)
    app = make_celery(settings.broker)
    app.conf.worker_enable_remote_control = settings.celery_monitoring
    is_io = kind == "io"
    pulse = Pulse(ProcessKind(kind), (CONSUMER, DELIVERIES), pool_size=IO_THREADS if is_io else None)
    app.task_cls = cast("Any", _answering(PatientTask, pulse))
    app.conf.worker_consumer = _answering(Consumer, pulse)
    directory, traces = directory_of(settings), traces_of(settings, kind)
    deliveries = DeliveryLoop(
        deliverer_of(settings, database, teams, over_http=is_io, traces=traces),
        claims=is_io,
        answered=partial(pulse.answered, DELIVERIES),
        delivered=partial(pulse.did, Work.DELIVERED),
    )
    spans = traces.events if traces is not None else None
    processor = Processor(database, policy, clients, utc_now, routes, directory, deliveries, spans)
    events.register(app, processor, hints, processed=partial(pulse.did, Work.PROCESSED))
    jobs.register(app, deliveries)
    refresher = refresher_of(database, policy, clients, utc_now, routes)
    refreshes.register(
        app,
        refresher,
        tick=Ticker(database, utc_now),
        keep=Keeper(database, policy, clients.limit_of, utc_now).keep,
        follow=PolicyChanges(database, policy, utc_now).follow,
        refreshed=partial(pulse.did, Work.REFRESHED),
    )
    reconciler, reconciled = reconciler_of(settings, database, clients), partial(pulse.did, Work.RECONCILED)
    reconciliations.register(app, reconciler, hints, reconciled=reconciled)
    acts = ConnectionActs(database, policy, clients, routes, utc_now)
    bulk_runs.register(app, BulkRunner(database, utc_now, routes, hints.of_jobs, hints.of_events, acts), hints)
    window = timedelta(seconds=settings.dedupe_window_seconds)
    link = (
        partial(ask_again, database, policy, routes, directory, clock=utc_now)
        if directory
        else partial(link_waiting, database, routes, policy, clock=utc_now)
    )
    history = Retention(database, settings.keep_events or None, utc_now)
    past_refreshes = RefreshRetention(database, settings.keep_refreshes or None, utc_now)
    kept = settings.keep_audit or None
    foresee = partial(store_forecasts, database, policy, written(tables_of(settings.file)), clock=utc_now)
    upkeep.register(
        app,
        database,
        hints,
        history,
        past_refreshes,
        link=link,
        foresee=foresee,
        window=window,
        audit_kept=kept,
        alerts=Alerts(),
        swept=partial(pulse.did, Work.SWEPT),
        pruned=partial(pulse.did, Work.PRUNED),
    )
    counts = CountsWriter(database, kind, utc_now)
    figures = FigureRecorder(database, utc_now)
    return Worker(app, deliveries, Reporter(database, pulse, [counts.write, figures.record]), traces)


def _answering(base: type[Any], pulse: Pulse) -> type[Any]:
    """A class of Celery's whose instances, which Celery makes, give this process's signs of life."""
    return type(base.__name__, (base,), {"pulse": pulse, "abstract": True})


class Beat(NamedTuple):
    """Beat: its Celery app, which only sends, and its signs of life."""

    app: Celery
    reporter: Reporter


def make_beat(settings: BeatSettings) -> Beat:
    """Beat, once the database answers. Raises DatabaseNotMigrated."""
    database = connect(settings.database, pool_size=1, statement_seconds=STATEMENT.total_seconds())
    wait_for_database(lambda: require_current(database))
    pulse = Pulse(ProcessKind.BEAT, (SCHEDULER,))
    app = make_celery(settings.broker)
    app.conf.beat_schedule = beat_schedule()
    app.conf.beat_scheduler = _answering(PatientScheduler, pulse)
    app.conf.task_publish_retry = False
    app.conf.beat_max_loop_interval = 1
    counts = CountsWriter(database, pulse.kind, utc_now)
    return Beat(app, Reporter(database, pulse, [counts.write]))
