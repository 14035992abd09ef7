"""A search for events finds all that it means, by whichever way it looks, and looks at a bounded number of rows."""

from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from sqlalchemy.event import listen, remove

from app.db.models import Link, Organization, User
from app.db.read import listing, searched_connections
from app.db.read.listing import ListFilters
from app.domain import search
from app.errors import InvalidFields
from app.ids import EVENT, new_id, parse, show
from app.search_input import read_search
from tests.drawing import seeds
from tests.integration.status.rows import a_connection, a_job, add, an_event, destination

EVENTS, CONNECTIONS = 60, 9
TYPES = ("connection.created", "nango.sync", "connection.deleted", "waylink.job.discarded", None)
PLANS = ("pro", "free", "Ünï")


class World:
    """Events of connections, known and unknown, with the facts that searches go by."""

    def __init__(self, database, now, random):
        self.database, self.now, self.random = database, now, random
        self.users = [
            User(id=new_id(), external_id=f"u{n}", email=f"U{n}@People.example", created_at=now) for n in range(4)
        ]
        self.organizations = [Organization(id=new_id(), external_id=f"o{n}", created_at=now) for n in range(2)]
        add(database, destination("crm", "jobs"), *self.users, *self.organizations)
        self.connections = [self.connection(number) for number in range(CONNECTIONS)]
        self.events = [self.event(number) for number in range(EVENTS)]

    def connection(self, number):
        integration = self.random.choice(("slack", "google-mail", "github"))
        row = a_connection(
            self.now,
            f"c-{number}",
            integration=integration,
            provider=f"provider-of-{integration}",
            environment=self.random.choice(("default", "prod")),
            tags={"plan": self.random.choice(PLANS), "end_user_email": f"user{number}@people.example"},
        )
        add(self.database, row)
        user, organization = self.random.choice((*self.users, None)), self.random.choice((*self.organizations, None))
        if user or organization:
            link = Link(
                id=new_id(), connection_ref=row.id, user_id=user and user.id, linked_by="end_user_id",
                organization_id=organization and organization.id, opened_at=self.now,
            )  # fmt: skip
            add(self.database, link)
        return row, user, organization

    def event(self, number):
        at, known = self.now + timedelta(seconds=number), self.random.random() < 0.8
        row, user, organization = self.random.choice(self.connections)
        kind = self.random.choice(TYPES)
        facts = {"type": kind, "state": "processed" if kind else self.random.choice(("received", "failed"))}
        facts["environment"] = row.environment
        if kind and known:
            facts |= {"connection_ref": row.id, "connection_id": row.connection_id, "integration": row.integration}
            facts["tags"] = row.tags
        elif kind and self.random.random() < 0.7:
            facts |= {"connection_id": "c-unknown", "integration": "slack", "tags": {"plan": "pro"}}
        if self.random.random() < 0.3:
            facts["problem"] = self.random.choice(("Nango said 100% \\ nö", 'it "broke"'))
        owners = (user, organization) if facts.get("connection_ref") else (None, None)
        facts["document"] = {
            "provider": row.provider if facts.get("connection_ref") else None,
            "user": {"external_id": owners[0].external_id, "email": owners[0].email} if owners[0] else None,
            "organization": {"external_id": owners[1].external_id} if owners[1] else None,
        }
        event = an_event(at, id=UUID(int=(int(at.timestamp() * 1000) << 80) + number), **facts)
        copy = {name: getattr(event, name) for name in ("id", "received_at", "origin", *facts)}
        copy |= {
            name: facts.get(name) for name in ("connection_id", "integration", "problem", "tags", "connection_ref")
        }
        copy |= {"user": owners[0], "organization": owners[1], "mine": self.random.random() < 0.5}
        copy["provider"] = facts["document"]["provider"]
        if copy["provider"] is None and copy["integration"] is not None:
            here = [
                each.provider
                for each, _, _ in self.connections
                if (each.environment, each.integration) == (copy["environment"], copy["integration"])
            ]
            copy["provider of the integration"] = here[0] if here else None
        add(self.database, event)
        if copy["mine"]:
            add(self.database, a_job(self.now, copy["id"], team="crm"))
        return copy

    def matches(self, event, text, *, team):
        found = read_search(text, now=self.now)
        return all(self._holds(event, term, team) for term in found.query.terms)

    def _holds(self, event, term, team):
        value, tags = term.value, event["tags"] or {}
        match term.field:
            case "type":
                return event["type"] in search.types_of(value)
            case "state" | "origin" | "environment" | "integration":
                return event[term.field] == value
            case "connection":
                return event["connection_id"] == value
            case "tag":
                return tags.get(term.name) == value
            case "provider":
                by_integration = None if team else event.get("provider of the integration")
                return value in {event["provider"], by_integration}
            case "user":
                user = event["user"]
                return user is not None and (value == user.external_id or value.lower() == user.email.lower())
            case "organization":
                return event["organization"] is not None and event["organization"].external_id == value
            case "id":
                return event["id"] == parse(EVENT, value)
            case "since":
                return event["received_at"] >= read_search(f"since:{value}", now=self.now).since
            case "until":
                return event["received_at"] < read_search(f"until:{value}", now=self.now).until
        words = {"text": self._says, "name": self._is_named, "containing": self._contains}
        return words[term.field](event, value, team)

    def _says(self, event, word, team):
        if word.startswith("evt_"):
            return event["id"] == parse(EVENT, word)
        names = [self._owner_is(user, organization, word) or word in (row.connection_id, row.tags["end_user_email"])
                 for row, user, organization in self.connections]  # fmt: skip
        if not team and (any(names) or word == "c-unknown"):
            return self._is_named(event, word, team)
        return self._contains(event, word, team)

    def _is_named(self, event, word, _team):
        by_owner = self._owner_is(event["user"], event["organization"], word)
        by_tag = (event["tags"] or {}).get("end_user_email") == word
        return by_owner or by_tag or event["connection_id"] == word

    @staticmethod
    def _contains(event, word, _team):
        texts = [event["connection_id"], event["integration"], event["problem"], *(event["tags"] or {})]
        texts += (event["tags"] or {}).values()
        return any(word.lower() in text.lower() for text in texts if text)

    @staticmethod
    def _owner_is(user, organization, word):
        named = user is not None and (word == user.external_id or word.lower() == user.email.lower())
        return named or (organization is not None and organization.external_id == word)

    def term(self):
        choice, event = self.random.choice, self.random.choice(self.events)
        terms = [
            f"type:{choice(('connection.created', 'connection', 'waylink', 'connection.deleted', 'nango.forward'))}",
            f"state:{choice(('received', 'processed', 'failed'))}",
            f"origin:{choice(('webhook', 'system'))}",
            f"environment:{choice(('default', 'prod', 'none'))}",
            f"integration:{choice(('slack', 'github', 'none'))}",
            f"provider:{choice(('provider-of-slack', 'provider-of-github', 'none'))}",
            f"connection:{choice(('c-1', 'c-2', 'c-unknown', 'none'))}",
            f"user:{choice(('u1', 'u2', 'u1@people.example', 'none'))}",
            f"organization:{choice(('o0', 'o1', 'none'))}",
            f"tag.plan:{choice((*PLANS, 'none'))}",
            f"tag.end_user_email:user{self.random.randrange(CONNECTIONS)}@people.example",
            f"id:{show(EVENT, event['id'])}",
            f"since:{(self.now + timedelta(seconds=self.random.randrange(EVENTS))).isoformat()}",
            f"until:{(self.now + timedelta(seconds=self.random.randrange(EVENTS))).isoformat()}",
            choice(("c-1", "u2", "o1", "user3@people.example", "c-unknown", "U2@PEOPLE.EXAMPLE")),
            choice(("100%", '"\\"broke"', r'"\\ n"', "GITHUB", "peo", "_", "nothing at all".replace(" ", "-"))),
            show(EVENT, event["id"]),
            f"name:{choice(('c-1', 'u2', 'o1', 'user3@people.example', 'c-unknown', 'nobody'))}",
            f"containing:{choice(('100%', 'GITHUB', 'user1', 'c-1', 'nothing'))}",
        ]
        return choice(terms)


