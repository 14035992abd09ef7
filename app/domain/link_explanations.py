"""Explanations of links: why a connection is linked or not, in words, with what repairs it. No I/O."""

from dataclasses import dataclass
from enum import StrEnum
from shlex import quote
from typing import Final

from app.domain.linking import Claim, DirectoryPolicy, Drift, TagKeys, UnlinkedReason
from app.domain.states import ConnectionStatus, EventState


class LinkCause(StrEnum):
    """The cause of a connection's present link, or of its absence, besides the reasons and drifts of linking."""

    LINKED = "linked"  # its tags name the owner
    LINKED_TO_ORGANIZATION = "linked_to_organization"  # its e-mail names no single user within the organization
    DELETED = "deleted"  # gone from Nango; deletion closes links
    WAITING_FOR_NANGO = "waiting_for_nango"  # its event waits until Nango shows the connection
    REFUSED = "refused"  # its event failed, so nothing of it was applied
    NO_AUTH_EVENT = "no_auth_event"  # no auth event of it was stored
    LINKED_SOON = "linked_soon"  # the owner that it waits for is there by now


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest event of a connection: its state, and why it waits or failed."""

    id: str
    state: str
    failure: str | None


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """Facts on a connection's link, as they are stored.

    owner: of the open link, in words; None: there is none. claim: the owner that its tags name. is_known: that owner
    is stored. with_email: users with the claimed e-mail. user_linked: the open link names a user.
    """

    id: str  # con_…
    status: str
    owner: str | None
    user_linked: bool
    linked_by: str | None
    unlinked_reason: str | None
    drift: str | None
    tags_empty: bool
    claim: Claim
    is_known: bool
    with_email: int
    newest: Newest | None
    keys: TagKeys
    directory: DirectoryPolicy


@dataclass(frozen=True, slots=True)
class LinkExplanation:
    """The cause, a sentence about it, and what repairs it, by commands between backticks; empty where nothing is to
    be repaired.
    """

    cause: str
    linked: bool
    why: str
    repairs: tuple[str, ...] = ()


def explain_link(facts: LinkFacts) -> LinkExplanation:
    """Explain why the connection is linked or not."""
    if facts.status == ConnectionStatus.DELETED:
        why = "Nango no longer has the connection, and a deletion closes its link. A new one is another connection."
        return LinkExplanation(LinkCause.DELETED, False, why)
    if facts.owner is not None:
        return _linked(facts)
    if facts.unlinked_reason is None:
        return _without_decision(facts)
    if facts.is_known and facts.unlinked_reason in _WAITING:
        why = f"{_named(facts)}, which is known by now: it is linked within ten seconds, while workers and Beat run."
        return LinkExplanation(LinkCause.LINKED_SOON, False, why, (_relink(facts),))
    return _unlinked(facts)


_WAITING: Final = frozenset(
    {UnlinkedReason.UNKNOWN_USER, UnlinkedReason.UNKNOWN_ORGANIZATION, UnlinkedReason.UNKNOWN_EMAIL}
)


def _linked(facts: LinkFacts) -> LinkExplanation:
    if facts.drift is not None:
        return _drifting(facts)
    if facts.claim.email and not facts.claim.user_id and not facts.user_linked:
        number = "no user" if not facts.with_email else "no single user"
        why = (
            f"It is linked to {facts.owner} alone: the e-mail of its tags names {number} of that organization, and "
            "an e-mail never links across organizations."
        )
        repair = f"Give the user's own id: `waylink connections tags add {facts.id} {facts.keys.user_id}=ID`."
        return LinkExplanation(LinkCause.LINKED_TO_ORGANIZATION, True, why, (repair,))
    by = f", by `{facts.linked_by}`" if facts.linked_by else ""
    return LinkExplanation(LinkCause.LINKED, True, f"It is linked to {facts.owner}{by}.")


def _drifting(facts: LinkFacts) -> LinkExplanation:
    restore = f"Put the tags back that carried the link: `waylink connections restore-tags {facts.id}`."
    why, repairs = {
        Drift.TAGS_WIPED: ("It has no tags any more; a re-authorization without tags wipes them.", (restore,)),
        Drift.OWNER_TAG_MISSING: ("Its tags no longer name the whole owner.", (restore,)),
        Drift.OWNER_UNRESOLVED: (f"{_named(facts)}, which is not known here.", (restore, _add_owner(facts))),
        Drift.OWNER_CHANGE_HELD: (
            f"{_named(facts)}, which is another owner, and the policy `hold` leaves that to an operator.",
            (_relink(facts, "Give it to the owner that the tags name"), restore),
        ),
    }[Drift(facts.drift or "")]
    told = f"It is still linked to {facts.owner}, but its tags do not carry the link. {why}"
    return LinkExplanation(str(facts.drift), True, told, tuple(filter(None, repairs)))


def _without_decision(facts: LinkFacts) -> LinkExplanation:
    """Nothing was decided: no event of it was applied."""
    newest = facts.newest
    if newest is None:
        why = "No auth event of it is stored, so its tags were never read."
        repair = "Compare Nango's list with the stored connections: `waylink reconcile`."
        return LinkExplanation(LinkCause.NO_AUTH_EVENT, False, why, (repair, "Check the webhook URL: `waylink check`."))
    if newest.state == EventState.RECEIVED:
        why = f"Its event {newest.id} waits until Nango shows the connection."
        return LinkExplanation(LinkCause.WAITING_FOR_NANGO, False, why, (f"Look: `waylink events show {newest.id}`.",))
    if newest.state == EventState.FAILED:
        why = f"Its event {newest.id} failed ({newest.failure or 'error'}), so nothing of it was applied."
        repairs = (
            f"See the problem: `waylink events show {newest.id}`.",
            f"Then try again: `waylink events retry {newest.id}`.",
        )
        return LinkExplanation(LinkCause.REFUSED, False, why, repairs)
    why = f"Its newest event {newest.id} says nothing of an owner: no auth event was applied."
    repair = "Compare Nango's list with the stored connections: `waylink reconcile`."
    return LinkExplanation(LinkCause.NO_AUTH_EVENT, False, why, (repair,))


def _unlinked(facts: LinkFacts) -> LinkExplanation:
    keys, edit = facts.keys, f"waylink connections tags add {facts.id}"
    tag = f"Give it the owner's tag: `{edit} {keys.user_id}=ID`."
    why: str
    repairs: tuple[str | None, ...]
    match UnlinkedReason(facts.unlinked_reason or ""):
        case UnlinkedReason.NO_OWNER_TAGS:
            read = f"`{keys.user_id}`, `{keys.user_email}` or `{keys.organization_id}`"
            what = "It has no tags" if facts.tags_empty else "None of its tags names an owner"
            why, repairs = f"{what}: {read} would.", (tag,)
        case UnlinkedReason.AMBIGUOUS_EMAIL:
            why = (
                f"{facts.with_email} users have the e-mail that its tags name, and an e-mail links only where one does."
            )
            repairs = (tag,)
        case UnlinkedReason.AMBIGUOUS_USER | UnlinkedReason.AMBIGUOUS_ORGANIZATION:
            why = "The application's database named several owners for its tags."
            repairs = ("Make the query of `[directory.sql]` return one row; it is asked again by itself.", tag)
        case UnlinkedReason.SUPERSEDED:
            why = "Its owner has a newer connection to the integration, which has the link (policy `supersede`)."
            repairs = (f"See its siblings: `waylink connections show {facts.id}`.",)
        case UnlinkedReason.BY_OPERATOR:
            why = "An operator closed its link. It stays so until its tags name another owner, or it is linked again."
            repairs = (_relink(facts),)
        case _:
            asked = " in the application's database" if facts.directory is DirectoryPolicy.SQL else ""
            why, repairs = f"{_named(facts)}, which is not known here{asked}.", (_add_owner(facts), tag)
    return LinkExplanation(str(facts.unlinked_reason), False, why, tuple(filter(None, repairs)))


def _named(facts: LinkFacts) -> str:
    """The part of the claim that linking needs and lacks, as the beginning of a sentence."""
    claim = facts.claim
    lacks_organization = facts.unlinked_reason == UnlinkedReason.UNKNOWN_ORGANIZATION
    if claim.user_id and not lacks_organization:
        return f"Its tags name the user `{claim.user_id}`"
    if claim.email and not lacks_organization:
        return f"Its tags name a user by the e-mail `{claim.email}`"
    return f"Its tags name the organization `{claim.organization_id or ''}`"


def _add_owner(facts: LinkFacts) -> str | None:
    """The command that adds the owner; connections that wait are linked by it."""
    claim = facts.claim
    if facts.directory is DirectoryPolicy.SQL:
        return "Add the owner to the application's database; it is asked again by itself."
    if claim.user_id and facts.unlinked_reason != UnlinkedReason.UNKNOWN_ORGANIZATION:
        return f"Add the user, which links it: `waylink users add {quote(claim.user_id)}`."
    if claim.email and facts.unlinked_reason != UnlinkedReason.UNKNOWN_ORGANIZATION:
        return f"Add the user, which links it: `waylink users add ID --email {quote(claim.email)}`."
    if claim.organization_id:
        return f"Add the organization, which links it: `waylink orgs add {quote(claim.organization_id)}`."
    return None


def _relink(facts: LinkFacts, what: str = "Link it to the owner that its tags name") -> str:
    return f"{what}: `waylink connections relink {facts.id}`."
