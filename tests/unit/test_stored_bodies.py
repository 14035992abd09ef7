"""Stored bodies of Nango's own webhooks hold no possible credential, in whatever form and place (promise 7)."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import stored_bodies as at_rest_module
from app.domain.event import EventType, read
from app.domain.payload_policy import PayloadPolicy
from app.domain.scrub import HIDDEN
from app.domain.stored_bodies import AT_ONCE, at_rest, read_at_rest, rests_as_it_came, stored, stored_at_once
from app.web.large_bodies import LARGE, stored_large
from tests.quoted_secrets import TEXTS, places

DATA = Path(__file__).parent.parent / "data" / "nango"
SAMPLES = {path.stem: json.loads(path.read_bytes()) for path in sorted((DATA / "samples" / "webhooks").glob("*.json"))}
RECORDED = [json.loads(line) for line in (DATA / "recorded" / "webhooks.jsonl").read_text().split("\n") if line]
OWN = {name: sample for name, sample in SAMPLES.items() if not name.startswith("forward_unattributed_raw_")} | {
    "shaped_like_auth": SAMPLES["forward_unattributed_raw_shaped_like_auth"]
}
OWN.pop("forward_attributed")
OWN.pop("unknown_future_type")  # it has no `from`, and its type is not known: it counts as forwarded
OWN["unknown_type_of_nangos"] = {"from": "nango", "type": "integration", "integrationId": "google-mail"}

SHORT = "hunter2-x"  # a password: only its name shows it
UUID = "7d0b6f0e-2f0c-4a62-9f1b-1b8a5e0c9d77"
LONG = "kq83Xz0pVt5mWc9aRb21"  # a token: its form shows it


def written(body: Any) -> bytes:
    """As Nango's serializer does it."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


NAMES = [
    "token", "access_token", "refreshToken", "ID_TOKEN", "client-secret", "clientSecret", "sessionKey", "private_key",
    "x-api-key", "apiKey", "APIKEY", "Cookie", "set-cookie", "password", "passwd", "pwd", "passphrase", "pin", "otp",
    "credentials", "authorization", "signature", "client_assertion", "code_verifier", "device_code", "jwt", "bearer",
    "secretAccessKey", "signing_key", "sid", "raw", "auth", "session_id", "connection_string", "key",
]  # fmt: skip


KINDS = {sample.get("type", "") + sample.get("operation", ""): sample for sample in OWN.values()}


@pytest.mark.parametrize("form", TEXTS)
def test_a_text_that_quotes_a_credential_is_stored_without_it(form: str):
    for secret in (SHORT, LONG):
        for place, members in places(TEXTS[form].format(secret)).items():
            for kind, body in KINDS.items():
                kept = at_rest(written({**body, **members}))
                assert secret.encode() not in kept, (kind, place)
                json.loads(kept)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [SHORT, 83_151_207, [SHORT], {"a": SHORT}, {"a": [{"b": 83_151_207}]}, 8.3151207])
def test_whatever_stands_under_a_telling_name_is_hidden(name: str, value: object):
    for members in ({name: value}, {"payload": {"deep": [{name: value}]}}, {"data": {name.upper(): value}}):
        kept = at_rest(written({**OWN["auth_refresh_failure"], **members}))
        assert not any(secret in kept for secret in (SHORT.encode(), b"83151207", b"8.3151207")), members


@pytest.mark.parametrize(
    "members",
    [
        {"headers": ["Authorization", SHORT]},
        {"headers": [{"name": "X-Api-Key", "value": SHORT}]},
        {"fields": [{"key": "password", "value": SHORT}]},
        {LONG: 1},
        {"a": {LONG: {LONG: []}}},
        {"a": LONG},
        {"a": [[[[LONG]]]]},
        {"a": int("8315120783151207831512")},
        {"a": base64.b64encode(json.dumps({"access_token": SHORT}).encode()).decode()},
        {"a": quote(json.dumps({"access_token": SHORT}))},
        {"a": "\n".join([LONG[:10], LONG[10:] + "1234"])},
        {"a": f"token={SHORT[:5]}\n{SHORT[5:]}1"},
        {"a": f"eyJhbGciOiJub25lIn0.{base64.urlsafe_b64encode(SHORT.encode()).decode()}.x1"},
        {"a": "https://u:pa/ss-" + SHORT + "@host"},
        {"a": "x " * 1995 + "token=" + SHORT},
        {"a": {"b": {"c": {"d": {"e": [{"f": f"secret: {SHORT}"}]}}}}},
        {"syncName": "token=" + SHORT},
        {"model": LONG},
        {"environment": f"Bearer {SHORT}"},
        {"authMode": LONG},
        {"endUser": {"endUserId": "u", "password": SHORT, "note": f"token={SHORT}", "tags": {"a": {"pin": SHORT}}}},
        {"endUser": {"endUserId": {"token": SHORT}}},
        {"tags": f"token={SHORT}"},
    ],
)
def test_a_credential_is_found_in_any_other_form(members: dict[str, Any]):
    for body in OWN.values():
        kept = at_rest(written({**body, **members}))
        assert not any(secret in kept for secret in (SHORT.encode(), LONG.encode(), LONG[:10].encode(), b"83151207"))
        assert not any(SHORT.encode() in decoded for decoded in decodings(kept))


