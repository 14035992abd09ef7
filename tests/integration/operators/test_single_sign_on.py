"""Operators sign in at an OpenID Connect provider: a small one of the tests' own, over HTTP, with signed tokens."""

import base64
import json
import time
from contextlib import contextmanager
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import text

from app.services.operators import accounts
from tests import openid_provider
from tests.integration.operators.visitors import browser, is_signed_in
from tests.integration.web.web_server import serve
from tests.openid_provider import CLIENT_ID, CLIENT_SECRET, Provider, ec_key, rsa_key
from tests.waiting import PATIENCE

CONFIG = """
[[operators.groups]]
group = "ops"
role = "operator"

[[operators.groups]]
group = "support"
role = "viewer"
credentials = true

[[operators.groups]]
group = "sales"
role = "team"
team = "crm"
"""
LEAVE, CALLBACK = "/console/sign-in/oidc", "/console/sign-in/oidc/callback"


@pytest.fixture
def provider():
    with openid_provider.serve() as running:
        running.person["groups"] = ["everyone", "ops"]
        yield running


@contextmanager
def waylink(provider, folder, broker_url, database_url, **variables):
    given = {
        "WAYLINK_OIDC_ISSUER": provider.origin,
        "WAYLINK_OIDC_CLIENT_ID": CLIENT_ID,
        "WAYLINK_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        **variables,
    }
    with serve(database_url=database_url, broker_url=broker_url, folder=folder, config=CONFIG, **given) as running:
        yield running


@pytest.fixture
def web(provider, broker_url, tmp_path):
    with waylink(provider, tmp_path, broker_url, f"sqlite:///{tmp_path}/waylink.db") as running:
        yield running


@pytest.fixture
def on_postgresql(provider, broker_url, tmp_path, postgres_url):
    with waylink(provider, tmp_path, broker_url, postgres_url) as running:
        yield running


def go(client: httpx.Client, path: str = LEAVE) -> str:
    """Leave for the provider, which sends the browser back: the URL that it comes back to."""
    left = client.get(path)
    assert left.status_code == 303, left.text
    with httpx.Client(trust_env=False, timeout=PATIENCE) as elsewhere:
        return elsewhere.get(left.headers["location"]).headers["location"]


def sign_in(client: httpx.Client) -> httpx.Response:
    return client.get(go(client), headers={"sec-fetch-site": "cross-site"})


def operators(web) -> list[dict]:
    with web.database.read() as session:
        return [dict(row) for row in session.execute(text("SELECT * FROM operators ORDER BY name")).mappings()]


@pytest.mark.parametrize("kind", ["web", "on_postgresql"])
def test_a_person_whose_group_has_a_role_signs_in(request, provider, kind):
    web = request.getfixturevalue(kind)
    with browser(web) as client:
        assert provider.origin.removeprefix("http://") in client.get("/console/sign-in").text
        answer = sign_in(client)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
        assert is_signed_in(client)
        assert client.get("/api/v1/audit").status_code == 200
        assert "waylink-oidc" not in client.cookies
    (account,) = operators(web)
    assert (account["name"], account["role"], account["subject"]) == ("ada", "operator", "s-ada")
    assert account["issuer"] == provider.origin
    assert account["password_hash"] is None
    with browser(web) as client:
        sign_in(client)
    assert len(operators(web)) == 1
    for secret in (*provider.seen, CLIENT_SECRET):
        with web.database.read() as session:
            for table in ("operators", "operator_sessions", "audit"):
                assert secret not in repr(session.execute(text(f"SELECT * FROM {table}")).all())


def test_the_request_is_bound_to_the_browser_and_to_pkce(web, provider):
    with browser(web) as client:
        asked = parse_qs(urlsplit(client.get(LEAVE).headers["location"]).query)
        again = parse_qs(urlsplit(client.get(LEAVE).headers["location"]).query)
    assert asked["redirect_uri"] == [f"http://127.0.0.1:{web.port}{CALLBACK}"]
    assert asked["scope"] == ["openid profile email"]
    assert asked["code_challenge_method"] == ["S256"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[name][0]) >= 43
        assert asked[name] != again[name]
    assert len({asked[name][0] for name in ("state", "nonce", "code_challenge")}) == 3


