"""A search for connections finds all that it means, and means the same rows once its words are resolved."""

from dataclasses import replace
from random import Random

import pytest

from app.db import event_actions
from app.db.event_actions import EventFilters
from app.db.models import Link, Organization, User
from app.db.read import chosen_connections, connection_listing, connection_search, searched_connections, searching
from app.db.read.chosen_connections import ConnectionFilters
from app.db.read.listing import ListFilters
from app.domain.search import MAX_LENGTH, MAX_TERMS
from app.errors import InvalidFields
from app.ids import CONNECTION, new_id, parse, show
from app.search_input import read_search
from tests.drawing import seeds
from tests.integration.status.rows import a_connection, add

CONNECTIONS = 25
NAMES = ("Ada Lovelace", "ada", "Zoë \\ 100%")


class World:
    """Connections with tags, owners now and before, and what each search has to find of them."""

    def __init__(self, database, now, random):
        self.random = random
        users = [User(id=new_id(), external_id=f"u{n}", email=f"U{n}@People.example", created_at=now) for n in range(3)]
        organizations = [Organization(id=new_id(), external_id=f"o{n}", created_at=now) for n in range(2)]
        add(database, *users, *organizations)
        self.rows = []
        for number in range(CONNECTIONS):
            integration = random.choice(("slack", "github"))
            tags = {"plan": random.choice(("pro", "free")), "end_user_email": f"user{number}@people.example"}
            row = a_connection(
                now,
                f"c-{number}",
                integration=integration,
                provider=f"provider-of-{integration}",
                environment=random.choice(("default", "prod")),
                tags=tags | {"end_user_display_name": random.choice(NAMES)},
            )
            facts = {name: getattr(row, name) for name in ("connection_id", "integration", "provider", "environment")}
            facts |= {"id": row.id, "tags": dict(row.tags), "user": None, "organization": None}
            add(database, row)
            for closed in (True, False):
                user, organization = random.choice((*users, None)), random.choice((*organizations, None))
                if not user and not organization:
                    continue
                link = Link(
                    id=new_id(), connection_ref=row.id, user_id=user and user.id, linked_by="end_user_id",
                    organization_id=organization and organization.id, opened_at=now, closed_at=now if closed else None,
                )  # fmt: skip
                add(database, link)
                if not closed:
                    facts |= {"user": user, "organization": organization}
            self.rows.append(facts)

    def found(self, terms):
        wanted = [row for row in self.rows if all(self._holds(row, field, value) for field, value in terms)]
        return [show(CONNECTION, row["id"]) for row in sorted(wanted, key=lambda row: row["id"], reverse=True)]

    def _holds(self, row, field, value):
        match field:
            case "environment" | "integration" | "provider":
                return row[field] == value
            case "connection":
                return row["connection_id"] == value
            case "user":
                return row["user"] is not None and value.lower() in {row["user"].external_id, row["user"].email.lower()}
            case "organization":
                return row["organization"] is not None and row["organization"].external_id == value
            case "name":
                return self._is_named(row, value)
            case "containing":
                return self._contains(row, value)
            case "":
                named = any(self._is_named(each, value) for each in self.rows)
                return self._is_named(row, value) if named else self._contains(row, value)
        return row["tags"].get(field.removeprefix("tag.")) == value

    def _is_named(self, row, value):
        tags = {row["tags"][name] for name in ("end_user_email", "end_user_display_name")}
        is_own = value in {show(CONNECTION, row["id"]), row["connection_id"], *tags}
        return is_own or any(self._holds(row, owner, value) for owner in ("user", "organization"))

    @staticmethod
    def _contains(row, value):
        texts = [row["connection_id"], row["integration"], row["provider"], *row["tags"], *row["tags"].values()]
        return any(value.lower() in text.lower() for text in texts)

    def term(self):
        choice = self.random.choice
        names = ("c-3", "u1", "U2@PEOPLE.EXAMPLE", "o0", "user4@people.example", *NAMES, self.rows[5]["id"])
        parts = ("GITHUB", "peo", "_", "lovelace", "100%", "\\", "nothing", "c-1")
        return choice(
            [
                ("environment", choice(("default", "prod"))),
                ("integration", choice(("slack", "github", "none"))),
                ("provider", choice(("provider-of-slack", "none"))),
                ("connection", choice(("c-3", "none"))),
                ("user", choice(("u1", "u1@people.EXAMPLE", "none"))),
                ("organization", choice(("o0", "o1", "none"))),
                ("tag.plan", choice(("pro", "free", "none"))),
                ("name", self._text(choice(names))),
                ("containing", choice(parts)),
                ("", self._text(choice((*names, *parts)))),
            ]
        )

    @staticmethod
    def _text(value):
        return value if isinstance(value, str) else show(CONNECTION, value)


def text_of(terms):
    quoted = ((field, value.replace("\\", "\\\\")) for field, value in terms)
    return " ".join(f'{field}:"{value}"' if field else f'"{value}"' for field, value in quoted)


