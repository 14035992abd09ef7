"""Answers and refusals in Nango's form, and JSON bodies read by its server's rules.

(Nango contract: Requests and errors)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.domain.tags import is_storable
from app.sandbox.html_templates import HTML
from app.sandbox.webhooks import AuthWebhook, WebhookSender

Issue = dict[str, Any]  # zod's {code, message, path}
MISSING: Final = object()  # JavaScript's undefined: an absent member, or no body at all


class RefusedError(Exception):
    """Ends a call with `{"error": {...}}`. `events`: webhooks that are sent nevertheless."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str | None = None,
        *,
        issues: Sequence[Issue] | None = None,
        payload: object = None,
        events: Sequence[AuthWebhook] = (),
    ) -> None:
        super().__init__(code)
        self.status, self.events = status, tuple(events)
        members = {"code": code, "message": message, "errors": issues, "payload": payload}
        self.error = {name: value for name, value in members.items() if value is not None}

    def response(self, courier: WebhookSender) -> Response:
        return answer(courier, {"error": self.error}, status=self.status, events=self.events)


def answer(
    courier: WebhookSender, content: object, *, status: int = 200, events: Sequence[AuthWebhook] = ()
) -> Response:
    """A JSON response; its webhooks are sent after the last byte, as Nango's arrive after the answer."""
    background = BackgroundTask(courier.post, events) if events else None
    headers = {"content-type": "application/json; charset=utf-8"}
    return JSONResponse(content, status_code=status, headers=headers, background=background)


def page(courier: WebhookSender, html: str, *, status: int = 200, events: Sequence[AuthWebhook] = ()) -> Response:
    """An HTML response; its webhooks are sent after the last byte."""
    background = BackgroundTask(courier.post, events) if events else None
    return Response(html, status_code=status, headers=HTML, background=background)


async def read_json(request: Request) -> object:
    """The body, MISSING when there is none. Raises RefusedError: 415, or 400 for invalid JSON."""
    raw = await request.body()
    if not raw:
        return MISSING
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "invalid_content_type", "Content-Type header must be application/json")
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "invalid_json", "The body is not valid JSON") from error
    if not isinstance(body, dict | list):
        raise RefusedError(400, "invalid_json", "The body must be an object or an array")
    return body


def read_query(request: Request) -> dict[str, Any]:
    """The query by the rules of the `qs` library: `tags[key]=value` nests one level, a repeated name makes a list."""
    query: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        target, key = query, name
        outer, bracket, inner = name.partition("[")
        if bracket and inner.endswith("]") and isinstance(query.setdefault(outer, {}), dict):
            target, key = query[outer], inner[:-1]
        target[key] = _joined(target[key], value) if key in target else value
    return query


def refuse_unstorable(value: object, message: str) -> None:
    """Raises a 500 for NUL and lone surrogates: JSON has them, Nango's database does not (seen in recordings)."""
    if _is_unstorable(value):
        raise RefusedError(500, "server_error", message)


def _is_unstorable(value: object) -> bool:
    if isinstance(value, str):
        return not is_storable(value)
    if isinstance(value, Mapping):
        return any(_is_unstorable(name) or _is_unstorable(inner) for name, inner in value.items())
    return isinstance(value, list) and any(map(_is_unstorable, value))


def _joined(earlier: object, value: str) -> list[object]:
    return [*earlier, value] if isinstance(earlier, list) else [earlier, value]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
