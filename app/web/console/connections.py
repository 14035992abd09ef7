"""The list of connections, and the page of one."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import structs
from starlette.responses import Response

from app.domain.linking import TagKeys
from app.domain.search import PARAMETER
from app.errors import InvalidInput
from app.web.api import connection_links, connections, records, refreshes
from app.web.console.calling import ask
from app.web.console.lists import Filter, List
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit

PATH: Final = "/console/connections"
SHOWN_AUDIT: Final = 20


def _pair(text: str) -> dict[str, str]:
    """The parameter for a tag that is typed as `key=value`. Raises InvalidInput."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidInput("write it as key=value, such as plan=pro")
    return {f"tags[{key.strip()}]": value.strip()}


_SEARCH: Final = (
    "A name, an e-mail address, an id or a part of one; or such as `user:ada@example.com tag.plan:pro`. All terms must "
    "hold; quotes hold a value with spaces together."
)
FILTERS: Final = (
    Filter(PARAMETER, "Search", hint=_SEARCH),
    Filter("environment"),
    Filter("integration"),
    Filter("connection_id", "Connection id"),
    Filter("status"),
    Filter("user"),
    Filter("organization"),
    Filter("tag", hint="As `key=value`.", query=_pair),
    Filter("unlinked"),
    Filter("drift"),
    Filter("duplicates"),
    Filter("needs_reconnect"),
    Filter("failing"),
    Filter("kept_alive"),
    Filter("expires_before", "Token lapses before"),
    Filter("grant_before", "Grant lapses before"),
)
LIST_FILTERS: Final = frozenset(each.name for each in FILTERS)
LIST: Final = List(connections.list_connections, FILTERS)
# Lists that operators ask for, by their names.
VIEWS: Final[Sequence[tuple[str, Mapping[str, str]]]] = (
    ("All", {}),
    ("Without an owner here", {"unlinked": "true"}),
    ("Not at Nango yet", {"status": "unconfirmed"}),
    ("In drift", {"drift": "true"}),
    ("Several of one owner", {"duplicates": "true"}),
    ("Need their end user", {"needs_reconnect": "true"}),
    ("Failing", {"failing": "true"}),
    ("Gone from Nango", {"status": "deleted"}),
)


def person_of(tags: Mapping[str, str], keys: TagKeys) -> dict[str, str | None]:
    """The end user's display name and e-mail, as the tags have them."""
    return {"name": tags.get(keys.user_name), "email": tags.get(keys.user_email)}


async def show_connections(context: ConsoleContext, visit: Visit) -> Response:
    """Connections as people think of them: by the end user's name, where it is known."""
    found = await LIST.read(context, visit)
    keys = context.api.policy.tag_keys
    views = [(label, link(PATH, **query), dict(found.query) == query) for label, query in VIEWS]
    people = [person_of(row.tags, keys) for row in found.rows]
    return visit.page("connections.html", status=found.status, list=found, people=people, views=views)


async def show_connection(context: ConsoleContext, visit: Visit) -> Response:
    """All that is stored of one connection, the explanation of its link, and what an operator may do with it."""
    con_id = visit.request.path_params["con_id"]
    found = await ask(context, visit, connections.get_connection, con_id=con_id)
    explained = await ask(context, visit, connection_links.explain_connection, con_id=con_id)
    renewal = await ask(context, visit, refreshes.get_renewal, con_id=con_id)
    return visit.page(
        "connection.html",
        connection=found,
        person=person_of(found.tags, context.api.policy.tag_keys),
        explained=explained,
        renewal=renewal,
        audit=await audit_of(context, visit, found.id),
        is_deleted=found.status == "deleted",
    )


async def audit_of(context: ConsoleContext, visit: Visit, subject: str) -> list[Mapping[str, Any]] | None:
    """The newest entries of the audit about a row; None for an operator who may not read it."""
    endpoint = records.list_audit
    if not visit.access.allows(endpoint.scope, teams=endpoint.teams):
        return None
    found = await ask(context, visit, endpoint, query={"subject": subject, "limit": SHOWN_AUDIT})
    return [structs.asdict(row) for row in found.data]
