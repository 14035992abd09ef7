"""The address that a caller's attempts are counted by."""

import ipaddress

from starlette.requests import Request


def client_address(request: Request) -> str:
    """The client's address; for IPv6 its /64 network, which one site has."""
    host = request.client.host if request.client else ""
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else host
