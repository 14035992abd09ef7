"""The client's operations against the sandbox, over real HTTP: what they do, and what they refuse before sending it."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app import errors
from app.nango import NangoClient
from app.nango.credentials import ApiKeyCredentials, NoCredentials, OAuth1Credentials
from app.nango.types import EndUserOrganization, NangoEndUser
from tests.integration.sandbox.sandbox_server import API_KEY, control, register, run_flow, serve


@pytest.fixture(scope="module")
def sandbox():
    with serve() as client:
        yield client


@pytest.fixture(scope="module")
def nango(sandbox):
    with NangoClient(base_url=str(sandbox.base_url), api_key=API_KEY) as client:
        yield client


@pytest.fixture
def made(sandbox):
    """Makes a connection with tags and metadata, and gives its id."""
    number = 0

    def make(integration="apikey", connection_id=None, **facts):
        nonlocal number
        number += 1
        connection_id = connection_id or f"made-{datetime.now(UTC).timestamp()}-{number}"
        register(sandbox, connection_id, integration, **({"tags": {"team": "red"}} | facts))
        return connection_id

    return make


@pytest.fixture
def calls(sandbox, nango):
    """A function that gives the number of calls that reached the sandbox since the test began."""
    nango.list_connections(limit=1)
    before = nango.rate_limit.remaining

    def count():
        nango.list_connections(limit=1)
        return before - nango.rate_limit.remaining - 1

    return count


def test_the_example_in_the_documentation_works(sandbox, made):
    page = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
    [example] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    code = example.replace("https://api.nango.dev", str(sandbox.base_url))
    assert code != example
    links, asked = [], []

    def run(connection_id):
        names = {"api_key": API_KEY, "connection_id": connection_id, "redirect_to": links.append}
        exec(code, names | {"ask_to_reconnect": lambda: asked.append(connection_id)}, found := {})
        return found

    connection_id = made("google-mail", authMode="OAUTH2")
    assert run(connection_id)["token"].startswith("sandbox-")
    assert "session_token=nango_connect_session_" in links[0]
    assert asked == []
    control(sandbox, connection_id, "google-mail", exhausted=True)
    run(connection_id)
    run("nobody")
    assert asked == [connection_id, "nobody"]


def test_a_deleted_connection_is_gone_and_deleting_it_again_says_so(nango, made):
    connection_id = made()
    nango.delete_connection("apikey", connection_id)
    for again in (nango.delete_connection, nango.get_connection):
        with pytest.raises(errors.NangoConnectionNotFound):
            again("apikey", connection_id)


def test_the_same_id_under_another_integration_stays(nango, made):
    connection_id = made("apikey")
    made("basic", connection_id)
    nango.delete_connection("apikey", connection_id)
    assert nango.get_connection("basic", connection_id).integration == "basic"


def test_tags_are_replaced_as_a_whole_in_small_letters_and_can_be_cleared(nango, made):
    connection_id = made(tags={"team": "red", "old": "1"})
    nango.set_tags("apikey", connection_id, {"Team": "Blue"})
    assert nango.get_connection("apikey", connection_id).tags == {"team": "Blue"}
    nango.set_tags("apikey", connection_id, {})
    assert nango.get_connection("apikey", connection_id).tags == {}


def test_a_patch_changes_what_it_names_and_nothing_else(nango, made):
    connection_id = made()
    nango.patch_connection("apikey", connection_id, webhook_url_override="https://hooks.example/x")
    found = nango.get_connection("apikey", connection_id)
    assert (found.webhook_url_override, found.tags) == ("https://hooks.example/x", {"team": "red"})
    nango.patch_connection("apikey", connection_id, webhook_url_override="", tags={"a": "b"})
    found = nango.get_connection("apikey", connection_id)
    assert (found.webhook_url_override, found.tags) == (None, {"a": "b"})
    nango.patch_connection("apikey", connection_id, end_user=NangoEndUser("u1", email="u@example.com"))
    assert nango.get_connection("apikey", connection_id).tags == {
        "end_user_id": "u1",
        "end_user_email": "u@example.com",
    }
    with pytest.raises(errors.InvalidInput, match="nothing to change"):
        nango.patch_connection("apikey", connection_id)


@pytest.mark.parametrize("operation", ["set_tags", "patch_connection"])
def test_changing_what_nango_does_not_know_reports_which_part_is_unknown(nango, made, operation):
    arguments = {"tags": {"a": "b"}}
    with pytest.raises(errors.NangoConnectionNotFound):
        getattr(nango, operation)("apikey", "nobody", **arguments)
    with pytest.raises(errors.NangoUnknownIntegration):
        getattr(nango, operation)("nope", made(), **arguments)


def test_metadata_is_replaced_or_merged_for_one_or_for_many(nango, made):
    first, second = made(), made()
    nango.set_metadata("apikey", first, {"a": 1, "nested": {"x": 1, "y": 2}})
    nango.update_metadata("apikey", first, {"nested": {"x": 2}, "b": None})
    assert nango.get_metadata("apikey", first) == {"a": 1, "nested": {"x": 2}, "b": None}
    nango.set_metadata("apikey", [first, second], {"c": "ü"})
    assert [nango.get_metadata("apikey", connection_id) for connection_id in (first, second)] == [{"c": "ü"}] * 2
    nango.update_metadata("apikey", [first, second], {"d": [1]})
    assert nango.get_metadata("apikey", second) == {"c": "ü", "d": [1]}


def test_metadata_of_many_is_written_for_all_or_for_none(nango, made):
    known = made()
    nango.set_metadata("apikey", known, {"a": 1})
    for write in (nango.set_metadata, nango.update_metadata):
        with pytest.raises(errors.NangoConnectionNotFound, match="nobody"):
            write("apikey", [known, "nobody"], {"b": 2})
    assert nango.get_metadata("apikey", known) == {"a": 1}


@pytest.mark.parametrize("ids", [[], "", ["ok", ""], ["a\0"], "x" * 256])
def test_metadata_for_no_connection_is_not_sent(nango, calls, ids):
    with pytest.raises(errors.InvalidInput):
        nango.set_metadata("apikey", ids, {})
    assert calls() == 0


@pytest.mark.parametrize("value", ["a\0b", "\ud800", float("inf")])
def test_metadata_that_nango_would_answer_with_500_is_not_sent(nango, made, calls, value):
    with pytest.raises(errors.InvalidInput, match=r"metadata\.deep\[0\]"):
        nango.update_metadata("apikey", "any", {"deep": [value]})
    assert calls() == 0


def test_a_session_connects_with_its_tags_and_shows_its_token_nowhere(nango, sandbox):
    session = nango.create_connect_session(tags={"Plan": "pro"}, allowed_integrations=["apikey"])
    assert session.token.startswith("nango_connect_session_")
    assert session.token in session.connect_link
    assert session.expires_at - datetime.now(UTC) > timedelta(minutes=29)
    assert session.token not in f"{session!r} {session}"
    answer = run_flow(sandbox, "/api-auth/api-key/apikey", session.token, {"apiKey": "k"}).raise_for_status()
    found = nango.get_connection("apikey", answer.json()["connectionId"])
    assert (found.tags, found.credentials) == ({"plan": "pro"}, ApiKeyCredentials(type="API_KEY", api_key="k"))
    refused = run_flow(sandbox, "/api-auth/basic/basic", session.token, {"username": "u", "password": "p"})
    assert refused.status_code == 400


def test_a_session_takes_everything_nango_takes(nango, sandbox):
    session = nango.create_connect_session(
        tags={"a": "b"},
        integrations_config_defaults={"unauth": {"connection_config": {"region": "eu"}}},
        overrides={"unauth": {"docs_connect": "https://docs.example"}},
        webhook_url_override="https://hooks.example/x",
        end_user=NangoEndUser("u1", display_name="Una", email="u@example.com", tags={"Lvl": "1"}),
        organization=EndUserOrganization("o1", "Org"),
    )
    answer = run_flow(sandbox, "/auth/unauthenticated/unauth", session.token).raise_for_status()
    found = nango.get_connection("unauth", answer.json()["connectionId"])
    assert found.tags == {
        "a": "b",
        "lvl": "1",
        "end_user_id": "u1",
        "end_user_email": "u@example.com",
        "end_user_display_name": "Una",
        "organization_id": "o1",
        "organization_display_name": "Org",
    }
    assert found.end_user.organization == EndUserOrganization("o1", "Org")
    assert (found.connection_config, found.webhook_url_override) == ({"region": "eu"}, "https://hooks.example/x")


def test_a_reconnect_session_keeps_the_tags_it_was_given(nango, sandbox, made):
    connection_id = made()
    session = nango.create_reconnect_session("apikey", connection_id, tags={"team": "blue"})
    run_flow(sandbox, "/api-auth/api-key/apikey", session.token, {"apiKey": "k2"}).raise_for_status()
    found = nango.get_connection("apikey", connection_id)
    assert (found.tags, found.credentials.api_key) == ({"team": "blue"}, "k2")


def test_a_session_for_what_nango_does_not_know_says_what(nango, made):
    with pytest.raises(errors.NangoConnectionNotFound):
        nango.create_reconnect_session("apikey", "nobody", tags={})
    with pytest.raises(errors.NangoUnknownIntegration, match=r"allowed_integrations\.1"):
        nango.create_connect_session(tags={}, allowed_integrations=["apikey", "nope"])
    with pytest.raises(errors.NangoInvalidRequest, match="webhook_url_override: This webhook URL is not allowed"):
        nango.create_connect_session(tags={}, webhook_url_override="http://127.0.0.1/")


def test_too_many_tags_with_those_of_the_end_user_are_refused_before_nangos_500(nango, calls):
    tags = {f"k{number}": "v" for number in range(10)}
    with pytest.raises(errors.InvalidTags, match="11 tags with those of end_user"):
        nango.create_connect_session(tags=tags, end_user=NangoEndUser("u1"))
    with pytest.raises(errors.InvalidTags, match="11 tags with those of end_user"):
        nango.patch_connection("apikey", "any", tags=tags, end_user=NangoEndUser("u1"))
    assert calls() == 0


def test_an_import_makes_a_connection_and_replaces_one(nango):
    facts = {"tags": {"src": "1"}, "metadata": {"m": 1}, "connection_id": "import me/please"}
    found = nango.import_connection("apikey", {"type": "API_KEY", "apiKey": "s3cret"}, **facts)
    assert (found.tags, found.metadata, found.credentials.api_key) == ({"src": "1"}, {"m": 1}, "s3cret")
    assert "s3cret" not in repr(found)
    again = nango.import_connection("apikey", {"type": "API_KEY", "apiKey": "n3w"}, **facts | {"tags": {}})
    assert (again.id, again.tags) == (found.id, {})
    made_up = nango.import_connection("apikey", {"type": "API_KEY", "apiKey": "k"}, tags={}, metadata={})
    assert made_up.connection_id


def test_an_import_that_cannot_be_says_why_without_the_credentials(nango):
    with pytest.raises(errors.NangoUnknownIntegration):
        nango.import_connection("nope", {"type": "API_KEY", "apiKey": "s3cret"}, tags={}, metadata={})
    with pytest.raises(errors.NangoInvalidRequest, match=r"credentials\.type") as refused:
        nango.import_connection("apikey", {"type": "BASIC", "password": "s3cret"}, tags={}, metadata={})
    with pytest.raises(errors.InvalidInput, match=r"credentials\.apiKey holds") as unsent:
        nango.import_connection("apikey", {"type": "API_KEY", "apiKey": "s3cret\0"}, tags={}, metadata={})
    assert "s3cret" not in f"{refused.value} {unsent.value}"


def test_a_token_is_what_signs_calls_and_the_raw_answer_is_the_providers(nango, made):
    oauth2, api_key = made("oauth2"), made("apikey")
    token = nango.get_token("oauth2", oauth2)
    assert isinstance(token, str)
    assert nango.get_raw_token_response("oauth2", oauth2)["access_token"] == token
    assert "refresh_token" not in nango.get_raw_token_response("oauth2", oauth2)
    assert nango.get_token("oauth2", oauth2, force_refresh=True) != token
    assert isinstance(nango.get_token("apikey", api_key), ApiKeyCredentials)
    assert nango.get_raw_token_response("apikey", api_key) == {}
    signing = nango.get_token("twitter", made("twitter", authMode="OAUTH1"))
    assert isinstance(signing, OAuth1Credentials)


def test_credentials_that_were_not_asked_for_are_not_given_out(nango, made):
    connection_id = made("oauth2")
    assert nango.get_connection("oauth2", connection_id, credentials=False).credentials == NoCredentials(type="")
    assert nango.get_connection("oauth2", connection_id).credentials.refresh_token is None
    assert nango.get_connection("oauth2", connection_id, refresh_token=True).credentials.refresh_token
    for flag in ("force_refresh", "refresh_token", "refresh_github_app_jwt_token"):
        assert nango.get_connection("oauth2", connection_id, **{flag: True}).credentials.access_token
        with pytest.raises(errors.InvalidInput, match=f"{flag} .*credentials=True"):
            nango.get_connection("oauth2", connection_id, credentials=False, **{flag: True})


# Each rule (Nango contract: Tag rules): what breaks it, and what the message says beside the rule.
BROKEN_TAGS = {
    "not_object": (["s3cret"], "tags must be an object"),
    "invalid_key": ({"1bad": "s3cret"}, "'1bad' must start with an ASCII letter"),
    "key_too_long": ({"k" * 65: "s3cret"}, "has 65 characters, at most 64"),
    "value_type": ({"k": 5}, "'k' must be a string, not number"),
    "value_empty": ({"k": ""}, "'k' is empty"),
    "value_too_long": ({"k": "s3cret" + "😀" * 125}, "'k' has 256 UTF-16 code units, at most 255"),
    "value_unstorable": ({"k": "s3cret\0"}, "'k' holds a NUL or a lone surrogate"),
    "too_many": ({f"k{number}": "s3cret" for number in range(11)}, "11 tags, at most 10"),
    "duplicate": ({"Key": "s3cret", "key": "s3cret"}, "'key' is there twice"),
    "invalid_email": ({"End_User_Email": "s3cret@"}, "'end_user_email' is not an e-mail address Nango takes (7"),
}
MORE_BROKEN_TAGS = [
    ("invalid_key", {"k\n": "v"}),
    ("invalid_key", {"": "v"}),
    ("invalid_key", {"k\0": "v"}),
    ("invalid_key", {"ü": "v"}),
    ("value_type", {"k": None}),
    ("value_type", {"k": True}),
    ("value_type", {"k": {"a": "b"}}),
    ("value_unstorable", {"k": "\udfff"}),
    ("invalid_email", {"end_user_email": "a@bc"}),
    ("not_object", None),
]
TAKES_TAGS = {
    "set_tags": lambda nango, tags: nango.set_tags("apikey", "any", tags),
    "create_connect_session": lambda nango, tags: nango.create_connect_session(tags=tags),
    "create_reconnect_session": lambda nango, tags: nango.create_reconnect_session("apikey", "any", tags=tags),
    "import_connection": lambda nango, tags: nango.import_connection(
        "apikey", {"type": "API_KEY", "apiKey": "k"}, tags=tags, metadata={}
    ),
}


@pytest.mark.parametrize("operation", TAKES_TAGS)
@pytest.mark.parametrize("rule", BROKEN_TAGS)
def test_each_rule_for_tags_is_checked_before_the_call_and_named(nango, calls, operation, rule):
    tags, words = BROKEN_TAGS[rule]
    with pytest.raises(errors.InvalidTags) as raised:
        TAKES_TAGS[operation](nango, tags)
    assert {fault.rule for fault in raised.value.faults} == {rule}
    assert words in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert calls() == 0


@pytest.mark.parametrize(("rule", "tags"), MORE_BROKEN_TAGS)
def test_other_ways_to_break_a_rule_are_the_same_rule(nango, rule, tags):
    with pytest.raises(errors.InvalidTags) as raised:
        nango.create_connect_session(tags=tags)
    assert {fault.rule for fault in raised.value.faults} == {rule}


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"k" * 64: "v" * 255},
        {"k": "😀" * 127},
        {"k": " "},
        {"A.b/c-d_9": "x", "end_user_email": "a@b.de"},
        {f"k{number}": "v" for number in range(10)},
    ],
)
def test_tags_at_the_edge_of_the_rules_are_taken_by_both_sides(nango, made, tags):
    connection_id = made()
    nango.set_tags("apikey", connection_id, tags)
    assert nango.get_connection("apikey", connection_id).tags == {key.lower(): value for key, value in tags.items()}
