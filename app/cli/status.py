"""`waylink status`: what needs an operator, from database and brokers alone, whether web runs or not."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Final

import click
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.brokers.celery_broker import EVENTS_QUEUE, IO_QUEUE, Broker
from app.cli.options import AS_JSON
from app.cli.orphaned_definitions import orphans
from app.cli.output import print_rows
from app.cli.status_checks import Check, bounded, due, shown_time
from app.cli.status_refreshes import refresh_checks
from app.clock import utc_now
from app.config.loading import Diagnosis, diagnose, usable
from app.config.nango_environment import Environment, Environments, key_name
from app.config.settings import Settings
from app.config.settings_groups import BrokerSettings, DatabaseSettings
from app.db import key_uses, reconciliations, rejections
from app.db.engine import connect
from app.db.models import Rejection, SigningKeyUse
from app.db.read import figures
from app.db.reconciliations import Run
from app.db.schema_version import require_current, takes_writes
from app.deadlines import EDIT_LEASE, EVENT_LEASE
from app.domain import nango_breaker
from app.domain.nango_breaker import Breaker
from app.domain.reconciling import RunOutcome
from app.errors import BrokerUnavailable, DatabaseNotMigrated
from app.outage_causes import of_database
from app.runtime.wiring import budget_of

OVERDUE: Final = timedelta(seconds=60)  # due work that no worker took for so long
RECENT: Final = timedelta(hours=24)  # of failed events and discarded jobs
PERIODS: Final = 3  # of reconciling, without a run that completed
HOUR: Final = timedelta(hours=1)  # of rejections
NOT_STORED: Final = {
    "overload",
    "database_away",
    "fault",
}  # causes of rejections of valid webhooks, which are not in the database
NEWS: Final = timedelta(minutes=2)  # of webhooks that could not be stored
BREAKER_OPEN: Final = timedelta(seconds=60)  # how long Nango's breaker stays open (Nango contract: Circuit breaker)


@click.command()
@AS_JSON
def status(*, as_json: bool) -> None:
    """Show how Waylink is doing. Exit 1 if anything needs a person."""
    found = diagnose()
    checks = [Check("configuration", False, fault.where, fault.what) for fault in found.problems]
    if usable(DatabaseSettings):
        checks += _database_checks(found, utc_now())
    if usable(BrokerSettings):
        checks += [*_broker_checks(found.settings), *_budget_checks(found.settings)]
    rows = [{"check": one.check, "ok": one.ok, "value": one.value, "detail": one.detail} for one in checks]
    print_rows(rows, ("check", "ok", "value", "detail"), as_json=as_json)
    sys.exit(0 if all(check.ok for check in checks) else 1)


def _broker_checks(settings: Settings) -> Iterator[Check]:
    for name, url, queues in (
        ("internal", settings.broker, (EVENTS_QUEUE, IO_QUEUE)),
        ("team", settings.team_broker, ()),
    ):
        with closing(Broker.at(name, url)) as broker:
            try:
                broker.ping()
                lengths = {queue: broker.queue_length(queue) for queue in queues}
            except BrokerUnavailable as away:
                yield Check(f"{name} broker", False, "away", str(away))
                continue
        yield Check(f"{name} broker", True, "answers")
        for queue, length in lengths.items():
            yield Check(f"queue {queue}", True, length, "messages")


def _database_checks(found: Diagnosis, now: datetime) -> list[Check]:
    settings = found.settings
    with closing(connect(settings.database)) as database:
        kind = database.engine.dialect.name
        try:
            require_current(database)
            with database.read() as session:
                return [
                    _database_check(kind, writable=takes_writes(session)),
                    *_event_checks(session, now),
                    *_job_checks(session, now),
                    _reconnect_check(session),
                    *refresh_checks(session, settings, now),
                    *_sender_checks(session, settings.environments, now),
                    *_environment_checks(session, settings.environments, complete=not found.problems),
                    *_reconcile_checks(session, settings, now),
                    _audit_check(session, now),
                    *(_file_checks(session, settings) if found.file_read else ()),
                ]
        except DatabaseNotMigrated as behind:
            return [Check("database", False, "newer" if behind.newer else "not migrated", str(behind))]
        except SQLAlchemyError as away:
            return [Check("database", False, "away", f"{kind} does not answer: {of_database(away)}")]


def _database_check(kind: str, *, writable: bool) -> Check:
    if writable:
        return Check("database", True, "answers", kind)
    return Check("database", False, "read-only", f"{kind} takes no writes: webhooks are not stored, no work is done")


def _budget_checks(settings: Settings) -> Iterator[Check]:
    accounts = {environment.account for environment in settings.environments.values() if environment.has_api}
    with closing(budget_of(settings)) as budget:
        for account in sorted(accounts):
            if (bucket := budget.bucket(account)) is not None:
                words = f"of {bucket.limit} calls to Nango this minute, {bucket.background} by background work"
                yield Check(f"budget {account}", True, bucket.used, words)


def _event_checks(session: Session, now: datetime) -> Iterator[Check]:
    found = figures.events(session, now=now, since=now - RECENT)
    late = now - found.oldest_due if found.oldest_due else timedelta(0)
    yield Check("events waiting", late <= OVERDUE, bounded(found.waiting), due(found.oldest_due, now))
    # Running workers hold leases. A killed worker's leases last until they end.
    stands_still = late > EVENT_LEASE and not found.leased
    hint = "due events lie still: does `waylink worker events` run, and does Beat?" if stands_still else ""
    working = "stands still" if stands_still else "working" if found.leased else "nothing to do"
    yield Check("events worker", not stands_still, working, hint)
    yield Check("events failed", True, bounded(found.failed), "of those received in the last 24 h")


def _job_checks(session: Session, now: datetime) -> Iterator[Check]:
    found = figures.jobs(session, now=now, since=now - RECENT)
    late = now - found.oldest_due if found.oldest_due else timedelta(0)
    capped = sum(found.unfinished.values()) > figures.AT_MOST
    for state in ("available", "running", "retryable"):
        count = found.unfinished.get(state, 0)
        detail = due(found.oldest_due, now) if state == "available" else ""
        yield Check(f"jobs {state}", state != "available" or late <= OVERDUE, f"{count}+" if capped else count, detail)
    for reason, count in sorted(found.parked.items()):
        yield Check(f"jobs parked: {reason}", True, bounded(count), "they wait, and no attempt is counted")
    yield Check("jobs discarded", True, bounded(found.discarded), "of those made in the last 24 h")


def _reconnect_check(session: Session) -> Check:
    found = figures.needing_reconnect(session)
    hint = "their end users have to connect again: see `waylink connections --needs-reconnect`" if found else ""
    return Check("connections needing reconnect", True, bounded(found), hint)


def _sender_checks(session: Session, environments: Environments, now: datetime) -> Iterator[Check]:
    hour = rejections.newest(session, since=rejections.minute_of(now - HOUR))
    lost = [row for row in hour if row.cause in NOT_STORED and row.last_at >= now - NEWS]
    words = "webhooks of the last minutes that could not be stored, whatever their sender did then" if lost else ""
    yield Check("storing", not lost, sum(row.count for row in lost), words)
    for name in environments:
        peak = _peak([row for row in hour if row.environment == name and row.last_at >= now - BREAKER_OPEN])
        state = nango_breaker.breaker_state(peak)
        words = f"{peak} refusals within ten seconds of the last minute; Nango opens it at {nango_breaker.OPENS_AT}"
        yield Check(f"breaker {name}", state is Breaker.CLOSED, state, "" if state is Breaker.CLOSED else words)
    counts: Counter[str] = Counter()
    where: dict[str, Counter[str]] = defaultdict(Counter)
    for row in hour:
        counts[row.cause] += row.count
        where[row.cause][row.environment or "(unknown)"] += row.count
    yield Check("rejections", True, counts.total(), "in the last hour")
    for cause, count in sorted(counts.items()):
        yield Check(f"rejections {cause}", True, count, ", ".join(f"{name} {n}" for name, n in where[cause].items()))


def _peak(rows: Sequence[Rejection]) -> int:
    """The most refusals within ten seconds that Nango's breaker may have counted: all causes of a minute together."""
    minutes: Counter[datetime] = Counter()
    for row in rows:
        if nango_breaker.counts(row.environment, row.cause):
            minutes[row.minute] += row.peak
    return max(minutes.values(), default=0)


