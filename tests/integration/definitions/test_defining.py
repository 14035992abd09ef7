"""Teams, destinations and routes that people manage: versions, ends, returns, and two editors at once."""

from datetime import timedelta

import pytest

from app.db import audit
from app.db import routes as route_rows
from app.db.audit import AuditFilters
from app.db.models import Destination, DestinationHealth
from app.domain.addresses import read_networks
from app.errors import Conflict, InvalidFields, NameTaken, NotFound, ReadOnly, Stale, StillUsed
from app.sealing import new_key, sealer_with, sealer_without_key
from app.services import tokens
from app.services.definitions import destinations, routes, signing_secrets, teams
from app.services.definitions.destination_alerts import Alerts
from app.services.definitions.destinations import DefinitionContext
from app.services.definitions.editor import Editor
from app.services.routing.cache import RouteCache
from app.services.routing.explanations import explain
from tests.growth import counting_writes
from tests.integration.world import DANA, auth, in_threads

CREATED, LINKED = {"type": ["connection.created"]}, {"type": ["connection.linked"]}
MEANS = DefinitionContext(sealer_with(new_key()), read_networks("127.0.0.0/8"))
HOOK = {"kind": "http", "url": "https://hooks.example/crm"}
OPERATOR, CRM, ERP = Editor("cli:test"), Editor("token:crm", "crm"), Editor("token:erp", "erp")
A = {"team": "crm", "name": "a"}
ROUTE = {"name": "a", "team": "crm", "destination": "jobs", "job": "crm.a", "pattern": CREATED, "enabled": True}


@pytest.fixture
def place(world):
    """The team crm with its destination jobs, made by hand."""
    do(world, teams.add, "crm")
    do(world, destinations.add, {"kind": "celery", "queue": "team.crm.jobs"}, team="crm", name="jobs")
    return world


def do(world, verb, *arguments, editor=OPERATOR, **options):
    if verb in {destinations.add, destinations.change}:
        arguments = (MEANS, *arguments)
    if verb is routes.add:
        arguments = [routes.drafted(*arguments)]
    if verb is routes.change:
        arguments = [routes.drafted_change(world.database, *arguments, team=options["team"], name=options["name"])]
    with world.database.write() as session:
        return verb(session, *arguments, editor=editor, now=world.clock(), **options)


def change(world, fields, **options):
    return do(world, routes.change, fields, **A, **options)


def live(world):
    with world.database.read() as session:
        return {route.name: (route.version, route.enabled, route.source) for route in route_rows.live(session)}


def audited(world):
    with world.database.read() as session:
        return [(entry.action, entry.subject) for entry in reversed(audit.newest(session, AuditFilters(limit=100)))]


def test_a_route_that_was_added_is_routed_by_from_the_next_batch_on_and_until_it_is_removed(place):
    """Every worker has a cache that was there before, and is asked for nothing."""
    before = place.handle(auth(connection_id="c-0", tags=DANA))
    do(place, routes.add, ROUTE)
    first = place.handle(auth(connection_id="c-1", tags=DANA))
    change(place, {"enabled": False})
    paused = place.handle(auth(connection_id="c-2", tags=DANA))
    change(place, {"enabled": True})
    again = place.handle(auth(connection_id="c-3", tags=DANA))
    do(place, routes.remove, **A)
    place.handle(auth(connection_id="c-4", tags=DANA))
    assert [(job.event_id, job.route_version) for job in place.jobs()] == [(first, 1), (again, 3)]
    assert paused != before
    done = ["added", "disabled", "enabled", "removed"]
    assert audited(place)[2:] == [(f"route.{verb}", "crm/a") for verb in done]


def test_a_disabled_route_is_explained_as_such_and_takes_nothing(place):
    do(place, routes.add, ROUTE)
    change(place, {"enabled": False})
    assert RouteCache().current(place.database).routes == ()
    event_id = place.handle(auth(connection_id="c-1", tags=DANA))
    for now in (False, True):
        [decision] = explain(place.database, event_id, now=now).decisions
        assert (decision.route.enabled, decision.matched) == (False, False)
        assert all(condition.matched for condition in decision.conditions)


