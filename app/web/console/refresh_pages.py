"""The pages of renewals: the list, one, the forecast, paused integrations, the catalogue; and the acts on them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

from msgspec import structs
from starlette.responses import Response

from app.web.api import integrations, refresh_actions, refresh_forecasts, refreshes
from app.web.console.act_pages import REASON, Act, Field, Form, Parts, Told, telling
from app.web.console.calling import ask
from app.web.console.jobs import FOR_TIME
from app.web.console.lists import Filter, List
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.tables import Button, Column, RowsPage, Section, View, row_page

PATH: Final = "/console/refreshes"
PAUSES: Final = f"{PATH}/pauses"

_LIST: Final = List(
    refreshes.list_refreshes,
    (
        Filter("state"),
        Filter("outcome"),
        Filter("due_before"),
        Filter("due_after"),
        Filter("deadline_before", "Lapses before"),
        Filter("finished_since", check=FOR_TIME),
        Filter("finished_until", check=FOR_TIME),
        Filter("environment"),
        Filter("integration"),
        Filter("connection_id", "Connection id"),
        Filter("provider"),
        Filter("user"),
        Filter("organization"),
    ),
)
_ROWS: Final = RowsPage(
    "Refreshes",
    "refresh",
    (
        Column("Due", "refresh_at", href=lambda row: f"{PATH}/{row.id}"),
        Column("Connection", "connection_id", href=lambda row: f"/console/connections/{row.connection}", is_long=True),
        Column("Integration", "integration"),
        Column("State", "state", "mark"),
        Column("Outcome", "outcome", "mark"),
        Column("Lapses", "deadline_at"),
        Column("Why", "reason", is_long=True),
    ),
    "None is planned. A connection gets a plan once its token's expiry is known.",
    "Planned and past renewals of credentials, and those by hand.",
    (
        Button("Forecast", f"{PATH}/forecast", "GET /console/refreshes/forecast"),
        Button("Paused integrations", PAUSES, "GET /console/refreshes/pauses"),
        Button("Catalogue", f"{PATH}/catalogue", "GET /console/refreshes/catalogue"),
    ),
    (
        View("All", {}),
        View("Planned", {"state": "open"}),
        View("Overdue", {"state": "overdue"}),
        View("In danger: lapse within a day", {"deadline_before": "24h"}),
        View("Paused", {"state": "paused"}),
        View("Failed", {"state": "finished", "outcome": "failed"}),
        View("Given up", {"state": "finished", "outcome": "exhausted"}),
    ),
)
_PAUSED: Final = RowsPage(
    "Paused integrations",
    "integration",
    (
        Column(
            "Integration",
            "integration",
            href=lambda row: f"{PAUSES}/{row.environment}/{quote(row.integration, safe='/')}/resume",
        ),
        Column("Environment", "environment"),
        Column("Cause", "cause", "mark"),
        Column("Problem", "problem"),
        Column("Since", "paused_at"),
        Column("Next probe", "next_probe_at"),
        Column(
            "Held plans",
            "waiting",
            "count",
            href=lambda row: link(PATH, state="paused", environment=row.environment, integration=row.integration),
        ),
    ),
    "No integration is paused.",
    "Renewals of a paused integration are held, for an outage of its provider or by an operator.",
    (Button("Pause an integration", f"{PAUSES}/add", "POST /console/refreshes/pauses/add"),),
)
_CATALOGUE: Final = RowsPage(
    "Catalogue of providers",
    "provider",
    (
        Column("Providers", "names", is_long=True),
        Column("Token lives", "access_life"),
        Column("Grant lives", "refresh_life"),
        Column("Unused", "idle_limit"),
        Column("Renews", "renews"),
        Column("Rotates", "rotates"),
        Column("Note", "note", is_long=True),
        Column("Source", "host", href=lambda row: row["source"], is_long=True),
    ),
    "This release ships no catalogue.",
    "What providers document about the lives of their tokens.",
)
_SPANS: Final = (Column("From", "at"), Column("Refreshes", "refreshes"), Column("Budget", "budget"))
_LAPSES: Final = (
    Column("Integration", "integration"),
    Column("Clock", "clock"),
    Column("Why", "why"),
    Column("Connections", "connections"),
    Column("First at", "first_at"),
)
_PAST: Final = (
    Column("Hour", "at"),
    Column("Forecast", "forecast"),
    Column("Happened", "happened"),
    Column("Difference", "difference"),
)


async def show_refreshes(context: ConsoleContext, visit: Visit) -> Response:
    """Planned and past renewals; of those in danger, what lapses first comes first."""
    in_danger = "deadline_before" in visit.request.query_params
    return await _ROWS.of_list(context, visit, _LIST, order=_first_to_lapse if in_danger else None)


def _first_to_lapse(rows: Sequence[Any]) -> Sequence[Any]:
    return sorted(rows, key=lambda row: (row.deadline_at is None, row.deadline_at))


async def show_refresh(context: ConsoleContext, visit: Visit) -> Response:
    """One renewal, and what comes next for its connection."""
    found = await ask(context, visit, refreshes.get_refresh, **visit.request.path_params)
    connection = f"/console/connections/{found.connection}"
    buttons = [Button("Its connection", connection, "GET /console/connections/{con_id}")]
    if found.finished_at is None:
        buttons.append(Button("Run now", f"{PATH}/{found.id}/run", "POST /console/refreshes/{ref_id}/run"))
    plan = {
        "Connection": found.connection_id,
        "Integration": found.integration,
        "Provider": found.provider,
        "User": found.user,
        "Organization": found.organization,
        "Why": found.reason,
        "By force": found.forced,
        "Asked for by": found.requested_by,
        "Due": found.refresh_at,
        "Lapses": found.deadline_at,
        "Attempts": found.attempts,
    }
    result = {
        "Outcome": found.outcome,
        "Error": found.error,
        "Asked Nango": found.asked_at,
        "Answered": found.answered_at,
        "Finished": found.finished_at,
        "Expiry before": found.previous_expires_at,
        "Expiry after": found.expires_at,
        "Grant before": found.previous_grant_expires_at,
        "Grant after": found.grant_expires_at,
    }
    onward = {
        "At": found.next.at,
        "State": found.next.state,
        "Because": found.next.why,
        "Failures before": found.failures,
    }
    return await row_page(
        context,
        visit,
        title=f"Refresh of {found.connection_id}",
        back=("Refreshes", PATH),
        mark=found.outcome or found.state,
        buttons=buttons,
        sections=[Section("Plan", plan), Section("Result", result), Section("What comes next", onward)],
        subject=found.connection,
    )


async def show_forecast(context: ConsoleContext, visit: Visit) -> Response:
    """Renewals to come against the request budget, and how the last forecast did."""
    found = (await ask(context, visit, refresh_forecasts.forecast_refreshes)).data
    sections = [section for one in found for section in _forecast(one)]
    note = None if found else "No environment has an API key, so that nothing is renewed."
    return await row_page(
        context, visit, title="Forecast of refreshes", back=("Refreshes", PATH), note=note, sections=sections
    )


def _forecast(one: Any) -> list[Section]:
    name, past = one.environment, one.past
    budget = {
        "Connections": one.connections,
        "Overdue now": one.overdue,
        "In the rest of this hour": one.rest_of_hour,
        "Busiest minute": one.busiest_minute.refreshes,
        "It is at": one.busiest_minute.at,
        "Budget a minute": round(one.budget.per_minute, 1),
        "Minutes over the budget": one.budget.minutes_over,
        "Lapse before their turn": one.budget.too_late,
        "Account": one.budget.account,
    }
    return [
        Section(f"{name}: against the budget", budget),
        Section(f"{name}: what lapses", columns=_LAPSES, rows=one.lapses, empty="Nothing lapses before its turn."),
        Section(f"{name}: the next 24 hours", columns=_SPANS, rows=one.hours),
        Section(f"{name}: the next days", columns=_SPANS, rows=one.days),
        Section(
            f"{name}: the last forecast against what happened",
            columns=_PAST,
            rows=past.hours if past else (),
            empty="No forecast has come to its end yet.",
        ),
    ]


async def show_pauses(context: ConsoleContext, visit: Visit) -> Response:
    """Integrations whose renewals are paused."""
    found = await ask(context, visit, refresh_actions.list_pauses)
    return _PAUSED.of_rows(visit, found.data)


async def show_catalogue(context: ConsoleContext, visit: Visit) -> Response:
    """The catalogue of tokens' lives, as providers document them."""
    found = await ask(context, visit, integrations.list_providers)
    rows = [{**structs.asdict(line), "host": urlsplit(line.source).hostname} for line in found.data]
    return _CATALOGUE.of_rows(visit, rows)