def decodings(kept: bytes) -> list[bytes]:
    """The words of a body that are base64."""
    found = []
    for word in kept.replace(b'"', b" ").replace(b".", b" ").split():
        try:
            found.append(base64.b64decode(word + b"=" * (-len(word) % 4), altchars=b"-_"))
        except ValueError:
            continue
    return found


def test_a_name_that_stands_twice_hides_nothing():
    body = written({**OWN["auth_refresh_failure"], "success": True})
    doubled = body[:-1] + b',"x":{"a":"password=' + SHORT.encode() + b'"},"x":1}'
    assert SHORT.encode() not in at_rest(doubled)
    nested = body[:-1] + b',"x":{"a":"password=' + SHORT.encode() + b'","a":1}}'
    assert SHORT.encode() not in at_rest(nested)
    replaced = body[:-1] + b',"x":{"\\u0000":"password=' + SHORT.encode() + b'","\\ud800":1}}'
    assert SHORT.encode() not in at_rest(replaced)
    assert SHORT.encode() not in at_rest(replaced.replace(b'"x"', b'"environment"'))
    tags = b'{"type":"auth","from":"nango","x":"pin=1","tags":{"\\ud800":{"pin":1},"\\u0000":"v"}}'
    assert read(at_rest(tags)).tags == read(tags).tags


@pytest.mark.parametrize("junk", [b"NaN", b"1e999", b"9" * 5000, b"[" * 100_000, b"\xff", b'"\x01"', b"{"])
def test_a_body_of_nangos_that_cannot_be_read_shows_no_credential_and_stays_unreadable(junk: bytes):
    body = written({**OWN["auth_refresh_failure"], "error": f"password={SHORT}"})[:-1] + b',"x":' + junk + b"}"
    of_an_earlier_release = (
        body.replace(b'"from":"nango",', b"").replace(b'"type":"auth"', b'"kind":"auth"')[:-1] + b',"type":"auth"}'
    )
    for came in (body, b"\xef\xbb\xbf" + body, b"while(1);" + body, of_an_earlier_release):
        kept = at_rest(came)
        assert SHORT.encode() not in kept
        assert read(kept).type == EventType.NANGO_UNHANDLED
        means_what_is_kept(came)


@pytest.mark.parametrize("depth", [30, 50, 100, 300, 450, 600, 900, 990, 50_000])
@pytest.mark.parametrize("inner", [b"1", b'"password=hunter2-x"', b'"\\u0000"'])
@pytest.mark.parametrize("name", [b"x", b"tags", b"error", b"provider"])
def test_no_depth_is_an_error_or_hides_anything(depth: int, inner: bytes, name: bytes):
    member = b',"%b":' % name + b"[" * depth + inner + b"]" * depth
    body = written(OWN["auth_creation_success_tags_absent"])[:-1] + member + b"}"
    kept = at_rest(body)
    assert SHORT.encode() not in kept
    assert read(kept).type == read(body).type
    means_what_is_kept(body)


def test_escaped_letters_do_not_make_a_body_a_forwarded_one():
    body = written({**OWN["auth_refresh_failure"], "error": f"password={SHORT}"})
    assert SHORT.encode() not in at_rest(body.replace(b'"auth"', b'"\\u0061uth"').replace(b'"nango"', b'"n\\u0061ngo"'))


