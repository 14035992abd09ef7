"""The report: all facts read, and all checks made of them.

Opens one short transaction that only reads.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.read import canary as canary_rows
from app.db.read.canary import StageAge
from app.db.schema_version import require_current, takes_writes
from app.db.storing_troubles import lock_holders, lock_trouble, room_trouble, trouble_here
from app.domain.status import Check, CheckKind, Level
from app.errors import DatabaseNotMigrated
from app.outage_causes import DISK_FULL, LOCKED, READ_ONLY, of_database
from app.services.status import (
    brokers,
    bulk_runs,
    canary,
    destinations,
    environments,
    notifications,
    processes,
    reconciling,
    refreshes,
    unseen,
    upkeep,
    webhooks,
    work,
)
from app.services.status.bulk_runs import BulkRuns
from app.services.status.destinations import Troubles
from app.services.status.installation import Installation
from app.services.status.notifications import Notified
from app.services.status.processes import Processes
from app.services.status.reconciling import Runs
from app.services.status.refreshes import Refreshes
from app.services.status.unseen import Unseen
from app.services.status.upkeep import Upkeep
from app.services.status.webhooks import Webhooks
from app.services.status.wording import some
from app.services.status.work import Work

LOCK_SECONDS: Final = (
    2.0  # for SQLite's write lock, which its writers hold for less than 0.1 s, or PostgreSQL's of a table
)
LOOK_SECONDS: Final = 5.0  # for a statement, of which the slowest takes 0.2 s on large tables


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of the database at one moment."""

    dialect: str
    trouble: str  # that keeps it from storing, such as `read-only` or `disk full`; empty for none
    processes: Processes
    canary: Sequence[StageAge]
    work: Work
    unseen: Unseen
    bulk_runs: BulkRuns
    destinations: Troubles
    refreshes: Refreshes
    webhooks: Webhooks
    reconciling: dict[str, Runs]
    upkeep: Upkeep
    notified: Notified
    lock_holders: Sequence[int] = ()  # process ids of PostgreSQL's sessions that lock a table


def report(database: Database | None, installation: Installation, *, now: datetime) -> list[Check]:
    """All checks. database: None where its settings have faults, which are among the installation's problems."""
    found = [*configuration_checks(installation)]
    if database is not None:
        found += database_checks(database, installation, now=now)
    return [*found, *brokers.checks(installation)]


def database_checks(database: Database, installation: Installation, *, now: datetime) -> list[Check]:
    """Checks of what is in the database; one check where it cannot be read."""
    dialect, trouble = database.engine.dialect.name, ""
    try:
        require_current(database)
        trouble = trouble_here(database) or room_trouble(database) or lock_trouble(database, seconds=LOCK_SECONDS) or ""
        with database.read() as session:
            facts = read(session, installation, dialect=dialect, trouble=trouble, now=now)
    except DatabaseNotMigrated as behind:
        repair = "waylink check" if behind.newer else "waylink migrate"
        value = "newer" if behind.newer else "not migrated"
        return [Check(CheckKind.DATABASE, Level.RED, value, str(behind), repair)]
    except SQLAlchemyError as away:
        if trouble == LOCKED:  # also for those who read
            return [_database_check(dialect, trouble)]
        cause = f"{dialect} does not answer: {of_database(away)}"
        return [Check(CheckKind.DATABASE, Level.RED, "away", cause, "waylink check")]
    return list(checks(facts, installation, now=now))


def read(session: Session, installation: Installation, *, dialect: str, now: datetime, trouble: str = "") -> Facts:
    """Read all facts; each statement is bounded or answered by an index. trouble: of SQLite's file, found before."""
    return Facts(
        dialect=dialect,
        trouble=trouble or ("" if takes_writes(session) else READ_ONLY),
        processes=processes.read(session, now=now),
        canary=canary_rows.stages(session, now=now),
        work=work.read(session, now=now),
        unseen=unseen.read(session),
        bulk_runs=bulk_runs.read(session, now=now),
        destinations=destinations.read(session),
        refreshes=refreshes.read(session, installation, now=now),
        webhooks=webhooks.read(session, now=now),
        reconciling=reconciling.read(session, installation),
        upkeep=upkeep.read(session, installation, now=now),
        lock_holders=lock_holders(session) if trouble == LOCKED else (),
        notified=notifications.read(session),
    )


def checks(facts: Facts, installation: Installation, *, now: datetime) -> Iterator[Check]:
    """Judge the facts."""
    yield _database_check(facts.dialect, facts.trouble, facts.lock_holders)
    yield from processes.checks(facts.processes)
    yield from canary.checks(facts.canary, every=installation.canary_every)
    yield from work.checks(facts.work, now=now)
    yield from unseen.checks(facts.unseen)
    yield from bulk_runs.checks(facts.bulk_runs)
    yield from destinations.checks(facts.destinations)
    yield from refreshes.checks(facts.refreshes, now=now)
    passed = next((one.passed for one in facts.canary if one.stage == "stored"), None)
    stored_at = now - timedelta(seconds=passed) if passed is not None else None
    yield from webhooks.checks(facts.webhooks, installation, stored_at=stored_at, now=now)
    yield from environments.checks(installation)
    yield from reconciling.checks(facts.reconciling, installation, now=now)
    yield from upkeep.checks(facts.upkeep, now=now)
    yield from notifications.checks(facts.notified, installation.channels, now=now)


def configuration_checks(installation: Installation) -> Iterator[Check]:
    places: Counter[str] = Counter()
    for fault in installation.problems:
        place = fault.where.replace(" ", "")
        places[place] += 1
        subject = place if places[place] == 1 else f"{place}#{places[place]}"
        yield Check(CheckKind.CONFIGURATION, Level.RED, fault.where, fault.what, "waylink check", subject=subject)


def _database_check(dialect: str, trouble: str, holders: Sequence[int] = ()) -> Check:
    if not trouble:
        return Check(CheckKind.DATABASE, Level.OK, "answers", dialect)
    cause = f"{dialect} takes no writes: webhooks are not stored, no work is done"
    if trouble == DISK_FULL and dialect != "sqlite":
        cause = (
            f"the disk of {dialect}'s tables has no 4 MB left: a table that has to grow takes no rows. Make room there"
        )
    if trouble == LOCKED:
        what = "the write lock" if dialect == "sqlite" else "a table's lock"
        named = f" ({some([f'process {pid} of the server' for pid in holders])})" if holders else ""
        cause = f"another program holds {what} of {dialect}{named}: webhooks are not stored, no work is done"
    return Check(CheckKind.DATABASE, Level.RED, trouble, cause, "waylink check")
