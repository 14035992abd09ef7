"""Each endpoint and each page, called as every kind of caller: what the table of rights does not give is refused."""

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from starlette.routing import Mount, Route

from app.clock import utc_now
from app.domain.access import Access, Rights, Role, Scope
from app.domain.bulk_runs import BulkAct
from app.ids import BULK_RUN, EVENT, JOB, show
from app.services.bulk_runs.run_requests import RunWanted, open_run
from app.web.access_table import API, OTHERS, PAGES, Needs
from tests.integration.api.api_client import PREFIX, ApiClient, issue, open_api
from tests.integration.cli.test_status import a_job, add, an_event
from tests.integration.operators import visitors

REFUSED = {401, 403}
CALLERS = {
    "a token of viewers": Access("", frozenset({Scope.VIEWER})),
    "a token of operators": Access("", frozenset({Scope.OPERATOR})),
    "a token for credentials": Access("", frozenset({Scope.CREDENTIALS})),
    "a token of a team": Access("", frozenset({Scope.OPERATOR}), "crm"),
    "a reading token of a team": Access("", frozenset(), "crm"),
    "a viewer": Rights(Role.VIEWER).access("viewer"),
    "an operator": Rights(Role.OPERATOR).access("operator"),
    "an operator who reads credentials": Rights(Role.OPERATOR, credentials=True).access("keeper"),
    "a viewer who reads credentials": Rights(Role.VIEWER, credentials=True).access("reader"),
    "an operator of a team": Rights(Role.TEAM, "crm").access("crm-operator"),
    "a visitor of a portal": Rights(Role.TEAM, "crm").access("portal"),
}
SESSIONS = {
    "a viewer": Rights(Role.VIEWER),
    "an operator": Rights(Role.OPERATOR),
    "an operator who reads credentials": Rights(Role.OPERATOR, credentials=True),
    "a viewer who reads credentials": Rights(Role.VIEWER, credentials=True),
    "an operator of a team": Rights(Role.TEAM, "crm"),
    "a visitor of a portal": None,
}


class Callers:
    """A running web server, and a client for each kind of caller."""

    def __init__(self, api: ApiClient, stack: ExitStack) -> None:
        self.api, self.nobody = api, stack.enter_context(visitors.browser(api.web))
        self.clients = {}
        for name, access in CALLERS.items():
            if name in SESSIONS and (rights := SESSIONS[name]) is None:
                client = stack.enter_context(visitors.browser(api.web))
                assert client.post(visitors.portal(api.database)).status_code == 303
            elif name in SESSIONS:
                client = stack.enter_context(visitors.browser(api.web))
                number = len(self.clients)
                link = visitors.add(
                    api.database, f"o{number}", rights.role, team=rights.team, credentials=rights.credentials
                )
                assert visitors.welcome(client, link).status_code == 303
            else:
                secret = issue(api.database, name, *access.scopes, team=access.team)
                headers = {"authorization": f"Bearer {secret}"}
                client = stack.enter_context(visitors.browser(api.web, **headers))
            self.clients[name] = client


@pytest.fixture(scope="module")
def callers(tmp_path_factory, valkey) -> Iterator[Callers]:
    folder = tmp_path_factory.mktemp("access")
    valkey.start()
    url = f"sqlite:///{folder}/waylink.db"
    with open_api(database_url=url, broker_url=valkey.url(0), folder=folder) as api, ExitStack() as stack:
        yield Callers(api, stack)


def operations(table: dict[str, Needs], prefix: str = "") -> list[tuple[str, str, Needs]]:
    """Method, path with made-up names in it, and needs."""
    filled = [(operation.partition(" "), needs) for operation, needs in table.items()]
    return [(method, prefix + re.sub(r"{\w+(:path)?}", "x", path), needs) for (method, _, path), needs in filled]


def call(client, method: str, path: str) -> int:
    """The status of the answer; 401 where a page leads to the sign-in."""
    body = {"json": {}} if method not in {"GET", "DELETE"} and path.startswith("/api") else {}
    if method == "POST" and path.startswith("/console"):
        body = {"data": {}}
    answer = client.request(method, path, **body)
    leads_away = answer.headers.get("location", "").startswith("/console/sign-in")
    return 401 if leads_away and answer.status_code == 303 else answer.status_code


