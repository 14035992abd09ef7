"""Confirmation of an event by what Nango's API answers (promise 3).

A valid signature does not prove an auth event: forwarded provider bodies carry one too. And the API's list may lag
behind (Nango contract: Forwarded webhooks; List connections). So a disagreement changes nothing at first; the lookup is
repeated on a schedule, and what the API shows at its end holds.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from app.domain.event import EventType, Notice
from app.domain.linking import EndUser
from app.domain.values import value

LOOKUP_SCHEDULE: Final = (2.0, 5.0, 15.0, 60.0)  # seconds; only lookups that were answered are counted
NANGO_DOWN_WAIT: Final = 5.0  # seconds until the next try when Nango could not be asked
SHORTEST_WAIT: Final = 0.1  # seconds
UNASKED_LOOKUPS: Final = 2  # times that an event waits for a connection that Nango cannot be asked about
# No replica lags longer. A Nango that shows a lower id than was seen so long ago was set up anew, or restored.
LONGEST_LAG: Final = timedelta(minutes=5)
# For so long after an edit of Waylink's the list may show the earlier tags. Its replica's lag is not known; changes by
# others wait as long, which is for the second or third lookup.
EDIT_LAG: Final = timedelta(seconds=5)

FLOW_TYPES: Final = frozenset({EventType.CONNECTION_CREATED, EventType.CONNECTION_REAUTHORIZED})
LINKING_TYPES: Final = FLOW_TYPES | {EventType.CONNECTION_TAGS_CHANGED}
CONFIRMABLE_TYPES: Final = LINKING_TYPES | {
    EventType.CONNECTION_REFRESH_FAILED,
    EventType.CONNECTION_RECOVERED,
    EventType.CONNECTION_DELETED,
}
# The API cannot confirm these, but shows whether the connection that they name exists.
NAMING_TYPES: Final = frozenset({EventType.CONNECTION_CREATION_FAILED, EventType.CONNECTION_REAUTHORIZATION_FAILED})
ASKED_TYPES: Final = CONFIRMABLE_TYPES | NAMING_TYPES
# Events around a connection: they carry no tags or owner, and take those of the connection.
ABOUT_TYPES: Final = frozenset(
    {EventType.NANGO_SYNC, EventType.NANGO_FORWARD, EventType.NANGO_ASYNC_ACTION, EventType.NANGO_UNHANDLED}
)


@value
class Snapshot:
    """A connection as Nango's list showed it. observed_at: when the request was sent."""

    nango_id: int
    tags: Mapping[str, str]
    end_user: EndUser | None
    provider: str | None
    auth_failing: bool
    observed_at: datetime


@value
class Absent:
    """Nango answered and did not show the connection. again: nor did an answer a minute earlier."""

    observed_at: datetime
    again: bool = False


@value
class Unavailable:
    """Nango could not be asked. retry_after: in seconds, where Nango said so. refused: it never takes this request."""

    why: str
    retry_after: float | None = None
    refused: bool = False


@value
class NotAsked:
    """The environment has no API key, or the event is of a type that needs no lookup."""


LookupResult = Snapshot | Absent | Unavailable | NotAsked


@value
class Accept:
    """Apply the event. snapshot: what the API showed; None where there is only the body.

    note: shown with the event.
    """

    confirmed: bool
    snapshot: Snapshot | None = None
    tags_disagree: bool = False
    note: str | None = None


@value
class LookUpAgain:
    """Change nothing yet; repeat the lookup in `seconds`. counts: False where Nango did not answer.

    found: a connection, or a generation of it, that is not stored. It is created and linked first.
    """

    seconds: float
    why: str
    counts: bool
    found: Snapshot | None = None


@value
class Reject:
    """Nango did not show it to the schedule's end: `failed`, with `not_confirmed`. found: as of LookUpAgain."""

    why: str
    found: Snapshot | None = None


Verdict = Accept | LookUpAgain | Reject


