import hashlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.scrub import HIDDEN, MAX_LENGTH, hide, replace_unstorable, scrub

SECRET = "abc123def456ghi789"
TOKEN = f"sandbox-access-token-{hashlib.sha256(b'token').hexdigest()}"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"bearer {SECRET}",
        f"access_token={SECRET}&expires_in=3600",
        f'{{"access_token":"{SECRET}","x":1}}',
        json.dumps(json.dumps({"refresh_token": SECRET})),
        f"{{'client_secret': '{SECRET}'}}",
        f"apiKey: {SECRET}",
        f"api_key={SECRET}",
        f"X-Api-Key: {SECRET}",
        f"password = {SECRET}",
        f"?code={SECRET}&state=1",
        f"client_assertion={SECRET}",
        f"connect failed: https://host/cb?token={SECRET}",
        f"the provider said 95a3c750a2b2d5d44988df3bee60783c8260473e{SECRET}",
        f"{TOKEN}{SECRET}",
        f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.sig0",
    ],
)
def test_what_looks_like_a_credential_is_hidden(text):
    clean = scrub(text)
    assert SECRET not in clean
    assert HIDDEN in clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The external API returned an error when trying to refresh the access token. Please try again later.",
        "Did not get authorization code in the callback. Provider error: access_denied",
        "connect ETIMEDOUT 10.0.0.1:443",
        "connection 8f0a3c1e-5b7d-4c55-9a64-3f6f1f0c2d11 has no refresh token",
        "Request failed with status code 403",
        "Žofie 张伟 👩🏽‍💻",
        "invalid_grant: Token has been expired or revoked",
        'Failed to refresh token: {"error":"invalid_grant","error_description":"Token has been revoked."}',
        "Error refreshing token: invalid_grant",
        "AADSTS700082: The refresh token has expired due to inactivity. Trace ID: 8f0a3c1e-5b7d-4c55-9a64-3f6f1f0c2d11",
        "error code: 403",
        "code: ECONNREFUSED",
        '{"code":"not_found","message":"no such user"}',
        '{"token_type":"bearer","expires_in":3600}',
        'Error during API key auth: {"name":"Error","message":"connect ETIMEDOUT"}',
        "Invalid refresh token provided",
        "token expired",
        "The signature does not match",
        "password must be 8 characters long",
        "Missing required scope: contacts.read",
        "GET https://api.nango.dev/connection/8f0a3c1e-5b7d-4c55-9a64-3f6f1f0c2d11 failed",
        "see https://developers.google.com/identity/protocols/oauth2 for help",
        "TypeError: Cannot read properties of undefined (reading 'access_token')",
        'File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode',
    ],
)
def test_prose_and_ids_stay(text):
    assert scrub(text) == text


@pytest.mark.parametrize("length", [MAX_LENGTH, MAX_LENGTH + 1, 100_000])
def test_text_is_bounded_and_shows_that_it_was_cut(length):
    clean = scrub("ab " * length)
    assert len(clean) == MAX_LENGTH
    assert clean.endswith("…")
    assert len(scrub("x y" * 50, limit=10)) == 10


def test_a_secret_on_the_cutting_edge_is_hidden_too():
    for before in range(MAX_LENGTH - 40, MAX_LENGTH + 5):
        assert SECRET[:8] not in scrub("y " * (before // 2) + f"token={SECRET}")


def test_the_beginning_of_a_token_is_not_left_where_a_long_text_is_cut():
    for before in range(1400, 2010):
        text = "a1" * 700 + " " + "b" * (before - 1401) + TOKEN
        assert TOKEN[:24] not in scrub(text)


# Each of these made some form of scrubbing slow: it was tried again from every place, or to the end from every place.
HOSTILE = [
    "token", "token ", "token=", "token: ", "token\\", 'token="', "token:[", "token='", "token {", "<token ",
    ":token a", "<token a", "token\n", "code=", "code='a ", "key: ", "bearer ", "Authorization: a, ", "cookie: a=b; ",
    "a-", "a1",
    "A", "aB", "\\", '\\"', "://", "://a", "://@", "a@", "%25", "%2525", "&amp;", "&", "&#", "\\u0022", "-----BEGIN ",
    "-----BEGIN X-----\n-----END ", " ", "\n", "\n ", "a\n", "a1b2c3d4\n", "a1b2c3d4\\n", "/", "a/", "[", "{", "=",
    "token value ", "token is ", "token, ", '"token", ', "“token”: ", "\ud800", "é", "===",
]  # fmt: skip


@pytest.mark.parametrize("one", HOSTILE)
def test_four_times_the_text_takes_four_times_as_long(one: str):
    """In time of this process, the shortest of some; linear is 4 and quadratic 16."""
    assert measured(one, 32_000) < 9 * measured(one, 8_000)


def measured(one: str, length: int) -> float:
    """Seconds, and not less than what can be measured."""
    text, took = one * (length // len(one)), []
    for _ in range(5):
        began = time.process_time()
        hide(text)
        took.append(time.process_time() - began)
    return max(min(took), 0.001)


@given(st.text(st.characters() | st.sampled_from(["\x00", "\ud800", "\udfff"])))
def test_every_database_takes_what_comes_out(text):
    for clean in (scrub(text), replace_unstorable(text)):
        assert "\x00" not in clean
        clean.encode()


def test_only_what_cannot_be_stored_is_replaced():
    assert replace_unstorable("a\x00b\ud800c\ud83d\ude00") == "a\ufffdb\ufffdc😀"
    assert replace_unstorable("plain 😀") == "plain 😀"