def test_each_change_is_a_version_and_saying_the_same_is_none(place):
    do(place, routes.add, ROUTE)
    for fields, version in (({"job": "crm.b"}, 2), ({"job": "crm.b"}, 2), ({"pattern": LINKED, "job": "crm.b"}, 3)):
        assert change(place, fields).version == version
    with place.database.read() as session:
        history = routes.history(session, **A, editor=OPERATOR)
    assert [(version.version, version.job, version.pattern) for version in history] == [
        (3, "crm.b", LINKED),
        (2, "crm.b", CREATED),
        (1, "crm.a", CREATED),
    ]
    spans = [(version.since_set, version.until_set) for version in history]
    assert [until for _, until in spans] == [None, spans[0][0], spans[1][0]]


def test_a_name_that_returns_goes_on_counting(place):
    do(place, routes.add, ROUTE)
    do(place, routes.remove, **A)
    assert live(place) == {}
    assert do(place, routes.add, ROUTE).version == 2


def test_what_the_file_defines_is_read_only_here_and_says_what_to_do(world):
    world.route(a=CREATED)
    for verb, arguments in ((routes.change, ({"job": "x"},)), (routes.remove, ())):
        with pytest.raises(ReadOnly, match=r"waylink\.toml.*waylink routes apply"):
            do(world, verb, *arguments, **A)
    with pytest.raises(ReadOnly):
        do(world, destinations.change, {"queue": "team.crm.x"}, team="crm", name="jobs")
    with pytest.raises(ReadOnly):
        do(world, destinations.remove, team="crm", name="jobs")
    with pytest.raises(ReadOnly):
        do(world, teams.remove, "crm")
    assert live(world) == {"a": (1, True, "file")}


def test_a_team_of_the_file_may_have_more_by_hand(world):
    world.route(a=CREATED)
    do(world, routes.add, {**ROUTE, "name": "b"})
    assert live(world) == {"a": (1, True, "file"), "b": (1, True, "api")}
    with pytest.raises(NameTaken):
        do(world, routes.add, ROUTE)


def test_an_edit_of_a_stale_version_is_refused(place):
    do(place, routes.add, ROUTE)
    assert change(place, {"job": "crm.b"}, version=1).version == 2
    for verb, arguments in ((routes.change, ({"job": "crm.c"},)), (routes.remove, ())):
        with pytest.raises(Stale) as stale:
            do(place, verb, *arguments, **A, version=1)
        assert stale.value.found == {"version": 2}
    with pytest.raises(Stale):
        do(place, destinations.change, {"queue": "team.crm.x"}, team="crm", name="jobs", version=7)
    assert live(place) == {"a": (2, True, "api")}


def test_of_two_concurrent_edits_of_one_version_one_succeeds(place):
    do(place, routes.add, ROUTE)

    def edit(job):
        def run():
            try:
                change(place, {"job": job}, version=1)
            except Stale:
                return "told"
            return "done"

        return run

    assert sorted(in_threads(*(edit(f"crm.{number}") for number in range(4)))) == ["done", "told", "told", "told"]
    assert live(place)["a"][0] == 2


def test_concurrent_additions_have_a_set_each(place):
    def add(number):
        return lambda: do(place, routes.add, {**ROUTE, "name": f"r{number}"}).since_set

    sets = in_threads(*(add(number) for number in range(6)))
    assert len(set(sets)) == 6
    assert len(live(place)) == 6


