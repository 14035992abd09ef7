"""`waylink routes` and `waylink destinations`: plan, apply, explain, test; answers by exit code."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from app.db.engine import connect
from app.db.models import Event, RouteVersion
from app.ids import EVENT, first_id, show
from tests.integration.cli.test_cli import Command, one_line_error

FILE = """
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"

[[routes]]
name = "contacts"
team = "crm"
destination = "jobs"
job = "crm.contacts"
pattern = '{"type": ["connection.created"], "tags": {"plan": ["pro"]}}'
"""
DOCUMENT = {"type": "connection.created", "integration": "github", "connection_id": "c-1", "tags": {"plan": "free"}}


@pytest.fixture
def waylink(tmp_path) -> Command:
    command = Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": "key"})
    (tmp_path / "waylink.toml").write_text(FILE)
    assert command.inside("migrate").returncode == 0
    return command


@pytest.fixture
def event(waylink: Command) -> str:
    """A routed event, stored a minute ago."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    with closing(connect(waylink.database_url)) as database, database.write() as session:
        event = Event(
            id=first_id(at), environment="default", origin="webhook", state="processed", type=DOCUMENT["type"],
            received_at=at, last_seen_at=at, duplicates=0, body=b"{}", next_at=at, attempts=0, looks=0,
            document=DOCUMENT, route_set=1,
        )  # fmt: skip
        session.add(event)
        return show(EVENT, event.id)


def test_a_plan_shows_what_would_change_and_changes_nothing_until_it_is_applied(waylink: Command) -> None:
    assert waylink.json("routes", "plan") == []
    (waylink.folder / "waylink.toml").write_text(
        FILE.replace('"pro"', '"ent"').replace("team.crm.jobs", "team.crm.others")
        + FILE.replace('"contacts"', '"more"').partition("[[routes]]")[2].join(["\n[[routes]]", ""])
    )
    for _ in range(2):
        planned = waylink.json("routes", "plan")
        assert [(change["change"], change["kind"], change["name"]) for change in planned] == [
            ("change", "destination", "crm/jobs"),
            ("add", "route", "crm/more"),
            ("change", "route", "crm/contacts"),
        ]
    assert planned[0]["before"], planned[0]["after"] == ({"queue": "team.crm.jobs"}, {"queue": "team.crm.others"})
    assert planned[2]["after"] == {"pattern": {"type": ["connection.created"], "tags": {"plan": ["ent"]}}}
    assert waylink.inside("routes", "plan", "--check").returncode == 1
    assert waylink.json("routes", "apply") == planned
    assert waylink.inside("routes", "plan", "--check").returncode == 0
    act, _first = waylink.json("audit")
    assert act["action"] == "routes.applied"
    assert act["detail"]["routes_added"] == ["crm/more"]


def test_routes_and_destinations_are_listed_with_their_history(waylink: Command) -> None:
    (waylink.folder / "waylink.toml").write_text(FILE.replace('"pro"', '"ent"'))
    waylink.inside("routes", "apply")
    (route,) = waylink.json("routes")
    assert (route["name"], route["version"], route["team"]) == ("contacts", 2, "crm")
    shown = waylink.json("routes", "show", "crm/contacts")
    assert [version["version"] for version in shown["versions"]] == [2, 1]
    assert shown["in_force"] is True
    (waylink.folder / "waylink.toml").write_text("")
    waylink.inside("routes", "apply", "--yes")
    assert waylink.json("routes") == []
    assert waylink.json("routes", "show", "crm/contacts")["in_force"] is False
    (destination,) = waylink.json("destinations")
    assert destination["retired_at"] is not None
    assert waylink.json("routes", "--team", "other") == []
    assert "nobody" in one_line_error(waylink.inside("routes", "show", "crm/nobody"), 1)


def test_an_event_is_explained_route_by_route(waylink: Command, event: str) -> None:
    explained = waylink.json("routes", "explain", event)
    assert explained["by"] == "then"
    (route,) = explained["routes"]
    assert (route["route"], route["matched"]) == ("contacts", False)
    assert {condition["path"]: condition["matched"] for condition in route["conditions"]} == {
        "type": True,
        "tags.plan": False,
    }
    text = waylink.inside("routes", "explain", event).stdout
    assert "matched by 0 of 1 route" in text
    assert 'tags.plan: expected ["pro"], found "free"' in text
    (waylink.folder / "waylink.toml").write_text(FILE.replace('"pro"', '"free"'))
    waylink.inside("routes", "apply")
    assert waylink.json("routes", "explain", event)["routes"][0]["matched"] is False
    assert waylink.json("routes", "explain", event, "--now")["routes"][0]["matched"] is True
    assert waylink.json("routes", "explain", event, "--team", "other")["routes"] == []


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ('{"tags": {"plan": ["free"]}}', 0),
        ('{"tags": {"plan": ["pro"]}}', 1),
        ('{"$or": [{"tags": {"plan": ["free"]}}, {"type": ["x"]}]}', 0),
    ],
)
def test_a_pattern_is_tried_on_a_document_and_the_exit_code_answers(
    waylink: Command, event: str, pattern: str, code: int
) -> None:
    (waylink.folder / "event.json").write_text(json.dumps(DOCUMENT))
    (waylink.folder / "pattern.json").write_text(pattern)
    for given in (pattern, "pattern.json"):
        for document in ("event.json", event):
            done = waylink.inside("routes", "test", given, "--event", document)
            assert done.returncode == code, done.stderr
            assert done.stdout.startswith("matches" if code == 0 else "does not match")
    answer = json.loads(waylink.inside("routes", "test", pattern, "--event", event, "--json").stdout)
    assert answer["matched"] is (code == 0)