def _environment_checks(session: Session, environments: Environments, *, complete: bool) -> Iterator[Check]:
    """Check each environment. complete: none is missing for a fault of the settings, so unlisted keys are retired."""
    uses = {(use.environment, use.key): use for use in key_uses.all_uses(session)}
    for name, environment in environments.items():
        yield Check(f"environment {name}", True, _mode(environment), environment.base_url)
        for position, key in enumerate(environment.signing_keys.live(), start=1):
            use = uses.pop((name, key_name(key)), None)
            yield Check(f"key {name} {position}", True, key_name(key), _usage(use))
    for use in uses.values() if complete else ():
        yield Check(f"retired key {use.environment} {use.key}", True, use.key, f"no longer live; {_usage(use)}")


def _reconcile_checks(session: Session, settings: Settings, now: datetime) -> Iterator[Check]:
    for name, environment in settings.environments.items():
        if environment.has_api and settings.reconcile_every:
            last, done = (reconciliations.last(session, name, completed=only) for only in (False, True))
            yield _reconcile_check(name, last, done, late=now - PERIODS * settings.reconcile_every)


def _reconcile_check(name: str, last: Run | None, done: Run | None, *, late: datetime) -> Check:
    what = f"reconcile {name}"
    if last is None:
        return Check(what, True, "never", "the first run begins when an io worker and Beat run")
    problem = last.problem or ""
    if last.outcome == RunOutcome.FAILED:
        return Check(what, False, "failed", problem)
    since = done.created_at if done else last.created_at
    words = f"last completed run began {shown_time(since)}" if done else f"the first run began {shown_time(since)}"
    return Check(what, since >= late, last.outcome or last.stage, f"{words}; {problem}" if problem else words)


def _audit_check(session: Session, now: datetime) -> Check:
    found = figures.actions_begun(session, since=now - RECENT, before=now - EDIT_LEASE)
    hint = "of the last 24 h: see `waylink audit --outcome begun`, and repeat what is missing" if found else ""
    return Check("acts without an end", True, bounded(found), hint)


def _file_checks(session: Session, settings: Settings) -> Iterator[Check]:
    if found := orphans(session, settings.file, settings.file_path):
        value = "has less than is in force" if settings.file_path else "is not there"
        yield Check("waylink.toml", True, value, str(found))


def _mode(environment: Environment) -> str:
    if environment.sandboxed:
        return "sandbox"
    return "everything on" if environment.has_api else "signing keys only"


def _usage(use: SigningKeyUse | None) -> str:
    if use is None:
        return "no web process has run with it yet"
    if use.last_at is None:
        return f"never used since {shown_time(use.first_at)}"
    return f"last used {shown_time(use.last_at)}, {use.count} webhooks since {shown_time(use.first_at)}"
