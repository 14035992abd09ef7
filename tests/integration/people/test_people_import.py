"""Files of users and organizations: good lines are written, bad ones named, and a second time changes nothing."""

import threading

import pytest
from sqlalchemy import text as sql

from app.db import audit
from app.db import people as rows
from app.db.models import Organization, User
from app.domain.linking import DirectoryPolicy
from app.domain.people import OwnerKind
from app.domain.people_files import Format, read
from app.services.people import importer, records
from app.services.people.importer import REFUSED_SHOWN
from tests.integration.world import auth, in_threads, wait_for_a_lock
from tests.servers import OWNER
from tests.waiting import PATIENCE


@pytest.fixture
def world(open_world):
    return open_world(directory=DirectoryPolicy.REQUIRE)


def bring(world, text, kind=OwnerKind.USER, format_=Format.CSV, **options):
    lines = read(kind, format_, text.splitlines(keepends=True))
    return importer.run(
        world.database,
        world.policy,
        world.processor.routes,
        kind,
        lines,
        actor="cli:test",
        clock=world.clock,
        **options,
    )


def counts(summary):
    return summary.added, summary.changed, summary.unchanged, summary.refused


def users(world):
    with world.database.read() as session:
        return {
            row["external_id"]: (row["email"], row["display_name"], row["organization"])
            for row in rows.listing(session, OwnerKind.USER, rows.PeopleFilters(limit=1000))
        }


FILE = """external_id,email,display_name,organization
u1,u1@acme.example,One,org_1
u2,,Two,
u3,nobody,Three,
,u4@acme.example,Four,
u5,,,org_404
"""


@pytest.fixture
def organizations(world):
    assert counts(bring(world, "external_id,name\norg_1,Acme\n", OwnerKind.ORGANIZATION)) == (1, 0, 0, 0)


def test_bad_lines_are_named_with_line_field_and_reason_and_do_not_stop_the_good_ones(world, organizations):
    summary = bring(world, FILE)
    assert counts(summary) == (2, 0, 0, 3)
    assert [(line["line"], line["field"], line["rule"]) for line in summary.refused_lines] == [
        (4, "email", "email"),
        (5, "external_id", "required"),
        (6, "organization", "unknown"),
    ]
    assert users(world) == {"u1": ("u1@acme.example", "One", "org_1"), "u2": (None, "Two", None)}


def test_the_same_file_again_changes_nothing(world, organizations):
    bring(world, FILE)
    before = {user.id: (user.external_id, user.updated_at) for user in world.all(User)}
    world.clock.move(60)
    assert counts(bring(world, FILE)) == (0, 0, 2, 3)
    assert {user.id: (user.external_id, user.updated_at) for user in world.all(User)} == before


@pytest.mark.parametrize(
    ("format_", "text"),
    [
        (Format.CSV, "external_id,email,display_name\nu1,,\\N\nu2,u2@acme.example,\n"),
        (
            Format.JSON_LINES,
            '{"external_id":"u1","display_name":null}\n{"external_id":"u2","email":"u2@acme.example"}\n',
        ),
    ],
)
def test_what_is_empty_or_absent_stays_and_what_is_marked_is_cleared(world, organizations, format_, text):
    bring(world, FILE)
    assert counts(bring(world, text, format_=format_)) == (0, 2, 0, 0)
    assert users(world) == {
        "u1": ("u1@acme.example", None, "org_1"),
        "u2": ("u2@acme.example", "Two", None),
    }


def test_a_dry_run_says_the_same_and_writes_nothing(world, organizations):
    assert counts(bring(world, FILE, dry_run=True)) == (2, 0, 0, 3)
    assert world.all(User) == []
    bring(world, "external_id,display_name\nu1,Other\n")
    assert counts(bring(world, FILE, dry_run=True)) == (1, 1, 0, 3)
    assert users(world)["u1"] == (None, "Other", None)


