import base64
import json
from pathlib import Path

import pytest

from app.domain.signature import HEADER, fingerprint, matching_key, sign

DATA = Path(__file__).parent.parent / "data" / "nango"
VECTORS = json.loads((DATA / "samples" / "signature_vectors.json").read_text())
RECORDED = [json.loads(line) for line in (DATA / "recorded" / "webhooks.jsonl").read_text().split("\n") if line]
KEY, PREVIOUS = VECTORS["signing_key"], VECTORS["previous_signing_key"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["sample"])
def test_every_vector_verifies_under_the_current_and_the_previous_key(vector):
    body, signature = vector["raw_body"].encode(), vector["headers"]["X-Nango-Hmac-Sha256"]
    assert sign(body, KEY) == signature
    assert matching_key(body, signature, [KEY]) == 0
    assert matching_key(body, vector["previous_key_hmac"], [KEY, PREVIOUS]) == 1
    assert matching_key(body, vector["previous_key_hmac"], [KEY]) is None


@pytest.mark.parametrize("webhook", RECORDED, ids=lambda webhook: webhook["scenario"])
def test_every_recorded_webhook_verifies(webhook):
    headers = {name.lower(): value for name, value in webhook["headers"]}
    body = base64.b64decode(webhook["body_b64"])
    if body:  # a redirected delivery arrives as a GET without a body
        assert matching_key(body, headers[HEADER], [PREVIOUS, webhook["signing_secret"]]) == 1


def test_the_legacy_signature_is_no_signature():
    vector = VECTORS["vectors"][0]
    assert matching_key(vector["raw_body"].encode(), vector["headers"]["X-Nango-Signature"], [KEY]) is None


@pytest.mark.parametrize("strange", [None, "", "0", "é" * 64, "\ud800", "A" * 64, "0" * 10_000])
def test_a_strange_signature_is_simply_no_match(strange):
    assert matching_key(b"{}", strange, [KEY, PREVIOUS]) is None


def test_another_body_another_case_or_no_key_does_not_match():
    signature = sign(b"{}", KEY)
    assert matching_key(b"{ }", signature, [KEY]) is None
    assert matching_key(b"{}", signature.upper(), [KEY]) is None
    assert matching_key(b"{}", signature, []) is None


def test_the_first_of_equal_keys_is_named():
    assert matching_key(b"{}", sign(b"{}", KEY), [PREVIOUS, KEY, KEY]) == 1


def test_a_fingerprint_binds_environment_and_body_unambiguously():
    assert len(fingerprint("dev", b"{}")) == 32
    assert fingerprint("dev", b"{}") == fingerprint("dev", b"{}")
    assert len({fingerprint("dev", b"{}"), fingerprint("prod", b"{}"), fingerprint("dev", b"{ }")}) == 3
    assert fingerprint("a", b"bc") != fingerprint("ab", b"c")
    assert fingerprint("a\0", b"b") != fingerprint("a", b"\0b")
