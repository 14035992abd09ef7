"""The navigation of the console: the pages that there are and that an operator may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.access import Access
from app.web.access_table import PAGES

# An entry is shown once the access table has its page.
_PAGES: Final = (
    ("Overview", "/console"),
    ("Events", "/console/events"),
    ("Connections", "/console/connections"),
    ("Jobs", "/console/jobs"),
    ("Routes", "/console/routes"),
    ("Destinations", "/console/destinations"),
    ("Refreshes", "/console/refreshes"),
    ("Queues and processes", "/console/queues"),
    ("Reconcile", "/console/reconciliations"),
    ("Rejections", "/console/rejections"),
    ("Users", "/console/users"),
    ("Organizations", "/console/organizations"),
    ("Teams", "/console/teams"),
    ("Audit", "/console/audit"),
    ("Settings", "/console/settings"),
    ("Tokens", "/console/tokens"),
    ("Operators", "/console/operators"),
    ("REST API", "/console/api"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A link of the navigation. is_here: it leads to the page that is shown, or to the list that it is of."""

    label: str
    path: str
    is_here: bool


def may(access: Access, operation: str) -> bool:
    """Whether these rights allow an operation of the access table, such as `POST /console/jobs/act`."""
    needs = PAGES.get(operation)
    return needs is not None and (needs.scope is None or access.allows(needs.scope, teams=needs.teams))


def entries(access: Access, path: str) -> Sequence[Entry]:
    """The entries for these rights. path: of the page that is shown."""
    return [Entry(label, to, _is_here(to, path)) for label, to in _PAGES if may(access, f"GET {to}")]


def _is_here(entry: str, path: str) -> bool:
    return path == entry or (entry != "/console" and path.startswith(f"{entry}/"))
