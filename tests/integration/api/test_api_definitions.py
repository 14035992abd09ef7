"""Teams, destinations and routes over REST, and repeated routing of events: rights to see and to change them."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from app.db import routes as route_rows
from app.db.models import Event, Job
from app.domain.patterns import Effort, compile_pattern
from app.ids import EVENT, first_id, new_id, show
from app.sealing import new_key
from app.web.api import dry_runs
from tests.integration.api.api_client import open_api, problem_of
from tests.waiting import PATIENCE, until

CREATED = {"type": ["connection.created"]}
DOCUMENT = {"type": "connection.created", "integration": "github", "connection_id": "c-1", "tags": {"plan": "free"}}
ROUTE = {"name": "contacts", "team": "crm", "destination": "jobs", "job": "crm.contacts", "pattern": CREATED}


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    key = {"WAYLINK_SECRET_KEY": new_key()}
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path, **key) as client:
        made(client, "/destinations", {"team": "crm", "name": "jobs", "kind": "celery", "queue": "team.crm.jobs"})
        made(client, "/teams", {"name": "erp"})
        made(client, "/destinations", {"team": "erp", "name": "jobs", "kind": "celery", "queue": "team.erp.jobs"})
        yield client


def made(api, path, body, **options):
    answer = api("POST", path, json=body, **options)
    assert answer.status_code == 201, answer.text
    return answer.json()


def stored_events(api, *documents, before=timedelta(minutes=1), team=None, route_set=None):
    """Stored events with these documents, a second apart, the newest last; with `team`, each became a job of its."""
    ids = []
    with api.database.write() as session:
        current = route_rows.current_version(session)
        for number, document in enumerate(documents):
            at = datetime.now(UTC) - before + timedelta(seconds=number)
            event = Event(
                id=first_id(at), environment="default", origin="webhook", state="processed", type=document["type"],
                received_at=at, last_seen_at=at, duplicates=0, body=b"{}", next_at=at, attempts=0, looks=0,
                document=document, route_set=current if route_set is None else route_set,
            )  # fmt: skip
            session.add(event)
            session.flush()
            if team is not None:
                session.add(Job(
                    id=new_id(), event_id=event.id, route="contacts", route_version=1, team=team, destination="jobs",
                    name="crm.contacts", state="completed", attempts=1, crashes=0, next_at=at, created_at=at,
                ))  # fmt: skip
            ids.append(show(EVENT, event.id))
    return ids


def test_a_route_is_made_changed_paused_and_ended_and_its_versions_stay(api):
    assert made(api, "/routes", ROUTE)["version"] == 1
    changed = api("PATCH", "/routes/crm/contacts?version=1", json={"pattern": '{"type": ["connection.linked"]}'}).json()
    assert (changed["version"], changed["pattern"]) == (2, {"type": ["connection.linked"]})
    assert api("POST", "/routes/crm/contacts/disable").json()["enabled"] is False
    assert api.json("/routes?enabled=false")["data"][0]["version"] == 3
    assert api("POST", "/routes/crm/contacts/enable?version=3").json()["version"] == 4
    assert api("DELETE", "/routes/crm/contacts").json()["until_set"] is not None
    assert api.json("/routes")["data"] == []
    assert api.json("/routes/crm/contacts")["until_set"] is not None
    assert [version["version"] for version in api.json("/routes/crm/contacts/versions")["data"]] == [4, 3, 2, 1]
    assert made(api, "/routes", ROUTE)["version"] == 5
    actions = [entry["action"] for entry in api.json("/audit?subject=crm/contacts")["data"]]
    assert actions == [
        "route.added",
        "route.removed",
        "route.enabled",
        "route.disabled",
        "route.changed",
        "route.added",
    ]
    assert {entry["actor"] for entry in api.json("/audit?subject=crm/contacts")["data"]} == {"token:operator"}


def test_what_cannot_be_a_route_is_refused_with_each_reason(api):
    body = problem_of(
        api("POST", "/routes", json=ROUTE | {"name": "No", "job": "celery.x", "pattern": {"tags": {"plan": []}}}),
        422,
        "invalid_input",
    )
    assert [error["field"] for error in body["errors"]] == ["name", "job", "pattern.tags.plan"]
    text = problem_of(api("POST", "/routes", json=ROUTE | {"pattern": '{"type":\n [1,]}'}), 422, "invalid_input")
    assert "line 2, column" in text["errors"][0]["detail"]
    nul = problem_of(api("POST", "/routes", json=ROUTE | {"pattern": {"type": ["\0"]}}), 422, "invalid_input")
    assert nul["errors"][0]["field"].startswith("pattern")
    missing = {name: value for name, value in ROUTE.items() if name != "team"}
    problem_of(api("POST", "/routes", json=missing), 422, "invalid_input")
    problem_of(api("POST", "/routes", json=ROUTE | {"color": "red"}), 400, "invalid_request")


def test_conflicts_say_what_stands_in_the_way(api):
    made(api, "/routes", ROUTE)
    problem_of(api("POST", "/routes", json=ROUTE), 409, "conflict")
    stale = problem_of(api("PATCH", "/routes/crm/contacts?version=9", json={"job": "crm.x"}), 409, "conflict")
    assert stale["found"] == {"version": 1}
    used = problem_of(api("DELETE", "/destinations/crm/jobs"), 409, "conflict")
    assert used["found"] == {"routes": ["contacts"]}
    used = problem_of(api("DELETE", "/teams/crm"), 409, "conflict")
    assert used["found"]["source"] == "file"
    assert set(problem_of(api("DELETE", "/teams/erp"), 409, "conflict")["found"]) == {"destinations"}


def test_destinations_are_changed_disabled_enabled_and_retired(api):
    changed = api("PATCH", "/destinations/erp/jobs?version=1", json={"queue": "team.erp.new"}).json()
    assert (changed["version"], changed["queue"], changed["health"]) == (2, "team.erp.new", None)
    off = api("POST", "/destinations/erp/jobs/disable?reason=down+for+today").json()
    assert (off["disabled_reason"], off["disabled_at"] is None) == ("down for today", False)
    assert [destination["name"] for destination in api.json("/destinations?enabled=false")["data"]] == ["jobs"]
    assert api("POST", "/destinations/erp/jobs/enable").json()["disabled_at"] is None
    assert api("DELETE", "/destinations/erp/jobs?version=2").json()["retired_at"] is not None
    assert [destination["team"] for destination in api.json("/destinations")["data"]] == ["crm"]
    assert [destination["team"] for destination in api.json("/destinations?retired=true")["data"]] == ["erp"]
    assert api("DELETE", "/teams/erp").json()["retired_at"] is not None
    assert [team["name"] for team in api.json("/teams")["data"]] == ["crm"]
    problem_of(api("POST", "/destinations/erp/jobs/enable"), 404, "not_found")


HOOK = {"team": "erp", "name": "hook", "kind": "http", "url": "https://hooks.example/erp", "rate_per_second": 5}


def test_a_destination_over_http_shows_its_secret_once_and_rotates_it(api):
    first = made(api, "/destinations", HOOK)
    assert first["secret"].startswith("whsec_")
    shown = api.json("/destinations/erp/hook")
    assert (shown["url"], shown["rate_per_second"], shown["queue"]) == (HOOK["url"], 5.0, None)
    rotated = api("POST", "/destinations/erp/hook/rotate-secret?overlap=1h").json()
    assert rotated["secret"] not in {first["secret"], None}
    secrets = api.json("/destinations/erp/hook/secrets")["data"]
    assert [secret["id"] for secret in secrets] == [rotated["id"], *rotated["replaced"]]
    assert [secret["expires_at"] for secret in secrets] == [None, rotated["overlap_ends_at"]]
    assert api("DELETE", f"/destinations/erp/hook/secrets/{rotated['replaced'][0]}").status_code == 204
    problem_of(api("DELETE", f"/destinations/erp/hook/secrets/{rotated['id']}"), 409, "conflict")
    problem_of(api("POST", "/destinations/erp/hook/rotate-secret?overlap=soon"), 422, "invalid_input")
    problem_of(api("POST", "/destinations/crm/jobs/rotate-secret"), 409, "conflict")
    problem_of(api.get("/destinations/crm/jobs/secrets"), 409, "conflict")
    everything = api.get("/audit?limit=100").text + api.get("/destinations").text
    assert first["secret"] not in everything
    assert rotated["secret"] not in everything


def test_a_destinations_fields_are_changed_and_cleared(api):
    made(api, "/destinations", HOOK)
    changed = api("PATCH", "/destinations/erp/hook", json={"timeout_seconds": 5, "rate_per_second": None}).json()
    assert (changed["timeout_seconds"], changed["rate_per_second"], changed["version"]) == (5.0, None, 2)
    body = problem_of(api("PATCH", "/destinations/erp/hook", json={"url": "http://10.0.0.1/"}), 422, "invalid_input")
    assert body["errors"][0]["field"] == "url"
    own = {"team": "erp", "name": "own", "kind": "celery", "queue": "team.erp.own"}
    assert made(api, "/destinations", own | {"broker_url": "redis://:hunter2@queue.example:6379/3"})["own_broker"]
    assert "hunter2" not in api.get("/destinations").text + api.get("/audit?limit=100").text


def test_a_teams_token_gives_itself_http_and_no_broker(api):
    own = {"name": "hook", "kind": "http", "url": "https://hooks.example/crm"}
    assert made(api, "/destinations", own, who="team")["secret"].startswith("whsec_")
    broker = {"name": "b", "kind": "celery", "queue": "team.crm.b", "broker_url": "redis://queue.example:6379/3"}
    refused = problem_of(api("POST", "/destinations", json=broker, who="team"), 422, "invalid_input")
    assert refused["errors"][0]["rule"] == "operators_only"
    assert api("POST", "/destinations/crm/hook/rotate-secret", who="team").status_code == 200
    problem_of(api("POST", "/destinations/crm/hook/rotate-secret", who="team-viewer"), 403, "forbidden")
    made(api, "/destinations", HOOK)
    for path in ("/destinations/erp/hook/rotate-secret", "/destinations/erp/hook/enable"):
        problem_of(api("POST", path, who="team"), 404, "not_found")
    problem_of(api.get("/destinations/erp/hook/secrets", who="team"), 404, "not_found")


def test_lists_go_on_behind_a_name_whatever_comes_and_goes(api):
    for number in range(5):
        made(api, "/routes", ROUTE | {"name": f"r{number}"})
        made(api, "/destinations", {"team": "erp", "name": f"d{number}", "kind": "celery", "queue": "team.erp.d"})
    for path, shown, key in (("/routes", 5, "name"), ("/destinations?team=erp", 6, "name"), ("/teams", 2, "name")):
        names, cursor = [], ""
        while cursor is not None:
            mark = "&" if "?" in path else "?"
            page = api.json(f"{path}{mark}limit=2" + (f"&cursor={cursor}" if cursor else ""))
            names += [row[key] for row in page["data"]]
            cursor = page["next_cursor"]
        assert names == sorted(names)
        assert len(names) == len(set(names)) == shown


def test_a_teams_token_sees_and_changes_its_own_and_nothing_else(api):
    made(api, "/routes", ROUTE | {"name": "theirs", "team": "erp", "job": "erp.do"})
    own = {name: value for name, value in ROUTE.items() if name != "team"}
    assert made(api, "/routes", own, who="team")["team"] == "crm"
    made(api, "/destinations", {"name": "more", "kind": "celery", "queue": "team.crm.more"}, who="team")
    for who in ("team", "team-viewer"):
        assert [route["name"] for route in api.json("/routes", who=who)["data"]] == ["contacts"]
        assert api.json("/routes?team=erp", who=who)["data"] == []
        assert {destination["team"] for destination in api.json("/destinations", who=who)["data"]} == {"crm"}
        assert [team["name"] for team in api.json("/teams", who=who)["data"]] == ["crm"]
        for path in ("/routes/erp/theirs", "/routes/erp/theirs/versions", "/destinations/erp/jobs", "/teams/erp"):
            problem_of(api.get(path, who=who), 404, "not_found")
    problem_of(api("PATCH", "/routes/erp/theirs", json={"job": "x"}, who="team"), 404, "not_found")
    problem_of(api("POST", "/destinations/erp/jobs/disable", who="team"), 404, "not_found")
    problem_of(api("POST", "/routes", json=ROUTE | {"name": "b", "team": "erp"}, who="team"), 422, "invalid_input")
    problem_of(api("POST", "/routes", json=own | {"name": "b"}, who="team-viewer"), 403, "forbidden")
    problem_of(api("DELETE", "/routes/crm/contacts", who="team-viewer"), 403, "forbidden")
    problem_of(api("POST", "/teams", json={"name": "mine"}, who="team"), 403, "forbidden")
    assert api("DELETE", "/routes/crm/contacts", who="team").status_code == 200


def test_another_teams_route_is_as_absent_as_one_that_is_nowhere_and_its_name_can_be_taken(api):
    """A request cannot find out another team's names, nor reserve them."""
    theirs = made(api, "/routes", ROUTE | {"name": "secret", "team": "erp", "job": "erp.do"})
    api("PATCH", "/routes/erp/secret", json={"job": "erp.more"})
    [event] = stored_events(api, DOCUMENT, team="crm")
    asked = [
        ("GET", "/routes/erp/{}", None),
        ("GET", "/routes/erp/{}/versions", None),
        ("PATCH", "/routes/erp/{}", {"job": "x"}),
        ("POST", "/routes/erp/{}/disable", None),
        ("POST", "/routes/erp/{}/enable", None),
        ("DELETE", "/routes/erp/{}", None),
        ("GET", f"/events/{event}/explain?route=erp/{{}}", None),
        ("GET", f"/events/{event}/explain?now=true&route=erp/{{}}", None),
        ("GET", "/jobs?route=erp/{}", None),
        ("POST", "/jobs/retry", {"filter": {"route": "erp/{}"}, "dry_run": True}),
        ("POST", "/routes/test", {"pattern": CREATED, "since": "1d", "against": "erp/{}"}),
        ("POST", "/routes", ROUTE | {"team": "erp", "name": "{}"}),
    ]
    for method, path, body in asked:
        answers = []
        for name in ("secret", "absent"):
            given = json.loads(json.dumps(body).replace("{}", name)) if body else None
            answer = api(method, path.replace("{}", name), who="team", **({"json": given} if given else {}))
            answers.append((answer.status_code, answer.text.replace(name, "{}")))
        assert answers[0] == answers[1], (method, path)
    own = made(api, "/routes", ROUTE | {"name": "secret"}, who="team")
    assert (own["team"], own["version"]) == ("crm", 1)
    assert api.json("/routes/crm/secret", who="team") == own
    assert api("DELETE", "/routes/crm/secret", who="team").status_code == 200
    assert api.json("/routes/erp/secret")["until_set"] is None
    assert theirs["version"] == 1