# What the product needs stays


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_means_the_same_afterwards_and_rests_as_it_came(name: str):
    for body in (written(SAMPLES[name]), json.dumps(SAMPLES[name], indent=2).encode()):
        kept = at_rest(body)
        assert read(kept) == read(body)
        error = SAMPLES[name].get("error") if isinstance(SAMPLES[name], dict) else None
        if not (isinstance(error, dict) and error.keys() - {"type", "description"}):  # what else is in it is not kept
            assert kept == body


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["scenario"])
def test_every_recorded_webhook_rests_as_it_came(recorded: dict[str, Any]):
    body = base64.b64decode(recorded["body_b64"])
    assert at_rest(body) == body


@pytest.mark.parametrize(
    "members",
    [
        {"tags": {"end_user_id": LONG, "license_key": SHORT, "token": LONG, "note": f"password={SHORT}"}},
        {"endUser": {"endUserId": LONG, "endUserEmail": None, "organizationId": LONG, "tags": {"Token": SHORT}}},
        {"connectionId": LONG},
        {"connectionId": "token=" + SHORT},
        {"providerConfigKey": f"google-{LONG}"},
        {"provider": "google-drive-oauth2-2legged-v3"},
        {"environment": "préprod-2024"},
        {"syncName": "fetch-contacts-2024-incremental-v2"},
        {"model": "GmailEmail2,GmailThread,B2BContact_v10"},
        {"failedAt": "2026-08-21T09:00:07.318+00:00"},
        {"payload": {"id": UUID, "statusUrl": f"/action/{UUID}", "url": f"https://api.nango.dev/action/{UUID}"}},
        {"checkpoints": {"from": {"historyId": "884211", "page": 3, "at": "2026-08-21T09:00:00.000Z"}, "to": None}},
        {"newField": {"a": 1, "token_type": "bearer", "expires_in": 3600, "code": "not_found", "key": "email"}},
        {"error": {"type": "refresh_token_external_error", "description": "invalid_grant: Token has been revoked"}},
        {"error": "The connection was deleted at the provider"},
    ],
)  # fmt: skip
def test_ids_tags_names_and_prose_stay(members: dict[str, Any]):
    body = written({**OWN["sync_failure"], "error": {"type": "t", "description": "d"}, **members})
    assert at_rest(body) == body


def test_an_error_keeps_its_type_and_its_text_and_nothing_else():
    error = {"type": "x", "description": "gone", "payload": {"a": 1}, "additional_properties": {"status": 403}}
    kept = json.loads(at_rest(written({**OWN["auth_refresh_failure"], "error": error})))
    assert kept["error"] == {"type": "x", "description": "gone"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    [*OWN["auth_creation_success_tags"], "error", "endUser", "payload", "syncName", "password", "x"]
)
WORDS = st.sampled_from(["nango", "auth", "sync", "async_action", "forward", "creation", "refresh", True, False])


@given(st.dictionaries(MEMBERS, JSON | WORDS))
def test_what_is_kept_means_the_same(members: dict[str, Any]):
    body = json.dumps(members).encode()
    before, after = read(body), read(at_rest(body))
    for name in ("type", "key", "operation", "success", "tags", "end_user"):
        assert getattr(before, name) == getattr(after, name), name
    assert (before.error is None) == (after.error is None)
    means_what_is_kept(body)


def means_what_is_kept(body: bytes) -> None:
    """Parsed once, a body is kept and read as if what is kept of it had been parsed again."""
    kept, notice = read_at_rest(body)
    again = read(at_rest(body))
    assert (kept, notice) == (at_rest(body), again)
    assert msgspec.json.encode(notice.payload) == msgspec.json.encode(again.payload)  # in the same order, too


def test_a_key_that_stands_twice_in_a_forwarded_body_means_its_last_value():
    body = b'{"type":"forward","from":"x","providerConfigKey":"i","payload":{"auth":1,"a":{"b":1,"b":2},"auth":"auth"}}'
    assert not rests_as_it_came(body)
    assert read_at_rest(body)[1].payload == {"auth": "auth", "a": {"b": 2}}
    means_what_is_kept(body)


@pytest.mark.parametrize("said", ["no", f"password={SHORT}"])
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(
    "ends", ["}", ',"x":{"a":1,"a":2}}', ',"x":{"\\u0000":1,"\\ud800":[{"a":1,"a":2}]}}', ',"x":NaN}', ""]
)
def test_a_body_that_is_parsed_once_means_the_same(name: str, said: str, ends: str):
    for body in (OWN[name], {**OWN[name], "from": "github", "type": "forward", "payload": {"from": "nango"}}):
        means_what_is_kept(written({**body, "error": said})[:-1] + ends.encode())


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error(body: bytes):
    for policy in PayloadPolicy:
        assert read(stored(body, policy)).type
        assert read(stored_large(body, policy)).type
    means_what_is_kept(body)


