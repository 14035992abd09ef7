"""Rules by which a text names a person, and what is left of a value without them."""

import pytest

from app.domain.erasing import ERASED, Identity

DANA = Identity("usr_" + "a" * 32, "dana-1042", "Dana.Wu@acme.example")
SHORT = Identity("usr_" + "b" * 32, "42", None)


@pytest.mark.parametrize(
    "value",
    [
        "dana-1042",
        "DANA.WU@ACME.EXAMPLE",
        "user dana-1042 said no",
        "<dana.wu@acme.example>",
        {"a": [{"b": "dana-1042"}]},
        {"dana-1042": 1},
    ],
)
def test_a_person_that_is_the_text_or_a_whole_word_of_it_is_named(value):
    assert DANA.is_named_in(value)


@pytest.mark.parametrize(
    "value", ["dana-10423", "xdana-1042", "DANA-1042", "anotherdana.wu@acme.example.", "Dana", 1042, None, {}]
)
def test_others_are_not(value):
    assert not DANA.is_named_in(value)


def test_a_short_id_names_a_person_only_where_it_is_all_there_is():
    assert SHORT.is_named_in({"end_user_id": "42"})
    assert not SHORT.is_named_in("42 events")


def test_a_body_is_read_whatever_it_is():
    assert DANA.is_named_in_body(b'{"x": "dana\\u002d1042"}')
    assert DANA.is_named_in_body(b"not json: dana-1042")
    assert not DANA.is_named_in_body(b"\xff\x00")


def test_their_own_document_keeps_what_happened_and_loses_the_person_it_is_about():
    document = {
        "id": "evt_1",
        "type": "connection.created",
        "tags": {"end_user_display_name": "Dana", "plan": "pro"},
        "user": {"id": DANA.user, "external_id": "dana-1042", "email": "d@x.example", "display_name": "Dana"},
        "organization": {"id": "org_1", "external_id": "acme", "name": "Acme"},
        "previous_owner": None,
        "error": {"type": "unknown", "description": "Dana refused"},
        "payload": {"from": "Dana"},
    }
    assert DANA.erased_document(document, own=True) == {
        "id": "evt_1",
        "type": "connection.created",
        "tags": {},
        "user": {"id": DANA.user, "external_id": None, "email": None, "display_name": None},
        "organization": {"id": "org_1", "external_id": "acme", "name": "Acme"},
        "previous_owner": None,
        "error": {"type": "unknown", "description": ERASED},
        "payload": None,
    }


def test_another_persons_document_loses_only_the_person():
    document = {
        "tags": {"end_user_id": "omar"},
        "user": {"id": "usr_1", "external_id": "omar"},
        "previous_owner": {"user": {"id": DANA.user, "email": "d@x.example"}, "organization": None},
        "payload": {"text": "ask dana-1042", "n": 1},
        "error": None,
    }
    left = DANA.erased_document(document, own=False)
    assert left == {
        **document,
        "previous_owner": {"user": {"id": DANA.user, "email": None}, "organization": None},
        "payload": {"text": ERASED, "n": 1},
    }
    assert DANA.erased_document(left, own=False) == left


def test_decisions_keep_their_conditions_and_lose_the_values():
    conditions = [
        {"path": "type", "expected": ["connection.created"], "actual": "connection.created"},
        {"path": "tags.end_user_display_name", "expected": [{"exists": True}], "actual": "Dana"},
    ]
    kept, lost = DANA.erased_conditions(conditions, own=True)
    assert kept == conditions[0]
    assert lost == {**conditions[1], "actual": ERASED}
    assert DANA.erased_conditions(conditions, own=False) == conditions
