"""Saved views: links above their lists, a page of all that the operator sees, and acts on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args
from urllib.parse import parse_qsl

from starlette.responses import Response

from app.domain.access import Scope
from app.web.api import saved_views
from app.web.api.saved_views import PageName, ViewRecord
from app.web.console.act_pages import Act, Field, Form, Parts, Told
from app.web.console.calling import ask
from app.web.console.lists import ShownList
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.tables import Button, Column, RowsPage, Section, row_page

PATH: Final = "/console/views"
ROW: Final = f"{PATH}/{{view_id}}"
ADD: Final = f"{PATH}/-/add"


@dataclass(frozen=True, slots=True)
class ViewLink:
    """A saved view above its list. is_here: its filters are those of the page."""

    name: str
    path: str
    is_shared: bool
    is_here: bool


@dataclass(frozen=True, slots=True)
class SavedViews:
    """The views of a list. save: the page that saves its filters as one; None where there is nothing to save."""

    links: Sequence[ViewLink]
    save: str | None


async def views_of(context: ConsoleContext, visit: Visit, page: PageName, found: ShownList) -> SavedViews:
    """The saved views that the operator sees above a list."""
    rows: list[ViewRecord] = (await ask(context, visit, saved_views.list_views, query={"page": page})).data
    links = [
        ViewLink(row.name, path_of(row), row.shared, dict(parse_qsl(row.query)) == dict(found.query)) for row in rows
    ]
    is_new = found.query and not found.is_refused and not any(each.is_here for each in links)
    query = link("", **found.query).removeprefix("?")
    return SavedViews(links, link(ADD, page=page, query=query) if is_new else None)


def path_of(row: ViewRecord) -> str:
    """The list as the view has it."""
    return f"/console/{row.page}?{row.query}"


_VIEWS: Final = RowsPage(
    "Saved views",
    "view",
    (
        Column("Name", "name", href=lambda row: f"{PATH}/{row.id}"),
        Column("List", "page", href=path_of),
        Column("Filters", "query", "code"),
        Column("Shared", "shared"),
        Column("Saved by", "saved_by"),
    ),
    "No view is saved yet. Filter a list, such as the events, and save it as a view there.",
    "Lists with their filters, by a name. Your own are seen by you alone; shared ones by all who are of no team.",
    (Button("Save a view", ADD, f"POST {ADD}"),),
)


async def show_views(context: ConsoleContext, visit: Visit) -> Response:
    """All views that the operator sees."""
    return _VIEWS.of_rows(visit, (await ask(context, visit, saved_views.list_views)).data)


async def show_view(context: ConsoleContext, visit: Visit) -> Response:
    """One view, and what can be done with it."""
    found = await ask(context, visit, saved_views.get_view, view_id=visit.request.path_params["view_id"])
    acts = [Button("Open", path_of(found), "GET /console/events")]
    if _may_change(visit, found):
        acts += [
            Button("Change…", f"{PATH}/{found.id}/change", "POST /console/views/{view_id}/change"),
            Button("Remove…", f"{PATH}/{found.id}/remove", "POST /console/views/{view_id}/remove"),
        ]
    sections = (Section("View", facts=_facts(found)),)
    return await row_page(
        context, visit, title=found.name, back=("Saved views", PATH), sections=sections, buttons=acts, subject=found.id
    )


def _may_share(visit: Visit) -> bool:
    return visit.access.allows(Scope.OPERATOR)


def _may_change(visit: Visit, found: ViewRecord) -> bool:
    return _may_share(visit) if found.shared else found.own


def _facts(found: ViewRecord) -> dict[str, Any]:
    return {
        "List": found.page,
        "Filters": found.query,
        "Shared": found.shared,
        "Saved by": found.saved_by,
        "Saved": found.created_at,
        "Changed": found.changed_at,
    }


def _fields(visit: Visit, *, name: str = "", query: str = "", shared: bool = False) -> list[Field]:
    found = [
        Field("name", "Name", "Up to 60 characters.", value=name),
        Field("query", "Filters", "As in the list's URL.", value=query),
    ]
    if _may_share(visit):
        found.append(
            Field(
                "shared", "All see it who are of no team", kind="check", value="true" if shared else "", required=False
            )
        )
    return found


async def _tell_new(_context: ConsoleContext, visit: Visit, _parts: Parts) -> Told:
    given, pages = visit.request.query_params, get_args(PageName)
    page = Field("page", "List", value=given.get("page", pages[0]), choices=pages)
    return Told(fields=(page, *_fields(visit, query=given.get("query", "")[:2000])))


async def _tell_change(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, saved_views.get_view, **parts)
    return Told(fields=_fields(visit, name=found.name, query=found.query, shared=found.shared))


async def _tell_removal(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, saved_views.get_view, **parts)
    others = ("All others lose it, too.",) if found.shared else ()
    return Told(others, {"View": found.name, **_facts(found)})


def _body(form: Form) -> dict[str, Any]:
    return {"name": form.get("name", ""), "query": form.get("query", ""), "shared": form.get("shared") == "true"}


ACTS: Final[Mapping[str, Act]] = {
    ADD: Act(
        saved_views.add_view,
        "Save a view",
        "Save the view",
        _tell_new,
        lambda _: PATH,
        "view_saved",
        body=lambda form: {"page": form.get("page", ""), **_body(form)},
    ),
    f"{ROW}/change": Act(
        saved_views.change_view,
        "Change the view",
        "Change 1 view",
        _tell_change,
        lambda parts: f"{PATH}/{parts['view_id']}",
        "view_changed",
        body=_body,
    ),
    f"{ROW}/remove": Act(
        saved_views.remove_view,
        "Remove the view",
        "Remove 1 view",
        _tell_removal,
        lambda _: PATH,
        "view_removed",
        is_danger=True,
    ),
}