def test_each_endpoint_is_for_those_whom_the_table_names(callers):
    wrong = []
    for method, path, needs in operations(API, PREFIX):
        if (status := call(callers.nobody, method, path)) != 401:
            wrong.append((method, path, "nobody", status))
        for name, client in callers.clients.items():
            allowed = CALLERS[name].allows(needs.scope, teams=needs.teams)
            status = call(client, method, path)
            if (status in REFUSED) is allowed or status >= 500:
                wrong.append((method, path, name, status))
    assert wrong == []


def test_each_page_is_for_those_whom_the_table_names(callers):
    wrong = []
    for method, path, needs in operations(PAGES):
        if path in {"/console/sign-out", "/console/account/sessions", "/console/account/password"}:
            continue  # tests of their own sign out with it
        if needs.scope is None:
            continue
        if (status := call(callers.nobody, method, path)) != 401:
            wrong.append((method, path, "nobody", status))
        for name, client in callers.clients.items():
            allowed = name in SESSIONS and CALLERS[name].allows(needs.scope, teams=needs.teams)
            status = call(client, method, path)
            if (status in REFUSED) is allowed or status >= 500:
                wrong.append((method, path, name, status))
    assert wrong == []


def test_without_a_session_pages_are_not_shown_and_acts_not_done(callers):
    for operation, needs in PAGES.items():
        method, _, path = operation.partition(" ")
        if needs.scope is not None:
            answer = callers.nobody.request(method, path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/console/sign-in")


def test_the_application_serves_nothing_that_the_table_does_not_have(callers):
    known = {path.partition(" ")[2] for path in (*PAGES, *OTHERS)} | {PREFIX + path.partition(" ")[2] for path in API}
    served = {route.path for route in callers.api.web.app.routes if isinstance(route, Route | Mount)}
    assert served == known


def test_metrics_and_the_document_are_for_callers(callers):
    for path, allowed in (
        ("/metrics", {name for name, access in CALLERS.items() if access.team is None}),
        (f"{PREFIX}/openapi.json", set(CALLERS)),
    ):
        assert callers.nobody.get(path).status_code == 401
        assert {name for name, client in callers.clients.items() if client.get(path).status_code == 200} == allowed


@pytest.fixture(scope="module")
def of_others(callers) -> dict[str, str]:
    """A team of others with a route, a destination, an event, a job and a bulk run; their ids by parameter."""
    operator = callers.clients["an operator"]
    for path, body in (
        ("/teams", {"name": "erp"}),
        ("/destinations", {"team": "erp", "name": "jobs", "kind": "celery", "queue": "team.erp.jobs"}),
        (
            "/routes",
            {
                "team": "erp",
                "name": "all",
                "destination": "jobs",
                "job": "erp.do",
                "pattern": {"type": ["connection.created"]},
            },
        ),
    ):
        answer = operator.post(PREFIX + path, json=body)
        assert answer.status_code == 201, answer.text
    now = utc_now()
    event = an_event(now, state="processed", type="connection.created")
    job = a_job(now, event.id, team="erp", destination="jobs", state="discarded", finished_at=now, fault="team")
    add(callers.api.database, event, job)
    wanted = RunWanted(act=BulkAct.RETRY_JOBS, chosen="{}", shown={}, counted=1, actor="test", team="erp")
    with callers.api.database.write() as session:
        run = open_run(session, wanted, now=now)
    view = operator.post(f"{PREFIX}/views", json={"page": "jobs", "name": "x", "query": "team=erp", "shared": True})
    assert view.status_code == 201, view.text
    return {
        "team": "erp",
        "destination": "jobs",
        "route": "all",
        "event_id": show(EVENT, event.id),
        "job_id": show(JOB, job.id),
        "blk_id": show(BULK_RUN, run.id),
        "secret_id": "sec_" + "0" * 32,
        "link_id": "tlk_" + "0" * 32,
        "view_id": view.json()["id"],
        "session_id": "ses_" + "0" * 32,
    }


@pytest.mark.parametrize("name", [name for name, access in CALLERS.items() if access.team is not None])
def test_a_team_reaches_nothing_of_another(callers, of_others, name):
    client, wrong = callers.clients[name], []
    for operation, needs in API.items():
        method, _, path = operation.partition(" ")
        if not needs.teams:
            continue
        filled = PREFIX + re.sub(r"{(\w+)(?::path)?}", lambda part: of_others[part[1]], path)
        answer = client.request(method, filled, **({"json": {}} if method in {"POST", "PATCH"} else {}))
        reached = answer.status_code < 300 and "{" in path
        # A refusal repeats the name that was asked for, and nothing else of the other team.
        told = "erp" in answer.text and (answer.status_code != 404 or of_others["job_id"] in answer.text)
        if reached or told:
            wrong.append((operation, answer.status_code, answer.text[:200]))
    for path, body in (
        ("/destinations", {"team": "erp", "name": "mine", "kind": "celery", "queue": "team.erp.jobs"}),
        ("/jobs/retry", {"filter": {"team": "erp"}, "expected": 1}),
        ("/jobs/cancel", {"ids": [of_others["job_id"]]}),
    ):
        answer = client.post(PREFIX + path, json=body)
        if answer.status_code < 300 and answer.json().get("changed") != 0:
            wrong.append((path, answer.status_code, answer.text[:200]))
    assert wrong == []
    job = callers.clients["an operator"].get(f"{PREFIX}/jobs/{of_others['job_id']}").json()
    assert job["state"] == "discarded"


# Operators are managed by those who have the rights themselves


def test_credentials_are_given_by_those_alone_who_have_them(callers):
    plain, keeper = callers.clients["an operator"], callers.clients["an operator who reads credentials"]
    new = {"name": "carla", "role": "viewer", "credentials": True}
    assert plain.post(f"{PREFIX}/operators", json=new).status_code == 403
    assert keeper.post(f"{PREFIX}/operators", json=new).status_code == 201
    for method, path, body in (
        ("PATCH", "/operators/carla", {"credentials": False}),
        ("POST", "/operators/carla/link", None),
        ("DELETE", "/operators/carla", None),
    ):
        assert plain.request(method, PREFIX + path, json=body).status_code == 403
    own = callers.api.json("/operators", headers={}, who="operator")["data"][1]["name"]
    assert plain.patch(f"{PREFIX}/operators/{own}", json={"credentials": True}).status_code == 403
    link = keeper.post(f"{PREFIX}/operators/carla/link").json()["path"]
    assert visitors.welcome(callers.nobody, link).status_code == 303
    callers.nobody.post("/console/sign-out")
    assert keeper.delete(f"{PREFIX}/operators/carla").status_code == 204


def test_operators_are_managed_by_rest(callers):
    operator = callers.clients["an operator"]
    made = operator.post(f"{PREFIX}/operators", json={"name": "dan", "role": "viewer"})
    assert made.status_code == 201
    again = operator.post(f"{PREFIX}/operators", json={"name": "dan", "role": "viewer"})
    assert again.status_code == 409
    of_absent = {"role": "team", "team": "absent"}
    for refused in (
        operator.post(f"{PREFIX}/operators", json={"name": "eve", **of_absent}),
        operator.patch(f"{PREFIX}/operators/dan", json=of_absent),
    ):
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "team"), "the path is there"
    changed = operator.patch(f"{PREFIX}/operators/{made.json()['id']}", json={"role": "team", "team": "crm"}).json()
    assert (changed["role"], changed["team"], changed["disabled_at"]) == ("team", "crm", None)
    assert operator.patch(f"{PREFIX}/operators/dan", json={"disabled": True}).json()["disabled_at"]
    assert operator.post(f"{PREFIX}/operators/dan/link").status_code == 409
    assert operator.patch(f"{PREFIX}/operators/dan", json={"disabled": False}).json()["disabled_at"] is None
    path = operator.post(f"{PREFIX}/operators/dan/link").json()["path"]
    assert visitors.welcome(callers.nobody, path).status_code == 303
    assert len(operator.get(f"{PREFIX}/operators/dan/sessions").json()["data"]) == 1
    assert operator.delete(f"{PREFIX}/operators/dan/sessions").json() == {"sessions": 1}
    assert not visitors.is_signed_in(callers.nobody)
    assert operator.delete(f"{PREFIX}/operators/dan").status_code == 204
    assert operator.get(f"{PREFIX}/operators/dan").status_code == 404