def found_by(database, filters, *, search_rows):
    """Ids of all pages, as numbers of rows looked at bound them."""
    found, pages = [], 0
    filters = replace(filters, limit=4, search=search_rows)
    while True:
        with database.read() as session:
            rows = listing.events(session, filters)
        found, pages = [*found, *(row["id"] for row in rows)], pages + 1
        last = rows[-1]["id"] if len(rows) == filters.limit else getattr(rows, "searched_to", None)
        if last is None:
            return found
        assert pages < 200, "the cursor does not lead on"
        filters = replace(filters, before=parse(EVENT, last))


def filters_of(text, now, **others):
    asked = read_search(text, now=now)
    return ListFilters(query=asked.query, since=asked.since, until=asked.until, event_id=asked.event_id, **others)


@seeds(0, 1, 2)
@pytest.mark.parametrize("most", [1, 2_000])
def test_every_search_finds_what_its_terms_mean(database, clock, seed, most, monkeypatch):
    random = Random(seed)
    monkeypatch.setattr(searched_connections, "MOST_CONNECTIONS", most)
    world = World(database, clock.now, random)
    newest_first = sorted(world.events, key=lambda event: event["id"], reverse=True)
    for _ in range(40):
        terms = dict.fromkeys(world.term() for _ in range(random.choice((1, 1, 2, 3))))
        text, team = " ".join(terms), random.choice((None, None, "crm"))
        try:
            filters = filters_of(text, world.now, team=team)
        except InvalidFields:
            continue  # a field twice
        meant = [
            show(EVENT, event["id"])
            for event in newest_first
            if world.matches(event, text, team=team) and (team is None or event["mine"])
        ]
        for rows in (7, 1000):
            assert found_by(database, filters, search_rows=rows) == meant, (text, team, rows)


