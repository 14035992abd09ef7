"""The difference between two documents, and masked bodies."""

import json

from app.domain.difference import Change, ChangeKind, difference
from app.domain.masking import MAX_SHOWN, masked_at, masked_body, masked_document

TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3rS5tU7vW9xY1zA2bC4"


def test_what_was_added_removed_and_changed_is_told_by_its_path():
    before = {"tags": {"plan": "free", "old": "x"}, "items": [1, 2, 3], "same": {"a": [1]}}
    after = {"tags": {"plan": "pro", "new": True}, "items": [1, 5], "same": {"a": [1]}}
    assert difference(before, after).changes == [
        Change("items[1]", ChangeKind.CHANGED, 2, 5),
        Change("items[2]", ChangeKind.REMOVED, 3, None),
        Change("tags.new", ChangeKind.ADDED, None, True),
        Change("tags.old", ChangeKind.REMOVED, "x", None),
        Change("tags.plan", ChangeKind.CHANGED, "free", "pro"),
    ]


def test_equal_values_of_different_types_differ():
    assert [each.path for each in difference({"a": 1, "b": 0}, {"a": True, "b": 0}).changes] == ["a"]
    assert difference({"a": None}, {}).changes == [Change("a", ChangeKind.REMOVED, None, None)]


def test_changes_are_bounded_in_number_depth_and_length():
    many = difference({}, {f"k{number:05}": "x" * 10_000 for number in range(5000)}, most=3)
    assert [each.path for each in many.changes] == ["k00000", "k00001", "k00002"]
    assert many.more
    assert len(str(many.changes[0].after)) < 400
    deep, other = {"leaf": 1}, {"leaf": 2}
    for _ in range(500):
        deep, other = {"in": deep}, {"in": other}
    [only] = difference(deep, other).changes
    assert only.path.count(".") == 19
    assert not difference(deep, deep).changes


def test_a_forwarded_body_is_shown_without_what_may_be_a_credential_and_says_how_much():
    body = {
        "from": "github", "type": "forward", "connectionId": "a7f3b2c1-5c4d-4e6f-8a9b-0c1d2e3f4a5b",
        "payload": {"access_token": "short", "note": f"use {TOKEN}", "name": "Dana"},
    }  # fmt: skip
    shown = masked_body(json.dumps(body))
    assert shown.count == 2
    assert "short" not in shown.text
    assert TOKEN not in shown.text
    told = json.loads(shown.text)
    assert told["connectionId"] == body["connectionId"]
    assert told["payload"]["name"] == "Dana"


def test_a_body_of_nangos_own_is_shown_as_it_is_stored():
    body = {"from": "nango", "type": "auth", "tags": {"end_user_id": "a7f3b2c1d5e6f7089a0b1c2d3e4f5a6b"}}
    assert json.loads(masked_body(json.dumps(body)).text) == body


def test_a_body_that_is_no_json_is_masked_and_bounded():
    shown = masked_body(f"token={TOKEN} " + "x " * MAX_SHOWN)
    assert TOKEN not in shown.text
    assert shown.cut
    assert shown.count == 1
    assert len(shown.text) <= MAX_SHOWN
    assert masked_body("[" * 100_000).text


def test_a_document_is_masked_where_a_provider_wrote_it():
    document = {"tags": {"end_user_id": "a7f3b2c1d5e6f7089a0b1c2d3e4f5a6b"}, "payload": {"password": "hunter2"}}
    shown = masked_document(document)
    assert shown["tags"] == document["tags"]
    assert "hunter2" not in str(shown)


def test_a_value_of_a_document_is_masked_by_its_path():
    assert masked_at("payload.user.password", "hunter2") == "[hidden]"
    assert masked_at("payload.items[0]", f"use {TOKEN}") != f"use {TOKEN}"
    assert masked_at("payload.user.name", "Dana") == "Dana"
    assert masked_at("tags.end_user_id", TOKEN) == TOKEN
