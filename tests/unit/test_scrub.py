import hashlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.scrub import HIDDEN, MAX_LENGTH, hide, replace_unstorable, scrub
from app.domain.token_detection import is_name

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


@pytest.mark.parametrize(
    "text",
    [
        "Invalid refresh token provided",
        "Invalid API key provided. Check the dashboard of your account.",
        "Invalid credentials provided: the account is locked",
        "The access token provided is expired, revoked, malformed or invalid for other reasons.",
        "The access token you provided has expired",
        "No API key provided.",
        "An API key was provided, but it belongs to another organization",
        "Token used too early, 1717171717 < 1717171720",
        "Token used too late",
        "The refresh token has already been used",
        "password used 3 times before",
        "invalid token: Token has been revoked",
        "invalid_grant: Token has been expired or revoked.",
        "The user's password was changed at 2026-01-31T09:30:00Z",
        "token expired at 20260131T093000Z",
        "The access token expires in 1h30m15s",
        "The token was issued on 2026-01-31T09:30:00.000Z",
        "JWT expired 1234567 milliseconds ago",
        "The provided authorization grant is invalid",
        "secret version 12 was not found",
        "The security token included in the request is invalid",
        "Key pair was not found in region eu-central-1",
        "duplicate key value violates unique constraint users_email_key",
        'duplicate key value violates unique constraint "pk_customers_id"',
        "npm_config_registry is not set",
        "sk-learn 1.2 is needed",
        "the risk-management scope is missing",
        "hf_hub_download failed with status 401",
        "EAAccess is not enabled for this app",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie.",
        "AADSTS50173: The provided grant has expired due to it being revoked, a fresh auth token is needed.",
        "AADSTS65001: The user has not consented to the application with ID 8f0a3c1e-5b7d-4c55-9a64-3f6f1f0c2d11",
        "Signature verification failed: RS256 expected, HS256 received",
        "The token's audience does not match: expected api://default",
        "The token for user dana@customer.example was rejected",
        "Rate limit reached for requests with this API key",
        "Token request to https://login.example/oauth2/v2.0/token failed with status 400",
        "The session has ended. Sign in again.",
        "request 4f3c2b1a9d8e failed with status 500",
        "status code 503, request 4f3c2b1a9d8e",
        "The token is unknown to this server. Request ID: 4f3c2b1a9d8e",
        "docker run -u root image",
        "git push -u origin main",
        "Unknown user: dana",
        "--user dana is unknown",
        "The client secret has expired. Renew it in the portal.",
        "password authentication failed for user dana",
        "The signature of the webhook does not match",
        "Incorrect username or password.",
        "The access token does not have the scope contacts.read",
        "bad_verification_code: The code passed is incorrect or expired.",
        "Токен истёк, войдите снова",
        "Неверный пароль",
        "пароль: неверный",
        "Das Passwort ist abgelaufen",
        "Der Schlüssel wurde nicht gefunden",
        "Le mot de passe est expiré",
        "La clé est invalide : vérifiez votre compte",
        "La contraseña es incorrecta",
        "contraseña: incorrecta",
        "A senha expirou",
        "La chiave non è valida",
        "Hasło wygasło",
        "密码错误 请重试",
        "令牌: 已过期",
        "トークンの有効期限が切れました",
        "OAuth2 token endpoint returned 401",
        "x509 certificate signed by unknown authority",
        "certificate has expired or is not yet valid",
        "ENOTFOUND while refreshing the token of github-prod2",
        "SyntaxError: Unexpected token < in JSON at position 0",
        "Unexpected token 'a', \"abc\" is not valid JSON",
        "Missing API key in header X-Api-Key",
        "The API key is used by another workspace: acme2",
        "User 12345678 has no token for this workspace",
        "Bad credentials",
        "The token was sent in the header",
        "key not found: users",
        "Cookie consent is required",
        "Invalid API key provided: please check your key",
        "unable to refresh the token: could not connect",
    ],
)
def test_sentences_about_credentials_that_quote_none_stay(text):
    assert scrub(text) == text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-abcd1234efgh. You can find your API key at https://a.example.", "sk-abcd"),
        ("Invalid API Key provided: sk_test_abc12345", "abc12345"),
        ("invalid API key provided: Zx9Cv8Bc9.", "Zx9Cv8Bc9"),
        ("Incorrect PIN provided: 1234", "1234"),
        ("Incorrect key supplied = hunter2", "hunter2"),
        ("The key we received (abcd1234efgh) is unknown", "abcd1234efgh"),
        ("the token you gave was hunter2x", "hunter2x"),
        ("Zx9Cv8Bc9 is not a valid API key", "Zx9Cv8Bc9"),
        ("the token of this account (Zx9Cv8Bc9) has expired", "Zx9Cv8Bc9"),
        ("password for user bob: kQxZpVtWmR", "kQxZpVtWmR"),
        ("token abcdefghijklmnopqrstuvwxyzabcdefgh rejected", "abcdefgh"),
        ("token abcdefghijklmnopqrst rejected", "abcdefgh"),
        ("curl -u bob:Zx9Cv8Bb7 https://x", "Zx9"),
        ("curl --user 'bob:hunter2' https://x", "hunter2"),
        ("slack said xoxb-1a2b3c4d5e bad", "1a2b3c4d5e"),
        ("токен: Zx9Cv8Bb3", "Zx9Cv8Bb3"),
        ("неверный пароль hunter2", "hunter2"),
        ("Passwort: hunter2", "hunter2"),
        ("Ungültiger Schlüssel: hunter2", "hunter2"),
        ("mot de passe: hunter2", "hunter2"),
        ("clé d'API : Zx9Cv8Bb3", "Zx9Cv8Bb3"),
        ("contraseña: hunter2", "hunter2"),
        ("senha: hunter2", "hunter2"),
        ("chiave = hunter2", "hunter2"),
        ("hasło: hunter2", "hunter2"),
        ("密码\uff1ahunter2", "hunter2"),
        ("パスワードはZx9Cv8Bb3です", "Zx9Cv8Bb3"),
    ],
)
def test_a_credential_in_plain_words_is_hidden(text, secret):
    clean = scrub(text)
    assert secret not in clean
    assert clean.count(HIDDEN) == 1
    assert scrub(clean) == clean


