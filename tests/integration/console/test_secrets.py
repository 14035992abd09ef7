"""Every page of the console, read by the operator with most rights: no secret is on any of them."""

import re

import pytest

from app.clock import utc_now
from app.domain.bulk_runs import BulkAct
from app.ids import BULK_RUN, CONNECTION, EVENT, JOB, REFRESH, new_id, show
from app.sealing import new_key
from app.services.bulk_runs.run_requests import RunWanted, open_run
from app.web.access_table import PAGES
from tests.console_walk import words_of
from tests.integration.cli.test_status import a_job, add, an_event
from tests.integration.console.pages import open_console

API_KEY, SIGNING_KEY = "canary-of-the-api-key", "canary-of-a-signing-key"
BROKER = "canary-of-a-brokers-password"
TOKEN = "canary-of-an-access-token"
ELSEWHERE = {"/", "/console/sign-in", "/console/sign-in/oidc", "/console/sign-in/oidc/callback"}


@pytest.fixture
def console(broker_url, tmp_path):
    keys = {
        "WAYLINK_NANGO_API_KEY": API_KEY,
        "WAYLINK_NANGO_SIGNING_KEYS": SIGNING_KEY,
        "WAYLINK_NANGO_BASE_URL": "http://127.0.0.1:1",
        "WAYLINK_SECRET_KEY": new_key(),
        "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
    }
    url = f"sqlite:///{tmp_path}/waylink.db"
    with open_console(database_url=url, broker_url=broker_url, folder=tmp_path, **keys) as opened:
        yield opened


def test_no_page_shows_a_secret(console):
    api, now = console.api, utc_now()
    hook = {"team": "crm", "name": "hook", "kind": "http", "url": "http://127.0.0.1:1025/hook"}
    secret = api("POST", "/destinations", json=hook).json()["secret"]
    own = {"team": "crm", "name": "jobs", "kind": "celery", "queue": "team.crm.jobs"}
    own["broker_url"] = f"redis://u:{BROKER}@127.0.0.1:1026/0"
    assert api("POST", "/destinations", json=own).status_code == 201
    pattern = {"type": ["connection.created"]}
    route = {"team": "crm", "name": "all", "destination": "jobs", "job": "crm.do", "pattern": pattern}
    assert api("POST", "/routes", json=route).status_code == 201
    user = api("POST", "/users", json={"external_id": "usr_1"}).json()["id"]
    organization = api("POST", "/organizations", json={"external_id": "org_1"}).json()["id"]
    link = api("POST", "/operators/viewer/link").json()["path"]
    portal = api("POST", "/teams/crm/links", json={"note": "Ada"}).json()
    opened = console.browsers["portal"].cookies["waylink-session"]
    body = b'{"from":"slack","type":"forward","payload":{"access_token":"' + TOKEN.encode() + b'"}}'
    event = an_event(now, state="processed", type="connection.created", body=body)
    job = a_job(now, event.id, team="crm", destination="jobs", state="discarded", finished_at=now, fault="team")
    add(console.database, event, job)
    wanted = RunWanted(act=BulkAct.RETRY_JOBS, chosen="{}", shown={}, counted=1, actor="test")
    with console.database.write() as session:
        run = open_run(session, wanted, now=now)
    view = {"page": "jobs", "name": "ours", "query": "state=discarded", "shared": True}
    known = {
        "con_id": show(CONNECTION, new_id()),
        "event_id": show(EVENT, event.id),
        "job_id": show(JOB, job.id),
        "ref_id": show(REFRESH, new_id()),
        "rec_id": "rec_" + "0" * 32,
        "user_id": user,
        "organization_id": organization,
        "name": "viewer",
        "team": "crm",
        "route": "all",
        "destination": "hook",
        "environment": "default",
        "integration": "x",
        "group": "connections",
        "figure": "webhooks",
        "token": api.json("/tokens/viewer")["id"],
        "blk_id": show(BULK_RUN, run.id),
        "view_id": api("POST", "/views", json=view).json()["id"],
        "link_id": portal["id"],
        "session_id": api.json("/teams/crm/sessions")["data"][0]["id"],
    }
    secrets = {
        API_KEY,
        SIGNING_KEY,
        BROKER,
        TOKEN,
        secret,
        link.rpartition("/")[2],
        portal["path"].rpartition("/")[2],
        opened,
        *api.secrets.values(),
    }
    shown, found = 0, []
    for operation in PAGES:
        method, _, path = operation.partition(" ")
        if method != "GET" or path in ELSEWHERE or "{secret}" in path:
            continue
        answer = console.browsers["operator"].get(re.sub(r"{(\w+)(?::path)?}", lambda part: known[part[1]], path))
        assert answer.status_code < 500 or answer.status_code == 503, (path, answer.text)
        shown += answer.status_code == 200
        found += [(path, value) for value in secrets if value in words_of(answer)]
    assert found == []
    assert shown > 40, "most pages have a row to show"
