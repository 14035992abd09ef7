"""References that PostgreSQL does not hold by foreign keys: the check finds each broken one, on both databases."""

import re
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from app.db import integrity as rows
from app.db.integrity import REFERENCES
from app.db.models import Link, User
from app.services.linking import waiting
from app.services.maintenance import integrity
from tests.integration.world import DANA, OMAR, auth

# By which the documentation, and commands, name them. A new one needs a remedy in docs/operations.md.
NAMES = {
    "events.connection_ref",
    "jobs.event_id",
    "jobs.team+destination",
    "links.connection_ref",
    "links.organization_id",
    "links.user_id",
    "users.organization_id",
}
NOWHERE = uuid.UUID("01970000-0000-7000-8000-000000000000")


@pytest.fixture
def world(world):
    """Of everything, two rows at least, made by the services."""
    world.route(created={"type": ["connection.created"]})
    world.handle(auth(tags=DANA))
    world.handle(auth(connection_id="c-2", tags=OMAR))
    return world


def one(name):
    [found] = [reference for reference in REFERENCES if reference.name == name]
    return found


def write(world, statement, **values):
    """Past SQLite's foreign keys, which no transaction can turn off."""
    with world.database.engine.connect() as connection:
        if world.database.is_sqlite:
            connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")
            values = {name: value.hex if isinstance(value, uuid.UUID) else value for name, value in values.items()}
        connection.execute(text(statement), values)
        connection.commit()
        if world.database.is_sqlite:
            connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=ON")


@contextmanager
def broken(world, reference, where="TRUE"):
    """The reference of these rows names nothing, until the block ends."""
    table, column = reference.table, [*reference.key.columns][-1].name
    write(world, f"CREATE TABLE kept AS SELECT id, {column} FROM {table}")
    nothing = "gone" if column == "destination" else NOWHERE
    write(world, f"UPDATE {table} SET {column} = :nothing WHERE {where}", nothing=nothing)
    yield
    write(world, f"UPDATE {table} SET {column} = (SELECT {column} FROM kept WHERE kept.id = {table}.id)")
    write(world, "DROP TABLE kept")


def test_every_reference_is_whole_and_searched(world):
    found = {report.reference: report for report in integrity.check(world.database)}
    assert found.keys() == NAMES
    assert {name: report.broken for name, report in found.items()} == dict.fromkeys(NAMES, 0)
    assert all(report.rows >= 2 for report in found.values())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_broken_reference_is_found_and_no_other(world, name):
    reference = one(name)
    with broken(world, reference, where=f"id = (SELECT id FROM {reference.table} ORDER BY id LIMIT 1)"):
        [report] = integrity.broken(world.database)
    assert (report.reference, report.target, report.broken) == (name, reference.target, 1)
    assert len(report.ids) == 1
    with world.database.read() as session:
        first = session.scalar(text(f"SELECT id FROM {reference.table} ORDER BY id LIMIT 1"))
    assert report.ids[0].partition("_")[2] == uuid.UUID(str(first)).hex


def test_a_large_table_is_searched_in_steps_and_five_ids_are_named(world, monkeypatch):
    world.process(*world.receive(*(auth(connection_id=f"c-{number}", tags=DANA) for number in range(3, 9))))
    monkeypatch.setattr(rows, "STEP", 3)
    rows._searching.cache_clear()
    with broken(world, one("links.user_id")):
        [report] = integrity.broken(world.database)
    rows._searching.cache_clear()
    assert (report.rows, report.broken, len(report.ids)) == (8, 8, integrity.SHOWN)
    assert report.ids == [f"lnk_{link.id.hex}" for link in world.all(Link)[:5]]


def test_an_open_link_to_a_removed_user_is_broken_and_a_closed_one_is_history(world):
    [dana, _] = world.all(User)
    with world.database.write() as session:
        session.get(User, dana.id).removed_at = world.clock.now
    [report] = integrity.broken(world.database)
    assert (report.reference, report.broken) == ("links.user_id", 1)
    with world.database.write() as session:
        session.query(Link).filter(Link.user_id == dana.id).update({"closed_at": world.clock.now})
    assert integrity.broken(world.database) == []


def test_a_reference_to_nothing_is_whole(world):
    write(world, "UPDATE events SET connection_ref = NULL")
    write(world, "UPDATE links SET organization_id = NULL")
    assert integrity.broken(world.database) == []


def remedies():
    """By reference, what the documentation says to do: its statements of SQL, or none where it names a command."""
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    section = page[page.index("## Broken references") : page.index("## Upgrade")]
    [block] = re.findall(r"```sql\n(.*?)```", section, re.S)
    below = [statement.strip() for statement in block.split(";") if statement.strip()]
    rows = re.findall(r"^\| `([a-z_.+]+)` \| .* \| (.*) \|$", section, re.M)
    return {name: below if "below" in todo else re.findall("`((?:UPDATE|DELETE) [^`]+)`", todo) for name, todo in rows}


def test_the_documentation_says_for_each_reference_what_to_do():
    assert remedies().keys() == NAMES
    assert [name for name, statements in remedies().items() if not statements] == ["jobs.team+destination"]


@pytest.mark.parametrize("name", sorted(NAMES - {"jobs.team+destination"}))
def test_what_the_documentation_says_mends_it(world, name):
    reference = one(name)
    with broken(world, reference, where=f"id = (SELECT id FROM {reference.table} ORDER BY id LIMIT 1)"):
        [report] = integrity.broken(world.database)
        for statement in remedies()[name]:
            ids = ", ".join(f"'{id_.partition('_')[2]}'" for id_ in report.ids)
            write(world, statement.replace("…", ids))
        assert integrity.broken(world.database) == []
    if name in {"links.user_id", "links.organization_id"}:
        waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock)
        assert {world.owner("c-1"), world.owner("c-2")} == {("usr_1042", "org_77"), ("usr_2001", "org_88")}
