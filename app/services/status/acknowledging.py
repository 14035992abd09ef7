"""Acknowledge dead letters and failed events, so that what is red in the status is new.

Nothing of the rows themselves is changed. Opens short transactions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db import acknowledgements as rows
from app.db import audit, destinations
from app.db import events as event_rows
from app.db import job_actions as job_rows
from app.db.acknowledgements import SINGLE_AT_MOST, Acknowledged
from app.db.engine import Database
from app.db.read import unseen
from app.db.read.figures import AT_MOST
from app.domain.acknowledging import AckKind, AckScope
from app.domain.states import EventState, JobState
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import EVENT, JOB, parse, show
from app.qualified_names import split_target

LONGEST_NOTE: Final = 500  # characters
LISTED: Final = 10_000
_NOUNS: Final[Mapping[AckKind, str]] = {AckKind.JOBS: "dead letter", AckKind.EVENTS: "failed event"}


@dataclass(frozen=True, slots=True)
class Preview:
    """The rows that an acknowledgement would mean.

    count: rows that are not acknowledged yet. capped: there are more than were counted. until: the end of the newest
    of them; what ends later is new. None: there is none.
    """

    scope: AckScope
    count: int
    capped: bool
    until: datetime | None

    def described(self) -> str:
        """The rows in words, such as `12 dead letters of crm/jobs`."""
        count = f"{self.count}+" if self.capped else str(self.count)
        noun = _NOUNS[self.scope.kind] + ("" if count == "1" else "s")
        return f"{count} {noun}{f' of {self.scope.subject}' if '/' in self.scope.subject else ''}"


def preview(session: Session, scope: AckScope, *, now: datetime) -> Preview:
    """Count what the scope means. Raises InvalidInput, NotFound, and Conflict for a row that needs no look."""
    if scope.is_everything or "/" in scope.subject:
        return _of_jobs(session, scope, now) if scope.kind is AckKind.JOBS else _of_events(session, scope)
    until, is_new = _single(session, scope)
    if is_new and rows.count_single(session, scope.kind) >= SINGLE_AT_MOST:
        raise Conflict(f"{SINGLE_AT_MOST} single {scope.kind} are acknowledged: acknowledge more at once")
    return Preview(scope, int(is_new), capped=False, until=until)


def acknowledge(
    database: Database, found: Preview, *, note: str | None, actor: str, now: datetime, expected: int | None = None
) -> int:
    """Write the acknowledgement. Returns how many rows it means; 0 where there is nothing new, which writes nothing.

    expected: the count of an earlier preview; Conflict where it means more by now. Raises InvalidInput for the note.
    """
    note = _checked(note)
    if expected is not None and found.count > expected:
        raise Conflict(f"{found.described()} by now, and not {expected}: look again", found={"count": found.count})
    if not found.count or found.until is None:
        return 0
    with database.write() as session:
        rows.write(session, Acknowledged(found.scope, found.until, now, actor, note))
        detail = {"count": found.count, "capped": found.capped, "until": found.until.isoformat(), "note": note}
        subject = found.scope.subject or str(found.scope.kind)
        action = f"{found.scope.kind}.acknowledged"
        audit.record(session, actor=actor, action=action, subject=subject, now=now, detail=detail)
    return found.count


def listed(session: Session, *, limit: int = LISTED) -> list[dict[str, Any]]:
    """Acknowledgements in force, newest first."""
    return [
        {
            "kind": str(one.scope.kind),
            "subject": one.scope.subject or None,
            "until": one.until.isoformat(),
            "at": one.at.isoformat(),
            "actor": one.actor,
            "note": one.note,
        }
        for one in rows.newest(session, limit=limit)
    ]


def scope_of_id(text: str, kind: AckKind) -> AckScope:
    """The scope of one row by its id. Raises InvalidInput."""
    prefix = JOB if kind is AckKind.JOBS else EVENT
    return AckScope(kind, show(prefix, parse(prefix, text)))


def scope_of_destination(text: str) -> AckScope:
    """The dead letters of a destination, `TEAM/NAME`. Raises InvalidInput."""
    return AckScope(AckKind.JOBS, "/".join(split_target("destination", text)))


def _of_jobs(session: Session, scope: AckScope, now: datetime) -> Preview:
    team, _, name = scope.subject.partition("/")
    if name and destinations.get(session, team=team, destination=name) is None:
        raise NotFound("destination", scope.subject)
    letters, more = unseen.dead_letters(session, team=team or None, destination=name or None)
    count = sum(one.count for one in letters)
    newest = now if more else max((one.newest for one in letters), default=None)
    capped = more > 0 or any(one.count > AT_MOST // len(letters) for one in letters)
    return Preview(scope, count, capped, newest)


def _of_events(session: Session, scope: AckScope) -> Preview:
    found = unseen.failed_events(session)
    if found is None:
        return Preview(scope, 0, capped=False, until=None)
    return Preview(scope, found.count, found.count > AT_MOST, found.newest)


def _single(session: Session, scope: AckScope) -> tuple[datetime, bool]:
    """The time at which the row ended, and whether that is not acknowledged by its id yet."""
    if scope.kind is AckKind.JOBS:
        found = job_rows.get_many(session, [parse(JOB, scope.subject)])
        state, ended = (found[0].state, found[0].finished_at) if found else ("", None)
        wanted = str(JobState.DISCARDED)
    else:
        event = event_rows.get(session, parse(EVENT, scope.subject))
        state, ended = (event.state, event.processed_at) if event is not None else ("", None)
        wanted = str(EventState.FAILED)
    if not state:
        raise NotFound("job" if scope.kind is AckKind.JOBS else "event", scope.subject)
    if state != wanted or ended is None:
        raise Conflict(f"{scope.subject} is {state}: only what is {wanted} is acknowledged", found={"state": state})
    before = rows.until(session, scope)
    return ended, before is None or before < ended


def _checked(note: str | None) -> str | None:
    if note is not None and len(note) > LONGEST_NOTE:
        raise InvalidInput(f"the note has {len(note)} characters: at most {LONGEST_NOTE} are kept")
    return note