def test_decisions_of_an_event_are_those_of_the_team_that_asks(api):
    for team in ("crm", "erp"):
        made(api, "/routes", ROUTE | {"team": team, "name": "same", "job": f"{team}.do"})
    [event] = stored_events(api, DOCUMENT, team="crm")
    api("POST", f"/events/{event}/replay", json={})
    whole = api.json(f"/events/{event}")
    assert [(decision["team"], decision["route"]) for decision in whole["decisions"]] == [
        ("crm", "same"),
        ("erp", "same"),
    ]
    own = api.json(f"/events/{event}", who="team")
    assert [(decision["team"], decision["route"]) for decision in own["decisions"]] == [("crm", "same")]
    assert {job["team"] for job in own["jobs"]} == {"crm"}
    explained = api.json(f"/events/{event}/explain?now=true&limit=1")
    rest = api.json(f"/events/{event}/explain?now=true&limit=1&cursor={explained['next_cursor']}")
    assert [answer["routes"][0]["team"] for answer in (explained, rest)] == ["crm", "erp"]
    only = api("POST", f"/events/{event}/replay", json={"route": "erp/same"}).json()
    assert [(step["team"], step["outcome"]) for step in only["steps"]] == [("erp", "left_alone")]
    assert [row["team"] for row in api.json("/jobs?route=erp/same")["data"]] == ["erp"]
    problem_of(api.get("/jobs?route=same"), 422, "invalid_input")


