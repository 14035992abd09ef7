"""Calls of the REST API's functions by pages, with the operator's rights and in the pool of their kind."""

from functools import partial
from typing import Any

import msgspec

from app.web.api.endpoint import Endpoint
from app.web.api.problems import FORBIDDEN, ApiRefusal
from app.web.api.reading import read_body, read_query
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit


async def ask(context: ConsoleContext, visit: Visit, endpoint: Endpoint, **arguments: Any) -> Any:
    """The endpoint's answer. arguments: parts of the path, and `query` and `body` as objects of plain values.

    Raises Refusal for a right that the operator lacks and for values that the API would refuse, and WaylinkError.
    """
    if not visit.access.allows(endpoint.scope, teams=endpoint.teams):
        raise ApiRefusal(FORBIDDEN, f"This needs the right `{endpoint.scope}`, which your account does not have.")
    work = partial(endpoint.run, visit.call(context), **read(endpoint, **arguments))
    pool = (
        context.nango_calls if endpoint.asks_nango else context.patterns if endpoint.matches_patterns else context.rows
    )
    return await pool.run(work)


def read(endpoint: Endpoint, **arguments: Any) -> dict[str, Any]:
    """The arguments as the endpoint takes them. Raises Refusal, with the field that is wrong."""
    found = {name: arguments[name] for name in endpoint.parameters}
    if endpoint.query is not None:
        query = link("", **arguments.get("query", {})).removeprefix("?")
        found["query"] = read_query(query.encode(), endpoint.query)
    if endpoint.body is not None:
        found["body"] = read_body(msgspec.json.encode(arguments.get("body", {})), endpoint.body)
    return found
