"""Policy `sql`: the application's own database names the owner, and nothing is lost while it cannot."""

import os
import signal
import sqlite3

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from app.db.application_database import ApplicationDatabase
from app.db.models import Organization, User
from app.domain.linking import DirectoryPolicy, TagKeys
from app.domain.people import OwnerKind
from app.domain.states import EventState
from app.services import sql_directory
from app.services.events.processor import Processor
from app.services.linking import waiting
from app.services.linking.requery import ask_again
from app.services.people import records
from app.services.sql_directory import Question, SqlDirectory
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, auth
from tests.waiting import PATIENCE

USERS = "SELECT id AS external_id, mail AS email, name AS display_name FROM people WHERE id = :end_user_id"
COMPANIES = "SELECT 'co-' || id AS external_id, name FROM companies WHERE id = :organization_id"
TABLES = (
    "CREATE TABLE people (id text, mail text, name text, number integer)",
    "CREATE TABLE companies (id text, name text)",
    "INSERT INTO people VALUES ('usr_1042', 'dana@acme.example', 'Dana', 7), ('usr_2', 'eve@acme.example', 'Eve', 8)",
    "INSERT INTO companies VALUES ('org_77', 'Acme')",
)


class Application:
    """The application's database: what it owns, and a way in for Waylink."""

    def __init__(self, url):
        self.url = url
        self.engine = create_engine(url)
        self.execute(*TABLES)

    def execute(self, *statements):
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def open(self, *, timeout=PATIENCE, pool_size=2):
        return ApplicationDatabase(self.url, timeout=timeout, pool_size=pool_size)


@pytest.fixture
def application(database, request, tmp_path):
    """Of the same kind as our own."""
    if database.is_sqlite:
        made = Application(f"sqlite:///{tmp_path / 'the app.db'}")
        yield made
        made.engine.dispose()
        return
    postgres = request.getfixturevalue("postgres")
    url = postgres.create_database()
    made = Application(url)
    yield made
    made.engine.dispose()
    postgres.drop_database(url)


@pytest.fixture
def world(open_world, application):
    made = open_world(directory=DirectoryPolicy.SQL)
    use(made, application.open())
    yield made
    made.processor.directory.close()


def use(world, database, users=USERS, companies=COMPANIES):
    """Ask this database by these queries from now on."""
    if world.processor.directory:
        world.processor.directory.close()
    given = {OwnerKind.USER: users, OwnerKind.ORGANIZATION: companies}
    directory = SqlDirectory(database, {kind: query for kind, query in given.items() if query}, TagKeys())
    world.processor = Processor(
        world.database, world.policy, world.clients, world.clock, world.processor.routes, directory
    )


def again(world):
    return ask_again(world.database, world.policy, world.processor.routes, world.processor.directory, clock=world.clock)


@pytest.fixture
def asked(monkeypatch):
    """The queries asked, with their parameters; asserts that no transaction of ours was open meanwhile."""
    calls, ask = [], ApplicationDatabase.ask

    def noted(self, query, tags):
        calls.append((query, dict(tags)))
        return ask(self, query, tags)

    monkeypatch.setattr(ApplicationDatabase, "ask", noted)
    return calls


def test_the_owner_is_the_one_that_the_database_names_in_its_own_ids(world):
    world.handle(auth(tags=DANA))
    assert world.owner("c-1") == ("usr_1042", "co-org_77")
    [user], [organization] = world.all(User), world.all(Organization)
    assert (user.email, user.display_name, user.organization_id) == ("dana@acme.example", "Dana", organization.id)
    assert organization.name == "Acme"
    [link_event] = world.events("connection.linked")
    assert link_event.document["user"]["email"] == "dana@acme.example"
    assert world.links("c-1")[0].linked_by == "end_user_id"


def test_what_the_tags_say_of_a_person_is_not_believed(world):
    world.handle(auth(tags={"end_user_id": "usr_1042", "end_user_email": "forged@evil.example"}))
    assert [user.email for user in world.all(User)] == ["dana@acme.example"]


