"""Routing: the index answers what checking every route would, and says why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.patterns import Pattern, compile_pattern
from app.domain.patterns.fields import unfolded
from app.domain.routing import Matched, Route, RouteSet


def route(name: str, pattern: dict, version: int = 1) -> Route:
    return Route(
        name=name, version=version, team="crm", destination="jobs", job="crm.do", pattern=compile_pattern(pattern)
    )


def names(matched: Matched) -> list[str]:
    assert matched.undecided == []
    return [decision.route.name for decision in matched.decisions]


CREATED = {"type": "connection.created", "tags": {"plan": "pro", "a.b": "x"}, "scopes": ["mail", "calendar"]}


def test_matches_come_ordered_by_team_and_route_name():
    routes = RouteSet(
        7,
        [
            route("zebra", {"type": ["connection.created"]}),
            route("ant", {"tags": {"plan": ["pro", "free"]}}),
            route("never", {"type": ["connection.deleted"]}),
            route("mouse", {"tags": {"plan": [{"exists": True}]}}),
        ],
    )
    assert routes.version == 7
    assert names(routes.match(CREATED)) == ["ant", "mouse", "zebra"]
    assert all(decision.matched for decision in routes.match(CREATED).decisions)


def test_two_teams_have_routes_of_one_name_and_a_change_of_one_leaves_the_other():
    ours, theirs = route("a", {"type": ["connection.created"]}), route("a", {"tags": {"plan": ["pro"]}})
    theirs = replace(theirs, team="erp")
    both = RouteSet(1, [theirs, ours])
    assert [decision.route for decision in both.match(CREATED).decisions] == [ours, theirs]
    assert [decision.route.key for decision in both.explain(CREATED)] == [("crm", "a"), ("erp", "a")]
    other = replace(route("a", {"type": ["other"]}, 2), team="erp")
    changed = both.changed(2, removed=[("erp", "a")], added=[other])
    assert [decision.route for decision in changed.match(CREATED).decisions] == [ours]
    assert [decision.route for decision in both.changed(3, removed=[("crm", "a")]).match(CREATED).decisions] == [theirs]


def test_explaining_covers_routes_that_do_not_match():
    routes = RouteSet(1, [route("b", {"type": ["other"]}), route("a", {"tags": {"plan": ["pro"]}})])
    explained = routes.explain(CREATED)
    assert [(decision.route.name, decision.matched) for decision in explained] == [("a", True), ("b", False)]
    (condition,) = explained[1].conditions
    assert (condition.path, condition.expected, condition.actual) == ("type", ["other"], "connection.created")


def test_a_match_has_its_conditions():
    (decision,) = RouteSet(1, [route("a", {"type": ["connection.created"]})]).match(CREATED).decisions
    assert decision.conditions == decision.route.pattern.explain(CREATED)
    assert decision.conditions[0].matched


def test_routes_are_found_by_keys_with_dots_and_by_any_value_of_an_array():
    routes = RouteSet(1, [route("dots", {"tags": {"a.b": ["x"]}}), route("array", {"scopes": ["calendar"]})])
    assert names(routes.match(CREATED)) == ["array", "dots"]


def test_a_route_with_an_or_is_found_through_any_option():
    options = [{"tags": {"plan": ["pro"]}}, {"tags": {"vip": ["yes"]}}]
    routes = RouteSet(
        1, [route("or", {"$or": options}), route("and-or", {"type": ["connection.created"], "$or": options})]
    )
    assert names(routes.match(CREATED)) == ["and-or", "or"]
    assert names(routes.match({**CREATED, "tags": {"vip": "yes"}})) == ["and-or", "or"]
    assert names(routes.match({**CREATED, "tags": {}})) == []


def test_no_routes_match_nothing():
    assert names(RouteSet(1, []).match(CREATED)) == []


def test_only_the_routes_filed_under_the_events_rarest_value_are_checked(monkeypatch: pytest.MonkeyPatch):
    many = [
        route(f"r{number:03}", {"type": ["connection.created"], "tags": {"org": [f"org-{number}"]}})
        for number in range(500)
    ]
    routes = RouteSet(1, many)
    checked = []
    met = Pattern.met
    monkeypatch.setattr(Pattern, "met", lambda pattern, *args: checked.append(pattern) or met(pattern, *args))
    assert names(routes.match({"type": "connection.created", "tags": {"org": "org-17"}})) == ["r017"]
    assert set(checked) == {many[17].pattern}


keys = st.sampled_from(["a", "b", "a.b"])
scalars = st.sampled_from(["x", "y", 1, True, None])
documents = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)
operators = st.sampled_from([{"exists": False}, {"exists": True}, {"prefix": "x"}, {"anything-but": "x"}])
fields = st.lists(scalars, min_size=1, max_size=3) | st.lists(scalars | operators, min_size=1, max_size=2)
objects = st.dictionaries(
    keys, fields | st.dictionaries(keys, fields, min_size=1, max_size=2), min_size=1, max_size=3
).filter(lambda made: not {"a.b", "a"} <= made.keys() or isinstance(made["a"], list))  # else a field may be there twice
patterns = objects | st.builds(
    lambda rest, options: {**rest, "$or": [{"either": option} for option in options]},
    objects,
    st.lists(objects, min_size=2, max_size=3),
)


@given(sources=st.lists(patterns, max_size=12), document=documents, either=documents)
def test_the_index_finds_exactly_what_checking_every_route_finds(sources: list, document: dict, either: dict):
    document = {**document, "either": either}
    routes = [route(f"r{position:02}", source) for position, source in enumerate(sources)]
    naive = [each.name for each in routes if each.pattern.matches(document)]
    routing = RouteSet(1, reversed(routes))
    assert names(routing.match(document)) == naive
    assert [decision.route.name for decision in routing.explain(document) if decision.matched] == naive


@given(source=patterns, document=documents, either=documents)
def test_the_conditions_of_a_match_are_those_of_its_explanation(source: dict, document: dict, either: dict):
    document = {**document, "either": either}
    pattern = compile_pattern(source)
    met = pattern.met(unfolded(document))
    assert met == (pattern.explain(document) if pattern.matches(document) else None)


def test_explaining_an_or_over_an_array_agrees_with_matching():
    other = {"a.b": {"a.b": {"b": [{"prefix": "x"}]}, "a.b.c": [{"exists": False}, {"equals-ignore-case": "X"}]}}
    source = {
        "$or": [{"a.b.c": [{"exists": False}]}, other],
        "a": {"b": {"b": {"a.b.c": [{"wildcard": "*x"}, {"exists": False}]}}},
    }
    inner = [1, {"a.b": {"a.b.c": "y"}, "c": {"c": -1}}, [{"c": 0, "a.b": 0}, []]]
    pattern, document = compile_pattern(source), {"a.b": [inner]}
    conditions = pattern.explain(document)
    assert pattern.matches(document) == all(condition.matched for condition in conditions)
    assert pattern.matches(document)


changes = st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | patterns), min_size=1, max_size=4)


@given(
    first=st.dictionaries(st.sampled_from("abcdef"), patterns), steps=st.lists(changes, max_size=4), document=documents
)
def test_a_set_that_changed_finds_what_one_made_anew_finds(first: dict, steps: list, document: dict):
    """None removes a route; a pattern adds one or takes the place of an older version."""
    known, sets = dict(first), [RouteSet(1, [route(name, source) for name, source in first.items()])]
    before = names(sets[0].match(document))
    for number, step in enumerate(steps, start=2):
        latest = dict(step)
        known = {name: source for name, source in (known | latest).items() if source is not None}
        added = [route(name, source, number) for name, source in latest.items() if source is not None]
        sets.append(sets[-1].changed(number, removed=[("crm", name) for name in latest], added=added))
        fresh = RouteSet(number, [route(name, source, number) for name, source in known.items()])
        assert names(sets[-1].match(document)) == names(fresh.match(document))
        assert [route.name for route in sets[-1].routes] == sorted(known)
    assert names(sets[0].match(document)) == before, "the old set changed"


def test_a_changed_set_compiles_and_files_only_what_changed():
    many = [route(f"r{number}", {"tags": {"org": [f"org-{number}"]}}) for number in range(100)]
    first = RouteSet(1, many)
    second = first.changed(2, removed=[("crm", "r7")], added=[route("new", {"tags": {"org": ["org-7"]}})])
    event = {"tags": {"org": "org-7"}}
    assert (names(first.match(event)), names(second.match(event))) == (["r7"], ["new"])
    assert second.match({"tags": {"org": "org-8"}}).decisions[0].route is many[8]


def test_a_route_added_beside_others_is_not_in_the_set_before():
    first = RouteSet(1, [route("a", {"tags": {"org": ["org-7"]}})])
    second = first.changed(2, added=[route("b", {"tags": {"org": ["org-7"]}})])
    event = {"tags": {"org": "org-7"}}
    assert (names(first.match(event)), names(second.match(event))) == (["a"], ["a", "b"])


ALERT = {"type": "waylink.destination.failing", "payload": {"team": "crm", "destination": "jobs"}}
ANY_ALERT = {"type": [{"prefix": "waylink."}]}


@pytest.mark.parametrize(("team", "destination", "taken"), [("crm", "jobs", 0), ("crm", "mail", 1), ("ops", "jobs", 1)])
def test_no_route_takes_an_alert_to_the_destination_that_it_is_about(team, destination, taken):
    routes = RouteSet(1, [replace(route("alerts", ANY_ALERT), team=team, destination=destination)])
    assert len(names(routes.match(ALERT))) == taken
    [decision] = routes.explain(ALERT)
    assert decision.matched == bool(taken)
    if not taken:
        assert (decision.conditions[0].matched, decision.conditions[1].matched) == (True, False)
        assert decision.conditions[1].actual == "crm/jobs"


def test_only_events_of_waylinks_own_are_alerts():
    """A webhook's payload may look like an alert: Nango signs what any sender forwards through it."""
    routes = RouteSet(1, [route("all", {"type": [{"exists": True}]})])
    for document in ({**ALERT, "type": "nango.forward"}, {"type": "connection.created", "payload": None}):
        assert len(names(routes.match(document))) == 1


@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        ({"type": ["connection.created"]}, False),
        ({"type": ["connection.created", "connection.linked"]}, True),
        ({"type": [{"prefix": "nango."}]}, True),  # not looked into
        ({"type": [{"anything-but": "connection.created"}]}, True),
        ({"tags": {"plan": ["pro"]}}, True),
        ({"type": ["connection.created"], "tags": {"plan": ["pro"]}}, False),
        ({"$or": [{"type": ["connection.created"]}, {"tags": {"plan": ["pro"]}}]}, True),
        ({"type": ["connection.created"], "$or": [{"integration": ["a"]}, {"integration": ["b"]}]}, False),
    ],
)
def test_a_set_asks_for_the_types_that_its_routes_could_match(pattern: dict, asked: bool):
    routes = RouteSet(1, [route("of-created", {"type": ["connection.created"]}), route("other", pattern)])
    assert routes.asks_for("connection.linked") is asked
    assert routes.asks_for("connection.created")
    without = routes.changed(2, removed=[("crm", "other")])
    assert not without.asks_for("connection.linked")
    assert without.changed(3, added=[route("other", pattern)]).asks_for("connection.linked") is asked
    assert not RouteSet(4).asks_for("connection.linked")
