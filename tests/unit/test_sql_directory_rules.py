"""Policy `sql`: rules for a query of one SELECT, its parameters, and the owners that its answers name."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from app.domain.linking import Claim, TagKeys, Unlinked
from app.domain.owner_queries import RETRIES_END, Named, named, next_owner_query, parameters
from app.domain.query_validation import bare, check_select
from app.domain.query_validation import parameters as names_in
from app.errors import InvalidFields

NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)
DANA = Claim(user_id="usr_1042", organization_id="org_77", linked_by="end_user_id")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id AS external_id FROM users WHERE id = :end_user_id",
        "  select 1;\n",
        "-- who is it?\nSELECT ';' AS a, \"update\" FROM t /* ; delete */ WHERE x = $$;$$",
        "WITH own AS (SELECT 1 AS x) SELECT x FROM own",
        "(SELECT 1) UNION (SELECT 2)",
        "SELECT updated_at, 'it''s; into' FROM t",
    ],
)
def test_one_select_is_taken(text):
    assert check_select(text) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a SELECT"),
        ("DELETE FROM users", "is not a SELECT"),
        ("SELECT 1; DELETE FROM users", "more than one statement"),
        ("SELECT 1;;", "more than one statement"),
        ("WITH gone AS (DELETE FROM users RETURNING *) SELECT * FROM gone", "says DELETE"),
        ("SELECT * INTO copy FROM users", "says INTO"),
        ("SELECT * FROM users FOR UPDATE", "says UPDATE"),
        ("-- SELECT\nDROP TABLE users", "is not a SELECT"),
    ],
)
def test_what_is_not_is_refused(text, says):
    assert says in check_select(text)


def test_names_are_found_outside_of_literals_casts_and_comments():
    text = "SELECT a::text, ':no', \"x:y\" FROM t -- :nor\nWHERE a = :end_user_id AND b = :plan_2 /* :neither */;"
    assert names_in(text) == {"end_user_id", "plan_2"}
    assert bare("SELECT 1 ;\n") == "SELECT 1"
    assert bare(r"SELECT ':no' || :yes, ':2\:3' /* :nor */") == r"SELECT '\:no' || :yes, '\:2\:3' /* \:nor */"


def test_the_case_of_a_parameter_does_not_count():
    text = "SELECT id AS \"Id\" FROM Users WHERE a = :endUserId OR b = ':EndUserId' OR c = :ENDUSERID"
    assert names_in(text) == {"enduserid"}
    assert bare(text) == ("SELECT id AS \"Id\" FROM Users WHERE a = :enduserid OR b = '\\:EndUserId' OR c = :enduserid")


def test_every_tag_is_a_parameter_and_the_legacy_end_user_fills_what_tags_do_not_say():
    keys = TagKeys(user_id="app.user-id")
    claim = Claim(user_id="u", organization_id="o", linked_by="x")
    assert parameters({"crm/account.id": "7", "organization_id": "tag"}, claim, keys) == {
        "crm_account_id": "7",
        "organization_id": "tag",
        "app_user_id": "u",
    }
    assert parameters({"plan": "pro"}, None, keys) == {"plan": "pro"}


USER = {"external_id": "u-1", "email": "a@b.example", "display_name": "A", "extra": 1}
ORGANIZATION = {"external_id": 77, "name": "Acme"}


@pytest.mark.parametrize(
    ("claim", "users", "organizations", "expected"),
    [
        (
            DANA,
            [USER],
            [ORGANIZATION],
            Claim("u-1", "a@b.example", "A", "77", "Acme", linked_by="end_user_id"),
        ),
        (DANA, [USER], None, Claim("u-1", "a@b.example", "A", linked_by="end_user_id")),
        (None, [USER], [], Claim("u-1", "a@b.example", "A", linked_by="sql")),
        (Claim(organization_id="o", linked_by="t"), [], [ORGANIZATION], Claim(None, None, None, "77", "Acme", "t")),
        (DANA, [], [ORGANIZATION], "unknown_user"),
        (DANA, [USER], [], "unknown_organization"),
        (Claim(email="a@b.example"), [], None, "unknown_email"),
        (DANA, [USER, USER], [ORGANIZATION], "ambiguous_user"),
        (DANA, [USER], [ORGANIZATION] * 2, "ambiguous_organization"),
        (DANA, None, None, "unknown_user"),
        (Claim(organization_id="o"), None, None, "unknown_organization"),
        (None, [], [], None),
        (None, None, None, None),
    ],
)
def test_answers_name_an_owner_or_say_why_there_is_none(claim, users, organizations, expected):
    found = named(claim, users, organizations)
    wanted = Unlinked(expected) if isinstance(expected, str) else expected
    assert found == Named(wanted)


def test_a_wrong_email_or_name_is_left_out_and_a_wrong_id_is_no_answer():
    found = named(None, [{"external_id": "u", "email": "nobody", "display_name": "x" * 300}], None)
    assert found.claim == Claim("u", linked_by="sql")
    for row in ({}, {"external_id": None}, {"external_id": ""}, {"external_id": "x" * 256}):
        with pytest.raises(InvalidFields, match="external_id"):
            named(None, [row], None)


def test_ids_are_text_whole_numbers_or_uuids_and_nothing_whose_text_may_change():
    key = UUID("0190b6a2-0000-7000-8000-000000000001")
    for value, shown in ((42, "42"), (Decimal("42.00"), "42"), (Decimal("1E+3"), "1000"), (key, str(key))):
        assert named(None, [{"external_id": value}], None).claim == Claim(shown, linked_by="sql")
    for value in (True, 4.2, b"u-1", memoryview(b"u-1"), Decimal("4.2"), Decimal("NaN"), [1], {"id": 1}, NOW):
        with pytest.raises(InvalidFields, match=f"external_id: is a {type(value).__name__}"):
            named(None, [{"external_id": value}], None)


def test_of_what_is_no_text_no_name_and_no_address_is_made():
    row = {"external_id": "u", "email": b"a@b.example", "display_name": NOW}
    assert named(None, [row], None).claim == Claim("u", linked_by="sql")


def test_waiting_owners_are_asked_for_when_they_have_waited_as_long_again_with_an_end():
    def wait(**passed):
        return next_owner_query(now=NOW, since=NOW - timedelta(**passed)) - NOW

    assert wait(seconds=0) == timedelta(minutes=1)
    assert wait(minutes=8) == timedelta(minutes=8)
    assert wait(days=2) == timedelta(hours=6)
    assert next_owner_query(now=NOW, since=NOW - RETRIES_END - timedelta(seconds=1)) is None
