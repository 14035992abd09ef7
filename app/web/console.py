"""`/` and `/console`: one page that links to the documentation; the console itself comes with a later release."""

from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
_STATIC: Final = files("app.web") / "static"


async def page(_request: Request) -> Response:
    return Response((_STATIC / "placeholder.html").read_bytes(), headers=_HEADERS, media_type="text/html")
