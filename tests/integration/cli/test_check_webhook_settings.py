"""`waylink check` and the webhook settings that a Nango shows to an account API key."""

import json

import pytest

from app.errors import NangoUnauthorized, NangoUnknownEnvironment
from app.nango.client import NangoClient
from tests.integration.cli.test_cli import Command
from tests.integration.sandbox.sandbox_server import API_KEY, SIGNING_KEY, connect, receive, serve

ACCOUNT_KEY, OWN_ID = "9f0c7f0e-6f0a-4a80-8a53-3a0b2f6f9a11", "7b1b6b3e-2f58-4b6f-9a0e-0b8c0d2f9a10"
HERE = "https://waylink.example/webhooks/nango"


@pytest.fixture
def nango():
    with serve(account_key=ACCOUNT_KEY, environment_id=OWN_ID, webhook_url=HERE) as client:
        yield client


@pytest.fixture
def waylink(tmp_path, nango, broker_url):
    command = Command(
        tmp_path,
        {
            "WAYLINK_BROKER_URL": broker_url,
            "WAYLINK_NANGO_API_KEY": API_KEY,
            "WAYLINK_NANGO_SIGNING_KEYS": SIGNING_KEY,
            "WAYLINK_NANGO_BASE_URL": str(nango.base_url),
            "WAYLINK_NANGO_ACCOUNT_KEY": ACCOUNT_KEY,
            "WAYLINK_NANGO_ENVIRONMENT_ID": OWN_ID,
            "WAYLINK_PUBLIC_URL": "https://waylink.example",
        },
    )
    assert command.inside("migrate").returncode == 0
    return command


def change(nango, **webhooks):
    headers = {"authorization": f"Bearer {ACCOUNT_KEY}"}
    nango.patch(f"/environments/{OWN_ID}", json={"webhooks": webhooks}, headers=headers).raise_for_status()


def found(waylink):
    """Rows about the settings and the key, their details as one text, and the exit code."""
    done = waylink.inside("check", "--json")
    assert ACCOUNT_KEY not in done.stdout + done.stderr
    assert SIGNING_KEY not in done.stdout + done.stderr
    rows = [row for row in json.loads(done.stdout) if row["what"].endswith("of default")]
    return [(row["what"], row["result"]) for row in rows], " ".join(row["detail"] for row in rows), done.returncode


def test_settings_that_fit_are_ok(waylink):
    rows, _, code = found(waylink)
    assert rows == [("webhooks of default", "ok"), ("signing key of default", "ok")]
    assert code == 0


@pytest.mark.parametrize(
    ("webhooks", "expected"),
    [
        ({"primary_url": "https://old.example/webhooks/nango"}, ("bad", "no webhook URL leads to", 1)),
        ({"primary_url": ""}, ("bad", "none is set", 1)),
        ({"secondary_url": HERE}, ("note", "unless WAYLINK_NANGO_BOTH_URLS=true or both_urls", 0)),
        ({"on_auth_creation": False}, ("bad", "on_auth_creation is off", 1)),
        ({"on_connection_deletion": False}, ("note", "on_connection_deletion is off", 0)),
    ],
)
def test_settings_that_lose_something_are_reported(waylink, nango, webhooks, expected):
    result, says, code = expected
    change(nango, **webhooks)
    rows, details, exit_code = found(waylink)
    assert rows[0] == ("webhooks of default", result)
    assert (says in details, exit_code) == (True, code)


def test_the_setting_that_both_urls_lead_here_ends_the_note(waylink, nango):
    change(nango, secondary_url=HERE)
    waylink.variables["WAYLINK_NANGO_BOTH_URLS"] = "true"
    rows, _, code = found(waylink)
    assert (rows[0], code) == (("webhooks of default", "ok"), 0)


def test_a_rotated_key_that_is_not_live_here_is_bad(waylink, nango):
    nango.post("/environment/webhook-signing-key/rotate").raise_for_status()
    rows, details, code = found(waylink)
    assert rows[-1] == ("signing key of default", "bad")
    assert ("every webhook is refused" in details, code) == (True, 1)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"WAYLINK_NANGO_ACCOUNT_KEY": API_KEY}, "does not accept the API key"),
        ({"WAYLINK_NANGO_ENVIRONMENT_ID": "00000000-0000-4000-8000-00000000dead"}, "no environment of this UUID"),
    ],
)
def test_a_wrong_key_or_environment_is_bad(waylink, changed, says):
    waylink.variables |= changed
    rows, details, code = found(waylink)
    assert (rows, says in details, code) == ([("webhooks of default", "bad")], True, 1)


