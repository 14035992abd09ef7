"""The API's connections over real HTTP, with the sandbox behind them and workers' steps in between."""

import json

import pytest
from sqlalchemy import select

from app.clock import utc_now
from app.db.models import Audit, Connection
from app.domain.access import Scope
from app.runtime.wiring import destinations_of, policy_of, routes_of
from app.services.definitions import config_sync
from app.services.events.processor import Processor
from app.services.nango_clients import NangoClients
from tests.integration.api.api_client import issue, open_api, problem_of
from tests.integration.sandbox.sandbox_server import API_KEY, SIGNING_KEY, control, fetch, register
from tests.integration.world import DANA, OMAR, TOKEN, auth, dump

CONFIG = """
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"
[teams.ops.destinations.jobs]
kind = "celery"
queue = "team.ops.jobs"
[[routes]]
name = "all"
team = "ops"
destination = "jobs"
job = "ops.all"
pattern = '{"type": [{"prefix": "connection."}]}'
[[routes]]
name = "pro"
team = "crm"
destination = "jobs"
job = "crm.pro"
pattern = '{"type": ["connection.created"], "tags": {"plan": ["pro"]}}'
"""


class Waylink:
    """The API, and a worker that works when a test calls it."""

    def __init__(self, api, nango):
        self.api, self.nango = api, nango
        settings = api.web.settings
        self.clients = NangoClients(settings.environments)
        with api.database.write() as session:
            routes, destinations = routes_of(settings.file), destinations_of(settings.file)
            config_sync.apply_file(session, destinations=destinations, routes=routes, now=utc_now())
        self.processor = Processor(api.database, policy_of(settings), self.clients, utc_now)

    def connect(self, connection_id, integration="oauth2", **tags):
        """A connection that was made at Nango and announced by its webhook; our id of it."""
        register(self.nango, connection_id, integration, tags=tags)
        body = auth(connection_id=connection_id, integration=integration, tags=tags)
        assert self.api.web.post(body, key=SIGNING_KEY).status_code == 202
        self.work()
        [row] = self.api.json(f"/connections?integration={integration}&connection_id={connection_id}")["data"]
        return row["id"]

    def work(self):
        self.processor.process()


@pytest.fixture(params=["sqlite", "postgresql"])
def waylink(request, broker_url, tmp_path, base_url, nango):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    keys = {
        "WAYLINK_NANGO_API_KEY": API_KEY,
        "WAYLINK_NANGO_SIGNING_KEYS": SIGNING_KEY,
        "WAYLINK_NANGO_BASE_URL": base_url,
    }
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path, config=CONFIG, **keys) as api:
        made = Waylink(api, nango)
        yield made
        made.clients.close()


@pytest.fixture
def con(waylink, connection_id):
    return waylink.connect(connection_id, **DANA)


API_SECRET = "canary-of-an-import"


def ids(answer):
    return [row["connection_id"] for row in answer["data"]]


def test_connections_are_found_by_everything_they_are_asked_for(waylink, connection_id):
    oldest, middle, newest = (f"{connection_id}-{n}" for n in range(3))
    waylink.connect(oldest, **DANA, plan="pro")
    waylink.connect(middle, "apikey", **OMAR, plan="pro", region="eu")
    waylink.connect(newest, plan="free", quoted="a\"b'c")
    api = waylink.api
    assert ids(api.json("/connections")) == [newest, middle, oldest]
    for query, wanted in (
        ("integration=apikey", [middle]),
        ("tags[plan]=pro", [middle, oldest]),
        ("tags[PLAN]=pro&tags[region]=eu", [middle]),
        ("tags%5Bplan%5D=PRO", []),
        ("tags[quoted]=a%22b'c", [newest]),
        ("user=usr_1042", [oldest]),
        ("organization=org_88", [middle]),
        ("unlinked=true", [newest]),
        ("needs_reconnect=true", []),
        ("status=active&limit=500", [newest, middle, oldest]),
        ("drift=true", []),
        ("environment=other", []),
        (f"connection_id={middle}&integration=oauth2", []),
    ):
        assert ids(api.json(f"/connections?{query}")) == wanted, query
    problem_of(api.get("/connections?status=odd"), 400, "invalid_request")
    refused = problem_of(api.get("/connections?tags[1]=x"), 422, "invalid_tags")
    assert refused["errors"][0]["rule"] == "invalid_key"
    first = api.json("/connections?limit=2")
    assert ids(first) == [newest, middle]
    assert ids(api.json(f"/connections?limit=2&cursor={first['next_cursor']}")) == [oldest]


