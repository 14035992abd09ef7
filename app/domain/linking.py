"""Linking rules: from tags to a claim, from a claim to an owner, from an owner to a change of the link. No I/O.

Promise 5: a failure, a wiped override or a missing tag never unlinks; a confirmed different owner does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.domain.tags import MAX_VALUE
from app.domain.values import value


class DirectoryPolicy(StrEnum):
    """The source of users and organizations."""

    CREATE = "create"  # new users and organizations that tags name are created
    REQUIRE = "require"  # they must exist; until then the connection waits unlinked
    SQL = "sql"  # the application's database resolves tags to them; new ones are created


class OwnerChangePolicy(StrEnum):
    """The effect of tags that name another owner."""

    REASSIGN = "reassign"  # a confirmed different owner gets the connection
    HOLD = "hold"  # an operator decides; the link stays


class DuplicatesPolicy(StrEnum):
    """The links of several connections of one owner to one integration: a session token can be used twice.

    (Nango contract: Connect sessions)
    """

    KEEP = "keep"  # each keeps its link
    SUPERSEDE = "supersede"  # only the newest is linked; nothing is deleted in Nango


class UnlinkedReason(StrEnum):
    """The reason why a connection has no link."""

    NO_OWNER_TAGS = "no_owner_tags"  # neither tags nor end user name an owner
    UNKNOWN_USER = "unknown_user"  # no user with that id (policy require)
    UNKNOWN_ORGANIZATION = "unknown_organization"  # no organization with that id (policy require)
    UNKNOWN_EMAIL = "unknown_email"  # no user with that e-mail
    AMBIGUOUS_EMAIL = "ambiguous_email"  # several users with that e-mail
    AMBIGUOUS_USER = "ambiguous_user"  # several users in the application's database (policy sql)
    AMBIGUOUS_ORGANIZATION = "ambiguous_organization"  # several organizations there (policy sql)
    SUPERSEDED = "superseded"  # its owner has a newer connection to the integration (duplicates policy supersede)
    BY_OPERATOR = "by_operator"  # an operator closed the link; it stays so while the tags name the same owner


class Drift(StrEnum):
    """The reason why a link stays although the latest tags do not name its owner."""

    TAGS_WIPED = "tags_wiped"  # an override left no tags at all (Nango contract: Tag replacement)
    OWNER_TAG_MISSING = "owner_tag_missing"  # tags are there, the owner's are not
    OWNER_UNRESOLVED = "owner_unresolved"  # the owner's tags name an unknown user or organization
    OWNER_CHANGE_HELD = "owner_change_held"  # a different owner, held for an operator


@dataclass(frozen=True, slots=True)
class TagKeys:
    """Keys of the owner's tags, by default those derived from `end_user` (Nango contract: Tags from end users)."""

    user_id: str = "end_user_id"
    user_email: str = "end_user_email"
    user_name: str = "end_user_display_name"
    organization_id: str = "organization_id"
    organization_name: str = "organization_display_name"


@value
class EndUser:
    """Nango's legacy end user, from a webhook (Nango contract: Auth webhook) or from the API."""

    id: str | None = None
    email: str | None = None
    display_name: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None


_NO_END_USER: Final = EndUser()


@value
class Claim:
    """The owner that tags (or the legacy end user) name. `linked_by` is the tag key or `endUser.…` that proves it."""

    user_id: str | None = None
    email: str | None = None
    user_name: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None
    linked_by: str = ""


@value
class Person:
    """A stored user, with the facts that linking needs."""

    id: UUID
    external_id: str
    organization_id: UUID | None


@value
class Owner:
    """A resolved owner: at least one of the two is set."""

    user_id: UUID | None
    organization_id: UUID | None


@value
class Unlinked:
    """A claim without an owner."""

    reason: UnlinkedReason


@value
class Keep:
    """Leave the link, or its absence. drift: why the tags no longer carry it, or None."""

    drift: Drift | None = None


@value
class Open:
    """Close the current link, if any, and open one to `owner`."""

    owner: Owner


