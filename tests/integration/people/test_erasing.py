"""An erased person is in no column of any table any more; all other persons' data is unchanged."""

import pytest
from sqlalchemy import select, text, update

from app.db import audit, bounded_reads, decisions, erasure
from app.db.models import Attempt, Connection, Event, Job, User
from app.db.types import StoredJson
from app.domain.erasing import ERASED
from app.domain.linking import DirectoryPolicy, OwnerChangePolicy
from app.domain.owner_queries import FIRST_WAIT
from app.domain.people import OwnerKind
from app.errors import NotFound, StillOwns
from app.services.people import erasure as service
from app.services.people import records
from app.services.people.erasure import LIVING, WAITING
from tests.growth import counting_writes
from tests.integration.database.test_upgrade import fill, tables_of
from tests.integration.world import OMAR, auth, dump, failure, rewrite_as_before, sync

EXTERNAL, EMAIL, NAME = "canary-ext-1042", "Canary.Bird@acme.example", "Canary Bird Näme"
TAGS = {"end_user_id": EXTERNAL, "end_user_email": EMAIL, "end_user_display_name": NAME, "plan": "pro"}
WORDS = (EXTERNAL, EMAIL.lower(), NAME.lower(), "n\\u00e4me")


def user_id(world, external_id=EXTERNAL):
    return next(user.id for user in world.all(User) if user.external_id == external_id)


def erase(world, id_, *, force=True):
    return service.erase(world.database, id_, force=force, actor="cli:test", clock=world.clock)


def assert_nowhere(world):
    """Not in any column of any table, and not by another spelling of it."""
    everything = dump(world.database).lower()
    for word in WORDS:
        assert word not in everything, everything[max(0, everything.index(word) - 300) :][:600]


@pytest.fixture
def planted(world):
    """The person in everything that the pipeline writes, and Omar beside them."""
    world.route(
        named={"type": ["connection.created"], "tags": {"end_user_display_name": [{"exists": True}]}},
        forwarded={"payload": {"who": [{"exists": True}]}},
        linked={"type": ["connection.linked"]},
    )
    world.handle(auth(tags=TAGS))
    world.handle(auth(connection_id="moved", tags=TAGS))
    world.handle(auth("override", connection_id="moved", tags=OMAR))
    world.handle(auth(connection_id="omars", tags={**OMAR, "note": "not them"}))
    forward = {"type": "forward", "from": "github"}
    world.handle(sync(**forward, payload={"who": NAME, "free": "text"}))
    world.handle(sync("omars", **forward, payload={"who": "Omar", "cc": f"to <{EMAIL.upper()}>"}))
    world.handle(failure(connection_id="c-1", description=f"{NAME} refused"))
    world.handle(failure(connection_id="never", description=f"no account of {EMAIL}"))
    world.handle(auth(connection_id="c-2", tags={"end_user_email": "nobody@acme.example", "cc": EXTERNAL}))
    now = world.clock()
    jobs = {job.event_id: job for job in world.jobs("named")}
    for job in jobs.values():
        world.add(
            Attempt(
                job_id=job.id, number=1, started_at=now, latency_ms=1.0, outcome="retryable", error=f"no {EMAIL}",
                response_excerpt=f"hello {NAME}",
            )
        )  # fmt: skip
    with world.database.write() as session:
        audit.record(session, actor="cli:canary", action="x", subject=EXTERNAL, now=now, detail={"tags": [EMAIL, NAME]})
    return world


@pytest.mark.parametrize("by_the_release_before", [False, True])
def test_a_person_is_nowhere_afterwards_and_the_report_says_where_they_were(planted, by_the_release_before):
    if by_the_release_before:
        rewrite_as_before(planted.database)
    id_ = user_id(planted)
    before = service.preview(planted.database, id_)
    assert before.named["events"] >= 6
    assert EMAIL in dump(planted.database)  # a preview changes nothing
    with planted.database.write() as session:  # free text is not searched for names
        session.execute(update(audit.Audit).where(audit.Audit.subject == EXTERNAL).values(detail={"tags": [EMAIL]}))
    report = erase(planted, id_)
    assert_nowhere(planted)
    assert {name: count for name, count in report.named.items() if name != "users"} == dict(before.named)
    assert report.links_closed == 1
    assert {what for what, count in report.stays.items() if count} == {LIVING}


