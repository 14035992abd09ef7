"""Shapes of users and organizations. Rows are the same as in the commands' lists."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from app.web.api.endpoint import PageQuery

Text = str | None | UnsetType


class UserRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`external_id` is the application's id, null once the person was erased; `organization` is one, too."""

    id: str
    external_id: str | None
    email: str | None
    display_name: str | None
    organization: str | None
    connections: int
    created_at: str
    updated_at: str | None
    removed_at: str | None


class OrganizationRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`external_id` is the application's id."""

    id: str
    external_id: str | None
    name: str | None
    users: int
    connections: int
    created_at: str
    updated_at: str | None
    removed_at: str | None


class OwnedLink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A present or past connection of the user or organization."""

    connection: str
    integration: str
    connection_id: str
    linked_by: str
    opened_at: str
    closed_at: str | None
    close_reason: str | None


class UserRecord(UserRow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user with their newest links, open and closed. `linked`: waiting connections that this call linked."""

    links: list[OwnedLink]
    linked: int = 0


class OrganizationRecord(OrganizationRow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An organization with its newest links, open and closed. `linked`: waiting connections that this call linked."""

    links: list[OwnedLink]
    linked: int = 0


class OrganizationQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    external_id: Annotated[str | None, Meta(description="With this id of the application's.")] = None
    removed: Annotated[bool, Meta(description="Those who were removed, instead of those who were not.")] = False
    unconnected: Annotated[bool, Meta(description="Those to whom no connection belongs.")] = False


class UserQuery(OrganizationQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    email: Annotated[str | None, Meta(description="With this address, in any case.")] = None
    organization: Annotated[str | None, Meta(description="Of the organization with this external id.")] = None


class ChangeQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    updated_at: (
        Annotated[
            str,
            Meta(
                description="`updated_at` of the record that the change is made on, or its `created_at` where that is "
                "null: a conflict where it was changed since."
            ),
        ]
        | None
    ) = None


class UserChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields that are left out stay as they are; null clears."""

    external_id: str | UnsetType = UNSET
    email: Text = UNSET
    display_name: Text = UNSET
    organization: Text = UNSET


class NewUser(UserChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`organization` is an external id."""

    external_id: str


class OrganizationChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields that are left out stay as they are; null clears."""

    external_id: str | UnsetType = UNSET
    name: Text = UNSET


class NewOrganization(OrganizationChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`external_id` is the application's id."""

    external_id: str


class RemovalQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    force: Annotated[bool, Meta(description="Close the links of their connections. Nothing is deleted in Nango.")] = (
        False
    )


class Removal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`history_kept`: links refer to the removed row, so it stays, but no tag finds it any more."""

    id: str
    links_closed: int
    users_released: int
    history_kept: bool


class ImportQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    dry_run: Annotated[bool, Meta(description="Write nothing, say what would happen.")] = False


class RefusedLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    line: int
    field: str | None
    rule: str
    reason: str


class Imported(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of an import. `linked`: waiting connections that were linked. `refused_lines`: the first thousand
    faults.
    """

    added: int
    changed: int
    unchanged: int
    refused: int
    linked: int
    refused_lines: list[RefusedLine]