def test_one_connection_is_shown_with_its_links_and_no_credentials(waylink, con, connection_id):
    shown = waylink.api.json(f"/connections/{con}", who="viewer")
    assert (shown["connection_id"], shown["user"], shown["status"]) == (connection_id, "usr_1042", "active")
    assert [link["closed_at"] for link in shown["links"]] == [None]
    assert "credentials" not in shown
    problem_of(waylink.api.get("/connections/con_" + "0" * 32), 404, "not_found")
    problem_of(waylink.api.get("/connections/nonsense"), 404, "not_found")


def test_credentials_need_their_scope_are_not_cached_and_are_audited(waylink, con, caplog):
    api = waylink.api
    for who in ("viewer", "operator", "team"):
        problem_of(api.get(f"/connections/{con}/credentials", who=who), 403, "forbidden")
    answer = api.get(f"/connections/{con}/credentials?refresh_token=true", who="credentials")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()["credentials"]
    assert found["type"] == "OAUTH2"
    assert TOKEN.fullmatch(found["access_token"])
    assert TOKEN.fullmatch(found["refresh_token"])
    [act] = api.json("/audit?action=credentials.read")["data"]
    assert (act["actor"], act["subject"], act["outcome"]) == ("token:credentials", con, "done")
    held = dump(api.database) + caplog.text + json.dumps(api.json(f"/connections/{con}"))
    assert TOKEN.findall(held) == []


def test_tags_are_edited_one_by_one_and_the_record_follows(waylink, con, connection_id):
    api = waylink.api
    answer = api("PUT", f"/connections/{con}/tags/Plan", json={"value": "pro"})
    assert answer.json() == {"tags": {**DANA, "plan": "pro"}, "changed": True, "changed_elsewhere": False}
    assert api("PUT", f"/connections/{con}/tags/a/b.c", json={"value": "x"}).json()["tags"]["a/b.c"] == "x"
    assert api("PUT", f"/connections/{con}/tags/d%2Fe", json={"value": "x"}).json()["tags"]["d/e"] == "x"
    for key in ("a%2Fb.c", "d/e", "gone"):
        assert api("DELETE", f"/connections/{con}/tags/{key}").status_code == 200
    assert api("PUT", f"/connections/{con}/tags", json={"tags": OMAR}).json()["changed"]
    waylink.work()
    shown = api.json(f"/connections/{con}")
    assert (shown["tags"], shown["user"]) == (OMAR, "usr_2001")
    assert fetch(waylink.nango, connection_id, "oauth2").json()["tags"] == OMAR
    events = api.json(f"/events?type=connection.tags_changed&connection_id={connection_id}&origin=operator")
    assert {row["state"] for row in events["data"]} == {"processed"}
    expected = {"tags": {}, "expected": DANA}
    refused = problem_of(api("PUT", f"/connections/{con}/tags", json=expected), 409, "conflict")
    assert refused["found"] == {"tags": OMAR}