def test_an_event_is_explained_route_by_route_and_page_by_page(api):
    for number in range(3):
        made(
            api, "/routes", ROUTE | {"name": f"r{number}", "pattern": {"tags": {"plan": ["pro", "free"][number % 2 :]}}}
        )
    api("POST", "/routes/crm/r1/disable")
    [event] = stored_events(api, DOCUMENT)
    first = api.json(f"/events/{event}/explain?limit=2")
    assert [(route["route"], route["matched"], route["enabled"]) for route in first["routes"]] == [
        ("r0", True, True),
        ("r1", False, False),
    ]
    [condition] = first["routes"][0]["conditions"]
    assert condition == {
        "path": "tags.plan", "expected": ["pro", "free"], "actual": "free", "present": True, "matched": True,
    }  # fmt: skip
    rest = api.json(f"/events/{event}/explain?limit=2&cursor={first['next_cursor']}")
    assert ([route["route"] for route in rest["routes"]], rest["next_cursor"]) == (["r2"], None)
    api("PATCH", "/routes/crm/r2", json={"pattern": {"tags": {"plan": ["none"]}}})
    assert [route["matched"] for route in api.json(f"/events/{event}/explain?route=crm/r2")["routes"]] == [True]
    now = api.json(f"/events/{event}/explain?now=true&route=crm/r2")
    assert ([route["matched"] for route in now["routes"]], now["by"]) == ([False], "now")
    assert api.json(f"/events/{event}/explain?team=erp")["routes"] == []
    problem_of(api.get(f"/events/{event}/explain?route=crm/nobody"), 404, "not_found")
    problem_of(api.get(f"/events/{show(EVENT, new_id())}/explain"), 404, "not_found")