def test_the_role_follows_the_groups_at_each_sign_in(web, provider):
    with browser(web) as first, browser(web) as second:
        sign_in(first)
        provider.person["groups"] = ["support"]
        sign_in(second)
        assert not is_signed_in(first), "with the former rights"
        assert second.get("/api/v1/users").status_code == 200
        assert second.get("/api/v1/audit").status_code == 403
        (account,) = operators(web)
        assert (account["role"], bool(account["credentials"])) == ("viewer", True)
        provider.person["groups"] = ["support", "ops"]
        sign_in(first)
        assert operators(web)[0]["role"] == "operator", "the first entry of the file decides"


@pytest.mark.parametrize("groups", [["everyone", "<b>sales</b>"], [], None, "support-team", 7])
def test_a_person_without_such_a_group_is_told_which_were_seen(web, provider, groups):
    with browser(web) as client:
        sign_in(client)
        provider.person["groups"] = groups
        answer = sign_in(client)
        assert answer.status_code == 403
        assert "No access" in answer.text
        seen = groups if isinstance(groups, list) else [groups] if isinstance(groups, str) else []
        for group in seen:
            assert f"<code>{group.replace('<', '&lt;').replace('>', '&gt;')}</code>" in answer.text
        assert seen or "No group was seen" in answer.text
        assert not is_signed_in(client), "also where they were before"


def test_a_group_of_a_team_that_is_not_there_gives_nothing(web, provider):
    provider.person["groups"] = ["sales"]
    with browser(web) as client:
        answer = sign_in(client)
        assert (answer.status_code, "crm, is not there" in answer.text) == (403, True)
    assert operators(web) == []


def test_a_disabled_account_stays_out(web, provider):
    with browser(web) as client:
        sign_in(client)
        with web.database.write() as session:
            row = accounts.find(session, "ada")
            accounts.disable(session, row, actor="t", now=row.created_at, yes=True)
        answer = sign_in(client)
        assert (answer.status_code, "disabled" in answer.text) == (403, True)
        assert not is_signed_in(client)


def test_a_name_that_a_local_operator_has_is_not_taken_over(web, provider):
    with browser(web) as client:
        sign_in(client)
        provider.person |= {"sub": "s-another"}
        sign_in(client)
    names = [account["name"] for account in operators(web)]
    assert names[0] == "ada"
    assert names[1].startswith("ada-")


def test_groups_come_from_the_userinfo_endpoint_where_the_token_has_none(web, provider):
    del provider.person["groups"]
    provider.userinfo = {"sub": "s-ada", "groups": ["ops"]}
    with browser(web) as client:
        assert sign_in(client).status_code == 303


def test_the_userinfo_of_another_person_is_not_believed(web, provider):
    del provider.person["groups"]
    provider.userinfo = {"sub": "s-eve", "groups": ["ops"]}
    with browser(web) as client:
        assert sign_in(client).status_code == 403


# Wrong tokens, in every way


def with_claims(without: str = "", **claims: object):
    """A token with other claims, or without one of them."""

    def spoil(provider: Provider) -> None:
        def change(found: dict) -> None:
            found.update({name: value() if callable(value) else value for name, value in claims.items()})
            found.pop(without, None)

        provider.change = change

    return spoil


def with_token(change):
    """A token that is changed after it was signed."""

    def spoil(provider: Provider) -> None:
        provider.change_token = change

    return spoil


def in_seconds(number: int):
    return lambda: int(time.time()) + number


def of_another_person(token: str) -> str:
    head, claims, signature = token.split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))) | {"sub": "s-eve"}
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b'=').decode()}.{signature}"


def unsigned(provider: Provider) -> None:
    provider.algorithm = "none"