def read_claim(tags: Mapping[str, str], end_user: EndUser | None, keys: TagKeys) -> Claim | None:
    """The claim of tags and the legacy end user, or None. Tags have precedence, for user and organization each."""
    legacy = end_user or _NO_END_USER
    user_id, email = _named(tags.get(keys.user_id)), _named(tags.get(keys.user_email))
    from_tags = user_id is not None or email is not None
    if not from_tags:
        user_id, email = _named(legacy.id), _named(legacy.email)
    organization_id = _named(tags.get(keys.organization_id, legacy.organization_id))
    if not (user_id or email or organization_id):
        return None
    proof_of_user = (
        (keys.user_id if user_id else keys.user_email)
        if from_tags
        else ("endUser.endUserId" if user_id else "endUser.endUserEmail")
    )
    proof_of_organization = keys.organization_id if keys.organization_id in tags else "endUser.organizationId"
    return Claim(
        user_id=user_id,
        email=email,
        user_name=tags.get(keys.user_name, legacy.display_name),
        organization_id=organization_id,
        organization_name=tags.get(keys.organization_name, legacy.organization_name),
        linked_by=proof_of_user if user_id or email else proof_of_organization,
    )


def _named(value: str | None) -> str | None:
    """The value, unless it is longer than MAX_VALUE, which Nango does not accept and no index could hold."""
    return value if value is not None and len(value) <= MAX_VALUE else None


def resolve(
    claim: Claim,
    *,
    user: Person | None,
    with_email: Sequence[Person],
    organization_id: UUID | None,
) -> Owner | Unlinked:
    """Resolve a claim to an owner.

    user: the user with the claimed external id. with_email: all users with the claimed e-mail. organization_id: our id
    of the claimed organization. With the policy `create`, the caller has created them.
    """
    if claim.organization_id and organization_id is None:
        return Unlinked(UnlinkedReason.UNKNOWN_ORGANIZATION)
    if claim.user_id:
        return Owner(user.id, organization_id) if user else Unlinked(UnlinkedReason.UNKNOWN_USER)
    if claim.email is None:
        return Owner(None, organization_id)
    # An e-mail must be unambiguous, and never names a user of another organization.
    reachable = [
        person for person in with_email if organization_id is None or person.organization_id in {None, organization_id}
    ]
    if len(reachable) == 1:
        return Owner(reachable[0].id, organization_id)
    if organization_id is not None:
        return Owner(None, organization_id)
    if with_email:
        return Unlinked(UnlinkedReason.AMBIGUOUS_EMAIL)
    return Unlinked(UnlinkedReason.UNKNOWN_EMAIL)


def decide(
    *,
    current: Owner | None,
    named: Owner | Unlinked | None,
    tags_empty: bool,
    policy: OwnerChangePolicy,
) -> Keep | Open | Unlinked:
    """Decide the change of a link. named: the owner that the tags name; None where they name none."""
    if current is None:
        if named is None:
            return Unlinked(UnlinkedReason.NO_OWNER_TAGS)
        return named if isinstance(named, Unlinked) else Open(named)
    if named is None:
        return Keep(Drift.TAGS_WIPED if tags_empty else Drift.OWNER_TAG_MISSING)
    if isinstance(named, Unlinked):
        return Keep(Drift.OWNER_UNRESOLVED)
    if named == current:
        return Keep()
    if _is_part_of(current, named):
        return Keep(Drift.OWNER_TAG_MISSING)
    if policy is OwnerChangePolicy.HOLD and not _is_part_of(named, current):
        return Keep(Drift.OWNER_CHANGE_HELD)
    return Open(named)


def stays_unlinked(reason: str | None, *, claimed_before: Claim | None, claimed: Claim | None) -> bool:
    """Whether an operator's word that closed a link still holds: the tags name the same owner as then, or none."""
    if reason != UnlinkedReason.BY_OPERATOR:
        return False
    return claimed is None or (claimed_before is not None and _names(claimed_before) == _names(claimed))


def _names(claim: Claim) -> tuple[str | None, ...]:
    email = None if claim.user_id or claim.email is None else claim.email.lower()
    return claim.user_id, email, claim.organization_id


def restored_tags(known: Mapping[str, str], present: Mapping[str, str], keys: TagKeys) -> dict[str, str]:
    """The tags that end a drift: `known`, which carried the link, and present tags that name no owner."""
    naming = set(astuple(keys))
    return {**known, **{key: value for key, value in present.items() if key not in naming}}


def newest(generations: Mapping[UUID, int]) -> UUID | None:
    """The connection that keeps its link with the policy `supersede`; None of none. generations: Nango ids by our ids.

    Nango's ids only grow, so that the order of webhooks does not matter.
    """
    return max(generations, key=lambda connection_id: (generations[connection_id], connection_id), default=None)


def _is_part_of(whole: Owner, part: Owner) -> bool:
    """Whether `part` is `whole` with the user or the organization left out, or the same."""
    same_user = part.user_id in {None, whole.user_id}
    same_organization = part.organization_id in {None, whole.organization_id}
    return same_user and same_organization
