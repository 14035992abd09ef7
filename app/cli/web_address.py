"""The web process's address as reached from this machine, and checks that it is free."""

import socket

from app.config.operator_settings import ConsoleSettings
from app.config.settings_groups import WebSettings
from app.errors import ConfigurationError, Problem


def web_origin(settings: WebSettings) -> str:
    """The origin of the web process; an address that means "all" is reached over loopback."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}  # noqa: S104
    host = reached.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def console_origin(settings: ConsoleSettings) -> str:
    """The origin at which operators reach the console."""
    return (settings.console_url or web_origin(settings)).rstrip("/")


def webhook_url(settings: WebSettings, environment: str) -> str:
    """The URL for Nango's webhooks of this environment."""
    return web_origin(settings) + webhook_path(environment)


def webhook_path(environment: str) -> str:
    return "/webhooks/nango" if environment == "default" else f"/webhooks/nango/{environment}"


def is_free(host: str, port: int) -> bool:
    """True where a server could listen on this address."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family):
            return True
    except (OSError, UnicodeError):  # a name too long for the resolver is no text to it
        return False


def host_problem(host: str) -> Problem | None:
    """The fault of WAYLINK_HOST on this machine; None for a usable one."""
    if is_free(host, 0):
        return None
    what = f"{host} is not an address of this machine, or of a kind that it does not have"
    return Problem("WAYLINK_HOST", what, "127.0.0.1")


def require_free(host: str, port: int) -> None:
    """Raises ConfigurationError when the web process could not listen there."""
    if (wrong := host_problem(host)) is not None:
        raise ConfigurationError([wrong])
    if not is_free(host, port):
        raise ConfigurationError([Problem("WAYLINK_PORT", _in_use(host, port), str(port + 1))])


def require_metrics_free(address: tuple[str, int] | None) -> None:
    """Raises ConfigurationError when `/metrics` could not be served on this address of its own."""
    if address is not None and not is_free(*address):
        what = f"{_in_use(*address)}, or the host is not an address of this machine"
        raise ConfigurationError([Problem("WAYLINK_METRICS_ADDRESS", what, "127.0.0.1:9464")])


def _in_use(host: str, port: int) -> str:
    return f"{host}:{port} is in use by another program, or needs rights that this user does not have"
