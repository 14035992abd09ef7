"""The steps of the ladder that are not Waylink itself: what the same server does with less, or other, to do.

`python -m bench.rungs nothing|body|verify|endpoint|delay|insert PORT` serves one of them.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from app.config.loading import load
from app.db.ingest import NewDelivery
from app.domain.event import read
from app.domain.signature import HEADER, matching_key
from app.main import create_app
from app.services.events.intake import Receipt
from app.web.group_commit import GroupCommit, OnCommit
from app.web.server import serve
from bench import tutorial
from bench.load import KEY, PATH


async def nothing(_request: Request) -> Response:
    """A Starlette route that does nothing at all."""
    return Response(status_code=202)


async def body(request: Request) -> Response:
    """Read the body and forget it."""
    await request.body()
    return Response(status_code=202)


async def verify(request: Request) -> Response:
    """Read, verify and parse, but store nothing."""
    content = await request.body()
    if matching_key(content, request.headers.get(HEADER), [KEY]) is None:
        return Response(status_code=401)
    read(content)
    return Response(b'{"event_id":"","duplicate":false}', 202, media_type="application/json")


def endpoint() -> ASGIApp:
    """Waylink's own web process with a store that answers at once."""

    def take(_self: GroupCommit, delivery: NewDelivery, tell: OnCommit, **_options: object) -> None:
        tell(Receipt(delivery.event_id, duplicate=False))

    GroupCommit.take = take  # type: ignore[method-assign, assignment]
    return create_app(load())


def _routed(handler: Callable[[Request], Any]) -> ASGIApp:
    return Starlette(routes=[Route(PATH, handler, methods=["POST"])])


RUNGS: Final[dict[str, Callable[[], ASGIApp]]] = {
    "nothing": lambda: _routed(nothing),
    "body": lambda: _routed(body),
    "verify": lambda: _routed(verify),
    "endpoint": endpoint,
    "delay": lambda: _routed(tutorial.delay_endpoint()),
    "insert": lambda: _routed(tutorial.insert_endpoint()),
}


def main() -> None:
    serve(RUNGS[sys.argv[1]](), host="127.0.0.1", port=int(sys.argv[2]))


if __name__ == "__main__":
    main()