def test_every_fault_of_a_route_is_reported_at_once_with_its_place(place):
    wrong = {"name": "A b", "team": "nobody", "destination": "x", "job": "waylink.sweep"}
    with pytest.raises(InvalidFields) as refused:
        do(place, routes.add, {**wrong, "pattern": {"tags": {"plan": [{"prefix": 5}]}}, "enabled": True})
    faults = {fault.field: fault.message for fault in refused.value.faults}
    assert set(faults) == {"name", "job", "pattern.tags.plan", "team"}
    assert "reserved" in faults["job"]
    assert "prefix takes a string" in faults["pattern.tags.plan"]
    with pytest.raises(InvalidFields) as refused:
        do(place, routes.add, {**ROUTE, "pattern": '{"type": [', "destination": "x\0"})
    assert [fault.field for fault in refused.value.faults] == ["pattern", "destination"]
    assert "line 1" in refused.value.faults[0].message


@pytest.mark.parametrize("queue", ["waylink.events", "celery", "team.erp.jobs", "team.crm", "team.crm.a b", ""])
def test_a_team_has_queues_of_its_own_only(place, queue):
    with pytest.raises(InvalidFields, match="queue"):
        do(place, destinations.add, {"kind": "celery", "queue": queue}, team="crm", name="other")
    with pytest.raises(InvalidFields, match="queue"):
        do(place, destinations.change, {"queue": queue}, team="crm", name="jobs")


def test_a_destination_is_retired_when_nothing_feeds_it_any_more_and_can_return(place):
    do(place, routes.add, ROUTE)
    with pytest.raises(StillUsed, match="routes a") as used:
        do(place, destinations.remove, team="crm", name="jobs")
    assert used.value.found == {"routes": ["a"]}
    do(place, routes.remove, **A)
    assert do(place, destinations.remove, team="crm", name="jobs").retired_at is not None
    with pytest.raises(InvalidFields, match="destination"):
        do(place, routes.add, ROUTE)
    with pytest.raises(NotFound):
        do(place, destinations.change, {"queue": "team.crm.x"}, team="crm", name="jobs")
    back = do(place, destinations.add, {"kind": "celery", "queue": "team.crm.new"}, team="crm", name="jobs").row
    assert (back.version, back.queue, back.retired_at) == (2, "team.crm.new", None)


def secrets_of(world, name="hook"):
    with world.database.read() as session:
        found = signing_secrets.listed(session, team="crm", destination=name)
        return [
            (secret.expires_at is None or secret.expires_at > world.clock(), bytes(secret.sealed)) for secret in found
        ]


def test_an_http_destination_gets_a_secret_that_is_shown_once_and_kept_sealed(place):
    added = do(place, destinations.add, HOOK, team="crm", name="hook")
    assert added.secret.startswith("whsec_")
    assert added.secret not in repr(added)
    [(live, sealed)] = secrets_of(place)
    assert live
    assert added.secret.encode() not in sealed
    assert (added.row.kind, added.row.url, added.row.queue) == ("http", HOOK["url"], None)
    assert added.secret not in str(audited(place))


def test_a_destination_that_returns_has_a_new_secret_and_none_of_before(place, clock):
    first = do(place, destinations.add, HOOK, team="crm", name="hook").secret
    do(place, destinations.remove, team="crm", name="hook")
    clock.move(1)
    again = do(place, destinations.add, HOOK, team="crm", name="hook").secret
    assert again != first
    assert [live for live, _ in secrets_of(place)] == [True, False]