def found_by(database, text, *, search_rows):
    """Ids of all pages, as numbers of rows looked at bound them."""
    found, filters = [], ListFilters(limit=4, search=search_rows)
    for _page in range(100):
        with database.read() as session:
            query = connection_search.read(session, text)
            rows = connection_listing.connections(session, replace(filters, query=query))
        found += [row["id"] for row in rows]
        last = rows[-1]["id"] if len(rows) == filters.limit else rows.searched_to
        if last is None:
            return found
        filters = replace(filters, before=parse(CONNECTION, last))
    raise AssertionError("the cursor does not lead on")


@seeds(0, 1, 2)
@pytest.mark.parametrize("most", [1, 2_000])
def test_every_search_finds_what_its_terms_mean(database, clock, seed, most, monkeypatch):
    monkeypatch.setattr(searched_connections, "MOST_CONNECTIONS", most)
    random = Random(seed)
    world = World(database, clock.now, random)
    for _ in range(40):
        terms = [world.term() for _ in range(random.choice((1, 1, 2, 3)))]
        text, meant = text_of(terms), world.found(terms)
        try:
            with database.read() as session:
                resolved = str(connection_search.read(session, text))
        except InvalidFields:
            assert len({field for field, _ in terms}) < len(terms)  # a field twice
            continue
        for rows in (7, 1000):
            assert found_by(database, text, search_rows=rows) == meant, (text, rows)
        assert found_by(database, resolved, search_rows=1000) == meant, (text, resolved)
        with database.read() as session:
            filters = ConnectionFilters(q=resolved)
            ids = chosen_connections.page(session, filters, after=None, limit=100)
            counted = sum(group.count for group in chosen_connections.count(session, filters))
        assert [show(CONNECTION, each) for each in reversed(ids)] == meant, (text, resolved)
        assert counted == len(meant)


def test_a_search_as_long_as_it_may_be_can_be_kept_with_its_words_resolved(database, clock):
    """Fields make each word longer."""
    text = " ".join(f"{number:02}{'x' * 46}" for number in range(MAX_TERMS))
    assert MAX_LENGTH - 30 < len(text) <= MAX_LENGTH
    add(database, a_connection(clock.now, "c-1"))
    with database.read() as session:
        kept = str(connection_search.read(session, text))
        assert len(kept) > MAX_LENGTH
        assert chosen_connections.count(session, ConnectionFilters(q=kept)) == []
        of_events = str(searched_connections.resolved(session, read_search(text, now=clock.now).query))
        assert event_actions.count(session, EventFilters(q=of_events), failed=True) == 0


def test_a_resolved_search_means_no_further_rows_when_a_name_is_gone(database, clock):
    """Else an act on all that a name means would go on with what only contains it, once the last owner is unlinked."""
    user = User(id=new_id(), external_id="c-1", created_at=clock.now)
    owned, containing = a_connection(clock.now, "owned"), a_connection(clock.now, "c-10")
    link = Link(id=new_id(), connection_ref=owned.id, user_id=user.id, linked_by="end_user_id", opened_at=clock.now)
    owned_ref, link_id = owned.id, link.id
    add(database, user, owned, containing, link)
    with database.read() as session:
        filters = ConnectionFilters(q=str(connection_search.read(session, "c-1")))
        assert chosen_connections.page(session, filters, after=None, limit=9) == [owned_ref]
    with database.write() as session:
        session.get(Link, link_id).closed_at = clock.now
    with database.read() as session:
        assert chosen_connections.page(session, filters, after=None, limit=9) == []


@pytest.mark.parametrize("text", ["c-1", "user:u1", "organization:o1", "connection:c-1", "tag.plan:pro", "name:o1"])
def test_what_an_index_has_is_searched_over_all_connections_at_once(database, clock, text, monkeypatch):
    World(database, clock.now, Random(0))

    def no_end(*_arguments, **_named):
        raise AssertionError("the rows that a page looks at are bounded")

    monkeypatch.setattr(searching, "end_of_search", no_end)
    with database.read() as session:
        query = connection_search.read(session, text)
        assert connection_listing.connections(session, ListFilters(query=query, search=1))


@pytest.mark.parametrize(("most", "is_bounded"), [(1, True), (CONNECTIONS, False)])
def test_a_text_within_many_connections_is_looked_for_in_the_newest(database, clock, most, is_bounded, monkeypatch):
    """An index has all of a plan, and for each of them its texts are compared."""
    monkeypatch.setattr(searched_connections, "MOST_CONNECTIONS", most)
    World(database, clock.now, Random(0))
    with database.read() as session:
        query = connection_search.read(session, "tag.plan:pro containing:nothing")
        page = connection_listing.connections(session, ListFilters(query=query, search=5))
    assert page == []
    assert (page.searched_to is not None) is is_bounded


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type:connection.created", "there is no such field; there are environment, integration,"),
        ("usr:ada", "did you mean `user`?"),
        ("user:", "has no value"),
    ],
)
def test_fields_of_events_alone_are_refused_with_those_that_there_are(database, text, said):
    with database.read() as session, pytest.raises(InvalidFields) as refused:
        connection_search.read(session, text)
    [fault] = refused.value.faults
    assert said in fault.message