@value
class KnownConnection:
    """A connection as it is stored.

    nango_id: its generation; None where only webhooks told of it.
    observed_at: when Nango last showed it; None for one that the same batch creates.
    absences: lookups for a deletion in a row that did not find it.
    failing: Nango could not renew its token.
    edit: its tags at Nango after Waylink's newest edit, within EDIT_LAG.
    """

    nango_id: int | None
    observed_at: datetime | None
    absences: int = 0
    deleted: bool = False
    failing: bool = False
    edit: Snapshot | None = None


def confirm(notice: Notice, result: LookupResult, *, lookups: int, known: KnownConnection | None) -> Verdict:
    """Decide what to do about an event. lookups: its answered ones before this one.

    known: None for a connection that is not stored.
    """
    if notice.type in ABOUT_TYPES:
        return _confirm_about(notice, result, lookups=lookups, known=known)
    if notice.type in NAMING_TYPES:
        return _confirm_naming(result, lookups=lookups, known=known)
    if isinstance(result, NotAsked):
        return Accept(confirmed=False)
    if isinstance(result, Unavailable):
        return _not_answered(result)
    if notice.type is EventType.CONNECTION_DELETED:
        return _confirm_deletion(result, lookups=lookups, known=known)
    if isinstance(result, Absent):
        return _retry(lookups, "Nango's list does not show the connection")
    if known is not None and is_previous(result, nango_id=known.nango_id, observed_at=known.observed_at):
        return _retry(lookups, "Nango's list still shows the connection's previous generation")
    is_new = _not_stored(result, known) is not None
    if notice.type not in LINKING_TYPES and is_new and lookups < len(LOOKUP_SCHEDULE):
        return _wait_for_creation(lookups, found=result)
    accepted = Accept(confirmed=True, snapshot=result)
    if notice.type is EventType.CONNECTION_REFRESH_FAILED:
        return accepted if result.auth_failing else _retry(lookups, "Nango shows no auth error")
    if notice.type is EventType.CONNECTION_RECOVERED:
        return _retry(lookups, "Nango still shows an auth error") if result.auth_failing else accepted
    return _confirm_flow(notice, result, lookups=lookups, known=known)


def is_previous(snapshot: Snapshot, *, nango_id: int | None, observed_at: datetime | None) -> bool:
    """Whether a lagging list shows a generation before the stored one (`nango_id`, seen at `observed_at`).

    Nango's ids grow, so a lower one is older, unless Nango itself was set up anew under the same connection ids.
    """
    if nango_id is None or snapshot.nango_id >= nango_id:
        return False
    return observed_at is None or snapshot.observed_at - observed_at < LONGEST_LAG


def _confirm_flow(notice: Notice, snapshot: Snapshot, *, lookups: int, known: KnownConnection | None) -> Verdict:
    """Different tags, and an error that a finished flow should have ended, may come from a lagging list."""
    is_flow = notice.type is not EventType.CONNECTION_TAGS_CHANGED  # whose tags are those of an earlier lookup
    disagree = is_flow and notice.tags is not None and dict(notice.tags) != dict(snapshot.tags)
    same = known is not None and known.nango_id == snapshot.nango_id  # a new generation's error is its own
    broken = is_flow and known is not None and snapshot.auth_failing and (known.failing or same)
    edited = known is not None and known.edit is not None and _may_precede(snapshot, known.edit)
    doubts = (
        (edited, "may not show yet what Waylink wrote"),
        (disagree, "and the webhook carry different tags"),
        (broken, "still shows an auth error"),
    )
    doubt = next((what for doubted, what in doubts if doubted), None)
    if doubt is not None and lookups < len(LOOKUP_SCHEDULE):
        return LookUpAgain(LOOKUP_SCHEDULE[lookups], f"Nango's list {doubt}", counts=True)
    return Accept(confirmed=True, snapshot=snapshot, tags_disagree=disagree)


