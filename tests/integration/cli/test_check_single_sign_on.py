"""`waylink check` and the identity provider of single sign-on."""

import json

import pytest

from tests import openid_provider
from tests.integration.cli.test_cli import Command
from tests.openid_provider import CLIENT_ID, CLIENT_SECRET
from tests.ports import free_port

GROUPS = '[[operators.groups]]\ngroup = "ops"\nrole = "operator"\n'


@pytest.fixture
def provider():
    with openid_provider.serve() as running:
        yield running


@pytest.fixture
def waylink(tmp_path, provider):
    command = Command(
        tmp_path,
        {
            "WAYLINK_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
            "WAYLINK_OIDC_ISSUER": provider.origin,
            "WAYLINK_OIDC_CLIENT_ID": CLIENT_ID,
            "WAYLINK_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        },
    )
    (tmp_path / "waylink.toml").write_text(GROUPS)
    return command


def found(waylink, provider):
    """Result and detail of the row about the provider."""
    done = waylink.inside("check", "--json")
    assert CLIENT_SECRET not in done.stdout + done.stderr
    what = f"single sign-on at {provider.origin.removeprefix('http://')}"
    return [(row["result"], row["detail"]) for row in json.loads(done.stdout) if row["what"] == what]


def test_a_provider_that_answers_is_told_with_its_keys_and_without_it_there_is_no_row(waylink, provider):
    assert found(waylink, provider) == [("ok", "answers, 1 signing key; the client's secret is not tried")]
    del waylink.variables["WAYLINK_OIDC_ISSUER"]
    waylink.variables.pop("WAYLINK_OIDC_CLIENT_ID")
    waylink.variables.pop("WAYLINK_OIDC_CLIENT_SECRET")
    assert found(waylink, provider) == []


def test_a_group_without_a_role_is_told(waylink, provider):
    (waylink.folder / "waylink.toml").write_text("")
    [(result, detail)] = found(waylink, provider)
    assert (result, "[[operators.groups]]" in detail) == ("note", True)


@pytest.mark.parametrize(
    ("path", "answer", "told"),
    [
        ("/.well-known/openid-configuration", (503, b""), "/.well-known/openid-configuration answered 503"),
        ("/.well-known/openid-configuration", (200, b'{"issuer": "https://other.example"}'), "https://other.example"),
        ("/keys", (200, b"<html>"), "/keys did not answer with a JSON object"),
        ("/keys", (200, b'{"keys": [{"kty": "oct"}]}'), "no signing key that can be used"),
    ],
)
def test_a_provider_by_which_nobody_can_sign_in_is_bad_with_its_cause(waylink, provider, path, answer, told):
    provider.answers[path] = answer
    [(result, detail)] = found(waylink, provider)
    assert (result, told in detail) == ("bad", True), detail


def test_a_provider_that_is_away_is_bad(waylink, provider):
    waylink.variables["WAYLINK_OIDC_ISSUER"] = away = f"http://127.0.0.1:{free_port()}"
    provider.origin = away
    [(result, detail)] = found(waylink, provider)
    assert (result, "does not answer" in detail) == ("bad", True), detail
