"""Who a connection belongs to: from tags to a claim, from a claim to an owner, from an owner to a change of the link.

Promise 5: a failure, a wiped override or a missing tag never unlinks; a confirmed different owner does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from uuid import UUID

from app.domain.tags import MAX_VALUE


class DirectoryPolicy(StrEnum):
    CREATE = "create"  # users and organizations named by tags are made when they are new
    REQUIRE = "require"  # they have to exist; until then the connection waits unlinked
    SQL = "sql"  # the application's own database says who they are; whom it names is made


class OwnerChangePolicy(StrEnum):
    REASSIGN = "reassign"  # a confirmed different owner gets the connection
    HOLD = "hold"  # an operator decides; the link stays


class DuplicatesPolicy(StrEnum):
    """For several live connections of one owner to one integration: a session token serves twice.

    (Nango contract: Connect sessions)
    """

    KEEP = "keep"  # each has its link
    SUPERSEDE = "supersede"  # the newest has it, the others lose theirs; nothing is deleted in Nango


class UnlinkedReason(StrEnum):
    NO_OWNER_TAGS = "no_owner_tags"  # neither tags nor end user name an owner
    UNKNOWN_USER = "unknown_user"  # the user id names nobody (policy require)
    UNKNOWN_ORGANIZATION = "unknown_organization"  # the organization id names none (policy require)
    UNKNOWN_EMAIL = "unknown_email"  # no user with that e-mail
    AMBIGUOUS_EMAIL = "ambiguous_email"  # several users with that e-mail
    AMBIGUOUS_USER = "ambiguous_user"  # the application's database answered several users (policy sql)
    AMBIGUOUS_ORGANIZATION = "ambiguous_organization"  # the same of organizations
    SUPERSEDED = "superseded"  # its owner has a newer connection to the integration (duplicates policy supersede)


class Drift(StrEnum):
    """The link stays although the latest tags do not carry it."""

    TAGS_WIPED = "tags_wiped"  # an override left no tags at all (Nango contract: Tag replacement)
    OWNER_TAG_MISSING = "owner_tag_missing"  # tags are there, the owner's are not
    OWNER_UNRESOLVED = "owner_unresolved"  # the owner's tags name nobody we know
    OWNER_CHANGE_HELD = "owner_change_held"  # a different owner, held for an operator


@dataclass(frozen=True, slots=True)
class TagKeys:
    """Which tags name the owner; by default those derived from `end_user` (Nango contract: Tags from end users)."""

    user_id: str = "end_user_id"
    user_email: str = "end_user_email"
    user_name: str = "end_user_display_name"
    organization_id: str = "organization_id"
    organization_name: str = "organization_display_name"


@dataclass(frozen=True, slots=True)
class EndUser:
    """Nango's legacy end user, from a webhook (Nango contract: Auth webhook) or from the API."""

    id: str | None = None
    email: str | None = None
    display_name: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The owner that tags (or the legacy end user) name. `linked_by` is the tag key or `endUser.…` that proves it."""

    user_id: str | None = None
    email: str | None = None
    user_name: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None
    linked_by: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """A local user as far as linking needs to know."""

    id: UUID
    external_id: str
    organization_id: UUID | None


@dataclass(frozen=True, slots=True)
class Owner:
    """A resolved owner: at least one of the two is set."""

    user_id: UUID | None
    organization_id: UUID | None


@dataclass(frozen=True, slots=True)
class Unlinked:
    reason: UnlinkedReason


@dataclass(frozen=True, slots=True)
class Keep:
    """The link (or its absence) stays. `drift` says what the tags no longer carry."""

    drift: Drift | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """Close the current link, if any, and open one to `owner`."""

    owner: Owner


def read_claim(tags: Mapping[str, str], end_user: EndUser | None, keys: TagKeys) -> Claim | None:
    """The owner that is named; tags win over the legacy end user, for user and organization each on its own."""
    legacy = end_user or EndUser()
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
    """An id as somebody may have one. Nango takes none that is longer, and no index of ours would."""
    return value if value is not None and len(value) <= MAX_VALUE else None


def resolve(
    claim: Claim,
    *,
    user: Person | None,
    with_email: Sequence[Person],
    organization_id: UUID | None,
) -> Owner | Unlinked:
    """Turn a claim into an owner, from what the directory knows.

    `user` is the one with the claimed external id, `with_email` all with the claimed e-mail, `organization_id` the
    claimed organization's own id. With the policy `create`, the claimed ones were made before and are passed here.
    """
    if claim.organization_id and organization_id is None:
        return Unlinked(UnlinkedReason.UNKNOWN_ORGANIZATION)
    if claim.user_id:
        return Owner(user.id, organization_id) if user else Unlinked(UnlinkedReason.UNKNOWN_USER)
    if claim.email is None:
        return Owner(None, organization_id)
    # An e-mail names a person only where nobody else has it, and never reaches into another organization.
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
    found: Owner | Unlinked | None,
    tags_empty: bool,
    policy: OwnerChangePolicy,
) -> Keep | Open | Unlinked:
    """What becomes of the link. `found` is None when nothing names an owner."""
    if current is None:
        if found is None:
            return Unlinked(UnlinkedReason.NO_OWNER_TAGS)
        return found if isinstance(found, Unlinked) else Open(found)
    if found is None:
        return Keep(Drift.TAGS_WIPED if tags_empty else Drift.OWNER_TAG_MISSING)
    if isinstance(found, Unlinked):
        return Keep(Drift.OWNER_UNRESOLVED)
    if found == current:
        return Keep()
    if _is_less_of(current, found):
        return Keep(Drift.OWNER_TAG_MISSING)
    if policy is OwnerChangePolicy.HOLD and not _is_less_of(found, current):
        return Keep(Drift.OWNER_CHANGE_HELD)
    return Open(found)


def put_back(known: Mapping[str, str], present: Mapping[str, str], keys: TagKeys) -> dict[str, str]:
    """The tags that end a drift: `known` carried the link, and of the present ones those that name no owner stay."""
    naming = set(astuple(keys))
    return {**known, **{key: value for key, value in present.items() if key not in naming}}


def newest(generations: Mapping[UUID, int]) -> UUID | None:
    """Which of an owner's live connections to an integration keeps its link with the policy `supersede`.

    By Nango's ids, which only grow: so the order in which webhooks come does not matter. None of none.
    """
    return max(generations, key=lambda one: (generations[one], one), default=None)


def _is_less_of(whole: Owner, part: Owner) -> bool:
    """`part` names the same owner as `whole` with one of the two left out."""
    same_user = part.user_id in {None, whole.user_id}
    same_organization = part.organization_id in {None, whole.organization_id}
    return same_user and same_organization
