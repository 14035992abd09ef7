from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from app import ids
from app.errors import InvalidInput
from app.ids import EVENT, JOB, first_id, new_id, parse, show


def test_text_order_is_the_order_of_making() -> None:
    made = [show(EVENT, new_id()) for _ in range(5_000)]
    assert all(earlier < later for earlier, later in pairwise(made))


def test_ids_made_since_a_moment_are_those_from_the_first_one_on() -> None:
    before, now = new_id(), datetime.now(UTC)
    assert first_id(now) <= new_id() < first_id(now + timedelta(seconds=60))
    assert first_id(now - timedelta(seconds=60)) < before < first_id(now + timedelta(seconds=1))


@pytest.mark.parametrize("year", [1, 1969, 1970, 9999])
def test_ids_of_any_time_can_be_asked_for(year: int) -> None:
    assert (first_id(datetime(year, 1, 1, tzinfo=UTC)) <= new_id()) is (year < 2026)


def test_an_id_is_a_uuid_of_version_7() -> None:
    assert new_id().version == 7


def test_a_shown_id_and_its_bare_form_are_read_back() -> None:
    value = new_id()
    assert show(JOB, value) == f"job_{value.hex}"
    for text in (show(JOB, value), value.hex, str(value), f"  {show(JOB, value)}\n"):
        assert parse(JOB, text) == value


@pytest.mark.parametrize(
    "text", ["", "job_", "job_12", "evt_" + "0" * 32, "job_" + "g" * 32, "job_" + "0" * 33, "\x00"]
)
def test_what_is_no_id_of_the_kind_is_refused_with_the_form_it_has(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected job_ and 32 hex digits"):
        parse(JOB, text)


def test_a_refusal_cannot_steer_the_terminal() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(JOB, "\x1b[2J\nok")
    assert str(refused.value).isprintable()


def test_prefixes_are_distinguished() -> None:
    prefixes = [value for name, value in vars(ids).items() if name.isupper() and isinstance(value, str)]
    assert len(prefixes) == len(set(prefixes)) >= 10
    assert all(show(prefix, UUID(int=0)).partition("_")[0] == prefix for prefix in prefixes)
