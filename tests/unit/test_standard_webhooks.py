"""Promise 10: what leaves over HTTP is signed, and any official Standard Webhooks library verifies it."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from app.domain.standard_webhooks import read_secret, signed_headers, write_secret
from app.errors import InvalidInput

NEW, OLD = bytes(range(32)), bytes(range(100, 124))
BODY = '{"id":"job_1","name":"Žofie 😀"}'.encode()


def signed(body=BODY, *keys, at=None, message_id="job_1"):
    timestamp = int(time.time() if at is None else at)
    return dict(signed_headers(body, message_id=message_id, timestamp=timestamp, keys=keys or (NEW,)))


def test_the_official_library_verifies_a_body():
    assert Webhook(write_secret(NEW)).verify(BODY, signed()) == {"id": "job_1", "name": "Žofie 😀"}


def test_during_a_rotation_either_secret_verifies():
    headers = signed(BODY, NEW, OLD)
    assert len(headers["webhook-signature"].split()) == 2
    for key in (NEW, OLD):
        Webhook(write_secret(key)).verify(BODY, headers)


@pytest.mark.parametrize("change", ["secret", "body", "webhook-id", "webhook-timestamp"])
def test_the_official_library_refuses_what_was_changed(change):
    headers, key, body = signed(), NEW, BODY
    if change == "secret":
        key = OLD
    elif change == "body":
        body += b" "
    else:
        headers[change] = str(int(headers["webhook-timestamp"]) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(write_secret(key)).verify(body, headers)


def test_the_official_library_refuses_what_is_old():
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(write_secret(NEW)).verify(BODY, signed(at=time.time() - 3600))


def test_the_signature_is_the_one_of_the_specifications_example():
    key = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(
        b'{"test": 2432232314}', message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, keys=[key]
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_is_read_as_it_was_written(key):
    assert read_secret(write_secret(key)) == key
    assert read_secret(f" {write_secret(key)}\n") == key


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "whsec_"),
        (base64.b64encode(NEW).decode(), "whsec_"),
        ("whsec_not base64", "base64"),
        ("whsec_ä", "base64"),
        (write_secret(bytes(23)), "24 to 64 bytes, this one 23"),
        (write_secret(bytes(65)), "24 to 64 bytes, this one 65"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_repeated(text, problem):
    with pytest.raises(InvalidInput, match=problem) as refused:
        read_secret(text)
    assert not text or text not in str(refused.value)


def test_nothing_leaves_unsigned():
    with pytest.raises(ValueError, match="unsigned"):
        signed_headers(b"", message_id="job_1", timestamp=0, keys=())
