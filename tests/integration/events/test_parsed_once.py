"""A body is parsed once when it is taken, and once when it is processed, whatever is in it."""

import json
from contextlib import contextmanager

import pytest

from app.config.nango_environment import Environment, SigningKeys
from app.domain.payload_policy import PayloadPolicy
from app.domain.stored_bodies import AT_ONCE, at_rest, rests_as_it_came, stored_at_once
from app.web import webhooks
from app.web.large_bodies import LARGE
from tests.integration.world import DANA, auth, failure

MARK = "the-one-that-is-counted"
SAID = "no: password=hunter2-x, "


def own(*, ends="", **members):
    """An auth webhook; `ends`: in place of its last brace."""
    body = json.dumps({"from": "nango", "type": "auth", "connectionId": MARK, "providerConfigKey": "oauth2"} | members)
    return (body if not ends else body[:-1] + ends).encode()


def error(description):
    return failure("refresh", connection_id=MARK, tags=DANA, description=description)


BODIES = {
    "plain": auth(connection_id=MARK, tags=DANA),
    "an error": error("the provider refused it"),
    "an error with a secret": error(SAID),
    "an error for a thread": error(SAID * (2 * AT_ONCE // len(SAID))),
    "cut off": own(error="no", ends=","),
    "cut off, with a secret": own(error=SAID, ends=","),
    "nested deep": own(error="no", ends=f',"a":{"[" * 150}{"]" * 150}}}'),
    "nested deep, with a secret": own(error=SAID, ends=f',"a":{"[" * 150}{"]" * 150}}}'),
    "a key twice": own(error=SAID, ends=',"success":false,"success":false}'),
    "a provider's": json.dumps({"from": "github", "connectionId": MARK, "nango": 1}).encode(),
    "forwarded": own(**{"from": "github", "type": "forward"}, payload={"from": "nango"}),
}
# A body that cannot be read is stored as a text, which is read to see that it is not by chance JSON.
AS_TEXT = {"cut off, with a secret", "nested deep, with a secret"}


@contextmanager
def counted(monkeypatch):
    """The texts with the mark that were passed to a JSON reader."""
    texts, decode = [], json.JSONDecoder.decode

    def count(decoder, text, *arguments):
        if MARK in text:
            texts.append(text)
        return decode(decoder, text, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(json.JSONDecoder, "decode", count)
        yield texts


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("at_this_release", [True, False])
@pytest.mark.parametrize("name", BODIES)
def test_a_worker_parses_a_body_once(world, monkeypatch, name, *, at_this_release):
    body = at_rest(BODIES[name]) if at_this_release else BODIES[name]
    [receipt] = world.receive(body)
    with counted(monkeypatch) as texts:
        world.process(receipt)
    assert len(texts) == len(set(texts)) == (2 if name in AS_TEXT and not at_this_release else 1)


@pytest.mark.parametrize("policy", PayloadPolicy)
@pytest.mark.parametrize("name", BODIES)
def test_web_parses_a_body_once_or_not_at_all(monkeypatch, name, policy):
    body = BODIES[name]
    with counted(monkeypatch) as texts:
        if stored_at_once(body, policy) is None:
            environment = Environment("default", "http://127.0.0.1:1", "acme", SigningKeys(()), payloads=policy)
            webhooks._scrubbed(environment, body)
    full = policy is PayloadPolicy.FULL
    assert len(texts) == len(set(texts)) == (0 if full and rests_as_it_came(body) else 1 + (full and name in AS_TEXT))


def test_of_a_large_body_what_is_kept_is_parsed_once(monkeypatch):
    """msgspec's reader, which makes nothing of what it is not asked for, has skimmed it before."""
    body = error(SAID * (2 * LARGE // len(SAID)))
    with counted(monkeypatch) as texts:
        assert stored_at_once(body, PayloadPolicy.FULL) is None
        environment = Environment("default", "http://127.0.0.1:1", "acme", SigningKeys(()))
        webhooks._scrubbed(environment, body)
    assert len(texts) == 1
