"""Repeated calls of the client: never by itself, only where it is safe, and never past the deadline."""

from collections.abc import Callable

import httpx
import pytest

from app import errors
from app.nango import NangoClient

PAGE = httpx.Response(200, json={"connections": []})
LIMITED = httpx.Response(429, json={"error": {"code": "too_many_request"}}, headers={"retry-after": "3"})
DOWN = httpx.Response(503)
READ = "list_connections"
FORCED = "get_connection"
WRITE = "set_metadata"
CALLS: dict[str, Callable[[NangoClient], object]] = {
    READ: lambda client: client.list_connections(),
    FORCED: lambda client: client.get_connection("google", "c1", force_refresh=True),
    WRITE: lambda client: client.set_metadata("google", "c1", {}),
}


def trying(answers: list[httpx.Response | Exception], slept: list[float], **options: object) -> NangoClient:
    def handler(_: httpx.Request) -> httpx.Response:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

    settings: dict = {"retries": 2, "sleep": slept.append} | options
    transport = httpx.MockTransport(handler)
    return NangoClient(base_url="https://nango.example", api_key="k", transport=transport, **settings)


@pytest.mark.parametrize("failure", [LIMITED, DOWN, httpx.ConnectError("no"), httpx.ReadTimeout("no")])
@pytest.mark.parametrize("operation", CALLS)
def test_nothing_is_sent_again_unless_asked_for(operation: str, failure: httpx.Response | Exception):
    slept: list[float] = []
    client = trying([failure], slept, retries=0)
    with pytest.raises(errors.NangoError):
        CALLS[operation](client)
    assert slept == []


def test_a_read_is_sent_again_after_growing_waits():
    slept: list[float] = []
    assert trying([DOWN, httpx.ReadTimeout("no"), PAGE], slept).list_connections().connections == ()
    assert slept == [0.5, 1.0]


def test_the_last_failure_is_reported_when_all_tries_failed():
    with pytest.raises(errors.NangoUnavailable, match="503"):
        trying([httpx.ReadTimeout("no"), DOWN, DOWN], []).list_connections()


@pytest.mark.parametrize("failure", [DOWN, httpx.ReadTimeout("no"), httpx.ConnectError("no")])
@pytest.mark.parametrize("operation", [FORCED, WRITE])
def test_what_may_have_been_done_is_not_sent_again(operation: str, failure: httpx.Response | Exception):
    slept: list[float] = []
    with pytest.raises(errors.NangoUnavailable):
        CALLS[operation](trying([failure], slept))
    assert slept == []


@pytest.mark.parametrize("operation", CALLS)
def test_a_rate_limit_is_waited_out_by_any_call_as_nothing_was_done(operation: str):
    slept: list[float] = []
    refused = httpx.Response(404, json={"error": {"code": "unknown_connection"}})
    answers = [LIMITED, PAGE if operation == READ else refused]
    try:
        CALLS[operation](trying(answers, slept))
    except errors.NangoConnectionNotFound:
        assert operation != READ
    assert (slept, answers) == ([3.0], [])


def test_a_retry_after_of_0_is_not_taken_at_its_word():
    slept: list[float] = []
    at_once = httpx.Response(429, headers={"retry-after": "0"})
    trying([at_once, PAGE], slept).list_connections()
    assert slept == [1.0]


def test_a_wait_past_the_deadline_is_not_begun():
    slept: list[float] = []
    with pytest.raises(errors.NangoRateLimited) as raised:
        trying([LIMITED], slept).list_connections(timeout=2.9)
    assert (slept, raised.value.retry_after) == ([], 3.0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 424])
def test_a_refusal_is_final(status: int):
    with pytest.raises(errors.NangoError):
        trying([httpx.Response(status)], []).list_connections()