def test_an_owner_that_it_does_not_name_is_waited_for_and_no_user_is_made(world):
    world.handle(auth(tags={"end_user_id": "usr_404"}))
    connection = world.connection("c-1")
    assert (connection.unlinked_reason, world.all(User)) == ("unknown_user", [])
    assert connection.owner_look_at > world.clock.now


def test_several_rows_are_ambiguous_and_link_to_no_owner(world, application):
    application.execute("INSERT INTO people VALUES ('usr_1042', 'other@acme.example', 'Other', 9)")
    world.handle(auth(tags=DANA))
    assert (world.owner("c-1"), world.connection("c-1").unlinked_reason) == (None, "ambiguous_user")


def test_any_tag_can_name_the_owner(world, application):
    query = "SELECT id AS external_id FROM people WHERE number = CAST(:account_ref AS integer)"
    use(world, application.open(), query, None)
    world.handle(auth(tags={"account.ref": "8"}))
    assert world.owner("c-1") == ("usr_2", None)
    assert world.links("c-1")[0].linked_by == "sql"


def test_the_case_of_a_parameter_does_not_count(world, application):
    query = "SELECT id AS external_id FROM people WHERE id = :endUserId AND id <> ':EndUserId'"
    use(world, application.open(), query, None)
    world.handle(auth(tags={"enduserid": "usr_1042"}))
    assert world.owner("c-1") == ("usr_1042", None)


def test_a_colon_in_a_literal_is_no_parameter(world, application):
    query = "SELECT id || ':v2' AS external_id FROM people WHERE id = :end_user_id -- not :this"
    use(world, application.open(), query, None)
    world.handle(auth(tags=DANA))
    assert world.owner("c-1") == ("usr_1042:v2", None)


def test_a_value_that_it_cannot_compare_names_no_owner_and_stops_no_other(world, application):
    query = "SELECT id AS external_id FROM people WHERE number = :end_user_id"
    use(world, application.open(), query, None)
    bodies = [auth(connection_id=name, tags={"end_user_id": value}) for name, value in (("a", "x' OR 1=1"), ("b", "7"))]
    world.process(*world.receive(*bodies))
    assert world.owner("a") is None
    if not world.database.is_sqlite:  # SQLite compares text with numbers, and finds them different
        assert world.owner("b") == ("usr_1042", None)
    assert world.connection("a").unlinked_reason == "unknown_user"


def test_each_question_is_asked_once_per_batch(world, asked):
    tags = [DANA, DANA, {**DANA, "plan": "pro"}, {"end_user_id": "usr_2"}]
    world.process(*world.receive(*(auth(connection_id=f"c-{n}", tags=owner_tags) for n, owner_tags in enumerate(tags))))
    assert sorted(query for query, _ in asked) == sorted([USERS, USERS, COMPANIES])
    assert world.owner("c-2") == ("usr_1042", "co-org_77")


def test_no_transaction_of_ours_is_open_while_it_is_asked(world, monkeypatch):
    seen = []

    def ask(self, query, tags):
        seen.append(world.database.engine.pool.checkedout())
        return []

    monkeypatch.setattr(ApplicationDatabase, "ask", ask)
    world.handle(auth(tags=DANA))
    world.clock.move(61)
    again(world)
    assert seen == [0, 0, 0, 0]


def test_what_changed_there_changes_here_with_the_next_event(world, application):
    world.handle(auth(tags=DANA))
    application.execute("UPDATE people SET mail = 'new@acme.example', name = NULL WHERE id = 'usr_1042'")
    world.handle(auth("override", tags=DANA))
    [user] = world.all(User)
    assert (user.email, user.display_name) == ("new@acme.example", "Dana")


