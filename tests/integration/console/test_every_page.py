"""Every page that a link of the console leads to: it is there, small, and shows no secret."""

import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from app.clock import utc_now
from app.db.models import Attempt, Destination, Refresh
from app.db.routes import RouteDefinition
from app.domain.reconciling import Trigger
from app.ids import new_id
from app.services.definitions import config_sync
from app.services.definitions.config_plan import DestinationDefinition
from app.services.reconciliation.run_requests import open_run
from app.web.access_table import PAGES
from tests.console_walk import kind_of, walked, words_of
from tests.integration.status.rows import a_connection, a_job, add, add_bulk_run, an_event, destination, report_running

SECRET = "ghp_" + new_id().hex + "aB3d"
# Pages that no link of a page leads to: of sign-in, and those that need a page of the API's group.
APART = {
    "/console/sign-in",
    "/console/sign-in/oidc",
    "/console/sign-in/oidc/callback",
    "/console/theme/{team}.css",
    "/console/welcome/{secret}",
}

ASKING_NANGO = {"/console/connections/{con_id}/metadata"}  # which this installation has no API key for


class Ids(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attributes if name == "id"]


@pytest.fixture(scope="module")
def rows(console) -> None:
    """A forwarded webhook that holds a secret, in full, two events of a connection, a discarded job, a failed event."""
    with console.database.read() as session:
        assert session.get(Destination, ("crm", "jobs")) is None
    route = RouteDefinition("contacts", "crm", "jobs", "crm.import", {"payload": {"token": [{"exists": True}]}})
    places = {("crm", "jobs"): DestinationDefinition("celery", "team.crm.jobs")}
    with console.database.write() as session:
        config_sync.apply_file(session, destinations=places, routes=[route], now=utc_now())
    now, connection = utc_now(), a_connection(utc_now(), new_id().hex)
    payload = {"token": SECRET, "note": f"Authorization: Bearer {SECRET}", "deep": [{"api_key": SECRET}]}
    body = json.dumps({"from": "github", "type": "forward", "payload": payload}).encode()
    facts = {"state": "processed", "type": "nango.forward", "route_set": 1, "integration": "github", "body": body}
    facts |= {"connection_id": connection.connection_id, "connection_ref": connection.id, "processed_at": now}
    events = [an_event(now, document={"type": "nango.forward", "payload": payload | {"n": n}}, **facts) for n in (1, 2)]
    gone = {"state": "discarded", "finished_at": now, "fault": "team", "problem": "answered 500", "attempts": 1}
    job = a_job(now, events[1].id, route="contacts", **gone)
    attempt = Attempt(job_id=job.id, number=1, started_at=now, latency_ms=9.0, outcome="discarded", status=500)
    theirs = an_event(now, document={"type": "nango.forward", "note": "of zeta"}, **facts)
    of_zeta = a_job(now, theirs.id, team="zeta", destination="zeta-jobs", route="zeta-route", name="zeta.do", **gone)
    add(console.database, destination("zeta", "zeta-jobs"))
    failed = an_event(now, state="failed", failure="error", problem="it broke", processed_at=now)
    add(console.database, connection, *events, job, attempt, theirs, of_zeta, failed)
    add_bulk_run(console.database, job.id)
    add_bulk_run(console.database, job.id, team="crm")
    add_bulk_run(console.database, of_zeta.id, team="zeta", actor="token:zeta")
    plan = {"refresh_at": now, "next_at": now, "reason": "its token expires", "forced": False, "created_at": now}
    add(console.database, Refresh(id=new_id(), connection_ref=connection.id, attempts=0, failures=0, **plan))
    with console.database.write() as session:
        open_run(session, "default", trigger=Trigger.DEMAND, dry_run=True, accept_deletions=False, now=now)
    report_running(console.database)


@pytest.fixture(scope="module", params=["operator", "viewer", "team", "portal"])
def pages(request, console, rows):
    return request.param, walked(console.browsers[request.param])


def test_every_link_leads_to_a_page(pages):
    who, answers = pages
    wrong = {path: answer.status_code for path, answer in answers.items() if answer.status_code != 200}
    assert not [path for path in wrong if kind_of(path) not in ASKING_NANGO], wrong
    reached = {kind_of(path) for path in answers}
    if who == "operator":
        listed = {"/console/events/{event_id}", "/console/events/{event_id}/replay", "/console/jobs/{job_id}"}
        listed |= {"/console/bulk-runs/{blk_id}"}
        without = {path for operation in PAGES if (path := operation.removeprefix("GET ")) == operation[4:] != "/"}
        assert listed | {path for path in without if "{" not in path} - APART <= reached | {"/console/sign-out"}


def test_the_pages_of_a_team_name_no_other(pages):
    who, answers = pages
    named = [path for path, answer in answers.items() if "zeta" in words_of(answer)]
    assert (named == []) is (who in {"team", "portal"}), (who, named)


def test_no_page_shows_what_may_be_a_credential(pages):
    who, answers = pages
    assert [path for path, answer in answers.items() if SECRET in words_of(answer)] == []
    if who == "operator":
        assert any("[hidden]" in answer.text for answer in answers.values()), "there was one to hide"


def test_every_page_is_small_whole_and_under_the_policy(pages):
    for path, answer in pages[1].items():
        assert len(answer.content) < 150_000, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "unsafe" not in policy, path
        without = re.sub(r'<script src="/static/[\w./?-]+" (defer|type="module")></script>', "", answer.text)
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|\shx-on", without), path
        ids = Counter(Ids(answer.text).ids)
        assert [name for name, count in ids.items() if count > 1] == [], path
        assert answer.text.count("<h1") == 1, path


def test_every_time_is_one_for_people(pages):
    """As in `2026-12-01 00:40:32 UTC`. Patterns, bodies and settings are shown as they are stored."""
    for path, answer in pages[1].items():
        shown = re.sub(r"(?s)<(pre|textarea|title)\b.*?</\1>|<[^>]*>", " ", words_of(answer))
        wrong = re.findall(r"\d{4}-\d\d-\d\dT\S*|\S+\+00 UTC", shown)
        assert [each for each in wrong if not kind_of(path).startswith("/console/api")] == [], path
