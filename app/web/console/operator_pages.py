"""The pages of operators, and the acts on their accounts."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import structs
from starlette.responses import Response

from app.domain.access import Role
from app.web.api import operators
from app.web.console.act_pages import Act, Field, Form, Parts, Told, telling
from app.web.console.browser_names import browser_name
from app.web.console.calling import ask
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.tables import Button, Column, RowsPage, Section, row_page

PATH: Final = "/console/operators"
_ROW: Final = f"{PATH}/{{name}}"

_ROWS: Final = RowsPage(
    "Operators",
    "operator",
    (
        Column("Operator", "name", href=lambda row: f"{PATH}/{row.id}"),
        Column("Role", "role"),
        Column("Team", "team"),
        Column("Reads credentials", "credentials"),
        Column("Signs in by", "signs_in_by"),
        Column("Last signed in", "signed_in_at"),
        Column("Disabled", "disabled_at"),
    ),
    "There is no operator.",
    buttons=(Button("Add an operator", f"{PATH}/-/add", "POST /console/operators/-/add"),),
)
_SESSIONS: Final = (
    Column("Browser", "browser"),
    Column("Address", "address"),
    Column("By", "method"),
    Column("Last used", "seen_at"),
    Column("Ends", "expires_at"),
)


async def show_operators(context: ConsoleContext, visit: Visit) -> Response:
    """Operators, by name."""
    return _ROWS.of_rows(visit, (await ask(context, visit, operators.list_operators)).data)


async def show_operator(context: ConsoleContext, visit: Visit) -> Response:
    """One operator: the rights, and where they are signed in."""
    name = visit.request.path_params["name"]
    found = await ask(context, visit, operators.get_operator, name=name)
    found_sessions = (await ask(context, visit, operators.list_operator_sessions, name=name)).data
    sessions = [{**structs.asdict(each), "browser": browser_name(each.browser)} for each in found_sessions]
    path, operation = f"{PATH}/{found.id}", "POST /console/operators/{name}/"
    change = "enable" if found.disabled_at else "disable"
    return await row_page(
        context,
        visit,
        title=found.name,
        back=("Operators", PATH),
        mark="disabled" if found.disabled_at else "active",
        buttons=[
            Button("Change the role", f"{path}/role", f"{operation}role"),
            Button("Make a link", f"{path}/link", f"{operation}link"),
            Button("Sign out", f"{path}/sign-out", f"{operation}sign-out"),
            Button(change.capitalize(), f"{path}/{change}", operation + change),
            Button("Remove", f"{path}/remove", f"{operation}remove", "danger"),
        ],
        sections=[
            Section(
                "Operator",
                {
                    "Role": found.role,
                    "Team": found.team,
                    "Reads credentials": found.credentials,
                    "Signs in by": found.signs_in_by,
                    "Added": found.created_at,
                    "Last signed in": found.signed_in_at,
                    "Disabled": found.disabled_at,
                },
            ),
            Section("Signed in at", columns=_SESSIONS, rows=sessions, empty="Nowhere."),
        ],
        subject=found.id,
    )


def _back(parts: Parts) -> str:
    return f"{PATH}/{parts['name']}"


def _to_list(_parts: Parts) -> str:
    return PATH


_CONSENT: Final = Field(
    "yes", "Also where no enabled operator of the role operator is left", kind="check", required=False
)


def _rights(found: Any = None) -> tuple[Field, ...]:
    return (
        Field("role", "Role", choices=tuple(Role), value=found.role if found else Role.VIEWER),
        Field("team", "Team", "For the role `team` alone.", required=False, value=(found.team or "") if found else ""),
        Field(
            "credentials",
            "May read live credentials of connections",
            kind="check",
            value="true" if found and found.credentials else "",
        ),
    )


def _told(*sentences: str, fields: tuple[Field, ...] = ()) -> Callable[[ConsoleContext, Visit, Parts], Any]:
    """A page about the operator of the path."""

    async def tell(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
        found = await ask(context, visit, operators.get_operator, **parts)
        return Told(sentences, {"Operator": found.name, "Role": found.role, "Team": found.team}, fields)

    return tell


async def _tell_role(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, operators.get_operator, **parts)
    told = "Other rights end all sessions of the operator."
    return Told((told,), {"Operator": found.name}, (*_rights(found), _CONSENT))


def _rights_body(form: Form) -> dict[str, Any]:
    team = form.get("team", "").strip() or None
    return {"role": form.get("role", ""), "team": team, "credentials": form.get("credentials") == "true"}


def _consent(form: Form) -> dict[str, Any]:
    return {"yes": form.get("yes", "")}


ACTS: Final[Mapping[str, Act]] = {
    f"{PATH}/-/add": Act(
        operators.add_operator,
        "Add an operator",
        "Add the operator",
        telling(
            "Then make a link, with which the operator sets a password.",
            fields=(Field("name", "Name", "Small letters, digits and `. _ @ + -`."), *_rights()),
        ),
        _to_list,
        "operator_added",
        body=lambda form: {"name": form.get("name", "").strip(), **_rights_body(form)},
    ),
    f"{_ROW}/role": Act(
        operators.change_operator,
        "Change the role",
        "Change the rights",
        _tell_role,
        _back,
        "operator_changed",
        query=_consent,
        body=_rights_body,
    ),
    f"{_ROW}/link": Act(
        operators.make_operator_link,
        "Make a link",
        "Make the link",
        _told("With the link the operator sets a password, once, within a day. A former link ends."),
        _back,
        once=lambda answer: (
            ("Path of the link, on this host", answer.path),
            ("Works until", answer.expires_at),
        ),
    ),
    f"{_ROW}/sign-out": Act(
        operators.sign_operator_out,
        "Sign the operator out",
        "Sign out everywhere",
        _told("All sessions of the operator end at once."),
        _back,
        "operator_signed_out",
        count="sessions",
    ),
    f"{_ROW}/disable": Act(
        operators.change_operator,
        "Disable the operator",
        "Keep the operator out",
        _told("All sessions end, and the operator cannot sign in.", fields=(_CONSENT,)),
        _back,
        "operator_changed",
        query=_consent,
        body=lambda _: {"disabled": True},
        is_danger=True,
    ),
    f"{_ROW}/enable": Act(
        operators.change_operator,
        "Enable the operator",
        "Let the operator in",
        _told("The operator can sign in again."),
        _back,
        "operator_changed",
        body=lambda _: {"disabled": False},
    ),
    f"{_ROW}/remove": Act(
        operators.remove_operator,
        "Remove the operator",
        "Remove 1 operator",
        _told("The account and all its sessions go; the audit keeps the name.", fields=(_CONSENT,)),
        _to_list,
        "operator_removed",
        query=_consent,
        is_danger=True,
    ),
}
