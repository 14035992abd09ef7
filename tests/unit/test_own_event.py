import json
from datetime import UTC, datetime

import pytest

from app.domain.confirming import Absent, Snapshot
from app.domain.event import EventError, EventType, read
from app.domain.linking import EndUser
from app.domain.own_event import OwnEvent, read_own, write_own

NOW = datetime(2026, 8, 21, 9, 0, 0, 123456, tzinfo=UTC)
OWNER = EndUser(id="u-1", email="a@b.example", organization_id="o-1")
VIEW = Snapshot(7, {"end_user_id": "u-1", "näme": "\u2028"}, OWNER, "google-mail", True, NOW)
KEY = {"integration": 'odd "one"', "connection_id": "a/b c"}


@pytest.mark.parametrize(
    "event",
    [
        OwnEvent(type=EventType.CONNECTION_CREATED, lookup=VIEW, **KEY),
        OwnEvent(type=EventType.CONNECTION_CREATED, lookup=Snapshot(1, {}, None, None, False, NOW), **KEY),
        OwnEvent(type=EventType.CONNECTION_DELETED, lookup=Absent(NOW, again=True), **KEY),
        OwnEvent(type=EventType.CONNECTION_REFRESH_FAILED, error=EventError("auth", "it broke"), **KEY),
        OwnEvent(type=EventType.CONNECTION_TAGS_CHANGED, **KEY),
        OwnEvent(type=EventType.DESTINATION_FAILING, payload={"team": "crm", "counts": {"waiting": 3}, "jobs": ["j"]}),
    ],
)
def test_what_was_written_is_read(event):
    assert read_own(write_own(event)) == event


def test_it_has_operation_and_success_as_the_webhook_would_have():
    told = {kind: OwnEvent(type=kind, lookup=VIEW, **KEY).notice for kind in EventType}
    assert (told["connection.created"].operation, told["connection.created"].success) == ("creation", True)
    assert (told["connection.refresh_failed"].operation, told["connection.refresh_failed"].success) == (
        "refresh",
        False,
    )
    assert (told["connection.deleted"].operation, told["connection.deleted"].success) == ("deletion", True)
    assert (told["connection.tags_changed"].operation, told["connection.tags_changed"].success) == (None, None)
    assert told["connection.created"].key == (KEY["integration"], KEY["connection_id"])
    assert (told["connection.created"].tags, told["connection.created"].end_user) == (VIEW.tags, OWNER)


def test_text_that_utf8_has_no_bytes_for_is_replaced():
    odd = OwnEvent(type=EventType.CONNECTION_DELETED, integration="i", connection_id="a\ud800")
    assert read_own(write_own(odd)).connection_id == "a?"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        json.dumps({"type": "no.such", "integration": "i", "connection_id": "c"}).encode(),
        json.dumps({"type": "connection.created", "integration": "i", "connection_id": "c", "view": {}}).encode(),
        json.dumps({"type": "connection.created", "integration": "i", "connection_id": "c", "absent": 1}).encode(),
    ],
)
def test_anything_else_is_a_value_error(body):
    with pytest.raises(ValueError):  # noqa: PT011 - from the reader or from JSON's
        read_own(body)


def test_as_a_webhook_it_is_nothing_that_is_understood():
    assert read(write_own(OwnEvent(type=EventType.CONNECTION_CREATED, lookup=VIEW, **KEY))).type == "nango.unhandled"
