"""Checks of dead letters and failed events that no operator has acknowledged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db.read import unseen
from app.db.read.figures import AT_MOST
from app.db.read.unseen import DeadLetters, FailedEvents
from app.domain.status import Check, CheckKind, Level
from app.services.status.wording import bounded, first_line, moment


@dataclass(frozen=True, slots=True)
class Unseen:
    """letters: by destination. more: further destinations with dead letters."""

    letters: Sequence[DeadLetters]
    more: int
    events: FailedEvents | None


def read(session: Session) -> Unseen:
    """Read them, each from an index."""
    letters, more = unseen.dead_letters(session)
    return Unseen(letters, more, unseen.failed_events(session))


def checks(found: Unseen) -> Iterator[Check]:
    """Judge them: everything new is red."""
    yield _events_check(found.events)
    if not found.letters:
        yield Check(CheckKind.JOBS_DISCARDED, Level.OK, 0)
    share = AT_MOST // max(1, len(found.letters))
    for one in found.letters:
        name = f"{one.team}/{one.destination}"
        cause = (
            f"given up since {moment(one.since)}; the last one: {first_line(one.problem) or 'no reason is known'}. "
            f"`waylink jobs retry --destination {name}` tries them again"
        )
        repair = f"waylink ack jobs --destination {name}"
        yield Check(CheckKind.JOBS_DISCARDED, Level.RED, bounded(one.count, share), cause, repair, subject=name)
    if found.more:
        cause = "more destinations have jobs that were given up; `waylink jobs summary` names them"
        yield Check(CheckKind.JOBS_DISCARDED, Level.RED, found.more, cause, "waylink ack jobs --all", subject="others")


def _events_check(found: FailedEvents | None) -> Check:
    if found is None:
        return Check(CheckKind.EVENTS_FAILED, Level.OK, 0)
    cause = (
        f"failed since {moment(found.since)}; the last one: {first_line(found.problem) or 'no reason is known'}. "
        "`waylink events --state failed` lists them"
    )
    return Check(CheckKind.EVENTS_FAILED, Level.RED, bounded(found.count), cause, "waylink ack events --all")