def test_an_or_is_explained_with_its_options(api):
    options = [{"tags": {"plan": ["pro"]}}, {"integration": ["github"]}]
    made(api, "/routes", ROUTE | {"pattern": {"$or": options}})
    [event] = stored_events(api, DOCUMENT)
    [route] = api.json(f"/events/{event}/explain")["routes"]
    [condition] = route["conditions"]
    assert (condition["actual"], condition["matched"]) == ([1], True)
    assert [[condition["matched"] for condition in option] for option in condition["alternatives"]] == [[False], [True]]


def test_a_team_is_explained_its_own_routes_for_its_own_events(api):
    made(api, "/routes", ROUTE)
    made(api, "/routes", ROUTE | {"name": "theirs", "team": "erp"})
    [mine] = stored_events(api, DOCUMENT, team="crm")
    [theirs] = stored_events(api, DOCUMENT, before=timedelta(minutes=5))
    for who in ("team", "team-viewer"):
        assert [route["route"] for route in api.json(f"/events/{mine}/explain?team=erp", who=who)["routes"]] == [
            "contacts"
        ]
        problem_of(api.get(f"/events/{theirs}/explain", who=who), 404, "not_found")
        tried = {"pattern": CREATED, "event": theirs}
        problem_of(api("POST", "/routes/test", json=tried, who=who), 404, "not_found")
        assert api("POST", "/routes/test", json=tried | {"event": mine}, who=who).json()["matched"] is True