def test_without_a_key_no_secret_is_made_and_nothing_else_either(place):
    keyless = DefinitionContext(sealer_without_key())
    for fields in (HOOK, {"kind": "celery", "queue": "team.crm.x", "broker_url": "redis://queue.example:6379/3"}):
        with pytest.raises(Conflict, match="WAYLINK_SECRET_KEY"), place.database.write() as session:
            destinations.add(session, keyless, fields, team="crm", name="hook", editor=OPERATOR, now=place.clock())
    with place.database.read() as session, pytest.raises(NotFound):
        destinations.get(session, team="crm", name="hook", editor=OPERATOR)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "http"}, "url"),
        ({"kind": "http", "url": "ftp://hooks.example"}, "url"),
        ({"kind": "http", "url": "https://user:hunter2@hooks.example"}, "url"),
        ({"kind": "http", "url": "http://169.254.169.254/latest"}, "url"),
        ({"kind": "http", "url": "https://hooks.example", "queue": "team.crm.x"}, "queue"),
        ({"kind": "http", "url": "https://hooks.example", "timeout_seconds": 3600}, "timeout_seconds"),
        ({"kind": "http", "url": "https://hooks.example", "rate_per_second": 0}, "rate_per_second"),
        ({"kind": "http", "url": "https://hooks.example", "broker_url": "redis://queue.example"}, "broker_url"),
        ({"kind": "celery", "queue": "team.crm.x", "url": "https://hooks.example"}, "url"),
        ({"kind": "celery", "queue": "team.crm.x", "broker_url": "filesystem:///tmp"}, "broker_url"),
        ({"kind": "celery", "queue": "team.crm.x", "broker_url": "redis://:hunter2@10.0.0.1:6379/0"}, "broker_url"),
    ],
)
def test_what_no_destination_can_be_is_refused_by_field_without_its_secrets(place, fields, field):
    with pytest.raises(InvalidFields) as refused:
        do(place, destinations.add, fields, team="crm", name="x")
    assert [fault.field for fault in refused.value.faults] == [field]
    assert "hunter2" not in str(refused.value)


def test_an_operator_alone_gives_a_team_a_broker_of_its_own(place):
    own = {"kind": "celery", "queue": "team.crm.x", "broker_url": "redis://:hunter2@queue.example:6379/3"}
    for editor, allowed in ((CRM, False), (OPERATOR, True)):
        if allowed:
            made = do(place, destinations.add, own, team="crm", name="x", editor=editor).row
            assert b"hunter2" not in made.broker_sealed
        else:
            with pytest.raises(InvalidFields, match="operators only"):
                do(place, destinations.add, own, team="crm", name="x", editor=editor)
    assert "hunter2" not in str(audited(place))
    with pytest.raises(InvalidFields, match="operators only"):
        do(place, destinations.change, {"broker_url": None}, team="crm", name="x", editor=CRM)
    assert do(place, destinations.change, {"queue": "team.crm.y"}, team="crm", name="x", editor=CRM).broker_sealed
    assert do(place, destinations.change, {"broker_url": None}, team="crm", name="x").broker_sealed is None


def test_a_new_place_is_tried_at_once_however_the_old_one_failed(place):
    do(place, destinations.add, HOOK, team="crm", name="hook")
    with place.database.write() as session:
        now = place.clock()
        session.add(DestinationHealth(
            team="crm", destination="hook", window_at=now, succeeded=0, failed=9, failing_since=now,
            probe_at=now + timedelta(hours=1), probes=4,
        ))  # fmt: skip
    do(place, destinations.change, {"rate_per_second": 5.0}, team="crm", name="hook")
    assert health(place).probes == 4
    do(place, destinations.change, {"url": "https://hooks.example/v2"}, team="crm", name="hook")
    assert (health(place).probe_at, health(place).probes) == (place.clock(), 0)
    assert health(place).failing_since is not None, "it is not well before a job went out"


def health(world):
    with world.database.read() as session:
        return session.get(DestinationHealth, ("crm", "hook"))


def test_a_route_and_the_end_of_its_destination_cannot_cross(place):
    def add():
        try:
            return do(place, routes.add, ROUTE).name
        except InvalidFields:
            return "no destination"

    def retire():
        try:
            return do(place, destinations.remove, team="crm", name="jobs").name
        except StillUsed:
            return "still used"

    assert sorted(in_threads(add, retire)) in (["a", "still used"], ["jobs", "no destination"])