# Forwarded bodies follow their policy


def deep(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "body",
    [
        SAMPLES["forward_attributed"] | {"payload": {"access_token": SHORT}},
        {"type": "INCIDENT", "success": False, "error": {"description": f"token={SHORT}"}},
        [{"type": "auth", "from": "nango", "error": f"token={SHORT}"}],
        f"token={SHORT}",
        {"payload": [{"type": "sync", "n": int("9" * 4000)}], "a": f"token={SHORT}"},
        {"payload": deep(150, {"type": "sync"}), "a": f"token={SHORT}"},
    ],
)
def test_a_forwarded_body_follows_the_policy_of_its_environment(body: Any):
    came = written(body)
    assert stored(came, PayloadPolicy.FULL) == came
    for policy in (PayloadPolicy.REDACTED, PayloadPolicy.NONE):
        assert SHORT.encode() not in stored(came, policy)


@pytest.mark.parametrize("junk", [b"NaN", b"9" * 5000, b"[" * 100_000, b"\xff", b"{"])
def test_one_that_cannot_be_read_too(junk: bytes):
    came = b'{"payload":[{"type":"sync"}],"a":"token=%b","b":%b}' % (SHORT.encode(), junk)
    assert stored(came, PayloadPolicy.FULL) == came
    for policy in (PayloadPolicy.REDACTED, PayloadPolicy.NONE):
        assert SHORT.encode() not in stored(came, policy)


@pytest.mark.parametrize("policy", PayloadPolicy)
def test_nangos_own_are_scrubbed_with_every_policy(policy: PayloadPolicy):
    for body in OWN.values():
        assert SHORT.encode() not in stored(written({**body, "error": f"token={SHORT}"}), policy)


# How long it takes


@pytest.mark.parametrize("name", [sample for sample in SAMPLES if "success" in sample and "legacy" not in sample])
def test_the_usual_bodies_are_known_at_a_glance(name: str):
    assert rests_as_it_came(written(SAMPLES[name]))


@pytest.mark.parametrize("name", ["forward_attributed", "forward_unattributed_raw_body", "async_action"])
def test_so_are_forwarded_ones_and_actions(name: str):
    assert rests_as_it_came(written(SAMPLES[name]))


PLAIN = st.text('aZ09_.-: /éß東\uff1a\uff1d“«\\"', max_size=24) | st.sampled_from(
    [
        "token",
        "password\uff1ahunter",
        "password:x",
        "code",
        LONG,
        UUID,
        "2026-08-21T09:00:00.000Z",
        "Bearer abc123",
        "oauth2",
    ]
)
VALUES = PLAIN | st.none() | st.booleans() | st.integers(0, 10**17)
NAMED = st.dictionaries(
    st.sampled_from(["page", "refreshToken", "historyId", "PIN", "lastKeyId", "x1", "id"]) | PLAIN, VALUES
)
LIKELY = st.fixed_dictionaries(
    {"type": st.sampled_from(["auth", "sync", "async_action"])},
    optional={
        "from": st.just("nango"),
        "success": st.just(True),
        "connectionId": PLAIN,
        "environment": PLAIN,
        "provider": PLAIN,
        "syncName": PLAIN,
        "model": PLAIN,
        "modifiedAfter": PLAIN,
        "tags": st.dictionaries(PLAIN, PLAIN),
        "checkpoints": st.none() | st.fixed_dictionaries({}, optional={"from": NAMED, "to": NAMED}),
        "responseResults": st.fixed_dictionaries({}, optional={"added": VALUES, "token": VALUES}),
        "payload": st.fixed_dictionaries({}, optional={"id": PLAIN, "statusUrl": PLAIN}),
    },
)


@given(LIKELY)
def test_what_a_quick_scan_lets_pass_a_full_scan_does_not_change(members: dict[str, Any]):
    for body in (written(members), json.dumps(members).encode()):
        if rests_as_it_came(body):
            assert at_rest_module._parsed_and_scrubbed(body)[0] == body


