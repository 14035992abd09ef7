"""The pages of people, refreshes, comparisons, audit, settings, tokens and operators, and each act on them."""

from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db.models import Connection, Refresh
from app.ids import CONNECTION, REFRESH, new_id, show
from app.web.console.record_pages import page_of
from tests.integration.console.pages import open_console
from tests.integration.operators import visitors

KEY = "wl-key-of-this-test"


@pytest.fixture(params=["sqlite", "postgresql"])
def console(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    keys = {"WAYLINK_NANGO_API_KEY": KEY, "WAYLINK_NANGO_BASE_URL": "http://127.0.0.1:1"}
    with open_console(database_url=url, broker_url=broker_url, folder=tmp_path, **keys) as opened:
        yield opened


def connection(console):
    now = utc_now()
    row = Connection(
        id=new_id(),
        environment="default",
        integration="google/mail",
        connection_id="c-1",
        status="active",
        tags={"end_user_id": "usr_9"},
        wanted_user="usr_9",
        unlinked_reason="unknown_user",
        tags_disagree=False,
        absences=0,
        created_at=now,
        updated_at=now,
    )
    with console.database.write() as session:
        session.add(row)
    return row.id


def test_a_user_is_added_changed_and_removed_and_waiting_connections_are_linked(console):
    connection(console)
    page = console.follow(console.post("/console/organizations/add", external_id="org_1", name="Acme"))
    assert "It is added, and 0 connections linked to it." in page.text
    page = console.post("/console/users/add", status=422, external_id="usr_9", email="no mail", organization="org_1")
    assert page.fields["email"] == "no mail"
    assert "that Nango takes" in page.text
    page = console.post("/console/users/add", status=422, external_id="usr_9", organization="org_2")
    assert "names none that is here" in page.text
    page = console.follow(
        console.post("/console/users/add", external_id="usr_9", email="d@acme.example", organization="org_1")
    )
    assert "It is added, and 1 connection linked to it." in page.text
    path = page.links["usr_9"]
    page = console.get(path, who="viewer")
    assert "c-1" in page.links
    assert "Change" not in page.links
    fields = console.get(f"{path}/change").fields
    assert fields["email"] == "d@acme.example"
    again = {name: fields[name] for name in ("external_id", "email", "display_name", "organization", "updated_at")}
    console.post(f"{path}/change", **again | {"display_name": "Dana", "email": ""})
    stored = console.api.json(f"/users/{path.rpartition('/')[2]}")
    assert (stored["display_name"], stored["email"], stored["organization"]) == ("Dana", None, "org_1")
    stale = console.post(f"{path}/change", status=409, **again)
    assert "was changed at" in stale.text
    page = console.post(f"{path}/remove", status=409)
    assert "Not done." in page.text
    page = console.follow(console.post(f"{path}/remove", force="true"))
    assert "It is removed, and 1 link closed." in page.text
    assert console.api.json("/users")["data"] == []
    assert "usr_9" in console.get("/console/users", removed="true").links
    [organization] = console.api.json("/organizations")["data"]
    console.post(f"/console/organizations/{organization['id']}/remove")
    assert console.api.json("/organizations")["data"] == []
    actors = {row["actor"] for row in console.api.json("/audit")["data"] if row["action"].startswith("user.")}
    assert actors == {"operator:operator"}


def test_integrations_are_paused_with_a_reason_and_resumed(console):
    connection(console)
    assert "No integration is paused." in console.get("/console/refreshes/pauses", who="viewer").text
    page = console.post("/console/refreshes/pauses/add", status=422, integration="nonsense", environment="nowhere")
    page = console.follow(
        console.post("/console/refreshes/pauses/add", integration="google/mail", environment="default", reason="outage")
    )
    assert "outage" in page.text
    assert "paused by operator:operator" in console.get(page.links["google/mail"]).text
    console.post("/console/refreshes/pauses/add", status=409, integration="google/mail", environment="default")
    page = console.follow(console.post(page.links["google/mail"]))
    assert "are resumed" in page.text
    assert console.api.json("/refreshes/pauses")["data"] == []


def test_refreshes_forecast_and_catalogue_are_shown(console):
    ref, now = connection(console), utc_now()
    plan = Refresh(
        id=new_id(),
        connection_ref=ref,
        refresh_at=now + timedelta(hours=1),
        next_at=now + timedelta(hours=1),
        reason="its token expires",
        forced=False,
        attempts=0,
        failures=0,
        created_at=now,
    )
    with console.database.write() as session:
        session.add(plan)
    page = console.get("/console/refreshes?state=open", who="viewer")
    assert "its token expires" in page.text
    path = f"/console/refreshes/{show(REFRESH, plan.id)}"
    page = console.get(path, who="viewer")
    assert "Run now" not in page.links
    assert "What comes next" in page.text
    assert "By force" in console.get(f"{path}/run").text
    page = console.post(f"{path}/run", status=503)
    assert "Not done." in page.text
    assert "Budget a minute" in console.get("/console/refreshes/forecast", who="viewer").text
    assert "google" in console.get("/console/refreshes/catalogue", who="viewer").text
    console.get("/console/refreshes?state=finished&due_before=1h", status=422)


def test_a_box_that_was_not_ticked_stays_so_where_the_act_is_refused(console):
    path = f"/console/connections/{show(CONNECTION, connection(console))}/refresh"
    assert "checked" in console.get(path).attributes["force"]
    refused = console.post(path, status=503)
    assert "Not done." in refused.text
    assert "checked" not in refused.attributes["force"]
    assert "checked" in console.post(path, status=503, force="true").attributes["force"]


def test_a_comparison_is_asked_for(console):
    assert "No comparison was made yet." in console.get("/console/reconciliations").text
    console.post("/console/reconciliations/add", environment="default", dry_run="true")
    [run] = console.api.json("/reconciliations")["data"]
    assert (run["dry_run"], run["accept_deletions"]) == (True, False)
    page = console.get(f"/console/reconciliations/{run['id']}", who="viewer")
    assert "Missed by webhook" in page.text
    page = console.post("/console/reconciliations/add", status=409, environment="default")
    assert page.fields["environment"] == "default"
    console.post("/console/reconciliations/add", who="viewer", status=403)


def test_the_audit_is_filtered_and_leads_to_what_it_is_about(console):
    console.post("/console/teams/-/add", name="erp")
    page = console.get("/console/audit", action="team.added")
    assert page.links["operator:operator"] == "/console/audit?actor=operator%3Aoperator"
    assert "erp" in page.links
    console.get("/console/audit", who="viewer", status=403)
    assert page_of("con_" + "0" * 32) == "/console/connections/con_" + "0" * 32
    assert [page_of(text) for text in ("crm/jobs", "con_1", "dst_" + "0" * 32, "")] == [None] * 4


def test_settings_and_tokens_are_shown_without_secrets(console):
    page = console.get("/console/settings", who="viewer")
    assert "WAYLINK_NANGO_API_KEY" in page.text
    assert "(hidden)" in page.text
    assert KEY not in page.html
    page = console.get("/console/tokens")
    assert "team-viewer" in page.text
    page = console.get(page.links["team-viewer"])
    assert "crm" in page.text
    assert not any(secret in page.html for secret in console.api.secrets.values())
    console.get("/console/tokens", who="viewer", status=403)


def test_a_token_is_made_shown_once_and_revoked(console):
    path = console.get("/console/tokens").links["Make a token"]
    page = console.get(path)
    assert "scope_credentials" not in page.fields, "of an operator who may not read them"
    for wrong, told in (
        ({}, "has scopes or belongs to one team"),
        ({"scope_viewer": "true", "expires_in": "soon"}, "expected a duration"),
        ({"scope_viewer": "true", "expires_in": "0s"}, "at least a second"),
        ({"scope_viewer": "true", "team": "crm"}, "may have one scope beside"),
        ({"scope_credentials": "true"}, "only a caller who may read them"),
    ):
        page = console.post(path, status=403 if "scope_credentials" in wrong else 422, name="deploy", **wrong)
        assert told in page.text, wrong
        assert page.fields["name"] == "deploy"
    page = console.post(path, status=200, name="deploy", scope_viewer="true", team="", expires_in="7d")
    [secret] = [value for value in page.html.split('"') if value.startswith("wl_")]
    me = {"authorization": f"Bearer {secret}"}
    with visitors.browser(console.api.web, **me) as program:
        assert program.get("/api/v1/teams").status_code == 200
        page = console.get(console.get("/console/tokens").links["deploy"])
        assert secret not in page.html
        assert "Last used 20" in page.text
        assert "token.created" in page.text, "its audit"
        page = console.get(page.links["Revoke"])
        assert "Token deploy" in page.text
        page = console.follow(console.post(f"{page.answer.url.path}"))
        assert "The token has ended." in page.text
        assert "deploy" not in page.links
        assert program.get("/api/v1/teams").status_code == 401
    assert "deploy" in console.get("/console/tokens", revoked="true").links
    console.post(path, who="viewer", status=403, name="mine", scope_viewer="true")
    console.post(path, who="team", status=403, name="mine", team="crm")


def test_an_operator_is_added_gets_a_link_another_role_and_is_kept_out(console):
    page = console.post("/console/operators/-/add", status=422, name="ada", role="team")
    assert "goes with a team" in page.text
    page = console.follow(console.post("/console/operators/-/add", name="ada", role="viewer"))
    path = page.links["ada"]
    page = console.post(f"{path}/link", status=200)
    [link] = [value for value in page.html.split('"') if value.startswith("/console/welcome/")]
    assert link not in console.get(path).html
    with visitors.browser(console.api.web) as ada:
        assert visitors.welcome(ada, link).status_code == 303
        assert "Signed in at" in console.get(path).text
        page = console.follow(console.post(f"{path}/sign-out"))
        assert "1 session ended." in page.text
        assert not visitors.is_signed_in(ada)
    console.post(f"{path}/role", role="team", team="crm")
    stored = console.api.json("/operators/ada")
    assert (stored["role"], stored["team"]) == ("team", "crm")
    console.post(f"{path}/role", status=403, role="viewer", credentials="true")
    console.post(f"{path}/disable")
    assert console.api.json("/operators/ada")["disabled_at"]
    console.post(f"{path}/enable")
    assert console.api.json("/operators/ada")["disabled_at"] is None
    console.post(f"{path}/remove")
    console.get(path, status=404)
    own = console.api.json("/operators/operator")["id"]
    console.post(f"/console/operators/{own}/disable", status=409)
    assert console.api.json("/operators/operator")["disabled_at"] is None