def test_a_pattern_is_tried_on_a_document_and_on_a_stored_event(api):
    [event] = stored_events(api, DOCUMENT)
    for plan, matched in (("free", True), ("pro", False)):
        pattern = {"tags": {"plan": [plan]}}
        for given in ({"document": DOCUMENT}, {"event": event}):
            for written in (pattern, json.dumps(pattern)):
                answer = api("POST", "/routes/test", json={"pattern": written, **given}, who="viewer").json()
                assert (answer["matched"], answer["history"]) == (matched, None)
                assert [condition["actual"] for condition in answer["conditions"]] == ["free"]


def test_the_case_of_a_tags_name_counts_neither_in_the_pattern_nor_in_the_document(api):
    tried = {"pattern": {"tags": {"PLAN": ["free"]}}, "document": {**DOCUMENT, "tags": {"Plan": "free"}}}
    assert api("POST", "/routes/test", json=tried, who="viewer").json()["matched"] is True


def test_a_pattern_is_tried_on_history_page_by_page_and_against_a_route(api, monkeypatch):
    made(api, "/routes", ROUTE | {"pattern": {"tags": {"plan": ["pro", "free"]}}})
    plans = ["pro", "free", "ent", "ent", "pro"]
    ids = stored_events(api, *({**DOCUMENT, "tags": {"plan": plan}} for plan in plans))
    tried = {"pattern": {"tags": {"plan": ["ent", "pro"]}}, "since": "1h", "against": "crm/contacts"}
    whole = api("POST", "/routes/test", json=tried, who="viewer").json()["history"]
    counts = ("looked_at", "matched", "gained", "lost", "unchanged")
    assert [whole[name] for name in counts] == [5, 4, 2, 1, 2]
    assert (whole["complete"], whole["next_cursor"]) == (True, None)
    assert {sample["sample"] for sample in whole["samples"]} == {"gained", "lost"}
    assert [sample["id"] for sample in whole["samples"] if sample["sample"] == "lost"] == [ids[1]]
    sums, cursor = dict.fromkeys(counts, 0), None
    for _ in range(4):
        part = api("POST", "/routes/test", json=tried | {"limit": 2, "cursor": cursor}).json()["history"]
        sums = {name: sums[name] + part[name] for name in counts}
        cursor = part["next_cursor"]
        if part["complete"]:
            break
    assert sums == {name: whole[name] for name in counts}
    monkeypatch.setattr(dry_runs, "SECONDS", 0.0)
    short = api("POST", "/routes/test", json=tried, who="team").json()["history"]
    assert (short["complete"], short["next_cursor"] is None) == (False, False)
    problem_of(api("POST", "/routes/test", json=tried, who="team-viewer"), 403, "forbidden")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"pattern": CREATED}, "since"),
        ({"pattern": CREATED, "since": "1h", "document": {}}, "since"),
        ({"pattern": CREATED, "document": {}, "against": "x"}, "against"),
        ({"pattern": CREATED, "since": "soon"}, "since"),
        ({"pattern": {"type": "x"}, "document": {}}, "type"),
        ({"pattern": "{", "document": {}}, "pattern"),
    ],
)
def test_what_cannot_be_tried_is_refused_by_the_name_of_its_part(api, given, field):
    body = problem_of(api("POST", "/routes/test", json=given), 422, "invalid_input")
    assert [error["field"] for error in body["errors"]] == [field]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/routes", f'{json.dumps(ROUTE)[:-1]}, "pattern": {{"type": ["a"], "type": ["b"]}}}}', "pattern"),
        ("POST", "/routes", json.dumps(ROUTE).replace('{"type":', '{"type": ["a"], "type":'), "pattern.type"),
        (
            "PATCH",
            "/routes/crm/contacts",
            '{"pattern": {"$or": [{"a": [1]}, {"b": [1], "b": [2]}]}}',
            "pattern.$or[1].b",
        ),
        ("POST", "/routes/test", '{"pattern": {"type": ["a"], "type": ["b"]}, "document": {}}', "pattern.type"),
        (
            "POST",
            "/routes/test",
            '{"pattern": {"type": ["a"]}, "document": {"x": [{"a": 1, "a": 1}]}}',
            "document.x[0].a",
        ),
        ("POST", "/teams", '{"name": "one", "name": "two"}', "name"),
    ],
)
def test_a_key_that_stands_twice_is_refused_in_every_body_by_its_place(api, method, path, body, field):
    made(api, "/routes", ROUTE | {"name": "contacts"})
    before = api.json("/routes"), api.json("/teams")
    told = problem_of(
        api(method, path, content=body, headers={"content-type": "application/json"}), 400, "invalid_request"
    )
    assert [(error["field"], error["rule"]) for error in told["errors"]] == [(field, "repeated")]
    assert told["detail"] == f"{field}: the key stands twice in the same object"
    assert (api.json("/routes"), api.json("/teams")) == before


