"""Checks of `waylink status` on refreshes."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.cli.status_checks import Check, bounded, shown_time
from app.config.settings import Settings
from app.db import kept_alive
from app.db.read.figures import AT_MOST
from app.db.read.refresh_health import LateGroup
from app.runtime.wiring import policy_of
from app.services.refreshing.lateness import Lateness, lateness

SHOWN: Final = 3  # integrations that a detail names


def refresh_checks(session: Session, settings: Settings, now: datetime) -> Iterator[Check]:
    found = lateness(session, policy_of(settings), now=now)
    overdue = sum(group.count for group in found.overdue)
    late = f"{_named(found.overdue)}; see `waylink refreshes --state overdue`" if overdue else ""
    yield Check("refreshes overdue", not overdue, bounded(overdue), late)
    lapsed = sum(group.count for group in found.lapsed)
    expired = f"{_named(found.lapsed)}; see `waylink connections --status active --expires-before 0s`" if lapsed else ""
    yield Check("tokens lapsed", not lapsed, bounded(lapsed), expired)
    names = [f"{environment}/{integration}" for environment, integration in found.paused]
    held = f"{_some(names)}; see `waylink refreshes paused`" if names else ""
    yield Check("integrations paused", not names, len(names), held)
    fallen = kept_alive.alive(session, at_most=AT_MOST + 1)
    groups = [f"{key.environment}/{key.integration} {count}" for key, count in sorted(fallen.items(), key=str)]
    where = "see `waylink connections --kept-alive`"
    short = f"{_some(groups)}: the request budget does not keep all tokens fresh; {where}" if fallen else ""
    yield Check("connections kept alive only", not fallen, bounded(sum(fallen.values())), short)
    if any(environment.has_api for environment in settings.environments.values()):
        yield _scheduler_check(found, now)


def _scheduler_check(found: Lateness, now: datetime) -> Check:
    if found.tick is None:
        return Check("refresh scheduler", True, "never", "the first tick comes when an io worker and Beat run")
    since = f"last tick {shown_time(found.tick)}"
    if found.ticks(now=now):
        return Check("refresh scheduler", True, "ticks", since)
    return Check("refresh scheduler", False, "stands still", f"{since}: does `waylink worker io` run, and does Beat?")


def _named(groups: Sequence[LateGroup]) -> str:
    """The integrations with their counts, the first ones by name."""
    first = shown_time(min(group.since for group in groups))
    return f"{_some([f'{group.environment}/{group.integration} {group.count}' for group in groups])}, since {first}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
