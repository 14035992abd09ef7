"""Promise 9: every decision can be repeated, so no version of a route is ever lost."""

import pytest
from sqlalchemy import select

from app.db import decisions
from app.db import routes as route_rows
from app.db.models import Destination, Event, RouteVersion, Team
from app.db.routes import RouteDefinition
from app.domain.patterns import compile_pattern
from app.domain.routing import Route, RouteSet
from app.services.definitions import config_sync
from app.services.definitions import routes as defining
from app.services.definitions.config_plan import Changes, DestinationDefinition, OrphanPolicy
from app.services.definitions.editor import Editor
from tests.integration.world import DANA, auth

CREATED, LINKED = {"type": ["connection.created"]}, {"type": ["connection.linked"]}


def versions(world):
    with world.database.read() as session:
        found = session.scalars(select(RouteVersion).order_by(RouteVersion.name, RouteVersion.version))
        return [(version.name, version.version, version.since_set, version.until_set) for version in found]


def current(world):
    with world.database.read() as session:
        return route_rows.current_version(session)


def test_a_first_file_makes_team_destination_and_first_versions(world):
    assert world.route(a=CREATED, b=LINKED) == Changes(
        added=("crm/a", "crm/b"), destinations_added=("crm/jobs",), teams_added=("crm",)
    )
    assert versions(world) == [("a", 1, 1, None), ("b", 1, 1, None)]
    with world.database.read() as session:
        assert session.scalars(select(Team.name)).all() == ["crm"]
        [destination] = session.scalars(select(Destination))
        assert (destination.queue, destination.source, destination.retired_at) == ("team.crm.jobs", "file", None)


def test_an_unchanged_file_changes_nothing(world, clock):
    world.route(a=CREATED)
    before = current(world)
    clock.move(60)
    assert not world.route(a=dict(CREATED))
    assert (current(world), versions(world)) == (before, [("a", 1, 1, None)])


def test_a_changed_route_gets_a_version_and_the_others_stay(world):
    world.route(a=CREATED, b=CREATED)
    assert world.route(a=LINKED, b=CREATED) == Changes(changed=("crm/a",))
    assert versions(world) == [("a", 1, 1, 2), ("a", 2, 2, None), ("b", 1, 1, None)]


def test_a_removed_route_stays_on_record_and_a_returning_name_goes_on_counting(world):
    world.route(a=CREATED)
    assert world.route() == Changes(removed=("crm/a",))
    assert versions(world) == [("a", 1, 1, 2)]
    assert world.route(a=CREATED) == Changes(added=("crm/a",))
    assert versions(world) == [("a", 1, 1, 2), ("a", 2, 3, None)]


@pytest.mark.parametrize("member", ["destination", "job"])
def test_every_member_of_a_route_counts_as_a_change(world, clock, member):
    destinations = {("crm", name): DestinationDefinition("celery", f"team.crm.{name}") for name in ("jobs", "other")}
    rows = {"team": "crm", "destination": "jobs", "job": "j"}
    for facts, count in ((rows, 1), (rows | {member: "other"}, 2)):
        with world.database.write() as session:
            routes = [RouteDefinition("a", pattern=CREATED, **facts)]
            config_sync.apply_file(session, destinations=destinations, routes=routes, now=clock.now)
        assert len(versions(world)) == count


def test_a_route_of_another_team_is_another_route_whatever_it_is_called(world, clock):
    """Each team names its own: neither takes the other's place, counts its versions, or loses its jobs."""
    destinations = {(team, "jobs"): DestinationDefinition("celery", f"team.{team}.jobs") for team in ("crm", "erp")}
    routes = [RouteDefinition("a", team, "jobs", f"{team}.a", CREATED) for team in ("crm", "erp")]
    assert apply(world, destinations=destinations, routes=routes[:1]).added == ("crm/a",)
    assert apply(world, destinations=destinations, routes=routes) == Changes(added=("erp/a",))
    event_id = world.handle(auth(tags=DANA))
    made = [(job.team, job.route, job.route_version, job.name) for job in world.jobs() if job.event_id == event_id]
    assert sorted(made) == [("crm", "a", 1, "crm.a"), ("erp", "a", 1, "erp.a")]
    with world.database.read() as session:
        assert [(decision.team, decision.route) for decision in decisions.of_event(session, event_id)] == [
            ("crm", "a"),
            ("erp", "a"),
        ]
    assert apply(world, destinations=destinations, routes=routes[1:]) == Changes(removed=("crm/a",))
    later = world.handle(auth(connection_id="c-2", tags=DANA))
    assert [job.team for job in world.jobs() if job.event_id == later] == ["erp"]


