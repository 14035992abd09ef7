"""The pages of users and organizations, and the acts on them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.responses import Response

from app.domain.people import FIELDS, OwnerKind
from app.web.api import people
from app.web.console.act_pages import Act, Field, Form, Parts, Told, telling
from app.web.console.calling import ask
from app.web.console.lists import Filter, List
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.tables import Button, Column, RowsPage, Section, View, row_page

USERS, ORGANIZATIONS = "/console/users", "/console/organizations"

_USER_LIST: Final = List(
    people.list_users,
    (
        Filter("external_id", "Id"),
        Filter("email", "E-mail"),
        Filter("organization"),
        Filter("unconnected"),
        Filter("removed"),
    ),
)
_ORGANIZATION_LIST: Final = List(
    people.list_organizations, (Filter("external_id", "Id"), Filter("unconnected"), Filter("removed"))
)
_VIEWS: Final = (
    View("All", {}),
    View("Without a connection", {"unconnected": "true"}),
    View("Removed", {"removed": "true"}),
)
_USERS: Final = RowsPage(
    "Users",
    "user",
    (
        Column("User", "external_id", href=lambda row: f"{USERS}/{row.id}"),
        Column("Name", "display_name"),
        Column("E-mail", "email"),
        Column("Organization", "organization", href=lambda row: link(USERS, organization=row.organization)),
        Column("Connections", "connections"),
        Column("Added", "created_at"),
    ),
    "There is no user. The first linked connection adds its own, where the directory's policy is `create`.",
    buttons=(Button("Add a user", f"{USERS}/add", "POST /console/users/add"),),
    views=_VIEWS,
)
_ORGANIZATIONS: Final = RowsPage(
    "Organizations",
    "organization",
    (
        Column("Organization", "external_id", href=lambda row: f"{ORGANIZATIONS}/{row.id}"),
        Column("Name", "name"),
        Column("Users", "users", href=lambda row: link(USERS, organization=row.external_id)),
        Column("Connections", "connections"),
        Column("Added", "created_at"),
    ),
    "There is no organization.",
    buttons=(Button("Add an organization", f"{ORGANIZATIONS}/add", "POST /console/organizations/add"),),
    views=_VIEWS,
)
_LINKS: Final = (
    Column("Connection", "connection_id", href=lambda row: f"/console/connections/{row.connection}"),
    Column("Integration", "integration"),
    Column("Linked by", "linked_by", "code"),
    Column("Opened", "opened_at"),
    Column("Closed", "closed_at"),
    Column("Why closed", "close_reason"),
)


async def show_users(context: ConsoleContext, visit: Visit) -> Response:
    """Users, newest first."""
    return await _USERS.of_list(context, visit, _USER_LIST)


async def show_organizations(context: ConsoleContext, visit: Visit) -> Response:
    """Organizations, newest first."""
    return await _ORGANIZATIONS.of_list(context, visit, _ORGANIZATION_LIST)


async def show_user(context: ConsoleContext, visit: Visit) -> Response:
    """One user with present and past connections."""
    found = await ask(context, visit, people.get_user, **visit.request.path_params)
    facts = {
        "Id": found.external_id,
        "Name": found.display_name,
        "E-mail": found.email,
        "Organization": found.organization,
        "Waylink's id": found.id,
        "Added": found.created_at,
        "Changed": found.updated_at,
        "Removed": found.removed_at,
    }
    return await _owner(context, visit, found, Section("User", facts), path=USERS, label="Users")


async def show_organization(context: ConsoleContext, visit: Visit) -> Response:
    """One organization with present and past connections."""
    found = await ask(context, visit, people.get_organization, **visit.request.path_params)
    facts = {
        "Id": found.external_id,
        "Name": found.name,
        "Users": found.users,
        "Waylink's id": found.id,
        "Added": found.created_at,
        "Changed": found.updated_at,
        "Removed": found.removed_at,
    }
    return await _owner(
        context, visit, found, Section("Organization", facts), path=ORGANIZATIONS, label="Organizations"
    )


async def _owner(
    context: ConsoleContext, visit: Visit, found: Any, about: Section, *, path: str, label: str
) -> Response:
    operation = f"POST {path}/{{{'user_id' if path == USERS else 'organization_id'}}}/"
    acts = (
        Button("Change", f"{path}/{found.id}/change", f"{operation}change"),
        Button("Remove", f"{path}/{found.id}/remove", f"{operation}remove", "danger"),
    )
    links = Section("Connections", columns=_LINKS, rows=found.links, empty="No connection was ever linked to it.")
    return await row_page(
        context,
        visit,
        title=found.external_id or found.id,
        back=(label, path),
        mark="removed" if found.removed_at else None,
        buttons=() if found.removed_at else acts,
        sections=[about, links],
        subject=found.id,
    )


_LABELS: Final = {
    "external_id": ("Id", "The application's own id, which tags name."),
    "email": ("E-mail", "An e-mail links only where one user has it."),
    "display_name": ("Name", ""),
    "name": ("Name", ""),
    "organization": ("Organization", "The id of one that is here."),
}


def _fields(kind: OwnerKind, known: Any = None) -> tuple[Field, ...]:
    return tuple(
        Field(name, *_LABELS[name], value=(getattr(known, name) or "") if known else "", required=name == "external_id")
        for name in FIELDS[kind]
    )


def _given(kind: OwnerKind, *, clears: bool) -> Callable[[Form], dict[str, Any]]:
    """The body of a form. clears: an empty field clears what is stored."""

    def read(form: Form) -> dict[str, Any]:
        given = {name: form[name].strip() or None for name in FIELDS[kind] if name in form}
        return {name: value for name, value in given.items() if value is not None or (clears and name != "external_id")}

    return read


def _changing(kind: OwnerKind, endpoint: Any) -> Callable[[ConsoleContext, Visit, Parts], Any]:
    async def tell(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
        found = await ask(context, visit, endpoint, **parts)
        stamp = Field("updated_at", "Changed at", kind="hidden", value=found.updated_at or found.created_at)
        told = "Connections that wait for the new id or e-mail are linked. An empty field clears what is stored."
        return Told((told,), {}, (*_fields(kind, found), stamp))

    return tell


def _removing(endpoint: Any) -> Callable[[ConsoleContext, Visit, Parts], Any]:
    async def tell(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
        found = await ask(context, visit, endpoint, **parts)
        hint = "Closes these links. Nothing is deleted at Nango, and the connections wait, unlinked."
        field = Field("force", "Also while connections or users belong to it", hint, "check", required=False)
        facts = {"Id": found.external_id, "Connections": found.connections}
        if hasattr(found, "users"):
            facts["Users"] = found.users
        return Told(("It owns nothing afterwards.",), facts, (field,))

    return tell


def _row(path: str, part: str) -> Callable[[Parts], str]:
    return lambda parts: f"{path}/{parts[part]}"


def _list(path: str) -> Callable[[Parts], str]:
    return lambda _: path


def _acts(kind: OwnerKind, path: str, part: str, *, add: Any, get: Any, change: Any, remove: Any) -> dict[str, Act]:
    noun = str(kind)
    return {
        f"{path}/add": Act(
            add,
            f"Add {'a user' if kind is OwnerKind.USER else 'an organization'}",
            "Add",
            telling("Connections that wait for it are linked.", fields=_fields(kind)),
            _list(path),
            "owner_added",
            body=_given(kind, clears=False),
            count="linked",
        ),
        f"{path}/{{{part}}}/change": Act(
            change,
            f"Change the {noun}",
            "Save the change",
            _changing(kind, get),
            _row(path, part),
            "owner_changed",
            query=lambda form: {"updated_at": form.get("updated_at", "")},
            body=_given(kind, clears=True),
        ),
        f"{path}/{{{part}}}/remove": Act(
            remove,
            f"Remove the {noun}",
            f"Remove 1 {noun}",
            _removing(get),
            _list(path),
            "owner_removed",
            query=lambda form: {"force": form.get("force", "")},
            is_danger=True,
            count="links_closed",
        ),
    }


ACTS: Final[Mapping[str, Act]] = {
    **_acts(
        OwnerKind.USER,
        USERS,
        "user_id",
        add=people.add_user,
        get=people.get_user,
        change=people.change_user,
        remove=people.remove_user,
    ),
    **_acts(
        OwnerKind.ORGANIZATION,
        ORGANIZATIONS,
        "organization_id",
        add=people.add_organization,
        get=people.get_organization,
        change=people.change_organization,
        remove=people.remove_organization,
    ),
}