def test_while_it_fails_events_wait_uncounted_and_then_go_on(world, application, monkeypatch):
    application.execute("ALTER TABLE people RENAME TO elsewhere")
    [receipt] = world.receive(auth(tags=DANA))
    for _ in range(7):  # more often than a crash would be forgiven
        world.clock.move(120)
        monkeypatch.setattr(world.processor.directory, "_closed_until", 0.0)
        world.process(receipt)
    event = world.event(receipt.event_id)
    assert (event.state, event.attempts, event.looks) == (EventState.RECEIVED, 0, 0)
    assert "user_query at the application's database" in event.problem
    assert "usr_1042" not in event.problem
    assert world.connection("c-1") is None
    application.execute("ALTER TABLE elsewhere RENAME TO people")
    monkeypatch.setattr(world.processor.directory, "_closed_until", 0.0)
    world.clock.move(120)
    world.process(receipt)
    assert world.owner("c-1") == ("usr_1042", "co-org_77")


def test_after_a_failure_it_is_left_alone_for_longer_each_time(world, application, asked, monkeypatch):
    application.execute("ALTER TABLE people RENAME TO elsewhere")
    clock = [100.0]
    monkeypatch.setattr(sql_directory.time, "monotonic", lambda: clock[0])
    bodies = [auth(connection_id=f"c-{number}", tags={"end_user_id": f"u{number}"}) for number in range(5)]
    receipts = world.receive(*bodies)
    waits = []
    for _ in range(6):
        world.process(*receipts)
        events = [world.event(receipt.event_id) for receipt in receipts]
        assert {event.state for event in events} == {EventState.RECEIVED}
        wait = max((event.next_at - world.clock.now).total_seconds() for event in events)
        waits.append(wait)
        clock[0] += wait
        world.clock.move(wait)
    assert len(asked) == 6
    assert waits == [5, 10, 20, 40, 60, 60]


def test_a_query_that_takes_too_long_is_ended_and_logged(world, application):
    if world.database.is_sqlite:
        endless = (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
            "SELECT count(*) AS external_id FROM n WHERE :end_user_id IS NOT NULL"
        )
    else:
        endless = "SELECT pg_sleep(3600)::text AS external_id FROM people WHERE id = :end_user_id"
    use(world, application.open(timeout=0.3), endless, None)
    event_id = world.handle(auth(tags=DANA))
    assert world.event(event_id).state == EventState.RECEIVED
    assert "user_query" in world.event(event_id).problem


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite runs in this process
def test_a_server_that_stands_still_is_cut_off(world, application):
    opened = application.open(timeout=5, pool_size=1)  # waited for, twice
    use(world, opened, USERS, None)
    world.handle(auth(tags=DANA))  # connected
    with application.engine.connect() as connection:
        asking = text(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'waylink' AND datname = current_database()"
        )
        [pid] = connection.execute(asking).scalars()
    os.kill(pid, signal.SIGSTOP)
    try:
        [answer] = world.processor.directory.ask([Question({"end_user_id": "usr_2"}, None)])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "application's database" in answer.why


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO people (id) VALUES ('x')",
        "SELECT * FROM people WHERE id = :end_user_id; DELETE FROM people",
        "DELETE FROM people RETURNING id AS external_id",
        "SELECT 1 AS external_id) AS answered; DELETE FROM people; SELECT * FROM (SELECT 1 AS external_id",
    ],
)
def test_nothing_is_ever_written_there(application, statement):
    opened = application.open()
    with pytest.raises((DBAPIError, sqlite3.Error)):
        opened.ask(statement, {})
    opened.close()
    with application.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM people")).scalar() == 2


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_function_cannot_write_either(application):
    application.execute(
        "CREATE FUNCTION sneak() RETURNS text LANGUAGE sql AS $$ DELETE FROM people; SELECT 'x'::text $$"
    )
    opened = application.open()
    for before in ("SELECT sneak() AS external_id", "SELECT set_config('transaction_read_only', 'off', false) AS x"):
        with pytest.raises(DBAPIError, match=r"read-only|read-write|READ ONLY"):
            opened.ask(before, {})
    opened.close()