def test_a_destination_of_the_file_can_be_disabled_and_enabled(world):
    """The file says where jobs go, not whether that place is well."""
    world.route(a=CREATED)
    off = do(world, destinations.disable, Alerts(), team="crm", name="jobs", reason="moving house")
    assert (off.disabled_reason, off.version) == ("moving house", 1)
    do(world, destinations.disable, Alerts(), team="crm", name="jobs", reason="again")
    assert not world.route(a=CREATED)
    with world.database.read() as session:
        assert session.get(Destination, ("crm", "jobs")).disabled_reason == "moving house"
    assert do(world, destinations.enable, Alerts(), team="crm", name="jobs").disabled_at is None
    assert [act for act, _ in audited(world)] == ["destination.disabled", "destination.enabled"]


def test_a_team_is_removed_when_it_has_nothing_any_more(place):
    do(place, routes.add, ROUTE)
    with place.database.write() as session:
        tokens.issue(
            session, "t", scopes=[], team="crm", lifetime=timedelta(days=1), actor="cli:test", now=place.clock()
        )
    with pytest.raises(StillUsed) as used:
        do(place, teams.remove, "crm")
    assert used.value.found == {"routes": ["a"], "destinations": ["jobs"], "tokens": ["t"]}
    do(place, routes.remove, **A)
    do(place, destinations.remove, team="crm", name="jobs")
    with place.database.write() as session:
        tokens.revoke(session, "t", actor="cli:test", now=place.clock())
    assert do(place, teams.remove, "crm").retired_at is not None
    with pytest.raises(NotFound):
        do(place, teams.remove, "crm")
    with pytest.raises(InvalidFields, match="team"):
        do(place, destinations.add, {"kind": "celery", "queue": "team.crm.jobs"}, team="crm", name="jobs")
    assert do(place, teams.add, "crm").retired_at is None
    with pytest.raises(NameTaken):
        do(place, teams.add, "crm")


def test_a_teams_editor_reaches_its_own_only(place):
    do(place, teams.add, "erp")
    do(place, destinations.add, {"kind": "celery", "queue": "team.erp.jobs"}, team="erp", name="jobs")
    do(place, routes.add, {**ROUTE, "name": "theirs", "team": "erp"})
    assert do(place, routes.add, ROUTE, editor=CRM).team == "crm"
    with pytest.raises(InvalidFields, match="team"):
        do(place, routes.add, {**ROUTE, "name": "b", "team": "erp"}, editor=CRM)
    for verb, arguments in ((routes.change, ({"job": "x"},)), (routes.remove, ())):
        for name in ("theirs", "nobody"):
            with pytest.raises(NotFound, match=f"no route 'erp/{name}'"):
                do(place, verb, *arguments, team="erp", name=name, editor=CRM)
    for verb, arguments in ((destinations.remove, ()), (destinations.enable, (Alerts(),))):
        with pytest.raises(NotFound):
            do(place, verb, *arguments, team="erp", name="jobs", editor=CRM)
    with pytest.raises(InvalidFields, match="team"):
        do(place, destinations.add, {"kind": "celery", "queue": "team.erp.x"}, team="erp", name="x", editor=CRM)
    with place.database.read() as session, pytest.raises(NotFound):
        routes.get(session, **A, editor=ERP)


def test_a_name_of_another_team_reveals_nothing_and_can_be_taken(place):
    """A team can neither find out nor reserve the names of another team's routes."""
    do(place, teams.add, "erp")
    do(place, destinations.add, {"kind": "celery", "queue": "team.erp.jobs"}, team="erp", name="jobs")
    do(place, routes.add, ROUTE, editor=CRM)
    change(place, {"job": "crm.b"}, editor=CRM)
    theirs = do(place, routes.add, {**ROUTE, "team": "erp"}, editor=ERP)
    assert (theirs.team, theirs.name, theirs.version) == ("erp", "a", 1)
    with pytest.raises(NameTaken, match="'erp/a'"):
        do(place, routes.add, {**ROUTE, "team": "erp"}, editor=ERP)
    do(place, routes.remove, team="erp", name="a", editor=ERP)
    assert live(place) == {"a": (2, True, "api")}
    with place.database.read() as session:
        assert [version.version for version in routes.history(session, **A, editor=CRM)] == [2, 1]