def test_an_event_that_was_not_routed_cannot_be_explained(api):
    [event] = stored_events(api, DOCUMENT)
    with api.database.write() as session:
        session.execute(update(Event).values(document=None, route_set=None, state="received"))
    problem_of(api.get(f"/events/{event}/explain"), 409, "conflict")
    problem_of(api("POST", "/routes/test", json={"pattern": CREATED, "event": event}), 409, "conflict")


def test_a_caller_that_tries_patterns_takes_no_thread_of_others(api, monkeypatch):
    """Two calls of a team's wait; another team's pattern is tried, and rows are read, meanwhile."""
    go, begun = threading.Event(), []

    def waiting(pattern):
        begun.append(pattern)
        assert go.wait(PATIENCE)
        return compile_pattern(pattern)

    monkeypatch.setattr(
        dry_runs,
        "compile_pattern",
        lambda pattern: waiting(pattern) if pattern == CREATED else compile_pattern(pattern),
    )
    tried = {"pattern": CREATED, "document": DOCUMENT}
    other = {"pattern": {"type": ["other"]}, "document": DOCUMENT}
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(api, "POST", "/routes/test", json=tried, who="team-viewer") for _ in range(4)]
        until("one has begun", lambda: begun)
        assert api("POST", "/routes/test", json=other).json()["matched"] is False
        assert api.json("/routes")["data"] == []
        until("the others wait", lambda: api("POST", "/routes/test", json=other, who="team").status_code == 429)
        problem_of(api("POST", "/routes/test", json=other, who="team"), 429, "too_many_calls")
        assert len(begun) == 1
        go.set()
        assert {call.result(PATIENCE).status_code for call in calls} == {200}


