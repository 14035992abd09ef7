import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.scrub import HIDDEN, MAX_LENGTH, replace_unstorable, scrub

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


@given(st.text(st.characters() | st.sampled_from(["\x00", "\ud800", "\udfff"])))
def test_every_database_takes_what_comes_out(text):
    for clean in (scrub(text), replace_unstorable(text)):
        assert "\x00" not in clean
        clean.encode()


def test_only_what_cannot_be_stored_is_replaced():
    assert replace_unstorable("a\x00b\ud800c\ud83d\ude00") == "a\ufffdb\ufffdc😀"
    assert replace_unstorable("plain 😀") == "plain 😀"
