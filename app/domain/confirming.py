"""Is it true what the webhook says? Judged from what Nango's API answered (promise 3).

A valid signature does not prove an auth event: forwarded provider bodies carry one too. And the API's list may lag
behind (Nango contract: Forwarded webhooks; List connections). So a disagreement changes nothing yet; it is looked at
again on a schedule, then the API holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.domain.event import EventType, Notice
from app.domain.linking import EndUser

LOOK_AGAIN_AFTER: Final = (2.0, 5.0, 15.0, 60.0)  # seconds; successful look-ups only are counted
NANGO_DOWN_WAIT: Final = 5.0  # seconds until the next try when Nango could not be asked
SHORTEST_WAIT: Final = 0.1  # seconds
UNASKED_LOOKS: Final = 2  # how often a connection that nobody can ask about is waited for
# No replica lags longer. Whoever shows a lower id than we saw so long ago was set up anew, or restored from a backup.
LONGEST_LAG: Final = timedelta(minutes=5)
# So long after an edit of ours the list may show the tags of before. Nobody says how far its replica lags, and for as
# long others' changes wait: for the second or third look, not the last.
EDIT_LAG: Final = timedelta(seconds=5)

FLOW_TYPES: Final = frozenset({EventType.CONNECTION_CREATED, EventType.CONNECTION_REAUTHORIZED})
LINKING_TYPES: Final = FLOW_TYPES | {EventType.CONNECTION_TAGS_CHANGED}
CONFIRMABLE_TYPES: Final = LINKING_TYPES | {
    EventType.CONNECTION_REFRESH_FAILED,
    EventType.CONNECTION_RECOVERED,
    EventType.CONNECTION_DELETED,
}
# The API cannot tell whether these are true, but it shows whether the connection that they name is there.
NAMING_TYPES: Final = frozenset({EventType.CONNECTION_CREATION_FAILED, EventType.CONNECTION_REAUTHORIZATION_FAILED})
ASKED_TYPES: Final = CONFIRMABLE_TYPES | NAMING_TYPES
# What happened around a connection: it says nothing of tags and owner, and gets those of the connection.
ABOUT_TYPES: Final = frozenset(
    {EventType.NANGO_SYNC, EventType.NANGO_FORWARD, EventType.NANGO_ASYNC_ACTION, EventType.NANGO_UNHANDLED}
)


@dataclass(frozen=True, slots=True)
class View:
    """A connection as Nango's list showed it. `observed_at` is when the request was sent."""

    nango_id: int
    tags: Mapping[str, str]
    end_user: EndUser | None
    provider: str | None
    auth_failing: bool
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class Absent:
    """Nango answered and did not show the connection. `again`: neither did an earlier answer, a minute before."""

    observed_at: datetime
    again: bool = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nango could not be asked: nothing was learnt.

    refused: Nango does not take this question, now or later.
    """

    why: str
    retry_after: float | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class NotAsked:
    """The environment has no API key, or the event is of a kind the API cannot tell about."""


Look = View | Absent | Unavailable | NotAsked


@dataclass(frozen=True, slots=True)
class Accept:
    """Act on the event. `view` is what the API showed; None means the body is all there is.

    note: what people should know of it, although it is accepted.
    """

    confirmed: bool
    view: View | None = None
    tags_disagree: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Nothing changes yet. `counts` is False when nothing was learnt.

    found: a connection, or a generation of it, that is not known here. It is made and linked first.
    """

    seconds: float
    why: str
    counts: bool
    found: View | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """Looked at as often as the schedule says; Nango never showed it. `failed: not_confirmed`.

    found: as of LookAgain.
    """

    why: str
    found: View | None = None


Verdict = Accept | LookAgain | Reject


@dataclass(frozen=True, slots=True)
class Known:
    """What we know of a connection.

    nango_id: its generation; None where only webhooks told of it. observed_at: when it was last seen; None for one that
    this very batch is about to make.
    absences: successful looks for a deletion in a row that did not find it. failing: Nango could not renew its token.
    edit: what our newest edit of its tags left at Nango; None for none of the last moments.
    """

    nango_id: int | None
    observed_at: datetime | None
    absences: int = 0
    deleted: bool = False
    failing: bool = False
    edit: View | None = None


def settle(notice: Notice, look: Look, *, looks: int, known: Known | None) -> Verdict:
    """What to do about an event. `looks` counts its successful look-ups before this one.

    known: None for a connection that we do not have.
    """
    if notice.type in ABOUT_TYPES:
        return _settle_about(notice, look, looks=looks, known=known)
    if notice.type in NAMING_TYPES:
        return _settle_naming(look, looks=looks, known=known)
    if isinstance(look, NotAsked):
        return Accept(confirmed=False)
    if isinstance(look, Unavailable):
        return _not_learnt(look)
    if notice.type is EventType.CONNECTION_DELETED:
        return _settle_deletion(look, looks=looks, known=known)
    if isinstance(look, Absent):
        return _again(looks, "Nango's list does not show the connection")
    if known is not None and is_previous(look, nango_id=known.nango_id, observed_at=known.observed_at):
        return _again(looks, "Nango's list still shows the connection's previous generation")
    if notice.type not in LINKING_TYPES and looks < len(LOOK_AGAIN_AFTER) and _not_known(look, known) is not None:
        return _wait_for_creation(looks, found=look)
    if notice.type is EventType.CONNECTION_REFRESH_FAILED:
        return Accept(confirmed=True, view=look) if look.auth_failing else _again(looks, "Nango shows no auth error")
    if notice.type is EventType.CONNECTION_RECOVERED:
        return _again(looks, "Nango still shows an auth error") if look.auth_failing else Accept(True, look)
    return _settle_flow(notice, look, looks=looks, known=known)


