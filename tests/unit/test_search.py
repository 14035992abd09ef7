"""The search language for events: what it reads, what it says of faults, and that it is shown as it is read."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.clock import utc_now
from app.domain.event import EventType
from app.domain.search import EVENT_FIELDS, MAX_LENGTH, MAX_TERMS, Field, Search, Term, parse, types_of
from app.errors import InvalidFields
from app.search_input import read_search


def terms(text):
    return [(term.field, term.name, term.value) for term in parse(text).terms]


def fault(text):
    with pytest.raises(InvalidFields) as refused:
        read_search(text, now=utc_now())
    [found] = refused.value.faults
    assert "hunter2" not in found.message
    assert found.field == "q"
    return found.message


def test_terms_are_fields_tags_and_texts():
    assert terms('TYPE:connection.created  tag.Plan:pro "Ada Lovelace" x-1') == [
        (Field.TYPE, "", "connection.created"),
        (Field.TAG, "plan", "pro"),
        (Field.TEXT, "", "Ada Lovelace"),
        (Field.TEXT, "", "x-1"),
    ]
    assert terms(r'user:"Ada \"the first\" \\ Lovelace"') == [(Field.USER, "", r'Ada "the first" \ Lovelace')]
    assert terms('"http://x.example"') == [(Field.TEXT, "", "http://x.example")]
    assert terms("tag.a/b.c:x:y") == [(Field.TAG, "a/b.c", "x:y")]
    assert terms(" \t ") == []


def test_a_type_may_be_a_family():
    assert types_of("nango") == types_of("nango.*") == types_of("nango.")
    assert set(types_of("nango")) == {kind for kind in EventType if kind.startswith("nango.")}
    assert types_of("connection.created") == (EventType.CONNECTION_CREATED,)
    assert types_of("nang") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a tpye:x", "character 3: there is no such field; did you mean `type`?"),
        ("http://x", "For text with a colon, put quotes around it"),
        ("hunter2:x", "there is no such field"),
        ("state:hunter2", "there is no such state"),
        ("since:hunter2", "`since:` takes"),
        ("zzz:x", "there are type, state,"),
        ("type:conection.created", "character 6: there is no such type; did you mean `connection.created`?"),
        ("state:done", "character 7: there is no such state; there are received, processed, failed"),
        ("tag:pro", "character 1: a tag is searched for by `tag.NAME:value`"),
        ("tag.1x:pro", "a name begins with a letter"),
        ("tga.plan:pro", "did you mean `tag.NAME`?"),
        ('a "b', "character 3: this quote has no end"),
        (r'"\n"', "character 1: this quote has no end"),
        ("user:", "character 5: `user:` has no value"),
        ("user: x", "character 5: `user:` has no value"),
        ('user:""', "character 6: there is nothing between the quotes"),
        ('"a"b', "character 4: a quoted value ends before this"),
        ('ab"c', "character 3: a quote in the middle of a value"),
        ("user:a user:b", "character 8: `user` is asked for twice"),
        ("tag.a:1 tag.A:2", "character 9: `tag.a` is asked for twice"),
        ("x" * (MAX_LENGTH + 1), f"{MAX_LENGTH} at most"),
        ("x " * (MAX_TERMS + 1), f"more than {MAX_TERMS} terms"),
        ("a\0", "character 2: there is a NUL"),
        ("since:soon", "character 7: `since:` takes how long ago"),
        ("type:nango id:con_1", "character 15: `id:` takes the id of an event"),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_to_do(text, said):
    assert said in fault(text)


values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
fields = st.sampled_from([Field(name) for name in EVENT_FIELDS if name not in {"type", "state", "origin"}])
some_terms = st.one_of(
    st.builds(Term, st.just(Field.TEXT), values),
    st.builds(Term, st.just(Field.TAG), values, st.from_regex(r"[a-z][a-z0-9_\-./]{0,9}", fullmatch=True)),
    st.builds(Term, fields, values),
    st.builds(Term, st.just(Field.TYPE), st.sampled_from(EventType)),
)


@example([Term(Field.TEXT, "http://x"), Term(Field.TEXT, 'a "b" \\ c'), Term(Field.USER, "a:b")])
@given(st.lists(some_terms, max_size=5, unique_by=lambda term: (term.field, term.name, term.value)))
def test_a_search_is_read_as_it_is_shown(given_terms):
    seen, once = set(), []
    for term in given_terms:
        if term.field is Field.TEXT or (term.field, term.name) not in seen:
            seen.add((term.field, term.name))
            once.append(term)
    shown = str(Search(tuple(once)))
    assert terms(shown) == [(term.field, term.name, term.value) for term in once]
    assert str(parse(shown)) == shown


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        found = parse(text)
    except InvalidFields:
        return
    assert parse(str(found)) == found or str(parse(str(found))) == str(found)