def test_an_id_that_comes_twice_is_one_user_with_what_the_later_line_says(world, monkeypatch):
    text = "external_id,display_name,email\nu1,One,\nu1,,u1@acme.example\nu1,One,\nu2,,\n"
    assert counts(bring(world, text)) == (2, 1, 1, 0)
    assert users(world)["u1"] == ("u1@acme.example", "One", None)
    monkeypatch.setattr(records, "CHUNK", 1)
    assert counts(bring(world, text.replace("u1", "v1"))) == (1, 1, 2, 0)
    assert users(world)["v1"] == ("v1@acme.example", "One", None)


def test_waiting_connections_are_linked_by_the_import(world):
    bodies = [auth(connection_id=f"c-{number}", tags={"end_user_id": f"u{number}"}) for number in range(3)]
    world.process(*world.receive(*bodies))
    assert bring(world, "external_id\nu0\nu1\nu7\n").linked == 2
    assert [world.owner(f"c-{number}") for number in range(3)] == [("u0", None), ("u1", None), None]


def test_of_thousands_of_bad_lines_all_are_counted_and_the_first_are_named(world):
    summary = bring(world, "external_id,email\n" + "u,nobody\n" * (REFUSED_SHOWN + 50))
    assert (summary.refused, len(summary.refused_lines)) == (REFUSED_SHOWN + 50, REFUSED_SHOWN)


def test_text_that_no_database_takes_is_refused_alone(world):
    text = '{"external_id":"a\\u0000b"}\n{"external_id":"\\ud800"}\n{"external_id":["u"]}\n{"external_id":"u1"}\n'
    summary = bring(world, text, format_=Format.JSON_LINES)
    assert counts(summary) == (1, 0, 0, 3)
    assert [line["rule"] for line in summary.refused_lines] == ["unstorable", "unstorable", "type"]
    assert [user.external_id for user in world.all(User)] == ["u1"]
    assert world.all(Organization) == []


def test_an_import_is_audited_with_its_counts_and_a_broken_one_stays_begun(world):
    bring(world, "external_id\nu1\n", dry_run=True)
    bring(world, "external_id\nu1\n")

    def broken():
        yield from read(OwnerKind.USER, Format.CSV, ["external_id\n", "u2\n"])
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        importer.run(
            world.database,
            world.policy,
            world.processor.routes,
            OwnerKind.USER,
            broken(),
            actor="cli:b",
            clock=world.clock,
        )
    with world.database.read() as session:
        told = [(entry.action, entry.outcome, entry.detail) for entry in audit.newest(session, audit.AuditFilters())]
    assert told == [
        ("user.imported", "begun", {}),
        ("user.imported", "done", {"added": 1, "changed": 0, "refused": 0}),
    ]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite lets one write after the other
def test_two_that_wait_for_each_other_are_no_end_of_an_import(world, postgres):
    """Another writer of the same people may take them in another order."""
    postgres.administer(f"GRANT SET ON PARAMETER deadlock_timeout TO {OWNER}")
    bring(world, "external_id\nu1\nu2\n")
    holding = threading.Event()

    def other_writer():
        with world.database.write() as session:
            session.execute(sql("SET LOCAL deadlock_timeout = '30s'"))  # so that it is the import that is ended
            session.execute(sql("SELECT 1 FROM users WHERE external_id = 'u2' FOR UPDATE"))
            holding.set()
            wait_for_a_lock(world)
            session.execute(sql("UPDATE users SET display_name = 'theirs' WHERE external_id IN ('u1', 'u2')"))

    def bring_both():
        assert holding.wait(PATIENCE)
        return bring(world, "external_id,email\nu1,u1@acme.example\nu2,u2@acme.example\n")

    _, summary = in_threads(other_writer, bring_both)
    assert counts(summary) == (0, 2, 0, 0)
    assert users(world) == {"u1": ("u1@acme.example", "theirs", None), "u2": ("u2@acme.example", "theirs", None)}


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_an_import_of_organizations_does_not_wait_for_an_import_of_their_users(world, organizations):
    """Rows that refer to an organization do not change it."""
    with world.database.write() as session:
        records.merge(session, OwnerKind.USER, [{"external_id": "u1", "organization": "org_1"}], now=world.clock())
        with world.database.write() as another:
            another.execute(sql("SET LOCAL lock_timeout = '60s'"))
            records.merge(another, OwnerKind.ORGANIZATION, [{"external_id": "org_1", "name": "New"}], now=world.clock())