def test_all_other_persons_data_is_as_before_but_for_the_person_in_it(planted):
    omar = user_id(planted, "usr_2001")
    links = [(link.connection_ref, link.user_id, link.opened_at) for link in planted.links("moved")]
    erase(planted, user_id(planted))
    assert planted.owner("moved") == planted.owner("omars") == ("usr_2001", "org_88")
    assert [(link.connection_ref, link.user_id, link.opened_at) for link in planted.links("moved")] == links
    assert planted.connection("omars").tags == {**OMAR, "note": "not them"}
    assert planted.connection("moved").tags == OMAR
    documents = [event.document for event in planted.all(Event) if event.connection_id == "omars"]
    assert {document["user"]["external_id"] for document in documents} == {"usr_2001"}
    [forwarded] = [document for document in documents if document["type"] == "nango.forward"]
    assert forwarded["payload"] == {"who": "Omar", "cc": ERASED}
    [moved] = [event.document for event in planted.events("connection.linked") if event.document["previous_owner"]]
    assert moved["user"]["external_id"] == "usr_2001"
    assert moved["previous_owner"]["user"]["external_id"] is None
    assert next(user for user in planted.all(User) if user.id == omar).external_id == "usr_2001"


def test_history_keeps_what_happened_without_the_person(planted):
    id_ = user_id(planted)
    events, jobs = len(planted.all(Event)), len(planted.all(Job))
    erase(planted, id_)
    assert (len(planted.all(Event)), len(planted.all(Job))) == (events, jobs)
    [link] = planted.links("c-1")
    assert (link.user_id, link.close_reason) == (id_, "erased")
    with planted.database.read() as session:
        decided = [found for event in planted.all(Event) for found in decisions.of_event(session, event.id)]
        conditions = [condition for decision in decided for condition in decision.conditions]
        told = session.scalars(select(audit.Audit).where(audit.Audit.action == "user.erased")).one()
    assert {"connection.created"} < {condition["actual"] for condition in conditions}
    assert (told.actor, told.subject, told.detail["rows"]["users"]) == ("cli:test", f"usr_{id_.hex}", 1)


def _canary(column):
    if not isinstance(column.type, StoredJson):
        return f"a {EMAIL}!"
    deep = {"path": "x", "deep": [EXTERNAL, {"x": EMAIL}]}
    return [deep] if column.type.kind is list else deep


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_every_free_text_of_every_table_is_searched(world):
    """New tables and columns are in it by themselves: this fails for one that the walk does not reach."""
    world.handle(auth(tags=TAGS))
    id_ = user_id(world)
    with world.database.write() as session:  # it has its one row from the start
        session.execute(text("DELETE FROM route_set"))
    fill(world.database, tables_of(world.database))
    with world.database.engine.begin() as connection:
        for table in erasure.TABLES:
            planted = {column.name: _canary(column) for column in erasure.free_text(table)}
            if planted:
                connection.execute(update(table).values(planted))
    assert EMAIL in dump(world.database)
    erase(world, id_)
    assert_nowhere(world)


def test_a_person_with_living_connections_is_not_erased_unless_forced(world):
    world.handle(auth(tags=TAGS))
    with pytest.raises(StillOwns):
        erase(world, user_id(world), force=False)
    assert world.owner("c-1") == (EXTERNAL, None)
    report = erase(world, user_id(world))
    assert report.stays[LIVING] == 1
    assert world.connection("c-1").tags == {}