def test_bad_tags_are_refused_with_an_entry_per_rule_and_without_their_values(waylink, con):
    body = {"tags": {"1": "x", "long": "Sesame" * 50, "ok": "fine"}}
    refused = problem_of(waylink.api("PUT", f"/connections/{con}/tags", json=body), 422, "invalid_tags")
    assert [(error["field"], error["rule"]) for error in refused["errors"]] == [
        ("tags.1", "invalid_key"),
        ("tags.long", "value_too_long"),
    ]
    assert "300" in refused["errors"][1]["detail"]
    assert "Sesame" not in json.dumps(refused)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b"\xff", 400, None),
        (b"[" * 100_000, 400, None),
        (b"{}", 400, "tags"),
        (b'{"tags": {"a": 1}}', 400, "tags[...]"),
        (b'{"tags": {}, "tag": {}}', 400, "tag"),
        (b'{"tags": {"a": "\\u0000"}}', 422, "tags.a"),
        (b'{"tags": {"a": "\\ud800"}}', 400, None),
        (b" " * (1024 * 1024 + 1), 413, None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_that_is_not_understood_is_refused_by_the_name_of_its_part(waylink, con, body, status, field):
    headers = {"content-type": "application/json"}
    answer = waylink.api("PUT", f"/connections/{con}/tags", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    if field is not None:
        assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("value", "place", "why"),
    [
        (b'{"tags": {"a": "\\ud800"}}', "body.tags.a", "lone surrogate"),
        (b'{"tags": {"a": NaN}}', "body.tags.a", "JSON cannot carry"),
    ],
)
def test_what_json_readers_disagree_about_is_named_with_its_place(waylink, con, value, place, why):
    headers = {"content-type": "application/json"}
    refused = problem_of(
        waylink.api("PUT", f"/connections/{con}/tags", content=value, headers=headers), 400, "invalid_request"
    )
    assert place in refused["detail"]
    assert why in refused["detail"]


@pytest.mark.parametrize("declared", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(waylink, con, declared):
    headers = {"content-type": declared}
    answer = waylink.api("PUT", f"/connections/{con}/tags", content=b'{"tags": {}}', headers=headers)
    problem_of(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("part", ["tags", "metadata"])
@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[]", b'{"%s": null}'], ids=repr)
def test_nothing_said_is_not_an_empty_set(waylink, con, part, body):
    """Promise 14: `{}` as the member's value clears it, and only that."""
    api, path = waylink.api, f"/connections/{con}"
    assert api("PUT", f"{path}/metadata", json={"metadata": {"a": 1}}).status_code == 204
    content = body.replace(b"%s", part.encode())
    answer = api("PUT", f"{path}/{part}", content=content, headers={"content-type": "application/json"})
    problem_of(answer, 400, "invalid_request")
    assert api.json(f"{path}/metadata") == {"metadata": {"a": 1}}
    assert api.json(path)["tags"] == DANA
    key = api("DELETE", f"{path}/tags/")
    assert key.status_code in {404, 405, 422}
    assert api("PUT", f"{path}/{part}", json={part: {}}).status_code in {200, 204}


def test_metadata_is_replaced_merged_and_read(waylink, con):
    api, path = waylink.api, f"/connections/{con}/metadata"
    assert api("PUT", path, json={"metadata": {"a": 1, "b": {"c": 2}}}).status_code == 204
    assert api("PATCH", path, json={"metadata": {"b": None}}).status_code == 204
    assert api.json(path, who="viewer") == {"metadata": {"a": 1, "b": None}}
    assert api("PUT", path, json={"metadata": {}}, who="viewer").status_code == 403
    problem_of(api("PUT", path, json={"metadata": {"a": "\0"}}), 422, "invalid_input")


def test_sessions_are_opened_for_new_connections_and_for_known_ones(waylink, con):
    api = waylink.api
    body = {"user": {"id": "usr_1042", "email": "dana@acme.example"}, "organization": {"id": "org_77"}}
    made = api("POST", "/connect-sessions", json=body | {"allowed_integrations": ["oauth2"]})
    assert made.status_code == 201
    assert made.json()["tags"] == {**DANA, "end_user_email": "dana@acme.example"}
    assert made.json()["connect_link"].endswith(made.json()["token"])
    again = api("POST", f"/connections/{con}/reconnect-sessions", json={})
    assert (again.status_code, again.json()["tags"]) == (201, DANA)
    both = body | {"tags": {"end_user_id": "x"}}
    refused = problem_of(api("POST", "/connect-sessions", json=both), 422, "invalid_input")
    assert [error["field"] for error in refused["errors"]] == ["tags.end_user_id"]
    body["allowed_integrations"] = ["none"]
    problem_of(api("POST", "/connect-sessions", json=body), 404, "nango_unknown_integration")
    assert made.json()["token"] not in dump(api.database)


def test_a_deletion_is_nangos_and_ours(waylink, con, connection_id):
    api = waylink.api
    assert api("DELETE", f"/connections/{con}", who="viewer").status_code == 403
    assert api("DELETE", f"/connections/{con}").json() == {"id": con, "deleted": True, "was_gone": False}
    waylink.work()
    assert api.json(f"/connections/{con}")["status"] == "deleted"
    assert fetch(waylink.nango, connection_id, "oauth2").status_code == 404
    refused = problem_of(api("DELETE", f"/connections/{con}"), 409, "conflict")
    assert refused["found"] == {"status": "deleted"}
    for path in ("credentials", "metadata"):
        problem_of(api.get(f"/connections/{con}/{path}", who="everything"), 409, "conflict")
    problem_of(api("DELETE", f"/connections/{con}/tags/1bad"), 422, "invalid_tags")


def test_a_refresh_is_forced_and_what_stands_in_its_way_is_named(waylink, con, connection_id):
    api, nango = waylink.api, waylink.nango
    control(nango, connection_id, "oauth2", expires_in=600)
    first = api("POST", f"/connections/{con}/refresh").json()
    assert first["outcome"] == "first_seen"
    second = api("POST", f"/connections/{con}/refresh").json()
    assert second["outcome"] == "renewed"
    listed = [refresh for refresh in api.json("/refreshes")["data"] if refresh["requested_by"]]
    assert [(refresh["outcome"], refresh["previous_expires_at"], refresh["expires_at"]) for refresh in listed] == [
        ("renewed", first["expires_at"], second["expires_at"]),
        ("first_seen", None, first["expires_at"]),
    ]
    assert {(refresh["requested_by"], refresh["reason"], refresh["forced"]) for refresh in listed} == {
        ("token:operator", "a refresh was asked for", True)
    }
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": connection_id}).raise_for_status()
    problem_of(api("POST", f"/connections/{con}/refresh"), 424, "refresh_failed")
    waits = api.get(f"/connections/{con}/credentials", who="credentials")
    problem_of(waits, 424, "refresh_backing_off")
    assert waits.headers["retry-after"] == "30"
    nango.delete("/sandbox/faults").raise_for_status()
    control(nango, connection_id, "oauth2", exhausted=True)
    gone = problem_of(api.get(f"/connections/{con}/credentials", who="credentials"), 424, "refresh_exhausted")
    assert "reconnect" in gone["title"]


def test_nangos_rate_limit_is_not_the_callers(waylink, con):
    waylink.nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 1}).raise_for_status()
    api = waylink.api
    answers = [api.get(f"/connections/{con}/metadata") for _ in range(3)]
    refused = next(answer for answer in answers if answer.status_code != 200)
    problem_of(refused, 503, "nango_rate_limited")
    assert int(refused.headers["retry-after"]) >= 1


def test_a_team_sees_its_own_events_and_jobs_and_nothing_else(waylink, connection_id):
    api = waylink.api
    first, second = f"{connection_id}-1", f"{connection_id}-2"
    waylink.connect(first, **DANA, plan="pro")
    waylink.connect(second, **OMAR, plan="free")
    api.secrets["ops"] = issue(api.database, "ops", team="ops")
    [job] = api.json("/jobs", who="team")["data"]
    assert (job["name"], job["team"]) == ("crm.pro", "crm")
    [event] = api.json("/events", who="team")["data"]
    assert (event["id"], event["connection_id"]) == (job["event_id"], first)
    shown = api.json(f"/events/{event['id']}", who="team")
    assert [row["team"] for row in shown["jobs"]] == ["crm"]
    assert [row["route"] for row in shown["decisions"]] == ["pro"]
    assert shown["body"] is None
    assert shown["document"]["connection_id"] == first
    assert len(api.json("/jobs", who="ops")["data"]) > 1
    assert api.json("/jobs?team=ops", who="team")["data"] == []
    others = next(row for row in api.json("/jobs")["data"] if row["team"] == "ops")
    problem_of(api.get(f"/jobs/{others['id']}", who="team"), 404, "not_found")
    [foreign] = api.json(f"/events?connection_id={second}&type=connection.created")["data"]
    problem_of(api.get(f"/events/{foreign['id']}", who="team"), 404, "not_found")
    assert api.json(f"/jobs/{job['id']}", who="team")["attempt_log"] == []
    for path in ("/connections", "/refreshes", "/audit"):
        problem_of(api.get(path, who="team"), 403, "forbidden")


def test_planned_refreshes_are_listed(waylink, con):
    [row] = waylink.api.json("/refreshes?state=open")["data"]
    assert (row["connection"], row["finished_at"]) == (con, None)
    assert waylink.api.json("/refreshes?state=finished")["data"] == []


def test_an_environment_without_an_api_key_says_so(broker_url, tmp_path):
    url = f"sqlite:///{tmp_path}/waylink.db"
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as api:
        refused = problem_of(api("POST", "/connect-sessions", json={"tags": {}}), 409, "conflict")
        assert "API key" in refused["detail"]


def test_no_secret_is_in_the_audit_the_database_or_an_error(waylink, con, connection_id, caplog):
    api = waylink.api
    secrets = dict(api.secrets)
    for method, path, body in (
        ("GET", f"/connections/{con}/credentials?force_refresh=true&refresh_token=true", None),
        ("POST", f"/connections/{con}/refresh", None),
        ("POST", f"/connections/{con}/reconnect-sessions", {}),
        ("PUT", f"/connections/{con}/metadata", {"metadata": {"k": "canary-metadata"}}),
        ("PUT", f"/connections/{con}/tags/k", {"value": "canary\0tag"}),
        ("GET", "/connections?tags[k]=canary%00", None),
    ):
        api(method, path, who="everything", json=body)
    issue(api.database, "another", Scope.CREDENTIALS)
    with api.database.read() as session:
        acts = [repr((entry.actor, entry.subject, entry.detail)) for entry in session.scalars(select(Audit))]
        assert session.scalar(select(Connection.expires_at).where(Connection.connection_id == connection_id))
    held = dump(api.database) + caplog.text + "".join(acts)
    assert TOKEN.findall(held) == []
    for secret in (*secrets.values(), "nango_connect_session_", "canary"):
        assert secret not in held


def test_a_drift_is_shown_with_its_tags_and_ended_by_one_call(waylink, nango, connection_id):
    api, con_id = waylink.api, waylink.connect(connection_id, **DANA)
    register(nango, connection_id, "oauth2", tags={})
    assert api.web.post(auth("override", connection_id=connection_id, tags={}), key=SIGNING_KEY).status_code == 202
    waylink.work()
    shown = api.json(f"/connections/{con_id}")
    assert (shown["drift"], shown["known_tags"], shown["siblings"]) == ("tags_wiped", DANA, [])
    assert api.json("/connections?duplicates=true")["data"] == []
    assert api("POST", f"/connections/{con_id}/restore-tags").json()["tags"] == DANA
    waylink.work()
    assert api.json(f"/connections/{con_id}")["drift"] is None
    assert api("POST", f"/connections/{con_id}/restore-tags").status_code == 409


def test_an_import_makes_links_and_routes_a_connection_once(waylink):
    waylink.api("POST", "/users", json={"external_id": "usr_1042"})
    body = {
        "integration": "apikey",
        "connection_id": "imported-1",
        "credentials": {"type": "API_KEY", "apiKey": API_SECRET},
        "tags": {"plan": "pro"},
        "user": {"id": "usr_1042"},
        "metadata": {"region": "eu"},
    }
    made = waylink.api("POST", "/connections/import", json=body)
    assert made.status_code == 201, made.text
    assert made.json() == {
        "environment": "default",
        "integration": "apikey",
        "connection_id": "imported-1",
        "provider": made.json()["provider"],
        "tags": {"plan": "pro", "end_user_id": "usr_1042"},
    }
    waylink.work()
    [row] = waylink.api.json("/connections?connection_id=imported-1")["data"]
    assert row["user"] == "usr_1042"
    assert waylink.api.json(f"/connections/{row['id']}/metadata") == {"metadata": {"region": "eu"}}
    # Nango announces it by a webhook, too, which is about the same generation.
    assert (
        waylink.api.web.post(
            auth(connection_id="imported-1", integration="apikey", tags=made.json()["tags"]), key=SIGNING_KEY
        ).status_code
        == 202
    )
    waylink.work()
    jobs = waylink.api.json("/jobs")["data"]
    types = {event["id"]: event["type"] for event in waylink.api.json("/events")["data"]}
    routed = sorted(job["route"] for job in jobs if types[job["event_id"]] == "connection.created")
    assert routed == ["all", "pro"]
    [entry] = waylink.api.json("/audit?action=connection.imported")["data"]
    assert (entry["outcome"], entry["detail"]["connection_id"]) == ("done", "imported-1")
    assert API_SECRET not in dump(waylink.api.database)


def test_credentials_that_an_import_cannot_use_are_told_and_kept_nowhere(waylink):
    wrong = {"integration": "apikey", "credentials": {"type": "OAUTH2", "access_token": API_SECRET}}
    refused = problem_of(waylink.api("POST", "/connections/import", json=wrong), 422, "nango_invalid_request")
    assert API_SECRET not in json.dumps(refused)
    unknown = {"integration": "nothing", "credentials": {"type": "API_KEY", "apiKey": API_SECRET}}
    problem_of(waylink.api("POST", "/connections/import", json=unknown), 404, "nango_unknown_integration")
    tags = {"integration": "apikey", "credentials": {"type": "API_KEY", "apiKey": API_SECRET}, "tags": {"1bad": "x"}}
    problem_of(waylink.api("POST", "/connections/import", json=tags), 422, "invalid_tags")
    assert waylink.api.json("/connections")["data"] == []
    assert API_SECRET not in dump(waylink.api.database)


def test_integrations_are_nangos_and_providers_those_of_the_catalogue(waylink):
    found = {row["integration"]: row["provider"] for row in waylink.api.json("/integrations", who="viewer")["data"]}
    assert {"oauth2", "apikey"} <= found.keys()
    problem_of(waylink.api.get("/integrations?environment=nowhere"), 404, "not_found")
    lives = {name: row for row in waylink.api.json("/providers", who="viewer")["data"] for name in row["names"]}
    assert lives["salesforce"]["idle_limit"] == "30d"
    assert lives["salesforce"]["source"].startswith("https://")


def test_a_link_is_explained_closed_and_decided_anew(waylink, con):
    api = waylink.api
    assert api.json(f"/connections/{con}/explain", who="viewer")["cause"] == "linked"
    problem_of(api("POST", f"/connections/{con}/unlink", json={}, who="viewer"), 403, "forbidden")
    answer = api("POST", f"/connections/{con}/unlink", json={"reason": "they asked"}).json()
    assert (answer["linked"], answer["cause"]) == (False, "by_operator")
    assert answer["repairs"] == [f"Link it to the owner that its tags name: `waylink connections relink {con}`."]
    problem_of(api("POST", f"/connections/{con}/unlink", json={}), 409, "conflict")
    assert api.json("/audit?action=connection.unlinked")["data"][0]["detail"] == {"reason": "they asked"}
    done = api("POST", f"/connections/{con}/relink").json()
    assert done == {"connection": con, "linked": True, "changed": True, "reason": None, "asked": False}
    assert api.json(f"/connections/{con}")["user"] == "usr_1042"
    problem_of(api.get("/connections/nonsense/explain"), 404, "not_found")
