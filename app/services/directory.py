"""The local users and organizations, as far as one batch of claims needs them."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import owners as rows
from app.db.connections import ConnectionRow, LinkRow
from app.db.owners import OrganizationRow, UserRow
from app.domain.linking import Claim, DirectoryPolicy, Owner, Person, TagKeys, Unlinked, resolve
from app.ids import ORGANIZATION, USER, new_id, show


class Directory:
    """Answers who a claim means. With the policies `create` and `sql`, whom the claims name is made first.

    With `sql` the claims are what the application's database answered, and what it says of them holds. ids: for those
    who are made, by `user` or `organization` and external id; filled as they are given.
    """

    def __init__(
        self,
        session: Session,
        claims: Collection[Claim],
        *,
        policy: DirectoryPolicy,
        now: datetime,
        ids: dict[tuple[str, str], UUID] | None = None,
    ) -> None:
        self._session, self._now = session, now
        self._ids = ids if ids is not None else {}
        external_ids = {claim.organization_id for claim in claims if claim.organization_id}
        self._organizations = rows.organizations_by_external_id(session, external_ids)
        self._users = rows.users_by_external_id(session, {claim.user_id for claim in claims if claim.user_id})
        self._authoritative = policy is DirectoryPolicy.SQL
        if policy is not DirectoryPolicy.REQUIRE:
            self._make_organizations(claims)
            self._make_users(claims)
            self._complete(claims)
        emails = {claim.email for claim in claims if claim.email and not claim.user_id}
        self._by_email = rows.users_by_email(session, emails)
        self._users_by_id = {user.id: user for user in self._users.values()}
        self._users_by_id.update({user.id: user for users in self._by_email.values() for user in users})
        self._organizations_by_id = {one.id: one for one in self._organizations.values()}

    def resolve(self, claim: Claim) -> Owner | Unlinked:
        organization = self._organizations.get(claim.organization_id or "")
        user = self._users.get(claim.user_id or "")
        with_email = self._by_email.get((claim.email or "").lower(), [])
        return resolve(
            claim,
            user=_person(user) if user else None,
            with_email=[_person(one) for one in with_email],
            organization_id=organization.id if organization else None,
        )

    def remember_owners(self, links: Sequence[LinkRow]) -> None:
        """Load whom these links point to, so that `user` and `organization` can show them."""
        users = {link.user_id for link in links if link.user_id} - self._users_by_id.keys()
        organizations = {link.organization_id for link in links if link.organization_id}
        self._users_by_id.update(rows.users_by_id(self._session, users))
        missing = organizations - self._organizations_by_id.keys()
        self._organizations_by_id.update(rows.organizations_by_id(self._session, missing))

    def user(self, user_id: UUID | None) -> dict[str, Any] | None:
        """The user as the event document shows it."""
        one = self._users_by_id.get(user_id) if user_id else None
        if one is None:
            return None
        return {
            "id": show(USER, one.id),
            "external_id": one.external_id,
            "email": one.email,
            "display_name": one.display_name,
        }

    def organization(self, organization_id: UUID | None) -> dict[str, Any] | None:
        """The organization as the event document shows it."""
        one = self._organizations_by_id.get(organization_id) if organization_id else None
        if one is None:
            return None
        return {"id": show(ORGANIZATION, one.id), "external_id": one.external_id, "name": one.name}

    def _make_organizations(self, claims: Collection[Claim]) -> None:
        new = {
            claim.organization_id: OrganizationRow(
                self._id_of("organization", claim.organization_id), claim.organization_id, claim.organization_name
            )
            for claim in claims
            if claim.organization_id and claim.organization_id not in self._organizations
        }
        values = [
            {"id": one.id, "external_id": one.external_id, "name": one.name, "created_at": self._now}
            for one in new.values()
        ]
        ours = rows.add_organizations(self._session, values)
        self._organizations.update(new if ours else rows.organizations_by_external_id(self._session, list(new)))

    def _make_users(self, claims: Collection[Claim]) -> None:
        new = {
            claim.user_id: self._new_user(claim, claim.user_id)
            for claim in claims
            if claim.user_id and claim.user_id not in self._users
        }
        values = [
            {
                "id": one.id,
                "external_id": one.external_id,
                "email": one.email,
                "display_name": one.display_name,
                "organization_id": one.organization_id,
                "created_at": self._now,
            }
            for one in new.values()
        ]
        ours = rows.add_users(self._session, values)
        self._users.update(new if ours else rows.users_by_external_id(self._session, list(new)))

    def _id_of(self, kind: str, external_id: str) -> UUID:
        return self._ids.setdefault((kind, external_id), new_id())

    def _new_user(self, claim: Claim, external_id: str) -> UserRow:
        organization = self._organizations.get(claim.organization_id or "")
        return UserRow(
            self._id_of("user", external_id),
            external_id,
            claim.email,
            claim.user_name,
            organization.id if organization else None,
        )

    def _complete(self, claims: Collection[Claim]) -> None:
        """Fill what was missing; what the directory already says is overwritten by the application, not by a tag.

        Raises OwnerRemoved.
        """
        users, organizations = self._improve(claims)
        if users or organizations:
            # A person may have changed them since they were read: what holds is what they are under the lock.
            rows.lock_organizations(self._session, organizations)
            rows.lock_users(self._session, users)
            users, organizations = self._improve(claims)
            rows.complete_organizations(self._session, organizations)
            rows.complete_users(self._session, users)

    def _improve(self, claims: Collection[Claim]) -> tuple[list[UserRow], list[OrganizationRow]]:
        """Change them in memory, by what the claims say of them. Who was changed."""
        users: dict[UUID, UserRow] = {}
        organizations: dict[UUID, OrganizationRow] = {}
        for claim in claims:
            user = self._users.get(claim.user_id or "")
            if user:
                known = user.email, user.display_name
                user.email = self._better(user.email, claim.email)
                user.display_name = self._better(user.display_name, claim.user_name)
                if known != (user.email, user.display_name):
                    users[user.id] = user
            organization = self._organizations.get(claim.organization_id or "")
            if organization and organization.name != self._better(organization.name, claim.organization_name):
                organization.name = claim.organization_name
                organizations[organization.id] = organization
        return list(users.values()), list(organizations.values())

    def _better(self, known: str | None, said: str | None) -> str | None:
        return said or known if self._authoritative else known or said


def _person(user: UserRow) -> Person:
    return Person(id=user.id, external_id=user.external_id, organization_id=user.organization_id)


def claim_of(connection: ConnectionRow, keys: TagKeys) -> Claim:
    """What the connection's last event claimed, as it was kept."""
    user, email, organization = connection.wanted_user, connection.wanted_email, connection.wanted_organization
    tag, legacy = (
        (keys.user_id, "endUser.endUserId")
        if user
        else (keys.user_email, "endUser.endUserEmail")
        if email
        else (keys.organization_id, "endUser.organizationId")
    )
    linked_by = tag if tag in connection.tags else legacy
    return Claim(user_id=user, email=email, organization_id=organization, linked_by=linked_by)