def test_an_explanation_that_takes_long_goes_on_with_another_call(api, monkeypatch):
    for number in range(3):
        made(api, "/routes", {**ROUTE, "name": f"r{number}"})
    [event] = stored_events(api, DOCUMENT)
    monkeypatch.setattr(dry_runs, "SECONDS", -1.0)
    names, cursor = [], ""
    while cursor is not None:
        found = api.json(f"/events/{event}/explain" + (f"?cursor={cursor}" if cursor else ""))
        names += [route["route"] for route in found["routes"]]
        cursor = found["next_cursor"]
    assert names == ["r0", "r1", "r2"]


def test_what_a_pattern_costs_too_much_of_is_refused_with_the_reason(api, monkeypatch):
    monkeypatch.setattr("app.domain.patterns.pattern.Effort", lambda: Effort(1_000))
    monkeypatch.setattr("app.domain.routing.MAX_STEPS", 1_000)
    costly = {"items": [{"prefix": f"p{number}"} for number in range(100)]}
    document = {**DOCUMENT, "items": ["p"] * 1_000}
    answer = api("POST", "/routes/test", json={"pattern": costly, "document": document})
    problem_of(answer, 422, "invalid_input")
    assert "more steps than are allowed" in answer.json()["detail"]
    made(api, "/routes", {**ROUTE, "pattern": costly})
    made(api, "/routes", {**ROUTE, "name": "plain"})
    [event] = stored_events(api, document)
    tried = api("POST", "/routes/test", json={"pattern": costly, "since": "1d"}).json()
    assert (tried["history"]["looked_at"], tried["history"]["undecided"]) == (1, 1)
    explained = api.json(f"/events/{event}/explain")["routes"]
    assert [condition["matched"] for condition in explained] == [False, True]
    assert "more steps than are allowed" in explained[0]["conditions"][0]["actual"]


def test_what_a_pattern_may_ask_for_is_bounded_and_the_place_is_reported(api):
    beyond = {"tags": {"plan": ["x" * 5_000]}}
    for path, body in (
        ("/routes", {**ROUTE, "pattern": beyond}),
        ("/routes/test", {"pattern": beyond, "document": {}}),
    ):
        answer = api("POST", path, json=body)
        problem_of(answer, 422, "invalid_input")
        assert "a string of 5,000 characters" in answer.text
        assert "tags.plan" in answer.text


def test_half_a_megabyte_that_is_asked_is_not_answered_many_times(api):
    """Each condition once showed the whole value: 200 MB of an answer."""
    text = "word " * 100_000
    pattern = {"$or": [{"text": [{"prefix": str(number)}]} for number in range(400)]}
    answer = api("POST", "/routes/test", json={"pattern": pattern, "document": {"text": text}})
    assert answer.json()["matched"] is False
    assert len(answer.content) < 300_000
