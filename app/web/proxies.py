"""Client address and scheme of requests that a trusted proxy forwards."""

import os
from typing import Any, Final, cast

from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

TRUSTED: Final = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")  # uvicorn's own variable


def behind_proxies(app: ASGIApp) -> ASGIApp:
    """The app, with `client` and `scheme` as a trusted proxy reports them."""
    untyped: Any = app  # uvicorn and Starlette each have their own types for the same protocol
    return cast("ASGIApp", ProxyHeadersMiddleware(untyped, trusted_hosts=TRUSTED))
