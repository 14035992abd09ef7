"""A change of routes is in force with the next batch, and only the change is read."""

from sqlalchemy import update

from app.db import routes as route_rows
from app.db.models import RouteSetVersion, RouteVersion
from app.services.routing.cache import RouteCache

CREATED, LINKED = {"type": ["connection.created"]}, {"type": ["connection.linked"]}


def seen(cache, world):
    return {(route.name, route.version): route.pattern.source for route in cache.current(world.database).routes}


def test_added_changed_and_removed_routes_are_seen_by_the_next_call(world):
    cache = RouteCache()
    assert seen(cache, world) == {}
    world.route(a=CREATED, b=CREATED)
    assert seen(cache, world) == {("a", 1): CREATED, ("b", 1): CREATED}
    world.route(a=LINKED, c=CREATED)
    assert seen(cache, world) == {("a", 2): LINKED, ("c", 1): CREATED}
    world.route(b=LINKED, c=CREATED)
    assert seen(cache, world) == {("b", 2): LINKED, ("c", 1): CREATED}


def test_changes_that_were_missed_are_caught_up_with_at_once(world):
    cache = RouteCache()
    world.route(a=CREATED, b=CREATED)
    seen(cache, world)
    world.route(a=LINKED)
    world.route(a=CREATED, d=LINKED)
    world.route(d=LINKED)
    assert seen(cache, world) == seen(RouteCache(), world) == {("d", 1): LINKED}


def test_only_what_changed_is_read_and_the_rest_is_kept(world, monkeypatch):
    cache = RouteCache()
    world.route(a=CREATED, b=CREATED)
    before = {route.name: route for route in cache.current(world.database).routes}
    world.route(a=CREATED, b=LINKED)
    monkeypatch.setattr(route_rows, "live", lambda _session: 1 / 0)
    after = {route.name: route for route in cache.current(world.database).routes}
    assert after["a"] is before["a"]
    assert after["b"].pattern.source == LINKED


def test_a_pattern_that_cannot_be_used_leaves_its_route_out_alone(world):
    cache = RouteCache()
    world.route(a=CREATED, b=CREATED)
    seen(cache, world)
    world.route(a=LINKED, b=CREATED)
    with world.database.write() as session:
        ours = (RouteVersion.name == "a") & RouteVersion.until_set.is_(None)
        session.execute(update(RouteVersion).where(ours).values(pattern={"type": 1}))
    assert seen(cache, world) == {("b", 1): CREATED}


def test_a_database_restored_from_a_backup_is_read_anew(world):
    cache = RouteCache()
    world.route(a=CREATED)
    seen(cache, world)
    with world.database.write() as session:
        session.execute(update(RouteSetVersion).values(version=0))
        session.execute(update(RouteVersion).values(pattern=LINKED, since_set=0))
    assert seen(cache, world) == {("a", 1): LINKED}
