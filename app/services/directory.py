"""The local users and organizations that one batch of claims names."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import directory as rows
from app.db.connections import ConnectionState, OpenLink
from app.db.directory import DirectoryOrganization, DirectoryUser
from app.domain.linking import Claim, DirectoryPolicy, Owner, Person, TagKeys, Unlinked, resolve
from app.ids import ORGANIZATION, USER, new_id, show


class Directory:
    """Resolves claims to owners. `load` reads the users and organizations that the claims name.

    With the policies `create` and `sql` it creates the missing ones. With `sql` the claims are the answers of the
    application's database, which overwrite names and emails. ids: of created rows, by `user` or `organization` and
    external id; filled as they are assigned.
    """

    def __init__(
        self,
        session: Session,
        *,
        policy: DirectoryPolicy,
        now: datetime,
        ids: dict[tuple[str, str], UUID] | None = None,
    ) -> None:
        self._session, self._now = session, now
        self._ids = ids if ids is not None else {}
        self._authoritative = policy is DirectoryPolicy.SQL
        self._users: dict[str, DirectoryUser] = {}
        self._organizations: dict[str, DirectoryOrganization] = {}
        self._by_email: dict[str, list[DirectoryUser]] = {}
        self._users_by_id: dict[UUID, DirectoryUser] = {}
        self._organizations_by_id: dict[UUID, DirectoryOrganization] = {}

    @classmethod
    def load(
        cls,
        session: Session,
        claims: Collection[Claim],
        *,
        policy: DirectoryPolicy,
        now: datetime,
        ids: dict[tuple[str, str], UUID] | None = None,
    ) -> "Directory":
        """Read, and by policy create, the owners that these claims name. Where links follow, the transaction keeps
        owners (`app.db.owner_locks`).
        """
        directory = cls(session, policy=policy, now=now, ids=ids)
        directory._load(claims, creates=policy is not DirectoryPolicy.REQUIRE)
        return directory

    def _load(self, claims: Collection[Claim], *, creates: bool) -> None:
        external_ids = {claim.organization_id for claim in claims if claim.organization_id}
        self._organizations = rows.organizations_by_external_id(self._session, external_ids)
        self._users = rows.users_by_external_id(self._session, {claim.user_id for claim in claims if claim.user_id})
        if creates:
            self._create_organizations(claims)
            self._create_users(claims)
            self._complete(claims)
        emails = {claim.email for claim in claims if claim.email and not claim.user_id}
        self._by_email = rows.users_by_email(self._session, emails)
        self._users_by_id = {user.id: user for user in self._users.values()}
        self._users_by_id.update({user.id: user for users in self._by_email.values() for user in users})
        self._organizations_by_id = {organization.id: organization for organization in self._organizations.values()}

    def resolve(self, claim: Claim) -> Owner | Unlinked:
        organization = self._organizations.get(claim.organization_id or "")
        user = self._users.get(claim.user_id or "")
        with_email = self._by_email.get((claim.email or "").lower(), [])
        return resolve(
            claim,
            user=_person(user) if user else None,
            with_email=[_person(user) for user in with_email],
            organization_id=organization.id if organization else None,
        )

    def load_owners(self, links: Sequence[OpenLink]) -> None:
        """Read the owners of these links, so that `user` and `organization` can show them."""
        users = {link.user_id for link in links if link.user_id} - self._users_by_id.keys()
        organizations = {link.organization_id for link in links if link.organization_id}
        self._users_by_id.update(rows.users_by_id(self._session, users))
        missing = organizations - self._organizations_by_id.keys()
        self._organizations_by_id.update(rows.organizations_by_id(self._session, missing))

    def user(self, user_id: UUID | None) -> dict[str, Any] | None:
        """The user as the event document shows it."""
        user = self._users_by_id.get(user_id) if user_id else None
        if user is None:
            return None
        return {
            "id": show(USER, user.id),
            "external_id": user.external_id,
            "email": user.email,
            "display_name": user.display_name,
        }

    def organization(self, organization_id: UUID | None) -> dict[str, Any] | None:
        """The organization as the event document shows it."""
        found = self._organizations_by_id.get(organization_id) if organization_id else None
        if found is None:
            return None
        return {"id": show(ORGANIZATION, found.id), "external_id": found.external_id, "name": found.name}

    def _create_organizations(self, claims: Collection[Claim]) -> None:
        new = {
            claim.organization_id: DirectoryOrganization(
                self._id_of("organization", claim.organization_id), claim.organization_id, claim.organization_name
            )
            for claim in claims
            if claim.organization_id and claim.organization_id not in self._organizations
        }
        values = [
            {"id": row.id, "external_id": row.external_id, "name": row.name, "created_at": self._now}
            for row in new.values()
        ]
        ours = rows.add_organizations(self._session, values)
        self._organizations.update(new if ours else rows.organizations_by_external_id(self._session, list(new)))

    def _create_users(self, claims: Collection[Claim]) -> None:
        new = {
            claim.user_id: self._new_user(claim, claim.user_id)
            for claim in claims
            if claim.user_id and claim.user_id not in self._users
        }
        values = [
            {
                "id": user.id,
                "external_id": user.external_id,
                "email": user.email,
                "display_name": user.display_name,
                "organization_id": user.organization_id,
                "created_at": self._now,
            }
            for user in new.values()
        ]
        ours = rows.add_users(self._session, values)
        self._users.update(new if ours else rows.users_by_external_id(self._session, list(new)))

    def _id_of(self, kind: str, external_id: str) -> UUID:
        return self._ids.setdefault((kind, external_id), new_id())

    def _new_user(self, claim: Claim, external_id: str) -> DirectoryUser:
        organization = self._organizations.get(claim.organization_id or "")
        return DirectoryUser(
            self._id_of("user", external_id),
            external_id,
            claim.email,
            claim.user_name,
            organization.id if organization else None,
        )

    def _complete(self, claims: Collection[Claim]) -> None:
        """Fill in missing names and emails. Only the application's database overwrites what there is; no tag does."""
        users, organizations = self._improve(claims)
        if users or organizations:
            # They may have been changed since they were read: what is read under the lock holds.
            rows.lock_organizations(self._session, organizations)
            rows.lock_users(self._session, users)
            users, organizations = self._improve(claims)
            rows.complete_organizations(self._session, organizations)
            rows.complete_users(self._session, users)

    def _improve(self, claims: Collection[Claim]) -> tuple[list[DirectoryUser], list[DirectoryOrganization]]:
        """Change the rows in memory as the claims say. Returns the changed ones."""
        users: dict[UUID, DirectoryUser] = {}
        organizations: dict[UUID, DirectoryOrganization] = {}
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

    def _better(self, known: str | None, claimed: str | None) -> str | None:
        return claimed or known if self._authoritative else known or claimed


def _person(user: DirectoryUser) -> Person:
    return Person(id=user.id, external_id=user.external_id, organization_id=user.organization_id)


def claim_of(connection: ConnectionState, keys: TagKeys) -> Claim:
    """The owner that the connection's last event claimed, as it is stored with the connection."""
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