def _may_precede(snapshot: Snapshot, edit: Snapshot) -> bool:
    """Whether the snapshot may show the tags of before an edit. What others wrote since, later lookups show too."""
    since = snapshot.observed_at - edit.observed_at
    is_other = snapshot.nango_id == edit.nango_id and dict(snapshot.tags) != dict(edit.tags)
    return is_other and timedelta(0) <= since < EDIT_LAG


def _confirm_deletion(result: Snapshot | Absent, *, lookups: int, known: KnownConnection | None) -> Verdict:
    if isinstance(result, Snapshot):
        # Stored or not, since this batch may be creating it. A lagging list shows what is gone; what it shows to the
        # schedule's end is there.
        verdict = _retry(lookups, "Nango's list still shows the connection")
        return replace(verdict, found=_not_stored(result, known)) if isinstance(verdict, Reject) else verdict
    if known is None:
        return Accept(confirmed=False)  # never stored: there is nothing to undo
    if known.deleted:
        return Accept(confirmed=True)
    if known.observed_at is not None and result.observed_at < known.observed_at:
        return _retry(lookups, "the connection was seen after it was missed")
    if result.again or known.absences >= 1:
        return Accept(confirmed=True)
    return LookUpAgain(LOOKUP_SCHEDULE[0], "not in Nango's list once; looked at again", counts=True)


def _confirm_about(notice: Notice, result: LookupResult, *, lookups: int, known: KnownConnection | None) -> Verdict:
    """Wait for its connection, whose creation may come later (Nango contract: Order and duplicates).

    The tags of a deleted connection or of an older generation may be another customer's: they are used only where
    Nango shows nothing newer.
    """
    recorded, newer = _recorded(known), _not_stored(result, known)
    if notice.key is None or (recorded is not None and not recorded.deleted and newer is None):
        return Accept(confirmed=False)
    if isinstance(result, Unavailable) and not result.refused:
        return _not_answered(result)
    gone = recorded is not None and isinstance(result, Absent)
    if gone or lookups >= (UNASKED_LOOKUPS if isinstance(result, NotAsked) else len(LOOKUP_SCHEDULE)):
        note = "no creation of its connection came" if recorded is None else "its connection was deleted before"
        return Accept(confirmed=False, note=note)
    return _wait_for_creation(lookups, found=newer)


def _confirm_naming(result: LookupResult, *, lookups: int, known: KnownConnection | None) -> Verdict:
    """Accept it unconfirmed, once its connection is stored or does not exist."""
    recorded, newer = _recorded(known), _not_stored(result, known)
    if isinstance(result, Unavailable) and not result.refused and (recorded is None or recorded.deleted):
        return _not_answered(result)
    if newer is not None and lookups < len(LOOKUP_SCHEDULE):
        return _wait_for_creation(lookups, found=newer)
    return Accept(confirmed=False)


def _recorded(known: KnownConnection | None) -> KnownConnection | None:
    """The connection as it was stored before this batch; None for a new one."""
    return known if known is not None and known.observed_at is not None else None


def _not_stored(result: LookupResult, known: KnownConnection | None) -> Snapshot | None:
    """The snapshot, if it is of a connection or generation that is not stored."""
    recorded = _recorded(known)
    if not isinstance(result, Snapshot):
        return None
    return result if recorded is None or result.nango_id > (recorded.nango_id or 0) else None


def _wait_for_creation(lookups: int, *, found: Snapshot | None) -> LookUpAgain:
    return LookUpAgain(LOOKUP_SCHEDULE[lookups], "waits for its connection's creation", counts=True, found=found)


def _not_answered(result: Unavailable) -> LookUpAgain:
    wait = NANGO_DOWN_WAIT if result.retry_after is None else max(result.retry_after, SHORTEST_WAIT)
    return LookUpAgain(wait, result.why, counts=False)


def _retry(lookups: int, why: str) -> Verdict:
    if lookups < len(LOOKUP_SCHEDULE):
        return LookUpAgain(LOOKUP_SCHEDULE[lookups], why, counts=True)
    return Reject(why)
