"""Checks of destinations that fail or are disabled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db.read import destination_troubles
from app.db.read.destination_troubles import Trouble
from app.db.read.figures import AT_MOST
from app.domain.status import Check, CheckKind, Level, red_if
from app.services.delivery.results import GONE
from app.services.status.wording import bounded, first_line, moment


@dataclass(frozen=True, slots=True)
class Troubles:
    """named: with their jobs. more: further destinations that fail or are disabled."""

    named: Sequence[Trouble]
    more: int


def read(session: Session) -> Troubles:
    """Read them: the tables of destinations are small, and their jobs are counted by an index."""
    return Troubles(*destination_troubles.troubled(session))


def checks(found: Troubles) -> Iterator[Check]:
    """Judge them. Disabled by a person without jobs that wait for it, a destination is a hint."""
    total = len(found.named) + found.more
    cause = "more destinations fail or are disabled than are named" if found.more else ""
    yield Check(CheckKind.DESTINATIONS, red_if(found.more), total, cause, "waylink destinations" if found.more else "")
    share = AT_MOST // max(1, len(found.named))
    for one in found.named:
        yield _disabled(one, share) if one.disabled_at is not None else _failing(one, share)


def _failing(one: Trouble, share: int) -> Check:
    name, since = f"{one.team}/{one.destination}", moment(one.failing_since) if one.failing_since else "a while"
    cause = f"it fails since {since}, {_jobs(one, share)}: {first_line(one.last_error) or 'no error is known'}"
    repair = f"waylink destinations check {name}"
    return Check(CheckKind.DESTINATION_FAILING, Level.RED, bounded(one.parked, share), cause, repair, subject=name)


def _disabled(one: Trouble, share: int) -> Check:
    name, since = f"{one.team}/{one.destination}", moment(one.disabled_at) if one.disabled_at else "a while"
    reason = first_line(one.disabled_reason) or "no reason is known"
    by_person = one.disabled_reason != GONE and not one.parked
    cause = f"it is disabled since {since}, {_jobs(one, share)}: {reason}"
    level, repair = Level.HINT if by_person else Level.RED, f"waylink destinations enable {name}"
    return Check(CheckKind.DESTINATION_DISABLED, level, bounded(one.parked, share), cause, repair, subject=name)


def _jobs(one: Trouble, share: int) -> str:
    count = bounded(one.parked, share)
    return f"{count} {'job waits' if count == 1 else 'jobs wait'}"