BEGINNINGS = [
    "sk-", "sk-proj-", "sk_live_", "sk_test_", "pk_", "pk_live_", "rk_", "rk_test_", "xoxb-", "xoxp-", "xoxa-", "xoxr-",
    "xoxs-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "AKIA", "ASIA", "AIza", "ya29.", "EAA",
    "shpat_", "shpss_", "SG.", "hf_", "npm_", "pypi-", "dop_v1_", "whsec_", "eyJ",
]  # fmt: skip


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_short_token_of_a_known_provider_is_hidden_without_a_name(beginning):
    token = f"{beginning}4x7Q9k2b"
    for text in (token, f"{token} is bad", f"(bad: {token})", f"a\\n{token}", f"see https://a.example/x?y={token}"):
        clean = scrub(text)
        assert "4x7Q9k2b" not in clean
        assert HIDDEN in clean
    assert not is_name(token)


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
    "token value ", "token provided ", "token provided: ", "token Zx9Cv8Bc9 ", "Zx9Cv8Bc9 ", "sk-", "sk-a", "ghp_",
    "eyJ.", "-u a:b ", "-u a", "--user ", "токен ", "токен", "密码",
    "token is ", "token, ", '"token", ', "“token”: ", "\ud800", "é", "===",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_four_times_the_text_takes_four_times_as_long(unit: str):
    """In time of this process, the shortest of some; linear is 4 and quadratic 16."""
    assert measured(unit, 32_000) < 9 * measured(unit, 8_000)


def measured(unit: str, length: int) -> float:
    """Seconds, and not less than what can be measured."""
    text, took = unit * (length // len(unit)), []
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