def is_previous(view: View, *, nango_id: int | None, observed_at: datetime | None) -> bool:
    """Whether a lagging list shows the generation before the one that we saw (`nango_id`, at `observed_at`).

    Nango's ids grow, so a lower one is older; unless Nango itself began anew, as after a move under the same ids.
    """
    if nango_id is None or view.nango_id >= nango_id:
        return False
    return observed_at is None or view.observed_at - observed_at < LONGEST_LAG


def _settle_flow(notice: Notice, view: View, *, looks: int, known: Known | None) -> Verdict:
    """Other tags, and an error that a finished flow should have ended, may be a lag's. At the end the API holds."""
    is_flow = notice.type is not EventType.CONNECTION_TAGS_CHANGED  # whose tags are those of an earlier look
    disagree = is_flow and notice.tags is not None and dict(notice.tags) != dict(view.tags)
    same = known is not None and known.nango_id == view.nango_id  # a new generation's error is its own
    broken = is_flow and known is not None and view.auth_failing and (known.failing or same)
    edited = known is not None and known.edit is not None and _may_precede(view, known.edit)
    doubts = (
        (edited, "may not show yet what Waylink wrote"),
        (disagree, "and the webhook carry different tags"),
        (broken, "still shows an auth error"),
    )
    doubt = next((what for doubted, what in doubts if doubted), None)
    if doubt is not None and looks < len(LOOK_AGAIN_AFTER):
        return LookAgain(LOOK_AGAIN_AFTER[looks], f"Nango's list {doubt}", counts=True)
    return Accept(confirmed=True, view=view, tags_disagree=disagree)


def _may_precede(view: View, edit: View) -> bool:
    """Whether a lagging list may show the tags of before an edit. What others wrote since, later looks show as well."""
    since = view.observed_at - edit.observed_at
    is_other = view.nango_id == edit.nango_id and dict(view.tags) != dict(edit.tags)
    return is_other and timedelta(0) <= since < EDIT_LAG


def _settle_deletion(look: View | Absent, *, looks: int, known: Known | None) -> Verdict:
    if isinstance(look, View):
        verdict = _again(looks, "Nango's list still shows the connection")  # known or not: this batch may be making it
        # A list that lags shows what is gone. Only what it shows to the end is there.
        return replace(verdict, found=_not_known(look, known)) if isinstance(verdict, Reject) else verdict
    if known is None:
        return Accept(confirmed=False)  # we never knew it: there is nothing to undo
    if known.deleted:
        return Accept(confirmed=True)
    if known.observed_at is not None and look.observed_at < known.observed_at:
        return _again(looks, "the connection was seen after it was missed")
    if look.again or known.absences >= 1:
        return Accept(confirmed=True)
    return LookAgain(LOOK_AGAIN_AFTER[0], "not in Nango's list once; looked at again", counts=True)


def _settle_about(notice: Notice, look: Look, *, looks: int, known: Known | None) -> Verdict:
    """It waits for its connection, whose creation may come later (Nango contract: Order and duplicates).

    The tags of a deleted connection or of an older generation may be another customer's: they serve only where Nango
    shows nothing newer.
    """
    told, newer = _told(known), _not_known(look, known)
    if notice.key is None or (told is not None and not told.deleted and newer is None):
        return Accept(confirmed=False)
    if isinstance(look, Unavailable) and not look.refused:
        return _not_learnt(look)
    gone = told is not None and isinstance(look, Absent)
    if gone or looks >= (UNASKED_LOOKS if isinstance(look, NotAsked) else len(LOOK_AGAIN_AFTER)):
        note = "no creation of its connection came" if told is None else "its connection was deleted before"
        return Accept(confirmed=False, note=note)
    return _wait_for_creation(looks, found=newer)


def _settle_naming(look: Look, *, looks: int, known: Known | None) -> Verdict:
    """It is believed as it is, once its connection is known, or is not there."""
    told, newer = _told(known), _not_known(look, known)
    if isinstance(look, Unavailable) and not look.refused and (told is None or told.deleted):
        return _not_learnt(look)
    if newer is not None and looks < len(LOOK_AGAIN_AFTER):
        return _wait_for_creation(looks, found=newer)
    return Accept(confirmed=False)


def _told(known: Known | None) -> Known | None:
    """What was known of the connection before this batch."""
    return known if known is not None and known.observed_at is not None else None


def _not_known(look: Look, known: Known | None) -> View | None:
    """What Nango showed, if it is a connection, or a generation of it, that is not known here."""
    told = _told(known)
    return look if isinstance(look, View) and (told is None or look.nango_id > (told.nango_id or 0)) else None


def _wait_for_creation(looks: int, *, found: View | None) -> LookAgain:
    return LookAgain(LOOK_AGAIN_AFTER[looks], "waits for its connection's creation", counts=True, found=found)


def _not_learnt(look: Unavailable) -> LookAgain:
    wait = NANGO_DOWN_WAIT if look.retry_after is None else max(look.retry_after, SHORTEST_WAIT)
    return LookAgain(wait, look.why, counts=False)


def _again(looks: int, why: str) -> Verdict:
    if looks < len(LOOK_AGAIN_AFTER):
        return LookAgain(LOOK_AGAIN_AFTER[looks], why, counts=True)
    return Reject(why)
