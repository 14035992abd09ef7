"""Checks of one Nango environment: does it answer, and does it send its webhooks here?"""

from collections.abc import Iterator

import httpx

from app.cli.finding import Finding
from app.cli.web_address import webhook_path
from app.config.forward_proxy import shown
from app.config.nango_environment import Environment
from app.config.settings import Settings
from app.domain.budget import Priority
from app.domain.webhook_settings import remarks
from app.errors import InvalidInput, NangoError, WaylinkError
from app.nango.client import NangoClient
from app.runtime.wiring import open_clients
from app.wording import counted


def nango_answer(settings: Settings, name: str, environment: Environment) -> Finding:
    """Ask the environment's Nango for its list of connections."""
    what = f"environment {name}"
    keys = len(environment.signing_keys.live())
    if not environment.has_api:
        detail = f"{counted(keys, 'signing key')}, no API key: nothing is confirmed with Nango, no token is refreshed"
        return Finding(what, "note", detail)
    through = f" through the proxy {shown(environment.proxy.get_secret_value())}" if environment.proxy else ""
    with open_clients(settings) as clients:
        client = clients.of(name, Priority.PEOPLE)
        try:
            if client is not None:
                client.list_connections(limit=1, timeout=10)
        except (WaylinkError, httpx.HTTPError) as refused:
            return Finding(what, "bad", f"{environment.base_url}{through}: {refused}")
    sandbox = " (the sandbox)" if environment.sandboxed else ""
    return Finding(what, "ok", f"{environment.base_url}{sandbox} answers{through}, {counted(keys, 'signing key')}")


def webhook_settings(settings: Settings, environment: Environment) -> Iterator[Finding]:
    """Check the environment's webhook settings with an account API key: URLs and switches.

    (Nango contract: Environments API)
    """
    what = f"webhooks of {environment.name}"
    if environment.account_key is None or environment.nango_id is None:
        return
    account_key = environment.account_key.get_secret_value()
    proxy = environment.proxy.get_secret_value() if environment.proxy else None
    with NangoClient(base_url=environment.base_url, api_key=account_key, read_timeout=10, proxy=proxy) as client:
        try:
            told = client.get_webhook_settings(environment.nango_id)
        except (NangoError, InvalidInput) as refused:
            yield Finding(what, "bad", f"the settings at Nango are not shown: {refused}")
            return
        found = [
            *remarks(
                told,
                environment=environment.name,
                path=webhook_path(environment.name),
                origin=settings.public_url,
                both_urls=environment.both_urls,
            )
        ]
        for finding in found:
            yield Finding(what, "bad" if finding.bad else "note", finding.detail)
        if not any(finding.bad for finding in found):
            yield Finding(what, "ok", "they come here, and those that Waylink needs are on")
        yield _signing_key(client, environment, environment.nango_id)


def _signing_key(client: NangoClient, environment: Environment, nango_id: str) -> Finding:
    what = f"signing key of {environment.name}"
    try:
        key = client.get_webhook_settings(nango_id, signing_key=True).signing_key
    except NangoError as refused:
        return Finding(what, "note", f"not compared with Nango's: {refused}")
    if key is None:
        return Finding(what, "note", "not compared: Nango does not show it")
    if key not in environment.signing_keys.live():
        return Finding(what, "bad", "Nango signs with a key that is not live here: every webhook is refused")
    return Finding(what, "ok", "the key that Nango signs with is live here")