async def _tell_run(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, refreshes.get_refresh, **parts)
    facts = {"Connection": found.connection_id, "Integration": found.integration, "Due": found.refresh_at}
    force = Field("force", "By force", "Whatever the expiry; the provider issues another refresh token.", "check")
    return Told(("Nango is asked now. Without force a token is renewed where it is due only.",), facts, (force,))


async def _tell_resume(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = (await ask(context, visit, refresh_actions.list_pauses, query={"environment": parts["environment"]})).data
    mine = next((one for one in found if one.integration == parts["integration"]), None)
    if mine is None:
        return Told(("It is not paused.",), possible=False)
    facts = {"Integration": mine.integration, "Why": mine.problem, "Since": mine.paused_at, "Held plans": mine.waiting}
    return Told(("What was held becomes due within minutes.",), facts)


def _paused(_parts: Parts) -> str:
    return PAUSES


def _pause(form: Form) -> dict[str, Any]:
    given = {name: form.get(name, "").strip() for name in ("integration", "environment", "reason")}
    return {name: value for name, value in given.items() if value}


ACTS: Final[Mapping[str, Act]] = {
    f"{PATH}/{{ref_id}}/run": Act(
        refresh_actions.run_refresh,
        "Run the refresh now",
        "Run now",
        _tell_run,
        lambda parts: f"{PATH}/{parts['ref_id']}",
        "refresh_run",
        query=lambda form: {"force": form.get("force", "")},
    ),
    f"{PAUSES}/add": Act(
        refresh_actions.pause_refreshes,
        "Pause an integration",
        "Pause its refreshes",
        telling(
            "Planned renewals of all its connections are held until it is resumed. Those by hand go through.",
            fields=(Field("integration", "Integration"), Field("environment", "Environment", value="default"), REASON),
        ),
        _paused,
        "integration_paused",
        body=_pause,
        is_danger=True,
    ),
    f"{PAUSES}/{{environment}}/{{integration:path}}/resume": Act(
        refresh_actions.resume_refreshes,
        "Resume the integration",
        "Resume its refreshes",
        _tell_resume,
        _paused,
        "integration_resumed",
        count="released",
    ),
}