def test_a_pattern_is_tried_on_history(waylink: Command, event: str) -> None:
    given = ("routes", "test", '{"tags": {"plan": ["free"]}}', "--since", "1h")
    done = waylink.inside(*given, "--against", "crm/contacts", "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    counts = {name: answer[name] for name in ("looked_at", "matched", "gained", "lost", "unchanged", "complete")}
    assert counts == {"looked_at": 1, "matched": 1, "gained": 1, "lost": 0, "unchanged": 0, "complete": True}
    assert [(sample["sample"], sample["id"]) for sample in answer["samples"]] == [("gained", event)]
    assert "gained" in waylink.inside(*given, "--against", "crm/contacts").stdout
    assert waylink.inside("routes", "test", '{"type": ["x"]}', "--since", "1h").returncode == 1
    assert "stopped after --limit: 1 event" in waylink.inside(*given, "--limit", "1").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["test", '{"type": "x"}', "--since", "1h"], "type: must be a list of values"),
        (["test", '{"type": [', "--since", "1h"], "not JSON"),
        (["test", "nowhere.json", "--since", "1h"], "nowhere.json: cannot be read"),
        (["test", '{"type": ["x"]}', "--event", "nowhere.json"], "nowhere.json: cannot be read"),
        (["test", '{"type": ["x"]}', "--event", "broken.json"], "line 1, column 8"),
        (["test", '{"type": ["x"]}', "--event", "list.json"], "is an object"),
        (["test", '{"type": ["x"]}', "--event", "deep.json"], "beyond all bounds"),
        (["test", '{"type": ["x"]}', "--event", "infinite.json"], "beyond all bounds"),
        (["test", '{"type": ["x"]}', "--event", "twice.json"], "tags.plan: the key stands twice"),
        (["test", '{"type": ["x"]}', "--event", "evt_1"], "not an id"),
        (["explain", "nonsense"], "not an id"),
    ],
)
def test_what_cannot_be_used_is_2_with_the_reason(waylink: Command, arguments: list[str], said: str) -> None:
    (waylink.folder / "broken.json").write_text('{"type"')
    (waylink.folder / "list.json").write_text("[]")
    (waylink.folder / "twice.json").write_text('{"type": "x", "tags": {"plan": "pro", "plan": "free"}}')
    (waylink.folder / "deep.json").write_text("[" * 100_000)
    (waylink.folder / "infinite.json").write_text('{"type": "x", "payload": Infinity}')
    assert said in one_line_error(waylink.inside("routes", *arguments), 2)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--since", "1h", "--event", "x"], ["--event", "x", "--against", "y"], ["--since", "soon"]],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_wrong_use(waylink: Command, arguments: list[str]) -> None:
    done = waylink.inside("routes", "test", '{"type": ["x"]}', *arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr


def test_unknown_events_and_routes_are_1(waylink: Command) -> None:
    unknown = show(EVENT, first_id(datetime.now(UTC)))
    one_line_error(waylink.inside("routes", "explain", unknown), 1)
    one_line_error(waylink.inside("routes", "test", '{"type": ["x"]}', "--since", "1h", "--against", "crm/nobody"), 1)


def test_check_names_routes_whose_pattern_is_beyond_a_limit_or_cannot_be_used(waylink: Command) -> None:
    """An upgrade brings limits, and keeps the routes that are in force."""
    beyond = FILE.replace('"contacts"', '"more"').partition("[[routes]]")[2].replace('"pro"', f'"{"x" * 5_000}"')
    (waylink.folder / "waylink.toml").write_text(f"{FILE}[[routes]]{beyond}")
    assert waylink.inside("routes", "apply", "--yes").returncode == 0
    rows = {row["what"]: row for row in json.loads(waylink("check", "--json").stdout)}
    assert "route crm/contacts" not in rows
    assert rows["route crm/more"]["result"] == "note"
    assert "tags.plan: a string of 5,000 characters" in rows["route crm/more"]["detail"]
    with closing(connect(waylink.database_url)) as database, database.write() as session:
        session.execute(update(RouteVersion).where(RouteVersion.name == "contacts").values(pattern={"type": 1}))
    rows = {row["what"]: row for row in json.loads(waylink("check", "--json").stdout)}
    assert rows["route crm/contacts"]["result"] == "bad"
    assert "cannot be used: type: must be a list" in rows["route crm/contacts"]["detail"]


def test_an_explanation_of_a_long_value_is_a_short_line(waylink: Command) -> None:
    document = waylink.folder / "long.json"
    document.write_text(json.dumps({"text": "word " * 100_000, "type": "x"}))
    pattern = json.dumps({"$or": [{"text": [{"prefix": str(number)}]} for number in range(200)]})
    for options in ([], ["--json"]):
        done = waylink("routes", "test", pattern, "--event", str(document), *options)
        assert done.returncode == 1
        assert len(done.stdout) < 200_000
