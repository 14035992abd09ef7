"""The pages of routes, destinations and teams, and each act on them, without a script."""

import re

import pytest

from app.clock import utc_now
from app.ids import EVENT, show
from app.sealing import new_key
from tests.integration.console.pages import open_console
from tests.integration.status.rows import a_job, add, an_event

PATTERN = '{"type": ["connection.created"], "tags": {"plan": ["pro"]}}'


@pytest.fixture(params=["sqlite", "postgresql"])
def console(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    variables = {"WAYLINK_SECRET_KEY": new_key(), "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8"}
    with open_console(database_url=url, broker_url=broker_url, folder=tmp_path, **variables) as opened:
        api = opened.api
        for name, body in (
            ("jobs", {"kind": "celery", "queue": "team.crm.jobs"}),
            ("hook", {"kind": "http", "url": "http://127.0.0.1:1025/hook"}),
        ):
            assert api("POST", "/destinations", json={"team": "crm", "name": name, **body}).status_code == 201
        yield opened


def route(console, name="pro"):
    return console.api.json(f"/routes/crm/{name}")


def add_route(console, **changes):
    fields = {"team": "crm", "name": "pro", "job": "crm.pro", "destination": "jobs", "pattern": PATTERN}
    return fields | changes


def test_a_route_is_added_changed_disabled_enabled_and_removed(console):
    assert "No route is in force." in console.get("/console/routes").text
    page = console.post("/console/routes/add", status=422, **add_route(console, pattern='{"type": [}'))
    assert "line 1" in page.text
    assert page.fields["name"] == "pro"
    assert "{&#34;type&#34;: [}" in page.html, "what was typed stays"
    page = console.follow(console.post("/console/routes/add", **add_route(console)))
    assert "The route is in force." in page.text
    page = console.get(page.links["pro"])
    assert '"plan"' in page.html.replace("&#34;", '"')
    changed = add_route(console, pattern='{"type": ["connection.deleted"]}', version="1")
    page = console.follow(console.post("/console/routes/crm/pro/change", **changed))
    assert "- &#34;connection.created&#34;" in " ".join(page.html.split())
    assert "+ &#34;connection.deleted&#34;" in " ".join(page.html.split())
    assert (route(console)["version"], route(console)["pattern"]) == (2, {"type": ["connection.deleted"]})
    stale = console.post("/console/routes/crm/pro/change", status=409, **changed)
    assert "version" in stale.text
    for name, enabled in (("disable", False), ("enable", True)):
        assert console.get(f"/console/routes/crm/pro/{name}").buttons
        console.post(f"/console/routes/crm/pro/{name}")
        assert route(console)["enabled"] is enabled
    console.post("/console/routes/crm/pro/remove")
    assert route(console)["until_set"] is not None
    actions = [row["action"] for row in console.api.json("/audit?subject=crm/pro")["data"]]
    assert len(actions) == 5
    assert {row["actor"] for row in console.api.json("/audit?subject=crm/pro")["data"]} == {"operator:operator"}
    page = console.get("/console/routes/crm/pro")
    assert "Enable" not in page.links


def test_a_pattern_is_tried_on_a_pasted_sample(console):
    document = '{"type": "connection.created", "tags": {"plan": "free"}}'
    page = console.post("/console/routes/test", status=200, who="viewer", pattern=PATTERN, document=document)
    assert "It does not match." in page.text
    assert "does not hold tags.plan" in page.text
    page = console.post("/console/routes/test", status=200, pattern=PATTERN, document=document.replace("free", "pro"))
    assert "It matches. 2 conditions" in page.text
    for fields, told in (
        ({"pattern": "{", "document": document}, "line 1"),
        ({"pattern": '{"x": [{"odd": 1}]}', "document": document}, "odd"),
        ({"pattern": PATTERN, "document": "{"}, "line 1"),
        ({"pattern": PATTERN, "document": "[1]"}, ""),
        ({"pattern": PATTERN, "event": "nonsense"}, "nonsense"),
    ):
        page = console.browsers["operator"].post("/console/routes/test", data=fields)
        assert 400 <= page.status_code < 500, fields
        assert told in page.text


def tried_on_history(console, *, who: str = "operator", **fields: str):
    fields = {"pattern": '{"tags": {"trial": ["yes"]}}', **fields}
    return console.post("/console/routes/test", status=200, who=who, **fields)


@pytest.fixture
def tried_events(console) -> list[str]:
    """Three events with a tag of the trial, one of which became a job of crm, and one without the tag."""
    now, ids = utc_now(), []
    for number, tag in enumerate(("yes", "yes", "no", "yes")):
        facts = {"state": "processed", "type": "connection.created", "route_set": 1, "connection_id": f"trial-{number}"}
        document = {"type": "connection.created", "connection_id": f"trial-{number}", "tags": {"trial": tag}}
        event = an_event(now, document=document, processed_at=now, **facts)
        add(console.database, event)
        ids.append(show(EVENT, event.id))
        if number == 0:
            add(console.database, a_job(now, event.id, state="completed", finished_at=now, destination="hook"))
    return ids


def test_a_pattern_is_tried_on_the_newest_events_by_those_who_may_add_a_route(console, tried_events):
    page = tried_on_history(console)
    assert "3 match" in page.text
    assert page.html.count("/console/events/evt_") >= 3
    assert all(f"/console/events/{event}" in page.html for event in tried_events if event != tried_events[2])
    assert "It matches." not in page.text, "no sample was given"
    both = tried_on_history(console, document='{"tags": {"trial": "no"}}')
    assert "It does not match." in both.text
    assert "does not hold tags.trial" in both.text
    assert "3 match" in both.text
    by_viewer = tried_on_history(console, who="viewer", document='{"tags": {"trial": "yes"}}')
    assert "It matches." in by_viewer.text
    assert "looked at" not in by_viewer.text
    console.post("/console/routes/test", who="viewer", status=422, pattern='{"tags": {"trial": ["yes"]}}')


def test_a_team_tries_its_pattern_on_its_own_events_alone(console, tried_events):
    for who in ("team", "portal"):
        page = tried_on_history(console, who=who)
        assert f"/console/events/{tried_events[0]}" in page.html
        assert not any(event in page.html for event in tried_events[1:])
        assert all(other not in page.text for other in ("trial-1", "trial-3"))


def test_a_pattern_that_is_being_typed_says_its_fault_without_a_failed_request(console):
    typed = {"pattern": '{"tags": {"plan": [{"prefx": "a"}]}}'}
    page = console.post("/console/routes/test", status=422, **typed)
    said = re.search(r'(?s)<p id="said" role="status".*?</p>', page.html)[0]
    assert "tags.plan" in said
    assert "prefx" in said
    answer = console.browsers["operator"].post("/console/routes/test", data=typed, headers={"hx-request": "true"})
    assert (answer.status_code, "prefx" in answer.text) == (200, True)
    broken = console.post("/console/routes/test", status=422, pattern='{"type": ["a"]')
    assert "line 1, column" in broken.text
    for path in ("/console/routes/test", "/console/routes/add"):
        html = console.get(path).html
        assert 'hx-trigger="input changed delay:500ms"' in html
        assert '<p id="said" role="status"></p>' in html, "it is there before there is anything to say"


def test_a_trial_looks_at_a_bounded_number_of_events(console, tried_events, monkeypatch):
    monkeypatch.setattr("app.web.console.pattern_trial.NEWEST", 2)
    assert "Of 2 stored events looked at, 1 matches" in tried_on_history(console).text


def test_a_destination_is_disabled_with_a_reason_enabled_slowed_and_its_secret_rotated(console):
    page = console.get("/console/destinations", who="viewer")
    page = console.get(page.links["hook"], who="viewer")
    assert not {"Disable", "Rotate the secret", "Change the rate"} & page.links.keys()
    path = "/console/destinations/crm/hook"

    def stored():
        return console.api.json("/destinations/crm/hook")

    console.post(f"{path}/disable", reason="they moved")
    assert stored()["disabled_reason"] == "they moved"
    page = console.get(path)
    assert "disabled" in page.text
    assert "they moved" in page.text
    console.post(f"{path}/enable")
    assert stored()["disabled_at"] is None
    page = console.post(f"{path}/rate", status=422, rate_per_second="fast")
    assert "is not a number" in page.text
    for text, rate in (("0.5", 0.5), ("", None)):
        console.post(f"{path}/rate", rate_per_second=text)
        assert stored()["rate_per_second"] == rate
    page = console.post(f"{path}/rotate", status=200, overlap="1h")
    [secret] = [value for value in page.html.split('"') if value.startswith("whsec_")]
    assert secret not in console.get(path).html
    assert len(console.api.json("/destinations/crm/hook/secrets")["data"]) == 2
    page = console.post(f"{path}/rotate", status=422, overlap="soon")
    assert page.fields["overlap"] == "soon"
    console.post("/console/destinations/crm/jobs/remove")
    assert console.api.json("/destinations/crm/jobs")["retired_at"]
    assert "jobs" not in console.get("/console/destinations").links


def test_an_http_destination_is_added_by_a_form_and_its_secret_shown_once(console):
    page = console.get("/console/destinations")
    path = page.links["Add an HTTP endpoint"]
    assert "Add an HTTP endpoint" not in console.get("/console/destinations", who="viewer").links
    fields = {"team": "crm", "name": "orders", "url": "http://127.0.0.1:1025/orders", "rate_per_second": "2.5"}
    for wrong, field, told in (
        ({"url": "ftp://127.0.0.1/x"}, "url", "http"),
        ({"name": "Not A Name"}, "name", "lower-case"),
        ({"team": "absent"}, "team", "add it first"),
        ({"team": ""}, "team", "is missing"),
        ({"timeout_seconds": "9000"}, "timeout_seconds", "takes 1 to 30 seconds"),
        ({"rate_per_second": "nan"}, "rate_per_second", "is not a number"),
    ):
        page = console.post(path, status=422, **(fields | wrong))
        assert page.attributes[field].get("aria-describedby", "").startswith(f"{field}-problem"), wrong
        assert told in page.text, wrong
        assert page.fields["name"] == (fields | wrong)["name"], "what was typed stays"
    assert not [row for row in console.api.json("/destinations")["data"] if row["name"] == "orders"]
    page = console.post(path, status=200, **fields)
    [secret] = [value for value in page.html.split('"') if value.startswith("whsec_")]
    stored = console.api.json("/destinations/crm/orders")
    assert (stored["kind"], stored["url"], stored["rate_per_second"]) == ("http", fields["url"], 2.5)
    assert secret not in console.get("/console/destinations/crm/orders").html
    console.post(path, status=409, **fields)
    console.post(path, who="viewer", status=403, **fields)


def test_a_celery_destination_is_added_by_a_form_and_a_team_adds_its_own(console):
    path = console.get("/console/destinations").links["Add a Celery queue"]
    page = console.post(path, status=422, team="crm", name="more", queue="elsewhere")
    assert "team.crm." in page.text
    page = console.post(path, status=422, team="crm", name="more", queue="team.crm.x", broker_url="redis://10.0.0.1/0")
    assert page.fields["broker_url"] == "", "a secret does not come back"
    page = console.follow(console.post(path, team="crm", name="more", queue="team.crm.more"))
    assert "The destination is there" in page.text
    assert console.api.json("/destinations/crm/more")["queue"] == "team.crm.more"
    page = console.get(path, who="team")
    assert page.fields["team"] == "crm"
    assert "broker_url" not in page.fields
    console.post(path, who="team", team="crm", name="ours", queue="team.crm.ours")
    assert console.api.json("/audit?subject=crm/ours")["data"][0]["actor"] == "operator:team"
    page = console.post(path, who="team", status=422, team="erp", name="ours", queue="team.erp.ours")
    assert "of the team crm only" in page.text


def test_a_team_of_any_name_has_its_page(console):
    for name in ("add", "http", "celery"):
        console.post("/console/teams/-/add", name=name)
        page = console.get(f"/console/teams/{name}")
        assert page.links["Remove"] == f"/console/teams/{name}/remove"
    console.post("/console/destinations/-/celery", team="add", name="http", queue="team.add.http")
    assert "Disable" in console.get("/console/destinations/add/http").links


def test_teams_are_added_and_removed(console):
    console.post("/console/teams/-/add", status=422, name="Not A Name")
    page = console.follow(console.post("/console/teams/-/add", name="erp"))
    page = console.get(page.links["erp"])
    console.post("/console/teams/erp/remove")
    assert "erp" not in console.get("/console/teams").links
    console.post("/console/teams/crm/remove", status=409)


def test_a_team_sees_and_changes_its_own_alone(console):
    for body in ({"name": "erp"},):
        assert console.api("POST", "/teams", json=body).status_code == 201
    erp = {"team": "erp", "name": "jobs", "kind": "celery", "queue": "team.erp.jobs"}
    assert console.api("POST", "/destinations", json=erp).status_code == 201
    page = console.get("/console/destinations", who="team")
    assert "hook" in page.links
    assert "erp" not in page.text
    console.get("/console/destinations/erp/jobs", who="team", status=404)
    console.post("/console/destinations/erp/jobs/disable", who="team", status=404, reason="x")
    console.post("/console/destinations/crm/jobs/disable", who="team", reason="ours")
    assert console.api.json("/destinations/crm/jobs")["disabled_at"]
    console.post("/console/routes/add", who="team", **add_route(console))
    assert route(console)["job"] == "crm.pro"
    console.post("/console/routes/add", who="viewer", status=403, **add_route(console))
    console.get("/console/teams/-/add", who="team", status=403)
