"""Pages of the connect link and of the simulated provider, for a browser (Nango contract: Connect sessions)."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from app.sandbox import flows, html_templates
from app.sandbox.context import Handler, Sandbox, SandboxCall, utc_now
from app.sandbox.guard import session_query
from app.sandbox.wire import Issue, RefusedError, page, read_query

FLOWS: Final[Mapping[str, Handler]] = {
    "API_KEY": flows.api_key,
    "BASIC": flows.basic,
    "NONE": flows.unauthenticated,
    "OAUTH2_CC": flows.client_credentials,
}


def show(sandbox: Sandbox) -> Callable[[Request], Response]:
    """GET /?session_token=…: the integrations that the session allows."""

    def serve(request: Request) -> Response:
        token = request.query_params.get("session_token", "")
        session = sandbox.store.session(token, now=utc_now())
        if session is None:
            words = "This connect link is not known or has expired: a session lives for 30 minutes. Ask for a new one."
            return page(sandbox.courier, html_templates.failed(words), status=401 if token else 404)
        allowed = session.allowed_integrations
        known = sandbox.store.integrations
        integrations = [integration for key, integration in known.items() if not allowed or key in allowed]
        html = html_templates.connect(integrations, token=token, reconnecting=session.reconnects is not None)
        return page(sandbox.courier, html)

    return serve


def submit(sandbox: Sandbox) -> Callable[[Request], Awaitable[Response]]:
    """POST /sandbox/connect/{integration}?connect_session_token=…: the page's form, passed to the
    integration's flow.
    """

    async def serve(request: Request) -> Response:
        now, form = utc_now(), dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))
        try:
            caller = session_query(sandbox, request, now)
            call = SandboxCall(
                sandbox=sandbox,
                request=request,
                body=form,
                query=read_query(request),
                now=now,
                session=caller.session,
            )
            integration = sandbox.integration(call.path("integration"), status=404)
            flow = FLOWS.get(integration.auth_mode)
            if flow is None:
                raise RefusedError(400, "invalid_auth_mode")
            made = flow(call)
        except RefusedError as refused:
            words = html_templates.failed(_reason(refused))
            return page(sandbox.courier, words, status=refused.status, events=refused.events)
        connection_id = json.loads(bytes(made.body))["connectionId"]
        response = page(sandbox.courier, html_templates.connected(connection_id, integration.unique_key))
        response.background = made.background
        return response

    return serve


def provider(call: SandboxCall) -> Response:
    """GET /sandbox/provider: the page that an OAuth flow's browser is redirected to."""
    sent = {name: str(call.query.get(name, "")) for name in ("redirect_uri", "state", "client_id")}
    expected = f"{call.sandbox.config.public_url}/oauth/callback"
    if sent["redirect_uri"] != expected:
        return call.page(html_templates.failed("The redirect_uri is not this sandbox's callback."), status=400)
    integration = sent["client_id"].removeprefix("sandbox-client-")
    return call.page(html_templates.provider(integration=integration, redirect_uri=expected, state=sent["state"]))


def _reason(refused: RefusedError) -> str:
    """Text of a refusal for the page: its message, else each issue, else the code."""
    issues = cast("Sequence[Issue]", refused.error.get("errors") or ())
    listed = [f"{'.'.join(issue['path'])}: {issue['message']}" for issue in issues]
    return str(refused.error.get("message") or "; ".join(listed) or refused.error["code"])
