"""Problem details (RFC 9457) as answers."""

from collections.abc import Mapping, Sequence

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    kind: str = "about:blank",
    errors: Sequence[Mapping[str, object]] = (),
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> Response:
    """An `application/problem+json` answer. errors: an entry per field and rule. members: additional members of this
    type.
    """
    body = {"type": kind, "title": title, "status": status, "detail": detail}
    listed = {"errors": list(errors)} if errors else {}
    return Response(msgspec.json.encode(body | listed | members), status, dict(headers or {}), media_type=MEDIA_TYPE)