def test_a_resolved_search_means_the_same_once_a_connection_has_the_name(database, clock):
    """Else an act on all that it found, which links connections, would leave out what it has not looked at yet."""
    event = an_event(clock.now, state="failed", type="nango.sync", tags={"note": "for ada"})
    event_id = event.id
    add(database, event)
    with database.read() as session:
        kept = searched_connections.resolved(session, read_search("ada", now=clock.now).query)
    assert str(kept) == "containing:ada"
    add(database, a_connection(clock.now, "c-1", tags={"end_user_id": "ada"}))
    for asked, found in ((kept, [event_id]), (read_search("ada", now=clock.now).query, [])):
        with database.read() as session:
            rows = listing.events(session, ListFilters(query=asked))
        assert [parse(EVENT, row["id"]) for row in rows] == found


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("tag.plan:pro", "ix_events_of_connection"),
        ("tag.plan:pro", "ix_events_alone"),
        ("tag.plan:pro type:nango.sync", "ix_events_of_connection"),
        ("user:u1", "ix_events_of_connection"),
        ("provider:provider-of-slack", "ix_events_of_connection"),
        ("type:connection.deleted", "ix_events_rare_type"),
        ("type:waylink", "ix_events_rare_type"),
    ],
)
def test_the_whole_history_is_searched_by_an_index(database, clock, text, index):
    if database.is_sqlite:
        return
    World(database, clock.now, Random(0))
    plan = "\n".join(plans(database, filters_of(text, clock.now, limit=4, search=20)))
    assert index in plan, plan


def plans(database, filters):
    """PostgreSQL's plan of each statement of a list."""
    asked = []

    def note(_connection, _cursor, sql, parameters, _context, _many):
        if sql.startswith("SELECT events"):
            asked.append((sql, parameters))

    listen(database.engine, "before_cursor_execute", note)
    try:
        with database.read() as session:
            listing.events(session, filters)
    finally:
        remove(database.engine, "before_cursor_execute", note)
    with database.engine.connect() as connection:
        # The tables are small, and then PostgreSQL reads them as a whole, or sorts them.
        for way in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin"):
            connection.exec_driver_sql(f"SET enable_{way} = off")
        for sql, parameters in asked:
            yield "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {sql}", parameters))
