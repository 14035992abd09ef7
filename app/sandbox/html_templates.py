"""Pages for an end user: the connect link's, the simulated provider's, and the end of an OAuth flow.

Plain HTML without script, in place of Nango's Connect UI.
"""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final
from urllib.parse import quote, urlencode

from app.sandbox.entities import SandboxIntegration

HTML: Final = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
}
_STYLE: Final = (
    ":root{color-scheme:light dark}h1{font-size:1.5rem}h2{font-size:1.1rem}small{font-weight:normal;opacity:.7}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem}"
    "section{border:1px solid #8888;border-radius:.5rem;padding:0 1rem 1rem;margin:1rem 0}"
    "label{display:block;margin:.5rem 0}input{font:inherit;display:block;width:100%;box-sizing:border-box}"
    "button,.button{font:inherit;display:inline-block;padding:.25rem 1rem;margin-right:.5rem;color:inherit;"
    "text-decoration:none;background:#8882;border:1px solid #888;border-radius:.25rem}"
)
# Form fields by auth mode: the member of the flow's body and its label.
_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "API_KEY": {"apiKey": "API key"},
    "BASIC": {"username": "User name", "password": "Password"},
    "NONE": {},
    "OAUTH2_CC": {"client_id": "Client id", "client_secret": "Client secret"},
}


def connect(integrations: Iterable[SandboxIntegration], *, token: str, reconnecting: bool) -> str:
    """The connect link's page: a form for each integration that the session allows."""
    forms = "".join(_form(integration, token) for integration in integrations)
    title = "Reconnect" if reconnecting else "Connect"
    return _page(title, forms or "<p>This session allows no integration that exists here.</p>")


def provider(*, integration: str, redirect_uri: str, state: str) -> str:
    """The simulated provider's question. Both answers are links to the callback, as providers redirect by GET."""
    allow = f"{redirect_uri}?{urlencode({'state': state, 'code': 'sandbox-code'})}"
    refusal = {"state": state, "error": "access_denied", "error_description": "The user said no."}
    deny = f"{redirect_uri}?{urlencode(refusal)}"
    return _page(
        "Authorize",
        f"<p>An application asks for access to <b>{escape(integration)}</b>. No real provider is asked.</p>"
        f'<p><a class="button" href="{escape(allow)}">Allow</a> <a class="button" href="{escape(deny)}">Deny</a></p>',
    )


def connected(connection_id: str, integration: str) -> str:
    return _page(
        "Connected",
        f"<p>Connection <code>{escape(connection_id)}</code> of <b>{escape(integration)}</b> is there, "
        "and its webhook is on the way.</p><p>You can close this window.</p>",
    )


def failed(reason: str) -> str:
    return _page("Not connected", f"<p>{escape(reason)}</p>")


def not_found(method: str, path: str) -> str:
    """Express's page for an unknown route, as in Nango."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>\n'
        f"<body>\n<pre>Cannot {escape(method)} {escape(path)}</pre>\n</body>\n</html>\n"
    )


def _form(integration: SandboxIntegration, token: str) -> str:
    name, key = escape(integration.display_name), quote(integration.unique_key, safe="")
    query = escape(urlencode({"connect_session_token": token}))
    heading = f"<h2>{name} <small>({escape(integration.unique_key)})</small></h2>"
    if integration.auth_mode == "OAUTH2":
        link = f'<a class="button" href="oauth/connect/{key}?{query}">Go to the provider</a>'
        return f"<section>{heading}{link}</section>"
    fields = _FIELDS.get(integration.auth_mode)
    if fields is None:
        mode = escape(integration.auth_mode)
        return f"<section>{heading}<p>The sandbox has no page for auth mode {mode}.</p></section>"
    inputs = "".join(f'<label>{label}<input name="{field}"></label>' for field, label in fields.items())
    action = f"sandbox/connect/{key}?{query}"
    return f'<section>{heading}<form method="post" action="{action}">{inputs}<button>Connect</button></form></section>'


def _page(title: str, body: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title} · Nango sandbox</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}</body></html>\n"
    )
