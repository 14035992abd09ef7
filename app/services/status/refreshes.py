"""Checks of refreshes, tokens and grants."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db import kept_alive
from app.db.read import figures, refresh_dangers
from app.db.read.figures import AT_MOST
from app.db.read.refresh_dangers import LATE_AT_MOST, Danger
from app.db.read.refresh_health import LAPSED_AT_MOST, OVERDUE_AT_MOST, LateGroup
from app.domain.refreshing.keeping import GroupKey
from app.domain.refreshing.renewal import OVERDUE
from app.domain.status import Check, CheckKind, Level, hint_if, red_if
from app.services.refreshing.lateness import Lateness, lateness
from app.services.status.installation import Installation
from app.services.status.wording import bounded, moment, some

SOON: Final = timedelta(days=7)  # grants that end


@dataclass(frozen=True, slots=True)
class Refreshes:
    """late: overdue, lapsed and paused. dangers: what lapses before its turn. fallen: connections by group, kept alive
    for want of budget.
    """

    late: Lateness
    dangers: Sequence[Danger]
    fallen: dict[GroupKey, int]
    needing_reconnect: int
    grants_ending: int
    asks_nango: bool


def read(session: Session, installation: Installation, *, now: datetime) -> Refreshes:
    """Read them, each from an index."""
    return Refreshes(
        late=lateness(session, installation.policy, now=now),
        dangers=refresh_dangers.before_their_turn(session, now=now, leeway_seconds=OVERDUE.total_seconds()),
        fallen=kept_alive.alive(session, at_most=AT_MOST + 1),
        needing_reconnect=figures.needing_reconnect(session),
        grants_ending=refresh_dangers.grants_ending(session, now=now, until=now + SOON),
        asks_nango=installation.asks_nango,
    )


def checks(found: Refreshes, *, now: datetime) -> Iterator[Check]:
    """Judge them."""
    yield _late(CheckKind.REFRESHES_OVERDUE, found.late.overdue, "waylink refreshes --state overdue", OVERDUE_AT_MOST)
    lapsed = "waylink connections --status active --expires-before 0s"
    renew = "; `waylink refreshes run ID --force` renews one"
    yield _late(CheckKind.TOKENS_LAPSED, found.late.lapsed, lapsed, LAPSED_AT_MOST, more=renew)
    yield _danger_check(found.dangers)
    names = [f"{environment}/{integration}" for environment, integration in found.late.paused]
    cause = f"no token of {some(names)} is renewed" if names else ""
    repair = "waylink refreshes paused" if names else ""
    yield Check(CheckKind.INTEGRATIONS_PAUSED, red_if(names), len(names), cause, repair)
    yield _kept_alive_check(found.fallen)
    if found.asks_nango:
        yield _scheduler_check(found.late, now)
    yield from _for_end_users(found)


def _late(kind: CheckKind, groups: Sequence[LateGroup], repair: str, at_most: int, *, more: str = "") -> Check:
    if not groups:
        return Check(kind, Level.OK, 0)
    named = some([f"{group.environment}/{group.integration} {group.count}" for group in groups])
    cause = f"{named}, since {moment(min(group.since for group in groups))}{more}"
    return Check(kind, Level.RED, bounded(sum(group.count for group in groups), at_most), cause, repair)


def _danger_check(dangers: Sequence[Danger]) -> Check:
    if not dangers:
        return Check(CheckKind.REFRESHES_TOO_LATE, Level.OK, 0)
    named = some([f"{one.environment}/{one.integration} {one.count} ({one.keeps})" for one in dangers])
    cause = f"put off beyond the deadline, the first one {moment(dangers[0].since)}: {named}"
    count = bounded(sum(one.count for one in dangers), LATE_AT_MOST)
    return Check(CheckKind.REFRESHES_TOO_LATE, Level.RED, count, cause, "waylink refreshes forecast")


def _kept_alive_check(fallen: dict[GroupKey, int]) -> Check:
    count = bounded(sum(fallen.values()))
    if not fallen:
        return Check(CheckKind.KEPT_ALIVE, Level.OK, count)
    groups = [f"{key.environment}/{key.integration} {number}" for key, number in sorted(fallen.items(), key=str)]
    cause = f"{some(groups)}: the request budget does not keep all tokens fresh"
    return Check(CheckKind.KEPT_ALIVE, Level.RED, count, cause, "waylink connections --kept-alive")


def _scheduler_check(late: Lateness, now: datetime) -> Check:
    if late.tick is None:
        cause = "the first tick comes when an io worker and Beat run"
        return Check(CheckKind.REFRESH_SCHEDULER, Level.OK, "never", cause)
    since = f"last tick {moment(late.tick)}"
    if late.ticks(now=now):
        return Check(CheckKind.REFRESH_SCHEDULER, Level.OK, "ticks", since)
    cause = f"{since}: no io worker looks for due refreshes, or Beat does not run"
    return Check(CheckKind.REFRESH_SCHEDULER, Level.RED, "stands still", cause, "waylink worker io")


def _for_end_users(found: Refreshes) -> Iterator[Check]:
    for kind, count, cause, repair in (
        (
            CheckKind.NEEDING_RECONNECT,
            found.needing_reconnect,
            "their end users have to connect again",
            "waylink connections --needs-reconnect",
        ),
        (
            CheckKind.GRANTS_ENDING,
            found.grants_ending,
            f"within {SOON.days} days, and only their end users can give them again",
            f"waylink connections --status active --grant-before {SOON.days}d",
        ),
    ):
        yield Check(kind, hint_if(count), bounded(count), cause if count else "", repair if count else "")
