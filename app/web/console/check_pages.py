"""The pages of the console that show what a check of the status tells of, and where it can be repaired."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from app.domain.access import Access
from app.domain.status import Check, CheckKind
from app.web.console.navigation import may
from app.web.console.rendering import link


@dataclass(frozen=True, slots=True)
class CheckPage:
    """A page. of: the filter for the check's subject, such as `crm/jobs`; empty where the page is of all subjects.

    path: `{subject}` in it stands for the subject. operation: of the access table, where it is not `GET` of the path.
    """

    label: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    of: str = ""
    operation: str = ""


_PROCESSES: Final = CheckPage("Processes", "/console/queues")
_DESTINATION: Final = CheckPage(
    "The destination", "/console/destinations/{subject}", operation="GET /console/destinations/{team}/{destination}"
)
_WAITING: Final = CheckPage("Events that wait", "/console/events", {"state": "received"})
_REJECTIONS: Final = CheckPage("Rejections", "/console/rejections", of="environment")
_SETTINGS: Final = CheckPage("Settings", "/console/settings")
_WEBHOOKS: Final = CheckPage(
    "Webhooks by answer", "/console/figures/webhooks", {"since": "1h"}, operation="GET /console/figures/{figure}"
)
_OTHERS: Final = "others"  # the subject that stands for all that are not named
PAGES: Final[Mapping[CheckKind, CheckPage]] = {
    CheckKind.CONFIGURATION: _SETTINGS,
    CheckKind.ENVIRONMENT: _SETTINGS,
    CheckKind.LEFT_FILE: CheckPage("Routes", "/console/routes"),
    CheckKind.PROCESSES: _PROCESSES,
    CheckKind.PROCESS: _PROCESSES,
    CheckKind.PROGRESS: _PROCESSES,
    CheckKind.CANARY: _PROCESSES,
    CheckKind.VERSIONS: _PROCESSES,
    CheckKind.SCHEMA: _PROCESSES,
    CheckKind.REFRESH_SCHEDULER: _PROCESSES,
    CheckKind.EVENTS_WORKER: _PROCESSES,
    CheckKind.QUEUE: _PROCESSES,
    CheckKind.TEAM_BROKER: CheckPage("Destinations", "/console/destinations", {"kind": "celery"}),
    CheckKind.BUDGET: CheckPage("Forecast", "/console/refreshes/forecast"),
    CheckKind.STORING: _WEBHOOKS,
    CheckKind.WEBHOOKS_MISSING: _WEBHOOKS,
    CheckKind.BREAKER: _REJECTIONS,
    CheckKind.SIGNATURES: _REJECTIONS,
    CheckKind.REJECTIONS: CheckPage("Rejections", "/console/rejections", of="cause"),
    CheckKind.EVENTS_WAITING: _WAITING,
    CheckKind.EVENTS_HELD: _WAITING,
    CheckKind.EVENTS_FAILED: CheckPage("Failed events", "/console/events", {"state": "failed"}),
    CheckKind.JOBS_AVAILABLE: CheckPage("Queues", "/console/queues"),
    CheckKind.JOBS_RUNNING: CheckPage("Jobs that run", "/console/jobs", {"state": "running"}),
    CheckKind.JOBS_RETRYABLE: CheckPage("Jobs to be tried again", "/console/jobs", {"state": "retryable"}),
    CheckKind.JOBS_PARKED: CheckPage("Parked jobs", "/console/jobs", {"parked": "true"}),
    CheckKind.JOBS_DISCARDED: CheckPage("Dead letters", "/console/jobs", {"state": "discarded"}, of="destination"),
    CheckKind.DESTINATIONS: CheckPage("Destinations", "/console/destinations"),
    CheckKind.DESTINATION_FAILING: _DESTINATION,
    CheckKind.DESTINATION_DISABLED: _DESTINATION,
    CheckKind.NEEDING_RECONNECT: CheckPage("Connections", "/console/connections", {"needs_reconnect": "true"}),
    CheckKind.GRANTS_ENDING: CheckPage(
        "Connections", "/console/connections", {"status": "active", "grant_before": "7d"}
    ),
    CheckKind.REFRESHES_OVERDUE: CheckPage("Overdue refreshes", "/console/refreshes", {"state": "overdue"}),
    CheckKind.REFRESHES_TOO_LATE: CheckPage("Forecast", "/console/refreshes/forecast"),
    CheckKind.TOKENS_LAPSED: CheckPage(
        "Connections", "/console/connections", {"status": "active", "expires_before": "0s"}
    ),
    CheckKind.INTEGRATIONS_PAUSED: CheckPage("Paused integrations", "/console/refreshes/pauses"),
    CheckKind.KEPT_ALIVE: CheckPage("Connections", "/console/connections", {"kept_alive": "true"}),
    CheckKind.RECONCILE: CheckPage("Comparisons", "/console/reconciliations", of="environment"),
    CheckKind.RETENTION: _SETTINGS,
    CheckKind.ACTS: CheckPage("Audit", "/console/audit", {"outcome": "begun"}),
    CheckKind.BULK_RUNS: CheckPage("Bulk runs", "/console/bulk-runs"),
    CheckKind.NOTIFICATIONS: _SETTINGS,
}
# What no page of the console shows more of than the check does.
ELSEWHERE: Final = frozenset(
    {
        *(CheckKind.CLOCK, CheckKind.DATABASE, CheckKind.INTERNAL_BROKER),
        *(CheckKind.SECRETS, CheckKind.KEY, CheckKind.RETIRED_KEY),
    }
)


def page_of(check: Check, access: Access) -> tuple[str, str] | None:
    """The label and the path of a check's page; None without one that these rights allow."""
    page = PAGES.get(check.kind)
    if page is None or not may(access, page.operation or f"GET {page.path}"):
        return None
    is_named = bool(page.of) and check.subject not in {"", _OTHERS}
    query = {**page.query, page.of: check.subject} if is_named else page.query
    return page.label, link(page.path.replace("{subject}", quote(check.subject)), **query)
