"""Checks of each environment's mode, and of what an installation in production must not be."""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from app.config.nango_environment import Environment
from app.domain.status import Check, CheckKind, Level
from app.services.status.installation import Installation


def checks(installation: Installation) -> Iterator[Check]:
    """A check per environment: red in production where connections are not asked for at Nango."""
    public = is_public(installation.public_url)
    for name, environment in installation.environments.items():
        mode = _mode(environment)
        is_real = environment.has_api and not environment.sandboxed
        if is_real or not public:
            yield Check(CheckKind.ENVIRONMENT, Level.OK, mode, environment.base_url, subject=name)
        else:
            yield Check(CheckKind.ENVIRONMENT, Level.RED, mode, _why(environment), "waylink check", subject=name)


def is_public(url: str | None) -> bool:
    """Whether WAYLINK_PUBLIC_URL names a host that others reach: then the installation is taken for production.

    Names of this machine and of a local network, and private addresses, are not public.
    """
    host = (urlsplit(url).hostname or "") if url else ""
    if not host or host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".test")):
        return False
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host.rstrip(".")


def _why(environment: Environment) -> str:
    if environment.sandboxed:
        return (
            "WAYLINK_PUBLIC_URL names a public host, and the environment is the sandbox: its connections are not real"
        )
    return (
        "WAYLINK_PUBLIC_URL names a public host, and without an API key nothing is confirmed at Nango: set "
        "WAYLINK_NANGO_API_KEY"
    )


def _mode(environment: Environment) -> str:
    if environment.sandboxed:
        return "sandbox"
    return "everything on" if environment.has_api else "signing keys only"
