import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.tags import check, derive, is_email, normalize
from app.errors import InvalidTags

RECORDED = Path(__file__).parent.parent / "data" / "nango" / "recorded" / "rest.jsonl"


def rules(tags):
    return [fault.rule for fault in check(tags)]


def recorded_tags():
    """The tags of every recorded session or patch, and whether Nango took them."""
    for line in filter(None, RECORDED.read_text().split("\n")):
        exchange = json.loads(line)
        body = exchange["request"]["body"]
        if exchange["name"].startswith(("session_tags", "patch_tags", "connect_")) and body:
            found = json.loads(body)
            if "tags" in found:
                yield pytest.param(found["tags"], exchange["response"]["status"] < 300, id=exchange["name"])


@pytest.mark.parametrize(("tags", "taken"), list(recorded_tags()))
def test_we_refuse_exactly_what_nango_refused(tags, taken):
    assert (check(tags) == []) is taken


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"a": " "},
        {"A-b_C.d/0": "x"},
        {"k" * 64: "v"},
        {"k": "v" * 255},
        {"k": "😀" * 127},
        {"k": "line\nbreak\ttab"},
        {f"k{n}": "v" for n in range(10)},
        {"END_USER_EMAIL": "a@b.co"},
    ],
)
def test_good_tags_pass(tags):
    assert check(tags) == []


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (None, ["not_object"]),
        (["a"], ["not_object"]),
        ("a", ["not_object"]),
        ({"": "v"}, ["invalid_key"]),
        ({"1a": "v"}, ["invalid_key"]),
        ({"_a": "v"}, ["invalid_key"]),
        ({"a\n": "v"}, ["invalid_key"]),
        ({"é": "v"}, ["invalid_key"]),
        ({"aé": "v"}, ["invalid_key"]),
        ({"a b": "v"}, ["invalid_key"]),
        ({7: "v"}, ["invalid_key"]),
        ({"k" * 65: "v"}, ["key_too_long"]),
        ({"a": 1}, ["value_type"]),
        ({"a": None}, ["value_type"]),
        ({"a": {}}, ["value_type"]),
        ({"a": ""}, ["value_empty"]),
        ({"a": "v" * 256}, ["value_too_long"]),
        ({"a": "😀" * 128}, ["value_too_long"]),
        ({"a": "x\0y"}, ["value_unstorable"]),
        ({"a": "x\ud800"}, ["value_unstorable"]),
        ({f"k{n}": "v" for n in range(11)}, ["too_many"]),
        ({"A": "1", "a": "2"}, ["duplicate"]),
        ({"end_user_email": "nope"}, ["invalid_email"]),
        ({"End_User_Email": "ü@example.com"}, ["invalid_email"]),
    ],
)
def test_each_rule_has_its_word(tags, expected):
    assert rules(tags) == expected


def test_faults_of_entries_hide_those_of_the_object():
    assert rules({"A": "1", "a": "2", "bad key": "v", "b": ""}) == ["invalid_key", "value_empty"]
    assert rules({"A": "1", "a": "2", "end_user_email": "nope"}) == ["duplicate", "invalid_email"]


def test_a_message_names_key_rule_and_length_but_never_the_value():
    secret = "hunter2-" * 40
    for tags in ({"pass": secret}, {"pass": secret[:9] + "\0"}, {"end_user_email": secret[:20]}):
        (fault,) = check(tags)
        assert "hunter2" not in fault.message
        assert next(iter(tags)) in fault.message
    (long,) = check({"pass": secret})
    assert "320" in long.message
    assert "255" in long.message


def test_a_hostile_key_cannot_break_a_log_line():
    (fault,) = check({"a\n\x1b[31m" + "b" * 500: "v"})
    assert "\n" not in fault.message
    assert "\x1b" not in fault.message
    assert len(fault.message) < 250


def test_normalize_lowers_keys_and_leaves_values_alone():
    assert normalize({"Plan": "PRO ", "b/C": "X"}) == {"plan": "PRO ", "b/c": "X"}


def test_normalize_raises_every_fault_at_once():
    with pytest.raises(InvalidTags) as caught:
        normalize({"bad key": "v", "empty": ""})
    assert [fault.key for fault in caught.value.faults] == ["bad key", "empty"]


@given(st.dictionaries(st.text(max_size=70), st.one_of(st.text(max_size=300), st.none(), st.integers()), max_size=12))
def test_whatever_passes_stays_good_after_normalizing(tags):
    if not check(tags):
        assert normalize(normalize(tags)) == normalize(tags)


@pytest.mark.parametrize("good", ["a@b.co", "x.y+z@sub.example.com", "o'neil@example.com", "a_b-c@ex-ample.io"])
def test_is_email_takes(good):
    assert is_email(good)


@pytest.mark.parametrize(
    "bad", ["", "a@b", "a@b.c", "@example.com", ".a@example.com", "a.@example.com", "a..b@example.com", "a@é.com",
            "a@example.com\n", "a b@example.com", "a@-x.com", "a@b..com"],
)  # fmt: skip
def test_is_email_refuses(bad):
    assert not is_email(bad)


class TestDerive:
    def test_the_owner_becomes_tags(self):
        end_user = {"id": "u1", "email": "u@example.com", "display_name": "U", "tags": {"Lvl": "1"}}
        assert derive(end_user, {"id": "o1", "display_name": "Org"}) == {
            "end_user_id": "u1",
            "end_user_email": "u@example.com",
            "end_user_display_name": "U",
            "organization_id": "o1",
            "organization_display_name": "Org",
            "lvl": "1",
        }

    def test_what_is_unknown_makes_no_tag(self):
        assert derive({"id": "u1", "email": None}, None) == {"end_user_id": "u1"}

    def test_own_tags_override_are_cut_and_bad_ones_dropped(self):
        own = {"END_USER_ID": "mine", "bad key": "x", "k" * 70: "v" * 300, "e": "😀" * 200, "n": 7}
        derived = derive({"id": "u1", "tags": own}, None)
        assert derived == {"end_user_id": "mine", "k" * 64: "v" * 255, "e": "😀" * 127}

    def test_too_many_own_tags_are_dropped_together(self):
        own = {f"k{n}": "v" for n in range(10)}
        assert derive({"id": "u1", "tags": own}, None) == {"end_user_id": "u1"}
        del own["k0"]
        assert len(derive({"id": "u1", "tags": own}, None)) == 10