def test_a_destination_that_left_the_file_is_retired_and_lives_again_when_it_returns(world, clock):
    world.route(a=CREATED)
    for destinations, retired in (
        ({}, True),
        ({("crm", "jobs"): DestinationDefinition("celery", "team.crm.new")}, False),
    ):
        with world.database.write() as session:
            config_sync.apply_file(
                session, destinations=destinations, routes=[], orphans=OrphanPolicy.REMOVE, now=clock.now
            )
        with world.database.read() as session:
            [destination] = session.scalars(select(Destination))
        assert (destination.retired_at is not None) is retired
    assert destination.queue == "team.crm.new"


def apply(world, *, destinations=None, routes=(), teams=(), orphans=OrphanPolicy.REMOVE):
    with world.database.write() as session:
        return config_sync.apply_file(
            session,
            destinations=destinations or {},
            routes=routes,
            teams=teams,
            orphans=orphans,
            now=world.clock(),
        )


def managed_elsewhere(world, name="b"):
    """A route that the API put beside those of the file."""
    fields = {"name": name, "team": "crm", "destination": "jobs", "job": f"crm.{name}", "pattern": CREATED}
    with world.database.write() as session:
        return defining.add(session, defining.drafted(fields), editor=Editor("cli:test"), now=world.clock())


def destination(world):
    with world.database.read() as session:
        return session.get(Destination, ("crm", "jobs"))


def team(world):
    with world.database.read() as session:
        return session.get(Team, "crm")


def test_what_the_file_no_longer_has_stays_for_routes_that_the_api_manages(world):
    """The editor of the file may not know of such routes, and a start must not fail for them."""
    world.route(a=CREATED)
    managed_elsewhere(world)
    assert apply(world) == Changes(removed=("crm/a",), destinations_released=("crm/jobs",), teams_released=("crm",))
    assert (destination(world).source, destination(world).retired_at) == ("api", None)
    assert (team(world).source, team(world).retired_at) == ("api", None)
    assert not apply(world)
    assert versions(world)[-1] == ("b", 1, 2, None)


def live(world):
    with world.database.read() as session:
        return {row.name: row.source for row in route_rows.live(session)}


def test_recording_a_file_that_has_less_removes_nothing_unless_it_is_asked_to(world):
    """Promise 14: an empty file, and one of another folder, are files that have less."""
    world.route(a=CREATED, b=CREATED)
    before = current(world), versions(world)
    assert not apply(world, orphans=OrphanPolicy.KEEP)
    assert apply(world, teams=["erp"], orphans=OrphanPolicy.KEEP) == Changes(teams_added=("erp",))
    assert (current(world), versions(world)) == before
    assert (destination(world).retired_at, team(world).retired_at) == (None, None)
    event_id = world.handle(auth(tags=DANA))
    assert {job.route for job in world.jobs() if job.event_id == event_id} == {"a", "b"}
    with world.database.read() as session:
        assert dict(route_rows.of_file(session).parts()) == {
            "teams": ("crm", "erp"), "destinations": ("crm/jobs",), "routes": ("crm/a", "crm/b")
        }  # fmt: skip


def test_what_the_file_no_longer_has_can_be_released_to_the_api(world):
    world.route(a=CREATED)
    released = Changes(released=("crm/a",), destinations_released=("crm/jobs",), teams_released=("crm",))
    before = current(world), versions(world)
    assert apply(world, orphans=OrphanPolicy.RELEASE) == released
    assert (current(world), versions(world), live(world)) == (*before, {"a": "api"})
    assert (destination(world).source, team(world).source) == ("api", "api")
    assert not apply(world, orphans=OrphanPolicy.REMOVE)
    draft = defining.drafted_change(world.database, {"job": "crm.other"}, team="crm", name="a")
    with world.database.write() as session:
        defining.change(session, draft, team="crm", name="a", editor=Editor("cli:test"), now=world.clock())
    assert versions(world)[-1] == ("a", 2, 2, None)


