"""The steps of the ladder that are not Waylink: what the same ASGI server does with less to do.

`python -m bench.rungs noop|verify PORT` serves one of them.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.domain.event import read
from app.domain.signature import HEADER, matching_key
from bench.load import KEY, PATH


async def noop(_request: Request) -> Response:
    """A Starlette route that does nothing at all."""
    return Response(status_code=202)


async def verify(request: Request) -> Response:
    """Read, verify and parse, but store nothing."""
    body = await request.body()
    if matching_key(body, request.headers.get(HEADER), [KEY]) is None:
        return Response(status_code=401)
    read(body)
    return Response(b'{"event_id":"","duplicate":false}', 202, media_type="application/json")


def main() -> None:
    endpoint = {"noop": noop, "verify": verify}[sys.argv[1]]
    app = Starlette(routes=[Route(PATH, endpoint, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)


if __name__ == "__main__":
    main()