@pytest.mark.parametrize("absent", ["WAYLINK_NANGO_ACCOUNT_KEY", "WAYLINK_NANGO_ENVIRONMENT_ID"])
def test_key_and_environment_go_together(waylink, absent):
    del waylink.variables[absent]
    done = waylink.inside("check")
    assert (done.returncode, "WAYLINK_NANGO_ACCOUNT_KEY" in done.stdout) == (1, True)


def test_the_file_names_them_by_environment(waylink, nango):
    for name in ("API_KEY", "SIGNING_KEYS", "ACCOUNT_KEY", "ENVIRONMENT_ID"):
        waylink.variables[f"OWN_{name}"] = waylink.variables.pop(f"WAYLINK_NANGO_{name}")
    (waylink.folder / "waylink.toml").write_text(
        f'[environments.prod]\nbase_url = "{str(nango.base_url).rstrip("/")}"\napi_key_env = "OWN_API_KEY"\n'
        f'signing_keys_env = "OWN_SIGNING_KEYS"\naccount_key_env = "OWN_ACCOUNT_KEY"\nnango_id = "{OWN_ID}"\n'
    )
    done = waylink.inside("check", "--json")
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert rows["webhooks of prod"]["result"] == "bad"  # they go to the URL of `default`
    change(nango, primary_url=f"{HERE}/prod")
    rows = {row["what"]: row for row in json.loads(waylink.inside("check", "--json").stdout)}
    assert rows["webhooks of prod"]["result"] == "ok"


class TestTheSandbox:
    def test_the_environments_own_key_does_not_open_its_settings(self, nango):
        with NangoClient(base_url=str(nango.base_url), api_key=API_KEY) as client, pytest.raises(NangoUnauthorized):
            client.get_webhook_settings(OWN_ID)

    def test_another_environment_is_not_found(self, nango):
        with (
            NangoClient(base_url=str(nango.base_url), api_key=ACCOUNT_KEY) as client,
            pytest.raises(NangoUnknownEnvironment),
        ):
            client.get_webhook_settings("00000000-0000-4000-8000-00000000dead")

    def test_the_key_is_shown_where_it_is_asked_for_only(self, nango):
        with NangoClient(base_url=str(nango.base_url), api_key=ACCOUNT_KEY) as client:
            assert client.get_webhook_settings(OWN_ID).signing_key is None
            assert client.get_webhook_settings(OWN_ID, signing_key=True).signing_key == SIGNING_KEY

    def test_without_an_account_key_it_is_closed(self):
        with serve() as client:
            answer = client.get("/environments/00000000-0000-4000-8000-000000000001")
            assert answer.status_code == 401

    def test_both_urls_get_a_copy_one_after_the_other(self, nango):
        with receive() as first, receive() as second:
            change(nango, primary_url=first.url, secondary_url=second.url)
            connect(nango)
            assert first.take().content == second.take().content

    def test_what_is_switched_off_is_not_sent_and_an_override_has_no_switch(self, nango):
        with receive() as receiver:
            change(nango, primary_url=receiver.url, on_auth_creation=False, on_connection_deletion=False)
            connection_id = connect(nango)
            connect(nango, connection_id=connection_id, integration_id="apikey")
            assert receiver.body()["operation"] == "override"  # Nango's webhooks have no order between them
            nango.delete(f"/connections/{connection_id}?provider_config_key=apikey").raise_for_status()
            change(nango, on_auth_creation=True)
            connect(nango)
            assert receiver.body()["operation"] == "creation"

    def test_a_change_names_known_settings_only(self, nango):
        headers = {"authorization": f"Bearer {ACCOUNT_KEY}"}
        for body in ({"webhooks": {"on_nothing": True}}, {"name": "x"}, {"webhooks": {"on_sync_error": "maybe"}}):
            answer = nango.patch(f"/environments/{OWN_ID}", json=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_body")