def test_an_erasure_that_was_broken_off_is_run_again(world, monkeypatch):
    world.handle(auth(tags=TAGS))
    id_ = user_id(world)
    with monkeypatch.context() as patch:
        patch.setattr(service, "_erase_results", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erase(world, id_)
    assert EMAIL.lower() in dump(world.database).lower()
    erase(world, id_)
    assert_nowhere(world)
    assert erase(world, id_).named.total() == 1  # its own row, once more


def test_a_person_that_never_had_a_link_leaves_no_row(world):
    with world.database.write() as session:
        fields = {"external_id": EXTERNAL, "email": EMAIL}
        id_ = records.add(session, OwnerKind.USER, fields, actor="cli:a", now=world.clock()).outcomes[0].id
    erase(world, id_, force=False)
    assert world.all(User) == []
    assert_nowhere(world)
    with pytest.raises(NotFound):
        erase(world, id_)


def test_an_event_that_is_not_processed_yet_is_left_and_reported(world):
    world.handle(auth(tags=TAGS))
    [receipt] = world.receive(auth("override", tags=TAGS))
    report = erase(world, user_id(world))
    assert report.stays[WAITING] == 1
    assert EMAIL.encode() in world.event(receipt.event_id).body


def test_the_same_delivery_again_is_a_new_event_and_leaves_the_erased_one_alone(world):
    first = world.handle(auth(tags=TAGS))
    erase(world, user_id(world))
    before = world.event(first)
    again = world.handle(auth(tags=TAGS))
    assert again != first
    assert (world.event(first).state, world.event(first).connection_id) == (before.state, "c-1")
    assert world.owner("c-1") == (EXTERNAL, None)  # Nango still says so: a new user


def test_an_address_that_two_have_names_neither(world):
    world.handle(auth(tags={"end_user_id": "twin-1", "end_user_email": "both@acme.example"}))
    world.handle(auth(connection_id="c-2", tags={"end_user_id": "twin-2", "end_user_email": "both@acme.example"}))
    erase(world, user_id(world, "twin-1"))
    assert world.owner("c-2") == ("twin-2", None)
    assert world.connection("c-2").tags["end_user_email"] == "both@acme.example"
    assert "twin-1" not in dump(world.database)


def test_a_connection_that_waits_for_the_person_waits_no_more(open_world):
    world = open_world(directory=DirectoryPolicy.REQUIRE)
    with world.database.write() as session:
        fields = {"external_id": EXTERNAL, "email": EMAIL}
        id_ = records.add(session, OwnerKind.USER, fields, actor="cli:a", now=world.clock()).outcomes[0].id
    world.handle(auth(tags={"end_user_id": EXTERNAL, "organization_id": "org_404"}))
    connection = world.connection("c-1")
    assert (connection.unlinked_reason, connection.wanted_user) == ("unknown_organization", EXTERNAL)
    with world.database.write() as session:
        session.execute(update(Connection).values(owner_look_at=world.clock() + FIRST_WAIT))
    erase(world, id_)
    connection = world.connection("c-1")
    assert (connection.unlinked_reason, connection.wanted_user, connection.owner_look_at) == (
        "no_owner_tags",
        None,
        None,
    )
    assert_nowhere(world)


def test_what_is_held_for_another_person_stays_theirs(open_world):
    world = open_world(owner_change=OwnerChangePolicy.HOLD)
    world.handle(auth(tags=TAGS))
    world.handle(auth("override", tags=OMAR))
    assert world.owner("c-1") == (EXTERNAL, None)
    erase(world, user_id(world))
    assert world.connection("c-1").tags == OMAR
    assert_nowhere(world)


def test_many_rows_are_walked_in_steps(world, monkeypatch):
    monkeypatch.setattr(erasure, "STEP", 7)
    monkeypatch.setattr(service, "CHUNK", 3)
    bodies = [auth(connection_id=f"c-{number}", tags=TAGS if number % 2 else OMAR) for number in range(40)]
    world.process(*world.receive(*bodies))
    report = erase(world, user_id(world))
    assert report.links_closed == 20
    assert_nowhere(world)
    assert len([connection for connection in world.all(Connection) if connection.tags == OMAR]) == 20


def test_a_key_that_names_them_stays_and_is_reported(world):
    world.handle(auth(connection_id=f"import:{EXTERNAL}", tags={"end_user_id": EXTERNAL}))
    report = erase(world, user_id(world))
    assert report.stays[f"{service.KEYS}: connections"] == 1
    with world.database.read() as session:
        found = session.execute(text("SELECT connection_id FROM connections")).scalars().all()
    assert found == [f"import:{EXTERNAL}"]


def test_what_a_row_says_is_searched_before_the_write_lock(world):
    """A body may have megabytes, and all writers wait for the lock."""
    spent = []
    for number, items in enumerate((1, 1, 5_000)):
        world.handle(auth(connection_id=f"c-{number}", tags={"end_user_id": f"canary-{number}"}))
        payload = {"items": [{"id": 1, "who": "nobody"}] * items}
        world.handle(sync(f"c-{number}", type="forward", **{"from": "github"}, payload=payload))
        with counting_writes() as counted:
            erase(world, user_id(world, f"canary-{number}"))
        spent.append(counted.steps)
    assert spent[2] < 1.5 * spent[1]


@pytest.mark.parametrize("often", [1, 100])
def test_a_row_that_changes_while_it_is_searched_is_searched_once_more(planted, monkeypatch, often):
    some_of, times = erasure.read_some, []

    def meanwhile(session, table, keys):
        found = some_of(session, table, keys)
        if table.name == "audit" and len(times) < often and found[0]:
            times.append(table)
            with planted.database.write() as other:
                canary = update(audit.Audit).where(audit.Audit.actor == "cli:canary")
                other.execute(canary.values(detail={"new": [EMAIL, len(times)]}))
        return found

    monkeypatch.setattr(erasure, "read_some", meanwhile)
    erase(planted, user_id(planted))
    assert times
    assert_nowhere(planted)


def test_large_rows_are_taken_in_several_transactions(planted, monkeypatch):
    monkeypatch.setattr(bounded_reads, "BYTES", 300)
    with planted.database.write() as session:
        canary = update(audit.Audit).where(audit.Audit.actor == "cli:canary")
        session.execute(canary.values(detail={"tags": [EMAIL]}))
    erase(planted, user_id(planted))
    assert_nowhere(planted)