def test_the_file_takes_over_what_it_names(world):
    world.route(a=CREATED)
    managed_elsewhere(world)
    apply(world)
    assert world.route(b=CREATED) == Changes(changed=("crm/b",), destinations_changed=("crm/jobs",))
    assert (destination(world).source, team(world).source) == ("file", "file")
    with world.database.read() as session:
        [live] = route_rows.live(session)
    assert (live.name, live.version, live.source) == ("b", 2, "file")
    assert not world.route(b=CREATED)


def test_a_team_that_left_the_file_is_removed_and_comes_back_with_it(world):
    assert apply(world, teams=["crm"]) == Changes(teams_added=("crm",))
    assert apply(world) == Changes(teams_removed=("crm",))
    assert team(world).retired_at is not None
    assert apply(world, teams=["crm"]) == Changes(teams_added=("crm",))
    assert (team(world).source, team(world).retired_at) == ("file", None)


def test_each_change_of_a_destination_counts_its_version(world):
    world.route(a=CREATED)
    assert destination(world).version == 1
    world.route(a=LINKED)
    assert destination(world).version == 1
    apply(world, destinations={("crm", "jobs"): DestinationDefinition("celery", "team.crm.other")})
    assert (destination(world).version, destination(world).queue) == (2, "team.crm.other")


def test_a_disabled_route_of_the_file_is_kept_and_matches_nothing(world):
    world.route(a=CREATED)
    rows = RouteDefinition("a", "crm", "jobs", "crm.a", CREATED, enabled=False)
    changes = apply(
        world, destinations={("crm", "jobs"): DestinationDefinition("celery", "team.crm.jobs")}, routes=[rows]
    )
    assert changes == Changes(changed=("crm/a",))
    world.handle(auth(connection_id="c-1", tags=DANA))
    assert world.jobs() == []


def test_a_file_that_is_refused_halfway_changes_nothing(world):
    world.route(a=CREATED)
    bad = RouteDefinition("b", "crm", "nowhere", "crm.b", CREATED)
    with pytest.raises(Exception, match=r"(?i)foreign key"), world.database.write() as session:
        config_sync.apply_file(session, destinations={}, routes=[bad], now=world.clock.now)
    assert (current(world), versions(world)) == (1, [("a", 1, 1, None)])


def test_the_decisions_of_any_old_set_can_be_repeated(world):
    """Non-matches are not kept: the event's document and its route set give them back."""
    patterns = [{"a": CREATED, "b": LINKED}, {"a": LINKED}, {"a": LINKED, "b": CREATED, "c": CREATED}, {}]
    routed = []
    for number, routes in enumerate(patterns):
        world.route(**routes)
        routed.append(world.handle(auth(connection_id=f"c-{number}", tags=DANA)))
    for event_id, routes in zip(routed, patterns, strict=True):
        event = world.event(event_id)
        again = {
            decision.route.name: decision.matched
            for decision in _set_of(world, event.route_set).explain(event.document)
        }
        assert again == {name: pattern is CREATED for name, pattern in routes.items()}
        assert {job.route for job in world.jobs() if job.event_id == event_id} == {n for n, m in again.items() if m}
    assert len({event.route_set for event in world.all(Event)}) == 4


def _set_of(world, number):
    spans = (RouteVersion.since_set <= number, RouteVersion.until_set.is_(None) | (RouteVersion.until_set > number))
    with world.database.read() as session:
        rows = session.scalars(select(RouteVersion).where(*spans)).all()
    facts = ("name", "version", "team", "destination", "job")
    return RouteSet(
        number,
        [Route(**{name: getattr(row, name) for name in facts}, pattern=compile_pattern(row.pattern)) for row in rows],
    )