def test_a_waiting_connection_is_linked_once_the_database_names_its_owner_and_asked_less_and_less(
    world, application, asked
):
    world.route(linked={"type": ["connection.linked"]})
    world.handle(auth(tags={"end_user_id": "usr_9"}))
    assert again(world) == 0
    waits = []
    for _ in range(5):
        due = world.connection("c-1").owner_look_at
        waits.append((due - world.clock.now).total_seconds())
        world.clock.now = due
        assert again(world) == 1
    assert waits == [60, 60, 120, 240, 480]
    assert len(asked) == 6
    application.execute("INSERT INTO people VALUES ('usr_9', 'nine@acme.example', 'Nine', 9)")
    world.clock.move(3600)
    assert again(world) == 1
    assert world.owner("c-1") == ("usr_9", None)
    connection = world.connection("c-1")
    assert (connection.unlinked_reason, connection.owner_look_at) == (None, None)
    assert len(world.jobs("linked")) == 1
    world.clock.move(3600)
    assert again(world) == 0


def test_many_that_wait_are_asked_about_in_batches_each_once(world, application, asked, monkeypatch):
    monkeypatch.setattr("app.services.linking.requery.CHUNK", 3)
    bodies = [auth(connection_id=f"c-{number}", tags={"end_user_id": "usr_9"}) for number in range(7)]
    world.process(*world.receive(*bodies))
    world.clock.move(61)
    application.execute("INSERT INTO people VALUES ('usr_9', NULL, NULL, 9)")
    asked.clear()
    assert again(world) == 7
    assert len(asked) == 3
    assert {world.owner(f"c-{number}") for number in range(7)} == {("usr_9", None)}


def test_a_connection_that_waits_while_it_fails_is_due_again_after_the_lease(world, application, monkeypatch):
    world.handle(auth(tags={"end_user_id": "usr_9"}))
    application.execute("ALTER TABLE people RENAME TO elsewhere")
    world.clock.move(61)
    assert again(world) == 0
    assert (world.connection("c-1").owner_look_at - world.clock.now).total_seconds() == 60


def test_what_an_event_changed_meanwhile_holds(world, application, monkeypatch):
    world.handle(auth(tags={"end_user_id": "usr_9"}))
    world.clock.move(61)
    ask = ApplicationDatabase.ask

    def late(self, query, tags):
        monkeypatch.setattr(ApplicationDatabase, "ask", ask)
        world.handle(auth("override", tags={"end_user_id": "usr_2"}))
        return [{"external_id": "usr_9"}]

    monkeypatch.setattr(ApplicationDatabase, "ask", late)
    again(world)
    assert world.owner("c-1") == ("usr_2", None)
    assert len(world.links("c-1")) == 1


def test_local_users_link_nothing_by_themselves(world):
    world.handle(auth(tags={"end_user_id": "usr_9"}))
    with world.database.write() as session:
        merged = records.add(session, OwnerKind.USER, {"external_id": "usr_9"}, actor="cli:test", now=world.clock())
    routes = world.processor.routes
    assert waiting.link_appeared(world.database, routes, world.policy, merged.appeared, clock=world.clock) == 0
    assert world.owner("c-1") is None


def test_the_tags_that_nango_shows_are_asked_by_not_those_of_the_body(
    open_world, application, nango, base_url, connection_id
):
    world = open_world(base_url=base_url, directory=DirectoryPolicy.SQL)
    use(world, application.open())
    register(nango, connection_id, "oauth2", tags={"end_user_id": "usr_2"})
    [receipt] = world.receive(auth(connection_id=connection_id, tags=DANA))
    for _ in range(6):
        world.process(receipt)
        world.clock.move(61)
    assert world.owner(connection_id) == ("usr_2", None)
    world.processor.directory.close()
