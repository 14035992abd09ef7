"""The pages of comparisons with Nango's list, of the audit and of settings."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from app.web.api import reconciliations, records, settings
from app.web.console.act_pages import Act, Field, telling
from app.web.console.calling import ask
from app.web.console.lists import Filter, List
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.tables import Button, Column, RowsPage, Section, View, row_page

RUNS, AUDIT = "/console/reconciliations", "/console/audit"
_PAGES: Final = {
    "con": "/console/connections",
    "evt": "/console/events",
    "job": "/console/jobs",
    "usr": "/console/users",
    "org": "/console/organizations",
    "ref": "/console/refreshes",
    "rec": RUNS,
    "opr": "/console/operators",
    "tok": "/console/tokens",
    "blk": "/console/bulk-runs",
    "viw": "/console/views",
}


def page_of(subject: str) -> str | None:
    """The page of what has this id; None where there is none."""
    prefix, _, rest = subject.partition("_")
    base = _PAGES.get(prefix)
    return f"{base}/{subject}" if base and len(rest) == 32 else None


_RUN_LIST: Final = List(reconciliations.list_reconciliations, (Filter("environment"),))
_AUDIT_LIST: Final = List(records.list_audit, (Filter("actor"), Filter("action"), Filter("subject"), Filter("outcome")))
_RUNS: Final = RowsPage(
    "Reconcile",
    "run",
    (
        Column("Asked for", "created_at", href=lambda row: f"{RUNS}/{row.id}"),
        Column("Environment", "environment"),
        Column("By", "trigger"),
        Column("Stage", "stage", "mark"),
        Column("Outcome", "outcome", "mark"),
        Column("Seen", "seen"),
        Column("Found", "found"),
        Column("Missed by webhook", "missed_by_webhook"),
        Column("Healed", "healed"),
    ),
    "No comparison was made yet. Workers make one each period where there is an API key.",
    "Nango's list of connections compared with those stored here: what webhooks missed is found and healed.",
    (Button("Compare now", f"{RUNS}/add", "POST /console/reconciliations/add"),),
)
_AUDIT: Final = RowsPage(
    "Audit",
    "entry",
    (
        Column("At", "at"),
        Column("By", "actor", href=lambda row: link(AUDIT, actor=row.actor), is_long=True),
        Column("Action", "action", href=lambda row: link(AUDIT, action=row.action), is_long=True),
        Column("On", "subject", href=lambda row: page_of(row.subject) or link(AUDIT, subject=row.subject)),
        Column("Outcome", "outcome", "mark"),
        Column("Detail", "detail"),
    ),
    "Nobody has done anything through Waylink yet.",
    "What operators and programs did through Waylink, newest first.",
    views=(View("All", {}), View("Failed", {"outcome": "failed"}), View("Result unknown", {"outcome": "begun"})),
)
_SETTINGS: Final = RowsPage(
    "Settings",
    "setting",
    (
        Column("Variable", "variable", "code"),
        Column("Value", "value"),
        Column("Default", "default"),
        Column("Set", "set"),
        Column("Meaning", "meaning", "sentence"),
    ),
    "There are none.",
    "The variables in force, as this web process read them when it started. Secrets are hidden.",
)


async def show_runs(context: ConsoleContext, visit: Visit) -> Response:
    """Comparisons, newest first."""
    return await _RUNS.of_list(context, visit, _RUN_LIST)


async def show_audit(context: ConsoleContext, visit: Visit) -> Response:
    """The audit, newest first."""
    return await _AUDIT.of_list(context, visit, _AUDIT_LIST)


async def show_settings(context: ConsoleContext, visit: Visit) -> Response:
    """The settings in force, without secrets."""
    return _SETTINGS.of_rows(visit, (await ask(context, visit, settings.list_settings)).data)


_SAMPLES: Final = (
    Column(
        "Connection", "connection_id", href=lambda row: link("/console/connections", connection_id=row.connection_id)
    ),
    Column("Integration", "integration"),
    Column("Why it differs", "why"),
)


async def show_run(context: ConsoleContext, visit: Visit) -> Response:
    """One comparison: its progress, the differences, and what became of them."""
    found = await ask(context, visit, reconciliations.get_reconciliation, **visit.request.path_params)
    facts = {
        "Environment": found.environment,
        "By": found.trigger,
        "Dry run": found.dry_run,
        "Deletions accepted": found.accept_deletions,
        "Asked for": found.created_at,
        "Begun": found.started_at,
        "Finished": found.finished_at,
        "Next step": found.next_at,
        "Pages": found.pages,
        "Calls": found.calls,
        "Seen": found.seen,
    }
    results = {
        "Differed at a first look": found.found,
        "Still a minute later": found.counted,
        "Missed by webhook": found.missed_by_webhook,
        "Healed": found.healed,
        "Not healed": found.unhealed,
        "Mean seconds to heal": found.heal_seconds_mean,
        "Longest": found.heal_seconds_max,
    }
    samples = [Section(f"Samples: {kind}", columns=_SAMPLES, rows=rows) for kind, rows in sorted(found.samples.items())]
    return await row_page(
        context,
        visit,
        title=f"Comparison of {found.environment}",
        back=("Reconcile", RUNS),
        mark=found.outcome or found.stage,
        note=found.problem,
        sections=[Section("Run", facts), Section("Differences", results), *samples],
        subject=found.id,
    )


ACTS: Final[Mapping[str, Act]] = {
    f"{RUNS}/add": Act(
        reconciliations.create_reconciliation,
        "Compare Nango's list now",
        "Ask for a comparison",
        telling(
            "A worker begins it within seconds, on the request budget. One runs at a time in an environment.",
            fields=(
                Field("environment", "Environment", value="default"),
                Field("dry_run", "Dry run", "Count what differs at a first look, and change nothing.", "check"),
                Field(
                    "accept_deletions",
                    "Accept deletions",
                    "Believe that connections are gone even when most are absent from Nango's list.",
                    "check",
                ),
            ),
        ),
        lambda _: RUNS,
        "run_asked",
        body=lambda form: {
            "environment": form.get("environment", "").strip(),
            "dry_run": form.get("dry_run") == "true",
            "accept_deletions": form.get("accept_deletions") == "true",
        },
    ),
}
