import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.event import EventType, failure_type, read

DATA = Path(__file__).parent.parent / "data" / "nango"
SAMPLES = {path.stem: path.read_bytes() for path in sorted((DATA / "samples" / "webhooks").glob("*.json"))}
TYPES = {
    "auth_creation_success_custom_github_app_second": "connection.reauthorized",
    "auth_creation_success": "connection.created",
    "auth_creation_failure": "connection.creation_failed",
    "auth_override_success": "connection.reauthorized",
    "auth_override_failure": "connection.reauthorization_failed",
    "auth_refresh_failure": "connection.refresh_failed",
    "auth_refresh_success": "connection.recovered",
    "auth_deletion_success": "connection.deleted",
    "auth_unknown": "nango.unhandled",
    "sync_": "nango.sync",
    "async_action": "nango.async_action",
    "forward_attributed": "nango.forward",
    "forward_unattributed_raw_shaped_like_auth": "connection.created",
    "forward_unattributed": "nango.unhandled",
    "unknown_future_type": "nango.unhandled",
}


def recordings():
    for line in filter(None, (DATA / "recorded" / "webhooks.jsonl").read_text().split("\n")):
        webhook = json.loads(line)
        yield pytest.param(base64.b64decode(webhook["body_b64"]), id=webhook["scenario"])


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_read_as_what_it_is(name):
    expected = next(kind for prefix, kind in TYPES.items() if name.startswith(prefix))
    notice = read(SAMPLES[name])
    assert notice.type == expected
    assert (notice.problem is None) is (expected != "nango.unhandled")


@pytest.mark.parametrize("body", list(recordings()))
def test_every_recording_is_read_member_by_member(body):
    told, notice = json.loads(body), read(body)
    kinds = {
        ("creation", True): "connection.created",
        ("creation", False): "connection.creation_failed",
        ("override", True): "connection.reauthorized",
        ("refresh", False): "connection.refresh_failed",
    }
    assert notice.type == kinds[told["operation"], told["success"]]
    assert notice.key == (told["providerConfigKey"], told["connectionId"])
    assert (notice.provider, notice.auth_mode, notice.environment) == (
        told["provider"],
        told["authMode"],
        told["environment"],
    )
    assert notice.tags == told.get("tags")
    end_user = told.get("endUser")
    assert (notice.end_user.id if notice.end_user else None) == (end_user["endUserId"] if end_user else None)
    assert (notice.error.type if notice.error else None) == (told["error"]["type"] if "error" in told else None)


def auth(**members):
    body = {
        "from": "nango",
        "type": "auth",
        "connectionId": "c",
        "providerConfigKey": "i",
        "operation": "creation",
        "success": True,
    }
    return json.dumps({**body, **members}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b"12",
        b'"auth"',
        b"[]",
        b'[{"type":"auth"}]',
        b"{",
        b"\xff\xfe{}",
        b'{"type":"auth","x":"\xc3\x28"}',
        b'\xef\xbb\xbf{"type":"auth"}',
        b'{"type":"auth","x":"\x00"}',
        b'{"type":"sync","x":NaN}',
        b'{"type":"sync","x":-Infinity}',
        b'{"type":"sync","x":1e999}',
        b'{"type":"sync","x":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type":"auth","type":"integration"}',
        b'{"type":["auth"]}',
        b'{"type":{"auth":1}}',
        b'{"type":null}',
    ],
)
def test_what_is_no_webhook_of_nangos_is_unhandled_with_a_reason_and_never_an_error(body):
    notice = read(body)
    assert notice.type == EventType.NANGO_UNHANDLED
    assert notice.problem
    assert notice.key is None


@pytest.mark.parametrize("depth", [100, 300, 450, 600, 900, 990, 2000, 50_000])
@pytest.mark.parametrize("inner", [b"1", b'"\\u0000"'])
def test_nesting_of_any_depth_is_read_or_unhandled(depth, inner):
    body = b'{"from":"x","type":"forward","providerConfigKey":"i","payload":' + b"[" * depth + inner + b"]" * depth
    assert read(body + b"}").type in {EventType.NANGO_FORWARD, EventType.NANGO_UNHANDLED}


@pytest.mark.parametrize(
    "members",
    [
        {"from": "slack"},
        {"from": None},
        {"connectionId": None},
        {"connectionId": ""},
        {"connectionId": 7},
        {"connectionId": "c" * 256},
        {"connectionId": "😀" * 128},  # 256 as Nango counts: it would refuse to be asked about it
        {"providerConfigKey": None},
        {"providerConfigKey": ["i"]},
        {"operation": "rotation"},
        {"operation": "unknown"},
        {"operation": ["creation"]},
        {"operation": {}},
        {"success": "true"},
        {"success": 1},
        {"success": None},
        {"operation": "deletion", "success": False},
    ],
)
def test_an_auth_body_whose_envelope_is_not_nangos_is_unhandled(members):
    assert read(auth(**members)).type == EventType.NANGO_UNHANDLED


