"""Checks of an environment's webhook settings at Nango: URLs that lead here, and the switches that Waylink needs.

(Nango contract: Webhook settings; Environments API)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """The settings in Nango's answer. `switches` has the known ones: an older release of Nango has fewer."""

    primary_url: str | None
    secondary_url: str | None
    switches: Mapping[str, bool]
    signing_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark on the settings. `bad`: webhooks are lost; else they work with a limitation."""

    bad: bool
    detail: str


_LOST: Final = {
    "on_auth_creation": "off: new connections are found by reconciliation only",
    "on_auth_refresh_error": "off: broken connections are found by reconciliation only",
}
_DELETION: Final = "on_connection_deletion"


def remarks(
    settings: WebhookSettings, *, environment: str, path: str, origin: str | None, both_urls: bool
) -> Iterator[Remark]:
    """Remarks on URLs and switches; none where all is well.

    environment: its name here. path: of its webhook URL. origin: where Nango reaches it, such as
    `https://waylink.example`; without it only paths are compared. both_urls: the setting of that name.
    """
    urls = {"primary": settings.primary_url, "secondary": settings.secondary_url}
    here = [name for name, url in urls.items() if url and _leads_here(url, path=path, origin=origin)]
    if not here:
        shown = ", ".join(f"{name} {_shown(url)}" for name, url in urls.items() if url) or "none is set"
        yield Remark(True, f"no webhook URL leads to {origin or ''}{path} ({shown})")
    if len(here) == 2 and not both_urls:
        yield Remark(
            False,
            "both webhook URLs lead here: Nango sends everything twice, and each forward, sync and async action is two "
            f"events, unless {_says_so(environment)} says so",
        )
    if len(here) == 1 and both_urls:
        yield Remark(
            False,
            f"one webhook URL leads here, and {_says_so(environment)} says that both do: a second forward, sync or "
            "async action with the same bytes is lost",
        )
    for name, what in _LOST.items():
        if settings.switches.get(name) is False:
            yield Remark(True, f"{name} is {what}")
    if settings.switches.get(_DELETION) is False:
        yield Remark(False, f"{_DELETION} is off: deletions are found by reconciliation only")
    if _DELETION not in settings.switches:
        yield Remark(False, f"Nango does not show {_DELETION}: deletions may be found by reconciliation only")


def _says_so(environment: str) -> str:
    """The name of the setting: a variable only for the environment `default`, and always the file's key."""
    variable = "WAYLINK_NANGO_BOTH_URLS=true or " if environment == "default" else ""
    return f"{variable}both_urls = true in [environments.{environment}]"


def _leads_here(url: str, *, path: str, origin: str | None) -> bool:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return False
    found = parts.path.rstrip("/")
    if origin is None:
        return found.endswith(path)
    return f"{parts.scheme}://{parts.netloc}{found}".lower() == f"{origin.rstrip('/')}{path}".lower()


def _shown(url: str) -> str:
    """The URL without user, password and query, which may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "unreadable"
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
