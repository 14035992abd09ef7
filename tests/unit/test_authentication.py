"""Tokens that were never seen take no place from those that are known, and few lookups of one address run at once."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest
from starlette.requests import Request

from app.clock import utc_now
from app.domain.access import Access, Scope
from app.services import tokens
from app.web.api import authentication
from app.web.api.authentication import MAX_UNKNOWN, Authenticator
from app.web.api.problems import ApiRefusal
from tests.waiting import PATIENCE

REAL = "wl_" + "r" * 43


def made_up(number: int) -> str:
    return f"wl_{number:043}"


def call(secret: str, address: str = "203.0.113.7") -> Request:
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    return Request({"type": "http", "headers": headers, "client": (address, 1)})


@dataclass
class Tokens:
    """Lookups of unknown tokens, which end when `go` is set."""

    go: threading.Event = field(default_factory=threading.Event)
    live: set[str] = field(default_factory=lambda: {REAL})
    looked_up: list[str] = field(default_factory=list)

    def authenticate(self, _database, secret, *, now):
        self.looked_up.append(secret)
        if secret in self.live:
            return Access("token:real", frozenset({Scope.VIEWER}))
        self.go.wait(PATIENCE)
        return None


@pytest.fixture
def known(monkeypatch):
    found = Tokens()
    monkeypatch.setattr(tokens, "authenticate", found.authenticate)
    yield found
    found.go.set()


async def outcome(authenticator: Authenticator, request: Request) -> str:
    try:
        return (await authenticator.access(request)).actor
    except ApiRefusal as refused:
        return refused.kind.word


def run(story):
    authenticator = Authenticator(None, utc_now)
    try:
        return asyncio.run(story(authenticator))
    finally:
        authenticator.close()


def test_a_known_token_does_not_wait_for_unknown_ones(known):
    async def story(authenticator):
        await authenticator.access(call(REAL))
        strangers = [
            asyncio.create_task(outcome(authenticator, call(made_up(number), f"203.0.113.{number}")))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        assert await outcome(authenticator, call(REAL)) == "token:real"
        assert not any(stranger.done() for stranger in strangers)
        known.go.set()
        return await asyncio.gather(*strangers)

    assert set(run(story)) == {"unauthenticated"}


def test_an_address_may_have_a_few_unknown_tokens_looked_up(known):
    async def story(authenticator):
        first = [asyncio.create_task(outcome(authenticator, call(made_up(number)))) for number in range(MAX_UNKNOWN)]
        await asyncio.sleep(0)
        assert await outcome(authenticator, call(made_up(99))) == "too_many_unknown_tokens"
        other = asyncio.create_task(outcome(authenticator, call(made_up(99), "198.51.100.9")))
        await asyncio.sleep(0)
        assert not other.done()
        known.go.set()
        assert set(await asyncio.gather(*first, other)) == {"unauthenticated"}
        return await outcome(authenticator, call(made_up(99)))  # the place is free again

    assert run(story) == "unauthenticated"


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [("2001:db8::1", "2001:db8::ffff", True), ("2001:db8::1", "2001:db8:0:1::1", False), ("unix", "unix", True)],
)
def test_an_ipv6_site_counts_as_one_address(known, address, other, same):
    async def story(authenticator):
        first = [
            asyncio.create_task(outcome(authenticator, call(made_up(number), address))) for number in range(MAX_UNKNOWN)
        ]
        await asyncio.sleep(0)
        last = asyncio.create_task(outcome(authenticator, call(made_up(99), other)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = last.done()
        known.go.set()
        await asyncio.gather(*first, last)
        return refused

    assert run(story) is same


def test_many_calls_with_one_new_token_share_a_lookup(known):
    async def story(authenticator):
        return await asyncio.gather(*(outcome(authenticator, call(REAL)) for _ in range(50)))

    assert set(run(story)) == {"token:real"}
    assert known.looked_up == [REAL]


def test_a_caller_that_leaves_does_not_end_the_lookup_for_others(known):
    async def story(authenticator):
        leaving = asyncio.create_task(outcome(authenticator, call(made_up(1))))
        staying = asyncio.create_task(outcome(authenticator, call(made_up(1))))
        await asyncio.sleep(0)
        leaving.cancel()
        known.go.set()
        return await staying

    assert run(story) == "unauthenticated"


def test_a_revoked_token_ends_at_once_and_is_known_no_more(known):
    async def story(authenticator):
        await authenticator.access(call(REAL))
        known.live.clear()
        known.go.set()
        assert await outcome(authenticator, call(REAL)) == "unauthenticated"
        return authenticator

    assert tokens.digest(REAL) not in run(story)._known


def test_what_is_no_token_is_not_looked_up(known):
    async def story(authenticator):
        texts = ["x", "wl_short", "wl_" + "x" * 44, "xx_" + "x" * 43, "\udcff" * 46]
        return {await outcome(authenticator, call_with(text)) for text in texts}

    def call_with(text):
        headers = [(b"authorization", b"Bearer " + text.encode("utf-8", "surrogateescape"))]
        return Request({"type": "http", "headers": headers, "client": ("203.0.113.7", 1)})

    assert run(story) == {"unauthenticated"}
    assert known.looked_up == []


def test_what_is_remembered_is_bounded(known, monkeypatch):
    monkeypatch.setattr(authentication, "MAX_REMEMBERED", 2)
    known.live = {made_up(number) for number in range(5)}

    async def story(authenticator):
        for number in range(5):
            await authenticator.access(call(made_up(number)))
        return authenticator

    assert [*run(story)._known] == [tokens.digest(made_up(number)) for number in (3, 4)]
