"""Completion of searches: of the last word, by what events have, and never against what was typed before."""

from app.domain.completion import LONGEST, completions, counted_terms, term_of
from app.domain.search import Field, Term, parse

SEEN = {
    Term(Field.TYPE, "connection.created"): 9,
    Term(Field.TYPE, "nango.sync"): 20,
    Term(Field.TAG, "pro", "plan"): 5,
    Term(Field.TAG, "Ada Lovelace", "end_user_display_name"): 1,
    Term(Field.INTEGRATION, "slack"): 7,
}


def terms(text, **options):
    return [each.term for each in completions(text, SEEN, **options)]


def test_without_a_word_the_most_frequent_values_come_first():
    assert terms("")[:3] == ["type:nango.sync", "type:connection.created", "integration:slack"]
    assert terms("", most=1) == ["type:nango.sync"]


def test_the_last_word_is_completed_by_names_and_values():
    assert terms("ty") == ["type:", "type:nango.sync", "type:connection.created"]
    assert terms("type:con") == ["type:connection.created"]
    assert terms("TYPE:CON") == ["type:connection.created"]
    assert terms("tag.") == ["tag.", "tag.plan:pro", 'tag.end_user_display_name:"Ada Lovelace"']
    assert terms("type:nango.sync") == []


def test_what_was_typed_before_is_kept_and_not_asked_for_twice():
    found = completions('"two words" type:nango tag.', SEEN)
    assert [each.search for each in found][1] == '"two words" type:nango tag.plan:pro'
    assert all(parse(each.search) for each in found[1:])
    assert terms("type:nango ty") == ["type:"]
    assert 'tag.end_user_display_name:"Ada Lovelace"' in terms('tag.end_user_display_name:"Ada')
    assert terms("tpye:x ") == []


def test_values_that_cannot_be_typed_are_left_out():
    assert term_of(Field.TAG, "x" * (LONGEST + 1), "plan") is None
    assert term_of(Field.TAG, "a\nb", "plan") is None
    term = Term(Field.TYPE, "x")
    assert counted_terms([term, None, term]) == {term: 2}
