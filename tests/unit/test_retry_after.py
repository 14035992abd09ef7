"""Promise 10: an endpoint says when it wants to be asked again, in seconds or by a date."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.retry_after import read_retry_after

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        (" 120 ", 120),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        ("Tue, 14 Nov 2023 23:13:20 +0100", 0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 5000, None),
        ("Tue, 99 Nov 2023 23:13:20 GMT", None),
    ],
)
def test_both_forms_are_read_and_nothing_else(value, expected):
    assert read_retry_after(value, now=NOW) == expected


@given(st.text())
def test_whatever_a_header_holds_is_read_or_ignored(value):
    found = read_retry_after(value, now=NOW)
    assert found is None or found >= 0