def signed_with_hs256(provider: Provider) -> None:
    """With the client's secret."""
    provider.key, provider.algorithm = OctKey.import_key(CLIENT_SECRET * 2, {"kid": "k-1"}), "HS256"


def signed_by_the_public_key(provider: Provider) -> None:
    """HS256 with the published RSA key as its secret."""
    provider.published = [provider.key]
    provider.key = OctKey(provider.key.as_pem(private=False), provider.key.as_pem(private=False), {"kid": "k-1"})
    provider.algorithm = "HS256"


def of_another_provider(provider: Provider) -> None:
    provider.published, provider.hides_key, provider.key = [provider.key], True, rsa_key("k-1")


def with_an_unknown_key(provider: Provider) -> None:
    provider.published, provider.hides_key, provider.key = [provider.key], True, rsa_key("k-2")


def with_a_short_key(provider: Provider) -> None:
    provider.key = RSAKey.generate_key(1024, {"kid": "k-1", "use": "sig", "alg": "RS256"})


WRONG = {
    "expired": with_claims(exp=in_seconds(-120)),
    "without an expiry": with_claims(without="exp"),
    "of the future": with_claims(nbf=in_seconds(300)),
    "for another audience": with_claims(aud="another"),
    "for two, authorized for another": with_claims(aud=[CLIENT_ID, "another"], azp="another"),
    "for two, without a party": with_claims(aud=[CLIENT_ID, "another"]),
    "of another issuer": with_claims(iss="https://login.example"),
    "with another nonce": with_claims(nonce="x" * 43),
    "without a nonce": with_claims(without="nonce"),
    "without a subject": with_claims(without="sub"),
    "with a wrong subject": with_claims(sub=7),
    "for another access token": with_claims(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
    "with a spoilt signature": with_token(lambda token: token[:-8] + "A" * 8),
    "with changed claims": with_token(of_another_person),
    "without a signature": with_token(lambda token: token[: token.rindex(".") + 1]),
    "no token": with_token(lambda _token: "nonsense"),
    "with the algorithm none": unsigned,
    "signed with the client's secret": signed_with_hs256,
    "signed with the public key as a secret": signed_by_the_public_key,
    "signed by another provider": of_another_provider,
    "signed with an unknown key": with_an_unknown_key,
    "signed with a short key": with_a_short_key,
}


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_token_that_is_wrong_in_any_way_does_not_sign_in(web, provider):
    right = vars(provider).copy()
    let_in = []
    for wrong, spoil in WRONG.items():
        vars(provider).update(right)
        fetch_keys_again(web)
        spoil(provider)
        with browser(web) as client:
            answer = sign_in(client)
            if answer.status_code != 403 or "ID token" not in answer.text or is_signed_in(client):
                let_in.append((wrong, answer.status_code, answer.text))
            assert not [secret for secret in provider.seen if secret in answer.text]
    assert let_in == []
    assert operators(web) == []
    vars(provider).update(right)
    fetch_keys_again(web)
    with browser(web) as client:
        assert sign_in(client).status_code == 303


def test_clocks_may_differ_by_some_seconds(web, provider):
    provider.change = lambda claims: claims.update(iat=int(time.time()) + 30, exp=int(time.time()) - 30)
    with browser(web) as client:
        assert sign_in(client).status_code == 303


def test_es256_is_taken_and_keys_may_change(web, provider):
    with browser(web) as client:
        assert sign_in(client).status_code == 303
    web.app.state.console.context.provider._keys_again_at = 0.0  # half a minute later
    provider.published, provider.key, provider.algorithm = [provider.key], ec_key("k-2"), "ES256"
    before = provider.asked.count("/keys")
    with browser(web) as client:
        assert sign_in(client).status_code == 303
        assert sign_in(client).status_code == 303
    assert provider.asked.count("/keys") == before + 1


def test_tokens_of_unknown_keys_do_not_make_the_provider_work(web, provider):
    with_an_unknown_key(provider)
    with browser(web) as client:
        for _ in range(4):
            assert sign_in(client).status_code == 403
    assert provider.asked.count("/keys") == 1


def fetch_keys_again(web) -> None:
    """Let the next token have the provider's keys fetched."""
    own = web.app.state.console.context.provider
    own._keys_again_at = own._keys_until = 0.0


# Answers that are not this browser's


def test_a_code_works_once(web, provider):
    with browser(web) as client:
        back = go(client)
        seed = client.cookies["waylink-oidc"]
        assert client.get(back).status_code == 303
        assert client.get(back).status_code == 403, "the browser's attempt is over"
    with browser(web) as again:
        again.cookies.set("waylink-oidc", seed, domain="127.0.0.1")
        answer = again.get(back)
        assert (answer.status_code, "invalid_grant" in answer.text) == (403, True)


def test_an_answer_of_another_browser_is_refused(web, provider):
    with browser(web) as victim, browser(web) as attacker:
        back = go(attacker)
        assert victim.get(back).status_code == 403, "a browser that has begun nothing"
        go(victim)
        assert victim.get(back).status_code == 403, "a browser that has begun another"
        assert not is_signed_in(victim)
        assert provider.asked.count("/token") == 0


@pytest.mark.parametrize(
    "query",
    [
        {"error": "access_denied"},
        {"error": "<script>"},
        {"code": ""},
        {"code": "x" * 5000},
        {"code": "made-up"},
        {"code": "x", "iss": "https://evil.example"},
    ],
    ids=str,
)
def test_an_answer_without_a_good_code_is_refused(web, query):
    with browser(web) as client:
        state = dict(parse_qsl(urlsplit(go(client)).query))["state"]
        answer = client.get(CALLBACK, params={"state": state, **query})
        assert answer.status_code == 403
        assert "<script>" not in answer.text


# A provider that is away, or no good one


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", (500, b"{}")),
        ("/.well-known/openid-configuration", (200, b"[]")),
        ("/.well-known/openid-configuration", (200, b'{"issuer": "https://other.example"}')),
        ("/.well-known/openid-configuration", (200, b"{" + b" " * 600_000 + b"}")),
        ("/.well-known/openid-configuration", (302, b"")),
    ],
)
def test_a_provider_that_errs_is_told_apart_and_passwords_still_work(web, provider, path, answer):
    provider.answers[path] = answer
    with browser(web) as client:
        told = client.get(LEAVE)
        assert (told.status_code, "cannot be used now" in told.text) == (503, True)
        assert client.get("/console/sign-in").status_code == 200


