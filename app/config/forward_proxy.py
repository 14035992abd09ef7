"""Choice of the forward proxy for calls to Nango."""

from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

DIRECT: Final = "none"  # WAYLINK_NANGO_PROXY: no proxy, whatever the environment says
SCHEMES: Final = ("http", "https")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def proxy_for(base_url: str, named: str | None) -> str | None:
    """URL of the proxy for this origin; None for a direct connection.

    named: the operator's choice. Without it `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` of the environment
    apply, in lower case too. Loopback addresses are always reached directly.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if named == DIRECT or host in _LOOPBACK:
        return None
    if named is not None:
        return named
    known = getproxies_environment()
    found = known.get(parts.scheme) or known.get("all")
    if found is None or proxy_bypass(host):
        return None
    return found if "://" in found else f"http://{found}"


def shown(proxy: str) -> str:
    """A proxy's URL without user and password."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
