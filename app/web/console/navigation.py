"""The navigation of the console: the pages that there are and that an operator may see, and keys that lead to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.access import Access
from app.web.access_table import PAGES

# An entry is shown once the access table has its page.
_PAGES: Final = (
    ("Overview", "/console", "h"),
    ("Events", "/console/events", "e"),
    ("Connections", "/console/connections", "c"),
    ("Jobs", "/console/jobs", "j"),
    ("Bulk runs", "/console/bulk-runs", "b"),
    ("Routes", "/console/routes", "r"),
    ("Destinations", "/console/destinations", "d"),
    ("Refreshes", "/console/refreshes", "f"),
    ("Queues and processes", "/console/queues", "q"),
    ("Reconcile", "/console/reconciliations", "n"),
    ("Rejections", "/console/rejections", "x"),
    ("Users", "/console/users", "u"),
    ("Organizations", "/console/organizations", "o"),
    ("Teams", "/console/teams", "t"),
    ("Audit", "/console/audit", "a"),
    ("Settings", "/console/settings", "s"),
    ("Tokens", "/console/tokens", "k"),
    ("Operators", "/console/operators", "p"),
    ("REST API", "/console/api", "i"),
)
# Pages beside them that need no row.
_FURTHER: Final = (
    ("Try a pattern", "/console/routes/test"),
    ("Add a route", "/console/routes/add"),
    ("Add an HTTP endpoint", "/console/destinations/-/http"),
    ("Add a Celery queue", "/console/destinations/-/celery"),
    ("Add a team", "/console/teams/-/add"),
    ("Add a user", "/console/users/add"),
    ("Add an organization", "/console/organizations/add"),
    ("Add an operator", "/console/operators/-/add"),
    ("Make a token", "/console/tokens/-/add"),
    ("Compare Nango's list now", "/console/reconciliations/add"),
    ("Close older links of the same owners", "/console/connections/supersede"),
    ("Forecast of refreshes", "/console/refreshes/forecast"),
    ("Catalogue of providers", "/console/refreshes/catalogue"),
    ("Paused integrations", "/console/refreshes/pauses"),
    ("Pause an integration", "/console/refreshes/pauses/add"),
    ("Your account", "/console/account"),
    ("Keys", "/console/keys"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A link of the navigation. is_here: it leads to the page that is shown, or to the list that it is of. key: the
    letter that leads to it after a `g`; empty where there is none.
    """

    label: str
    path: str
    is_here: bool
    key: str = ""


def may(access: Access, operation: str) -> bool:
    """Whether these rights allow an operation of the access table, such as `POST /console/jobs/act`."""
    needs = PAGES.get(operation)
    return needs is not None and (needs.scope is None or access.allows(needs.scope, teams=needs.teams))


def entries(access: Access, path: str) -> Sequence[Entry]:
    """The entries for these rights. path: of the page that is shown."""
    return [Entry(label, to, _is_here(to, path), key) for label, to, key in _PAGES if may(access, f"GET {to}")]


def further(access: Access) -> Sequence[Entry]:
    """The pages beside those of the navigation that these rights allow, and that need no row."""
    return [Entry(label, to, is_here=False) for label, to in _FURTHER if may(access, f"GET {to}")]


def _is_here(entry: str, path: str) -> bool:
    return path == entry or (entry != "/console" and path.startswith(f"{entry}/"))