@pytest.mark.parametrize(
    "members",
    [
        {"environment": "password\uff1ahunter"},
        {"provider": "a token:hunter"},
        {"checkpoints": {"from": {"pageToken": "12345"}}},
        {"checkpoints": {"from": {"PIN": 1234}}},
        {"checkpoints": {"to": {"apikey": "a"}}},
        {"checkpoints": {"to": {"x": LONG}}},
        {"payload": {"id": LONG}},
        {"connectionId": "c" * 256},
        {"operation": LONG},
        {"environment": "ghp_abcdefgh"},
        {"syncName": "sk_test_abc12345"},
        {"checkpoints": {"to": {"x": "xoxb-1a2b3c4d5e"}}},
        {"checkpoints": {"to": {"clave": "hunter2"}}},
    ],
)
def test_a_glance_lets_nothing_else_pass(members: dict[str, Any]):
    assert not rests_as_it_came(written({**OWN["sync_success_incremental"], **members}))


def test_what_takes_longer_is_left_to_a_thread_where_it_is_large():
    body = written(OWN["auth_refresh_failure"])
    larger = written({**OWN["auth_refresh_failure"], "error": {"type": "t", "description": "x" * AT_ONCE}})
    assert stored_at_once(body, PayloadPolicy.FULL) == body
    assert stored_at_once(larger, PayloadPolicy.FULL) is None
    forwarded = written({**SAMPLES["forward_attributed"], "payload": "x" * AT_ONCE})
    assert stored_at_once(forwarded, PayloadPolicy.FULL) is forwarded
    assert stored_at_once(forwarded, PayloadPolicy.REDACTED) is None


# Large ones

HOSTILE = b"[" + b"[]," * (LARGE // 3) + b"0]"


def large(body: dict[str, Any], name: str = "x", value: bytes = HOSTILE) -> bytes:
    return written(body)[:-1] + b',"%b":%b}' % (name.encode(), value)


@pytest.mark.parametrize("name", OWN)
def test_of_a_large_body_of_nangos_the_known_members_are_kept(name: str):
    body = large({**OWN[name], "error": f"token={SHORT} is no good"})
    kept = stored_large(body, PayloadPolicy.FULL)
    assert len(kept) < 2000
    assert SHORT.encode() not in kept
    assert read(kept).key == read(body).key
    assert read(kept).type == read(body).type
    assert read(kept).tags == read(body).tags


@pytest.mark.parametrize("error", ["text", {"type": "t", "description": "text"}])
def test_a_large_error_text_is_kept_as_far_as_any_is(error: Any):
    said = "The provider said no. " * 10_000
    told = said if error == "text" else {**error, "description": said, "payload": [said]}
    kept = json.loads(stored_large(written({**OWN["auth_refresh_failure"], "error": told}), PayloadPolicy.FULL))
    text = kept["error"] if error == "text" else kept["error"]["description"]
    assert text.startswith("The provider said no. The")
    assert len(text) == 500


def test_a_large_forwarded_body_follows_the_policy_too():
    body = large(SAMPLES["forward_attributed"], "zzz")
    assert stored_large(body, PayloadPolicy.FULL) is body
    assert json.loads(stored_large(body, PayloadPolicy.REDACTED))["payload"] == [
        dict.fromkeys(SAMPLES["forward_attributed"]["payload"][0], "[redacted]")
    ]
    big = large({k: v for k, v in SAMPLES["forward_attributed"].items() if k != "payload"}, "payload")
    assert json.loads(stored_large(big, PayloadPolicy.REDACTED))["payload"] == "[redacted]"
    assert read(stored_large(big, PayloadPolicy.NONE)).key == read(big).key
    for raw in (HOSTILE, large({"a": SHORT}), b'"' + SHORT.encode() * LARGE + b'"'):
        assert stored_large(raw, PayloadPolicy.FULL) is raw
        assert stored_large(raw, PayloadPolicy.REDACTED) == b'"[redacted]"'
        assert stored_large(raw, PayloadPolicy.NONE) == b"{}"


def test_a_large_body_that_cannot_be_read_is_cut_where_it_says_it_is_nangos():
    body = large({**OWN["auth_refresh_failure"], "error": f"token={SHORT}"}, value=HOSTILE + b"}")
    kept = stored_large(body, PayloadPolicy.FULL)
    assert SHORT.encode() not in kept
    assert len(kept) <= 2000
    assert read(kept).type == EventType.NANGO_UNHANDLED
    other = b'{"a":' * 50_000
    assert stored_large(other, PayloadPolicy.FULL) is other


def test_hidden_says_so():
    assert HIDDEN.encode() in at_rest(written({**OWN["auth_refresh_failure"], "error": f"token={SHORT}"}))
