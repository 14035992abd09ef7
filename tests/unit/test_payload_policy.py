"""Parts kept of forwarded webhooks (promise 7)."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.event import EventType, read
from app.domain.payload_policy import PayloadPolicy, reduced
from app.domain.stored_bodies import at_rest
from app.domain.stored_bodies import stored as kept

SAMPLES = sorted((Path(__file__).parent.parent / "data" / "nango" / "samples" / "webhooks").glob("*.json"))
PAYLOAD = {"email": "dana@acme.example", "amount": 12.5, "paid": True, "note": None, "items": [{"id": 7}, "x"]}
FORWARD = {"from": "stripe", "type": "forward", "providerConfigKey": "i", "connectionId": "c", "payload": PAYLOAD}
TOKEN = "kq83Xz0pVt5mWc9aRb21"
LESS = [PayloadPolicy.REDACTED, PayloadPolicy.NONE]


def raw(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_with_full_every_body_rests_as_it_came_but_for_nangos_own_credentials(path):
    body = path.read_bytes()
    assert kept(body, PayloadPolicy.FULL) == at_rest(body)
    assert kept(body, PayloadPolicy.FULL) is body or not path.stem.startswith("forward")


@pytest.mark.parametrize("policy", LESS)
@pytest.mark.parametrize(
    "path", [sample for sample in SAMPLES if not sample.stem.startswith("forward")], ids=lambda path: path.stem
)
def test_nangos_own_webhooks_rest_whole_with_every_policy(path, policy):
    body = path.read_bytes()
    if read(body).type != EventType.NANGO_UNHANDLED:
        assert reduced(json.loads(body), read(body).type, policy) is None
        assert kept(body, policy) == at_rest(body)


def test_redacted_keeps_the_shape_and_no_value():
    payload = read(kept(raw(FORWARD), PayloadPolicy.REDACTED)).payload
    hidden = "[redacted]"
    assert payload == {
        "email": hidden,
        "amount": hidden,
        "paid": hidden,
        "note": None,
        "items": [{"id": hidden}, hidden],
    }


def test_names_of_members_that_may_be_data_are_redacted_too():
    body = raw({**FORWARD, "payload": {"dana@acme.example": 1, "1042": 2, "plan_2_name": 3, "x" * 65: 4, TOKEN: 5}})
    assert read(kept(body, PayloadPolicy.REDACTED)).payload.keys() == {"[redacted]", "plan_2_name"}


def test_none_keeps_what_the_event_is_about_and_nothing_else():
    body = raw({**FORWARD, "more": "secret", "from": {"who": "dana"}})
    stored = kept(body, PayloadPolicy.NONE)
    assert json.loads(stored) == {"type": "forward", "providerConfigKey": "i", "connectionId": "c"}


@pytest.mark.parametrize("policy", LESS)
@pytest.mark.parametrize(
    "body",
    [raw(PAYLOAD), raw([PAYLOAD]), raw("dana@acme.example"), b"dana@acme.example", raw({**PAYLOAD, "type": "x"})],
)
def test_a_body_without_an_envelope_counts_as_forwarded(body, policy):
    stored = kept(body, policy)
    assert b"dana" not in stored
    assert read(stored).type == EventType.NANGO_UNHANDLED


@pytest.mark.parametrize("policy", LESS)
@pytest.mark.parametrize("kind", ["auth", "connection.health", None])
def test_of_what_is_not_understood_but_nangos_own_the_connection_is_kept(policy, kind):
    body = raw(
        {"from": "nango", "type": kind, "connectionId": "c", "providerConfigKey": "i", "note": "dana@acme.example"}
    )
    notice, stored = read(body), kept(body, policy)
    again = read(stored)
    assert (notice.type, notice.key) == (EventType.NANGO_UNHANDLED, ("i", "c"))
    assert (again.type, again.key, again.is_auth) == (notice.type, notice.key, notice.is_auth)
    assert b"dana" not in stored


@pytest.mark.parametrize("policy", LESS)
def test_of_what_a_provider_sent_in_the_form_of_nango_no_name_is_kept(policy):
    body = raw({"from": "dana", "type": "dana", "connectionId": "dana", "providerConfigKey": "dana"})
    assert b"dana" not in kept(body, policy)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text().map("§".__add__),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().map("§".__add__), inner),
    max_leaves=10,
)
ENVELOPE = {"type": "forward", "providerConfigKey": "i"}


LONG = "§" + "𝄞" * 200  # 401 UTF-16 code units, which no name has


@pytest.mark.parametrize("policy", LESS)
@example(payload=math.inf, names={})
@example(payload=[-math.inf], names={"from": "§stripe"})
@example(payload=None, names={"connectionId": "§c", "other": math.nan})
@example(payload=None, names={"connectionId": LONG, "from": LONG})
@given(payload=JSON, names=st.fixed_dictionaries({}, optional={"connectionId": JSON, "from": JSON, "other": JSON}))
def test_what_is_kept_is_understood_as_the_original_and_holds_no_text_of_it(policy, payload, names):
    body = raw({**names, **ENVELOPE, "payload": payload})
    notice, stored = read(body), kept(body, policy)
    again = read(stored)
    assert (again.type, again.key, again.provider) == (notice.type, notice.key, notice.provider)
    allowed = [value for value in (notice.connection_id, notice.provider) if value]
    assert stored.count(b"\\u00a7") == raw(allowed).count(b"\\u00a7")


@pytest.mark.parametrize("policy", LESS)
@pytest.mark.parametrize("depth", [100, 400, 600, 900, 990, 50_000])
def test_no_depth_is_an_error(policy, depth):
    body = (
        b'{"from":"x","type":"forward","providerConfigKey":"i","payload":' + b"[" * depth + b"7" + b"]" * depth + b"}"
    )
    stored = kept(body, policy)
    assert b"7" not in stored
    assert read(stored).payload != 7