def test_a_route_that_can_be_used_no_more_can_still_be_taken_out_of_use(place):
    do(place, routes.add, ROUTE)
    with place.database.write() as session:
        session.get(Destination, ("crm", "jobs")).retired_at = place.clock()
    with pytest.raises(InvalidFields):
        change(place, {"job": "crm.b"})
    assert change(place, {"enabled": False}).enabled is False
    with pytest.raises(InvalidFields):
        change(place, {"enabled": True})


@pytest.mark.parametrize("name", ["x\0", "", "A", "a/b", "x" * 64, "nobody"])
def test_a_name_that_nothing_can_have_is_not_found(place, name):
    for team, other in ((name, "jobs"), ("crm", name)):
        for verb, arguments in ((routes.change, [{"job": "x"}]), (routes.remove, []), (destinations.remove, [])):
            with pytest.raises(NotFound):
                do(place, verb, *arguments, team=team, name=other)
    with pytest.raises(NotFound):
        do(place, teams.remove, name)


LARGE = {"type": ["x"], "tags": {f"t{number}": [{"prefix": "a"}, {"wildcard": "*b"}] for number in range(45)}}
BEYOND = {"tags": {"plan": ["x" * 5_000]}}  # a string longer than patterns may have


def test_a_pattern_is_compiled_before_the_write_lock(place):
    def spent(verb, *arguments, **options):
        with counting_writes() as counted:
            do(place, verb, *arguments, **options)
        return counted.steps

    do(place, routes.add, {**ROUTE, "name": "first"})  # makes statements that are kept
    do(place, routes.change, {"job": "crm.x", "pattern": LINKED}, team="crm", name="first")
    small, large = (
        spent(routes.add, {**ROUTE, "name": f"r{number}", "pattern": pattern})
        for number, pattern in enumerate((CREATED, LARGE))
    )
    assert large < 1.3 * small
    small, large = (spent(routes.change, {"job": "crm.b"}, team="crm", name=f"r{number}") for number in range(2))
    assert large < 1.3 * small
    do(place, routes.add, ROUTE)
    small, large = (spent(routes.change, {"pattern": pattern}, **A) for pattern in (LINKED, LARGE))
    assert large < 1.3 * small


def test_a_pattern_beyond_a_limit_that_came_later_stays_and_no_new_one_comes(place):
    do(place, routes.add, ROUTE)
    with place.database.write() as session:
        route_rows.live_route(session, **A).pattern = BEYOND
    assert change(place, {"job": "crm.b"}).pattern == BEYOND
    assert change(place, {"enabled": False}).pattern == BEYOND
    assert change(place, {"enabled": True}).pattern == BEYOND
    for verb, arguments in ((routes.add, {**ROUTE, "name": "b"}), (routes.change, {})):
        with pytest.raises(InvalidFields, match="a string of 5,000 characters"):
            do(place, verb, {**arguments, "pattern": BEYOND}, **({} if verb is routes.add else A))
    event_id = place.handle(auth(tags=DANA | {"plan": "x" * 5_000}))
    assert [decision.matched for decision in explain(place.database, event_id).decisions] == [True]
    assert event_id in {job.event_id for job in place.jobs("a")}


def test_a_change_is_checked_by_the_pattern_that_is_there_when_it_is_made(place):
    do(place, routes.add, ROUTE)
    draft = routes.drafted_change(place.database, {"job": "crm.b"}, **A)
    change(place, {"pattern": LINKED})
    with place.database.write() as session:
        changed = routes.change(session, draft, **A, editor=OPERATOR, now=place.clock())
    assert (changed.job, changed.pattern) == ("crm.b", LINKED)