@pytest.mark.parametrize("path", ["/token", "/keys"])
@pytest.mark.parametrize("answer", [(500, b"{}"), (200, b"nonsense"), (200, b'"' + b"x" * 600_000 + b'"')])
def test_a_provider_that_errs_later_signs_nobody_in(web, provider, path, answer):
    with browser(web) as client:
        back = go(client)
        provider.answers[path] = answer
        assert client.get(back).status_code == 503
        assert not is_signed_in(client)


@pytest.mark.parametrize("place", ["http://login.example/token", "ftp://login.example", "/token", 7])
def test_endpoints_without_tls_are_not_used(web, provider, place):
    provider.metadata = {"token_endpoint": place}
    with browser(web) as client:
        assert client.get(LEAVE).status_code == 503


def test_signing_out_offers_the_providers_own_sign_out(web, provider):
    with browser(web) as client:
        sign_in(client)
        shown = client.post("/console/sign-out").text
        assert f"{provider.origin}/logout?client_id=waylink&amp;post_logout_redirect_uri=" in shown
        assert not is_signed_in(client)


def test_without_a_provider_there_is_no_single_sign_on(broker_url, tmp_path):
    with (
        serve(database_url=f"sqlite:///{tmp_path}/w.db", broker_url=broker_url, folder=tmp_path) as web,
        browser(web) as client,
    ):
        assert client.get(LEAVE).status_code == client.get(CALLBACK).status_code == 404
        assert "Sign in at" not in client.get("/console/sign-in").text