@pytest.mark.parametrize(
    ("tags", "understood"),
    [
        ({}, {}),
        (None, None),
        ([], None),
        ("text", None),
        ({"a": "b", "n": 1, "x": None, "o": {}, "l": ["u"]}, {"a": "b"}),
    ],
)
def test_tags_that_are_no_strings_cannot_be_nangos_and_are_dropped(tags, understood):
    assert read(auth(tags=tags)).tags == understood


def test_tags_that_are_absent_are_not_tags_that_are_empty():
    assert read(auth()).tags is None
    assert read(auth(tags={})).tags == {}


@pytest.mark.parametrize("end_user", [None, {}, [], "u", {"endUserId": None}, {"endUserId": 7, "tags": {}}])
def test_an_end_user_without_an_id_is_none(end_user):
    assert read(auth(endUser=end_user)).end_user is None


def test_the_provider_unknown_is_no_provider():
    assert read(auth(provider="unknown")).provider is None


def test_text_that_no_database_takes_is_replaced_everywhere():
    body = (
        b'{"from":"nango","type":"auth","connectionId":"c\\u0000","providerConfigKey":"i","operation":"creation",'
        b'"success":true,"tags":{"k\\ud800":"v\\u0000\\udfff \\ud83d\\ude00"}}'
    )
    notice = read(body)
    assert notice.connection_id == "c\ufffd"
    assert notice.tags == {"k\ufffd": "v\ufffd\ufffd 😀"}


def test_of_keys_that_stand_twice_the_last_counts_as_in_javascript():
    body = auth(tags={"end_user_id": "first"})[:-1] + b',"tags":{"end_user_id":"last"}}'
    assert read(body).tags == {"end_user_id": "last"}


def test_an_error_is_scrubbed_bounded_and_only_there_on_failure():
    secret = "bearer abcdef0123456789"
    notice = read(auth(success=False, error={"type": "t" * 500, "description": secret + "x " * 2000}))
    assert "abcdef" not in notice.error.description
    assert (len(notice.error.type), len(notice.error.description)) == (100, 500)
    assert read(auth(error={"type": "t", "description": "d"})).error is None
    assert read(auth(success=False, error={"type": 7, "description": None})).error.type == "unknown"
    assert read(auth(success=False, error={"message": "gone"})).error.description == "gone"
    told = read(
        auth(success=False, error=f"the refresh failed: {secret}")
    ).error  # as earlier releases of Nango send it
    assert (told.type, told.description) == ("unknown", "the refresh failed: bearer [hidden]")
    assert [read(auth(success=False, error=error)).error for error in ("", 7, ["text"], None)] == [None] * 4


@pytest.mark.parametrize("kind", ["sync", "async_action"])
def test_a_sync_or_action_must_name_its_connection(kind):
    whole = {"from": "nango", "type": kind, "connectionId": "c", "providerConfigKey": "i"}
    assert read(json.dumps(whole).encode()).type == f"nango.{kind}"
    for missing in ("from", "connectionId", "providerConfigKey"):
        part = {name: value for name, value in whole.items() if name != missing}
        assert read(json.dumps(part).encode()).type == EventType.NANGO_UNHANDLED


def test_a_wrapped_forward_may_come_without_a_connection():
    notice = read(b'{"from":"hubspot","type":"forward","providerConfigKey":"i","payload":[1]}')
    assert (notice.type, notice.provider, notice.key, notice.payload) == ("nango.forward", "hubspot", None, [1])


def test_only_a_failed_creation_of_a_known_connection_is_a_failed_reauthorization():
    failed, made = read(auth(success=False)), read(auth())
    assert failure_type(failed, known=True) == EventType.CONNECTION_REAUTHORIZATION_FAILED
    assert failure_type(failed, known=False) == EventType.CONNECTION_CREATION_FAILED
    assert failure_type(made, known=True) == EventType.CONNECTION_CREATED


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error(body):
    assert read(body).type


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    ["from", "type", "connectionId", "providerConfigKey", "operation", "success", "tags", "endUser", "error"]
)


@given(st.dictionaries(MEMBERS, JSON | st.sampled_from(["nango", "auth", "sync", "forward", "creation", True, False])))
def test_no_combination_of_members_is_an_error(body):
    assert read(json.dumps(body).encode()).type


@pytest.mark.parametrize("kind", ["auth", "connection.health", None, 7])
@pytest.mark.parametrize(("sender", "names"), [("nango", ("i", "c")), ("slack", None), (None, None)])
def test_what_is_not_understood_names_a_connection_in_nangos_own_envelope_alone(kind, sender, names):
    body = {"from": sender, "type": kind, "connectionId": "c", "providerConfigKey": "i", "operation": "new"}
    notice = read(json.dumps(body).encode())
    assert (notice.type, notice.key) == (EventType.NANGO_UNHANDLED, names)
    assert notice.is_auth is (kind == "auth")
