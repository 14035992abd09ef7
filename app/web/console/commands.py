"""Commands: all pages as a list that a word narrows, and the keys. A dialog of every page shows the same."""

from typing import Final

from starlette.responses import Response

from app.web.access_table import PAGES
from app.web.console.navigation import entries, further, may
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit

LONGEST: Final = 100  # characters that are looked for
# Pages of one row, by the beginning of its id.
_ROWS: Final = (
    ("evt_", "event", "/console/events/"),
    ("job_", "job", "/console/jobs/"),
    ("con_", "connection", "/console/connections/"),
    ("ref_", "refresh", "/console/refreshes/"),
    ("rec_", "comparison", "/console/reconciliations/"),
    ("usr_", "user", "/console/users/"),
    ("org_", "organization", "/console/organizations/"),
)


# Lists that a text is searched for in.
_SEARCHED: Final = (("connections", "/console/connections"), ("events", "/console/events"))


async def show_commands(_context: ConsoleContext, visit: Visit) -> Response:
    """The pages whose names hold `?q=`, the row of which it is the id, and the lists to search for it."""
    wanted = visit.request.query_params.get("q", "").strip()[:LONGEST]
    listed = [*entries(visit.access, "/console/commands"), *further(visit.access)]
    rows = [(prefix, noun, to) for prefix, noun, to in _ROWS if _may_see(visit, to)]
    row = next(((noun, to + wanted) for prefix, noun, to in rows if wanted.startswith(prefix)), None)
    is_id = wanted.startswith(tuple(prefix for prefix, _, _ in _ROWS))
    searched = [(noun, path) for noun, path in _SEARCHED if may(visit.access, f"GET {path}")]
    return visit.page(
        "commands.html",
        wanted=wanted,
        commands=[entry for entry in listed if wanted.lower() in entry.label.lower()],
        rows=rows,
        row=row,
        searched=searched,
        searches=[(noun, link(path, q=wanted)) for noun, path in searched] if wanted and not is_id else [],
    )


async def show_keys(_context: ConsoleContext, visit: Visit) -> Response:
    """The keys and what each does, and whether they are on."""
    return visit.page("keys.html", pages=entries(visit.access, "/console/keys"))


def _may_see(visit: Visit, path: str) -> bool:
    """Whether the operator may see rows under this path."""
    return any(operation.startswith(f"GET {path}{{") and may(visit.access, operation) for operation in PAGES)
