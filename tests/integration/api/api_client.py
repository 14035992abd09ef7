"""The API over real HTTP: a running web server with a token of each kind."""

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import jsonschema_rs

from app.db.engine import Database
from app.db.models import Team
from app.domain.access import Scope
from app.services import tokens
from app.web.api.openapi import document
from app.web.api.registry import ENDPOINTS
from tests.integration.web.web_server import WebServer, serve

PREFIX = "/api/v1"
PROBLEM = "application/problem+json"
DOCUMENT = document(ENDPOINTS, prefix=PREFIX)


@dataclass
class ApiClient:
    """Calls the API under a named token: a scope, or for the team crm `team`, its operator, and `team-viewer`."""

    web: WebServer
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        return self.web.database

    def __call__(self, method: str, path: str, *, who: str | None = "operator", **options) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.secrets[who]}"} if who else {}
        answer = self.web.client.request(
            method, f"{PREFIX}{path}", headers=headers | options.pop("headers", {}), **options
        )
        check_against_document(method, path.partition("?")[0], answer)
        return answer

    def get(self, path: str, **options) -> httpx.Response:
        return self("GET", path, **options)

    def json(self, path: str, **options):
        answer = self.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()


def check_against_document(method: str, path: str, answer: httpx.Response) -> None:
    """Whatever a test asks for: status, media type and body are among those that the OpenAPI document has."""
    fitting = [
        endpoint for endpoint in ENDPOINTS if re.fullmatch(_pattern(endpoint.path), path) and endpoint.method == method
    ]
    if not fitting:
        return
    endpoint = min(fitting, key=lambda endpoint: endpoint.template.count("{"))
    told = DOCUMENT["paths"][endpoint.template][endpoint.method.lower()]["responses"]
    assert str(answer.status_code) in told, (method, path, answer.status_code, answer.text)
    content = told[str(answer.status_code)].get("content")
    if content is None:
        assert answer.content == b""
        return
    [(media_type, shape)] = content.items()
    assert answer.headers["content-type"] == media_type
    validator = jsonschema_rs.Draft202012Validator(shape["schema"] | {"components": DOCUMENT["components"]})
    validator.validate(answer.json())


def _pattern(path: str) -> str:
    return re.sub(r"{\w+}", "[^/]+", re.sub(r"{\w+:path}", ".+", path))


def issue(database: Database, name: str, *scopes: Scope, team: str | None = None, lifetime=timedelta(days=1)) -> str:
    with database.write() as session:
        return tokens.issue(
            session, name, scopes=scopes, team=team, lifetime=lifetime, actor="cli:test", now=datetime.now(UTC)
        ).secret


@contextmanager
def open_api(*, database_url: str, broker_url: str, folder, **variables: str):
    with serve(database_url=database_url, broker_url=broker_url, folder=folder, **variables) as web:
        client = ApiClient(web)
        with web.database.write() as session:
            session.add(Team(name="crm", source="file", created_at=datetime.now(UTC)))
        client.secrets = {str(scope): issue(web.database, str(scope), scope) for scope in Scope}
        client.secrets["team"] = issue(web.database, "team", Scope.OPERATOR, team="crm")
        client.secrets["team-viewer"] = issue(web.database, "team-viewer", team="crm")
        client.secrets["everything"] = issue(web.database, "everything", *Scope)
        yield client


def problem_of(answer: httpx.Response, status: int, word: str) -> dict:
    """The problem details of a refusal, checked for their form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["type"] == f"urn:waylink:problem:{word}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body
