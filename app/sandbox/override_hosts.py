"""Hosts that a webhook override may name (Nango contract: Webhook settings)."""

import ipaddress
from urllib.parse import urlsplit


def is_public(url: str) -> bool:
    """False for Nango's own hosts, loopback and private addresses. Names are not resolved, as in Nango's own check."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    if not host or host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return False
    if host == "nango.dev" or host.endswith(".nango.dev"):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True
