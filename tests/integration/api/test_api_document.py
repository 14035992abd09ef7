"""The OpenAPI document describes what the API does: every route answers as it says, whatever it is asked."""

import hypothesis
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given

from app.domain.access import Scope
from app.web.api.openapi import document, problems_of
from app.web.api.registry import ENDPOINTS
from app.web.browser_sessions import SESSION
from tests.integration.api.api_client import PREFIX, open_api

METHODS = {"get", "put", "post", "delete", "patch"}
EXAMPLES = 12
# Our own test below checks tokens; and not every text is a cursor or an id, which no schema says.
ELSEWHERE = [schemathesis.checks.ignored_auth, schemathesis.checks.positive_data_acceptance]


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    return value.encode() if isinstance(value, str) else value


@pytest.fixture(scope="module")
def api(valkey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("document")
    valkey.start()
    with open_api(database_url=f"sqlite:///{folder}/waylink.db", broker_url=valkey.url(0), folder=folder) as client:
        yield client


@pytest.fixture(scope="module")
def served(api):
    return api.json("/openapi.json", who="team")


def test_it_is_made_from_the_endpoints_and_names_each_once(served):
    assert served == document(ENDPOINTS, prefix=PREFIX)
    named = [(method, path) for path, methods in served["paths"].items() for method in methods]
    assert sorted(named) == sorted((endpoint.method.lower(), endpoint.template) for endpoint in ENDPOINTS)
    ids = [method["operationId"] for methods in served["paths"].values() for method in methods.values()]
    assert len(set(ids)) == len(ids)
    assert served["openapi"] == "3.1.0"


def test_it_names_the_token_and_the_cookies_of_sessions(served):
    schemes = served["components"]["securitySchemes"]
    assert {name for choice in served["security"] for name in choice} == set(schemes)
    cookies = {scheme["name"] for scheme in schemes.values() if scheme.get("in") == "cookie"}
    assert cookies == {f"__Host-{SESSION}", SESSION}


def test_everything_in_it_is_explained_and_every_reference_leads_somewhere(served):
    for path, methods in served["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert "scope" in operation["description"]
            for parameter in operation["parameters"]:
                if parameter["in"] == "query":
                    assert parameter.get("description"), (path, parameter["name"])
    for name in _references(served):
        assert name in served["components"]["schemas"]


def test_every_shape_is_a_json_schema(served):
    for schema in served["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"})


@pytest.mark.draws
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_route_answers_as_the_document_says(api, served, endpoint):
    # The token has every right, so that the endpoints answer and not the check of rights.
    schema = schemathesis.openapi.from_dict(served)
    schema.config.update(base_url=str(api.web.client.base_url).rstrip("/") + PREFIX)
    operation = schema[endpoint.template][endpoint.method]
    headers = {"authorization": f"Bearer {api.secrets['everything']}"}

    @hypothesis.settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def answers(case):
        case.call_and_validate(headers=headers, excluded_checks=ELSEWHERE)

    answers()


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_no_route_answers_without_a_token_or_with_one_of_too_little(api, endpoint):
    path = endpoint.template.replace("{", "").replace("}", "")
    assert api(endpoint.method, path, who=None).status_code == 401
    reads = endpoint.teams and endpoint.scope is Scope.VIEWER
    allowed = {"team": endpoint.teams, "team-viewer": reads} | {
        str(held): held in _sufficient(endpoint.scope) for held in Scope
    }
    for who, may in allowed.items():
        assert (api(endpoint.method, path, who=who).status_code == 403) is not may, who


def _sufficient(wanted):
    return {Scope.VIEWER: set(Scope)}.get(wanted, {wanted})


def test_every_problem_is_reported_with_its_status(served):
    for endpoint in ENDPOINTS:
        responses = served["paths"][endpoint.template][endpoint.method.lower()]["responses"]
        for status, kinds in problems_of(endpoint).items():
            for kind in kinds:
                assert kind.type in responses[str(status)]["description"]
                assert kind.status == status


def _references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
