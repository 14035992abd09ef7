"""Points in time as people write them."""

from datetime import UTC, datetime, timedelta

import pytest

from app.errors import InvalidInput
from app.qualified_names import split_target, within
from app.timestamp_input import moment

NOW = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("7d", NOW - timedelta(days=7)),
        (" 90m ", NOW - timedelta(minutes=90)),
        ("2026-11-25T22:00:00Z", NOW - timedelta(hours=4)),
        ("2026-11-25T23:00:00+01:00", NOW - timedelta(hours=4)),
        ("99999d", NOW - timedelta(days=3650)),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago_it_was(text, at):
    assert moment(text, now=NOW) == at


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-25", "2026-11-25T22:00:00", "7", "-7d", "0001-01-01T00:00:00+23:00"]
)
def test_what_is_no_moment_or_has_no_zone_is_refused_with_what_to_write(text):
    with pytest.raises(InvalidInput, match="such as 7d, or a time with its zone"):
        moment(text, now=NOW)


def test_a_destination_is_named_by_its_team_and_its_name():
    assert split_target("destination", "crm/jobs") == ("crm", "jobs")
    assert within(None, "destination", "crm/jobs") == ("crm", "jobs")
    assert within("crm", "route", "crm/jobs") == ("crm", "jobs")
    assert within("crm", "route", None) == ("crm", None)


@pytest.mark.parametrize(
    ("team", "target"), [(None, "jobs"), (None, "/jobs"), (None, "crm/"), (None, "a/b/c"), ("sales", "crm/jobs")]
)
def test_what_is_no_destination_is_refused(team, target):
    with pytest.raises(InvalidInput):
        within(team, "destination", target)
