"""Problem details (RFC 9457): every refusal says what happened, why, and what to do."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response


def problem(
    status: int, title: str, detail: str, *, kind: str = "about:blank", headers: Mapping[str, str] | None = None
) -> Response:
    """An `application/problem+json` answer."""
    body = msgspec.json.encode({"type": kind, "title": title, "status": status, "detail": detail})
    return Response(body, status, dict(headers or {}), media_type="application/problem+json")
