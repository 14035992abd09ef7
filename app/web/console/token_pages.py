"""The pages of API tokens, and the acts on them."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from app.domain.access import Scope
from app.web.api import tokens
from app.web.console.act_pages import Act, Field, Form, Parts, Told
from app.web.console.calling import ask
from app.web.console.lists import Filter, List
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.tables import Button, Column, RowsPage, Section, View, row_page

PATH: Final = "/console/tokens"
_ROW: Final = f"{PATH}/{{token}}"

_LIST: Final = List(tokens.list_tokens, (Filter("team"), Filter("revoked")))
_ROWS: Final = RowsPage(
    "API tokens",
    "token",
    (
        Column("Token", "name", href=lambda row: f"{PATH}/{row.id}"),
        Column("Scopes", "scopes"),
        Column("Team", "team"),
        Column("Last used", "last_used_at"),
        Column("Made", "created_at"),
        Column("Expires", "expires_at"),
        Column("Expired", "expired"),
        Column("Revoked", "revoked_at"),
    ),
    "There is no token. Make one here, or by `waylink token create NAME`.",
    "Tokens of programs that call the REST API. When one was last used is known to ten minutes.",
    (Button("Make a token", f"{PATH}/-/add", "POST /console/tokens/-/add"),),
    (View("Not revoked", {}), View("All", {"revoked": "true"})),
)


async def show_tokens(context: ConsoleContext, visit: Visit) -> Response:
    """API tokens, newest first; their secrets are not stored."""
    return await _ROWS.of_list(context, visit, _LIST)


async def show_token(context: ConsoleContext, visit: Visit) -> Response:
    """One token, and what was done about it."""
    found = await ask(context, visit, tokens.get_token, **visit.request.path_params)
    live = found.revoked_at is None
    revoke = Button("Revoke", f"{PATH}/{found.id}/revoke", "POST /console/tokens/{token}/revoke", "danger")
    return await row_page(
        context,
        visit,
        title=found.name,
        back=("API tokens", PATH),
        mark="expired" if live and found.expired else "active" if live else "revoked",
        buttons=(revoke,) if live else (),
        sections=[Section("Token", _facts(found))],
        subject=found.id,
    )


def _facts(found: Any) -> dict[str, Any]:
    return {
        "Scopes": found.scopes,
        "Team": found.team,
        "Last used": found.last_used_at,
        "Made": found.created_at,
        "Expires": found.expires_at,
        "Revoked": found.revoked_at,
    }


_RIGHTS: Final = {
    Scope.VIEWER: "Reads everything but credentials of connections",
    Scope.OPERATOR: "Reads that, and changes things",
    Scope.CREDENTIALS: "Reads everything, credentials of connections too",
}


async def _tell_new(_context: ConsoleContext, visit: Visit, _parts: Parts) -> Told:
    given = [scope for scope in Scope if scope is not Scope.CREDENTIALS or visit.access.allows(scope)]
    rights = [Field(f"scope_{scope}", _RIGHTS[scope], kind="check", required=False) for scope in given]
    return Told(
        ("The token is shown once. What is stored cannot be turned back into it.",),
        {},
        (
            Field("name", "Name", "Of the program that has it."),
            *rights,
            Field("team", "Team", "For what is this team's alone; it reads that in any case.", required=False),
            Field("expires_in", "Lives for", "Such as `90d` or `12h`.", value="90d"),
        ),
    )


async def _tell_revocation(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, tokens.get_token, **parts)
    return Told(("It ends at once: the next call with it is refused.",), {"Token": found.name, **_facts(found)})


def _body(form: Form) -> dict[str, Any]:
    scopes = [scope for scope in Scope if form.get(f"scope_{scope}") == "true"]
    life = form.get("expires_in", "").strip()
    return {"name": form.get("name", ""), "scopes": scopes, "team": form.get("team", "").strip() or None} | (
        {"expires_in": life} if life else {}
    )


ACTS: Final[Mapping[str, Act]] = {
    f"{PATH}/-/add": Act(
        tokens.add_token,
        "Make a token",
        "Make the token",
        _tell_new,
        lambda _: PATH,
        body=_body,
        once=lambda answer: (("Token", answer.token), ("Name", answer.name), ("Expires", answer.expires_at)),
    ),
    f"{_ROW}/revoke": Act(
        tokens.revoke_token,
        "Revoke the token",
        "Revoke 1 token",
        _tell_revocation,
        lambda _: PATH,
        "token_revoked",
        is_danger=True,
    ),
}
