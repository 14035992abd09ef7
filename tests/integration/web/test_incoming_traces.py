"""A webhook's header `traceparent` is kept with its event, by both ways a request may take."""

import pytest
from sqlalchemy import text

from app.domain.signature import HEADER as SIGNATURE
from app.domain.signature import sign
from app.domain.traceparent import HEADER
from tests.integration.web.test_direct import requests, web
from tests.integration.web.test_webhooks import fresh
from tests.integration.web.web_server import KEY, WEBHOOK, WebServer, raw_request

__all__ = ["requests", "web"]  # fixtures

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = VALID.replace("4b", "5c")


def request(body: bytes, *headers: str, whole: bool) -> bytes:
    """A signed webhook; what asks for a 100 is passed on as a request."""
    lines = [f"{SIGNATURE}: {sign(body, KEY)}", f"content-length: {len(body)}", *headers]
    return raw_request(body, *lines, *([] if whole else ["connection: close"]))


def kept(web: WebServer, body: bytes) -> list[str | None]:
    with web.database.read() as session:
        return list(session.scalars(text("SELECT traceparent FROM events WHERE body = :body"), {"body": body}))


@pytest.mark.parametrize("whole", [True, False], ids=["from the connection", "as a request"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([f"{HEADER}: {VALID}"], VALID),
        ([f"TraceParent: {VALID[:-1]}0"], f"{VALID[:-1]}0"),
        ([f"{HEADER}: {VALID}", "tracestate: a=b"], VALID),
        ([], None),
        ([f"{HEADER}: nonsense"], None),
        ([f"{HEADER}: "], None),
        ([f"{HEADER}: {'0' * 4000}"], None),
        ([f"{HEADER}: {VALID}", f"{HEADER}: {OTHER}"], None),
        ([f"{HEADER}: {VALID}", f"{HEADER}: {OTHER}", f"{HEADER}: {OTHER}"], None),
    ],
)
def test_a_valid_trace_is_kept_and_any_other_left_out(
    web: WebServer, requests: list[str], headers: list[str], expected: str | None, whole: bool
) -> None:
    body = fresh()
    status, _ = web.exchange(request(body, *headers, whole=whole))
    assert (status, kept(web, body)) == (202, [expected])
    assert requests == ([] if whole else [WEBHOOK])
