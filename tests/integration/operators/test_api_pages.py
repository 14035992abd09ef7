"""The pages about the REST API: every call, parameter and object of the OpenAPI document, and links that lead there."""

import html
import re
from html.parser import HTMLParser

import pytest

from app.web.api.registry import ENDPOINTS
from app.web.console.reference import reference, type_text
from app.web.console.rendering import coded
from tests.integration.api.api_client import DOCUMENT, open_api
from tests.integration.operators import visitors

GROUPS = sorted({endpoint.path.split("/")[1] for endpoint in ENDPOINTS})


class Links(HTMLParser):
    """The links and the ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "a":
            self.links.append(found["href"] or "")
        if "id" in found:
            self.ids.append(found["id"] or "")


@pytest.fixture
def browser(broker_url, tmp_path):
    url = f"sqlite:///{tmp_path}/waylink.db"
    with (
        open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as api,
        visitors.browser(api.web) as client,
    ):
        assert visitors.welcome(client, visitors.add(api.database)).status_code == 303
        yield client


def test_each_call_has_its_place_and_each_link_leads_there(browser):
    first = browser.get("/console/api")
    pages = {"/console/api": Links(first.text)}
    for group in GROUPS:
        pages[f"/console/api/{group}"] = Links(browser.get(f"/console/api/{group}").text)
    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            to, _, place = link.partition("#")
            if place:
                assert place in pages[to or path].ids, link
            elif to.startswith("/console/api"):
                assert to in pages, link
    for endpoint in ENDPOINTS:
        group = endpoint.path.split("/")[1]
        assert f"/console/api/{group}#{endpoint.name}" in pages["/console/api"].links
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert len(first.content) < 100_000


@pytest.mark.parametrize("group", GROUPS)
def test_a_page_tells_what_the_document_does(browser, group):
    text = html.unescape(re.sub(r"<[^>]*>", "", browser.get(f"/console/api/{group}").text))
    for path, methods in DOCUMENT["paths"].items():
        if path.split("/")[1] == group:
            for method, operation in methods.items():
                assert f"{method.upper()} {path}" in text
                assert operation["summary"].replace("`", "") in text
                for parameter in operation["parameters"]:
                    assert parameter["name"] in text
    for operation in reference().groups[group]:
        for kind in (operation.body, operation.answer):
            if kind is not None and kind.shape:
                assert set(DOCUMENT["components"]["schemas"][kind.shape].get("properties", ())) <= set(text.split())


def test_a_part_that_there_is_not_is_told(browser):
    answer = browser.get("/console/api/nothing")
    assert answer.status_code == 404
    assert "no calls of that name" in answer.text


@pytest.mark.parametrize(
    ("schema", "text", "shape"),
    [
        ({"type": "string"}, "string", None),
        ({"type": "integer", "minimum": 1, "maximum": 500}, "integer, 1 to 500", None),
        ({"type": "integer", "minimum": 1}, "integer, at least 1", None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null", None),
        ({"enum": ["a", 1]}, '"a" or 1', None),
        ({"type": "array", "items": {"$ref": "#/components/schemas/JobRow"}}, "list of JobRow", "JobRow"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of string", None),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/Error"}]}, "null or Error", "Error"),
        ({}, "any JSON", None),
    ],
)
def test_types_are_told_in_words(schema, text, shape):
    found = type_text(schema)
    assert (found.text, found.shape) == (text, shape)


def test_what_stands_between_backticks_is_code():
    assert coded("a `b<c>` d `e") == "a <code>b&lt;c&gt;</code> d <code>e</code>"
