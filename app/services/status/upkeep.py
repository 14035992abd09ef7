"""Checks of retention, of what is stored encrypted, of the audit and of waylink.toml."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db import ticks
from app.db.read import figures
from app.deadlines import EDIT_LEASE
from app.domain.status import Check, CheckKind, Level, hint_if
from app.errors import ConfigurationError
from app.services.definitions import resealing
from app.services.definitions.orphans import Orphans, orphans
from app.services.status.installation import Installation
from app.services.status.wording import bounded, moment, some

RECENT: Final = timedelta(hours=24)  # of acts that did not end
BEHIND: Final = timedelta(hours=6)  # since deletion came to its end last
UNTOLD: Final = timedelta(days=1)  # beyond its time, of the oldest event, where deletion never came to its end


@dataclass(frozen=True, slots=True)
class Retained:
    """Rows that are deleted after a time. ended_at: when deletion last left nothing to delete. oldest_at: of the rows,
    where that is known.
    """

    keep: timedelta | None
    ended_at: datetime | None
    oldest_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Upkeep:
    """retained: by what is kept. unreadable: the purposes of encrypted values that no key opens, or why none can be
    opened. left: what waylink.toml lacks; None where it is not known.
    """

    retained: Mapping[str, Retained]
    unreadable: Sequence[str]
    no_key: str
    acts: int
    left: Orphans | None


def read(session: Session, installation: Installation, *, now: datetime) -> Upkeep:
    """Read them: small tables, and the first row of an index."""
    unreadable, no_key = _unreadable(session, installation)
    file = installation.file
    return Upkeep(
        retained={
            "events": Retained(
                installation.keep_events, ticks.last(session, ticks.EVENTS_PRUNED), figures.oldest_event(session)
            ),
            "refreshes": Retained(installation.keep_refreshes, ticks.last(session, ticks.REFRESHES_PRUNED)),
        },
        unreadable=unreadable,
        no_key=no_key,
        acts=figures.actions_begun(session, since=now - RECENT, before=now - EDIT_LEASE),
        left=orphans(session, file.names, file.path) if file is not None else None,
    )


def checks(found: Upkeep, *, now: datetime) -> Iterator[Check]:
    """Judge them."""
    for what, kept in found.retained.items():
        yield _retention_check(what, kept, now)
    yield _secrets_check(found)
    repair = "waylink audit --outcome begun" if found.acts else ""
    cause = "begun within 24 hours and not ended: repeat what is missing" if found.acts else ""
    yield Check(CheckKind.ACTS, hint_if(found.acts), bounded(found.acts), cause, repair)
    if found.left:
        value = "has less than is in force" if found.left.path else "is not there"
        yield Check(CheckKind.LEFT_FILE, Level.HINT, value, found.left.described(), "waylink routes plan")


def _unreadable(session: Session, installation: Installation) -> tuple[Sequence[str], str]:
    if installation.sealer is None:
        return (), ""
    try:
        return resealing.unreadable(session, installation.sealer), ""
    except ConfigurationError as missing:
        return (), str(missing)


def _secrets_check(found: Upkeep) -> Check:
    if found.no_key:
        return Check(CheckKind.SECRETS, Level.RED, "no key", found.no_key, "waylink secrets")
    if not found.unreadable:
        return Check(CheckKind.SECRETS, Level.OK, "readable")
    cause = f"WAYLINK_SECRET_KEY does not open the {some(list(found.unreadable))}"
    return Check(CheckKind.SECRETS, Level.RED, len(found.unreadable), cause, "waylink secrets")


def _retention_check(what: str, kept: Retained, now: datetime) -> Check:
    if kept.keep is None:
        return Check(CheckKind.RETENTION, Level.OK, "kept for ever", subject=what)
    if kept.ended_at is not None:
        since = f"all that was due was deleted {moment(kept.ended_at)}"
        if now - kept.ended_at <= BEHIND:
            return Check(CheckKind.RETENTION, Level.OK, "up to date", since, subject=what)
        cause = f"{since}, and not since: no io worker runs, or it cannot keep up"
        return Check(CheckKind.RETENTION, Level.RED, "behind", cause, "waylink worker io", subject=what)
    if kept.oldest_at is not None and kept.oldest_at < now - kept.keep - UNTOLD:
        cause = f"the oldest are of {moment(kept.oldest_at)}, and none was deleted yet"
        return Check(CheckKind.RETENTION, Level.RED, "behind", cause, "waylink worker io", subject=what)
    return Check(CheckKind.RETENTION, Level.OK, "nothing to delete yet", subject=what)
