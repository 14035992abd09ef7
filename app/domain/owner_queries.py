"""Owners by the application's own database (policy `sql`): parameters of its queries, and their answers as claims."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from app.domain.linking import Claim, TagKeys, Unlinked, UnlinkedReason
from app.domain.people import OwnerKind, check, required
from app.domain.values import value
from app.errors import FieldFault, InvalidFields

BY_QUERY: Final = "sql"  # `linked_by` of a link without an owner's tag
COLUMNS: Final[Mapping[OwnerKind, Sequence[str]]] = {
    OwnerKind.USER: ("external_id", "email", "display_name"),
    OwnerKind.ORGANIZATION: ("external_id", "name"),
}
_NOT_A_NAME: Final = re.compile(r"\W", re.ASCII)

FIRST_WAIT: Final = timedelta(minutes=1)
LONGEST_WAIT: Final = timedelta(hours=6)
RETRIES_END: Final = timedelta(days=30)  # after that only another event queries the database again

Row = Mapping[str, object]


@value
class Named:
    """The owner that the database names: a claim in the application's ids, the reason why there is none, or None."""

    claim: Claim | Unlinked | None


def parameters(tags: Mapping[str, str], claim: Claim | None, keys: TagKeys) -> dict[str, str]:
    """Parameters of the queries: every tag, and members of the legacy end user under the tags' names.

    Characters that a parameter's name cannot have become `_`: the tag `crm.account-id` is `:crm_account_id`.
    """
    legacy = {
        keys.user_id: claim.user_id,
        keys.user_email: claim.email,
        keys.user_name: claim.user_name,
        keys.organization_id: claim.organization_id,
        keys.organization_name: claim.organization_name,
    } if claim else {}  # fmt: skip
    values = {name: value for name, value in legacy.items() if value is not None} | dict(tags)
    return {_NOT_A_NAME.sub("_", name): value for name, value in values.items()}


def named(claim: Claim | None, users: Sequence[Row] | None, organizations: Sequence[Row] | None) -> Named:
    """The owner by the queries' rows. None: the query was not run, since there is none or its tags are missing.

    claim: the owner by the tags alone. Raises InvalidFields for a row that cannot be made a user or organization.
    """
    if users and len(users) > 1:
        return Named(Unlinked(UnlinkedReason.AMBIGUOUS_USER))
    if organizations and len(organizations) > 1:
        return Named(Unlinked(UnlinkedReason.AMBIGUOUS_ORGANIZATION))
    user = _fields(OwnerKind.USER, users[0]) if users else {}
    organization = _fields(OwnerKind.ORGANIZATION, organizations[0]) if organizations else {}
    if organizations is not None and not organizations and claim and claim.organization_id:
        return Named(Unlinked(UnlinkedReason.UNKNOWN_ORGANIZATION))
    if users is not None and not users and claim and (claim.user_id or claim.email):
        return Named(Unlinked(UnlinkedReason.UNKNOWN_USER if claim.user_id else UnlinkedReason.UNKNOWN_EMAIL))
    if not user and not organization:
        return Named(None if claim is None else _unknown(claim))
    found = Claim(
        user_id=user.get("external_id"),
        email=user.get("email"),
        user_name=user.get("display_name"),
        organization_id=organization.get("external_id"),
        organization_name=organization.get("name"),
    )
    return Named(replace(found, linked_by=claim.linked_by if claim else BY_QUERY))


def next_owner_query(*, now: datetime, since: datetime) -> datetime | None:
    """Time of the next query for a connection that waits since `since`: after as long a wait again; None after
    RETRIES_END.
    """
    waited = now - since
    return None if waited > RETRIES_END else now + min(max(waited, FIRST_WAIT), LONGEST_WAIT)


def _unknown(claim: Claim) -> Unlinked:
    """The reason where the tags name an owner, but no query uses them."""
    if claim.user_id:
        return Unlinked(UnlinkedReason.UNKNOWN_USER)
    return Unlinked(UnlinkedReason.UNKNOWN_EMAIL if claim.email else UnlinkedReason.UNKNOWN_ORGANIZATION)


def _fields(kind: OwnerKind, row: Row) -> dict[str, str]:
    """A row's columns as fields. Whole numbers and UUIDs become text ids; an invalid e-mail is left out."""
    columns = {name: _text(value) for name in COLUMNS[kind] if (value := row.get(name)) is not None}
    if faults := _id_faults(kind, columns):
        raise InvalidFields(faults)
    return {name: text for name, text in columns.items() if isinstance(text, str) and not check(kind, {name: text})}


def _id_faults(kind: OwnerKind, columns: Mapping[str, object]) -> list[FieldFault]:
    known = columns.get("external_id")
    if known is not None and not isinstance(known, str):
        what = f"is a {type(known).__name__}: an id is text, a whole number or a UUID"
        return [FieldFault("external_id", "type", what)]
    return check(kind, {"external_id": known}) if known is not None else required({})


def _text(value: object) -> object:
    """The value as text where it has one canonical form; others, such as floats, would give a different id
    each time.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return format(value.to_integral_value(), "f")
    return str(value) if isinstance(value, int | UUID) else value
