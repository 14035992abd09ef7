"""The console over real HTTP, with a browser for each role."""

import html
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

from app.domain.access import Role
from tests.integration.api.api_client import ApiClient, open_api
from tests.integration.operators import visitors

FORM = {"content-type": "application/x-www-form-urlencoded"}  # as browsers send it, also where no field is filled in
ROLES = {"viewer": (Role.VIEWER, None), "operator": (Role.OPERATOR, None), "team": (Role.TEAM, "crm")}


@dataclass
class Console:
    """A running web server, and a browser for each role, signed in, and for a visitor of the portal of crm."""

    api: ApiClient
    browsers: dict[str, httpx.Client] = field(default_factory=dict)

    @property
    def database(self):
        return self.api.database

    def get(self, path: str, *, who: str = "operator", status: int = 200, **query: str) -> "Page":
        answer = self.browsers[who].get(path, params=query or None)
        assert answer.status_code == status, answer.text
        return Page(answer)

    def post(self, path: str, *, who: str = "operator", status: int = 303, **fields: str) -> "Page":
        answer = self.browsers[who].post(path, data=fields, headers=FORM)
        assert answer.status_code == status, answer.text
        return Page(answer)

    def follow(self, page: "Page", *, who: str = "operator") -> "Page":
        return self.get(page.answer.headers["location"], who=who)


@contextmanager
def open_console(*, database_url: str, broker_url: str, folder, **variables: str) -> Iterator[Console]:
    with (
        open_api(database_url=database_url, broker_url=broker_url, folder=folder, **variables) as api,
        ExitStack() as stack,
    ):
        console = Console(api)
        for name, (role, team) in ROLES.items():
            browser = stack.enter_context(visitors.browser(api.web))
            link = visitors.add(api.database, name, role, team=team)
            assert visitors.welcome(browser, link).status_code == 303
            console.browsers[name] = browser
        console.browsers["portal"] = stack.enter_context(visitors.browser(api.web))
        assert console.browsers["portal"].post(visitors.portal(api.database)).status_code == 303
        yield console


class Page(HTMLParser):
    """A page: its text, the links by their text, the buttons, and the fields of its forms with their values.

    buttons: those of the content, and the one that signs out.
    """

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer = answer
        self.html = answer.text
        content = re.sub(r"(?s)<head>.*?</head>", "", self.html).replace("<wbr>", "")
        self.text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", content)).split())
        self.links: dict[str, str] = {}
        self.buttons: list[str] = []
        self.fields: dict[str, str] = {}
        self.attributes: dict[str, dict[str, str | None]] = {}
        self._open: list[tuple[str, str, list[str]]] = []
        self._select = ""
        self._is_content = False
        self.feed(self.html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self._is_content = self._is_content or tag == "main"
        if tag in {"a", "button", "option"}:
            self._open.append((tag, given.get("href") or "", []))
        if tag in {"input", "select"} and given.get("name"):
            name = given["name"] or ""
            self.fields[name] = given.get("value") or ""
            self.attributes[name] = given
            self._select = name
        if tag == "option" and "selected" in given:
            self._open[-1] = ("selected", self._select, [])

    def handle_data(self, data: str) -> None:
        for _, _, texts in self._open:
            texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_content = self._is_content and tag != "main"  # behind it is the dialog that each page has
        if tag not in {"a", "button", "option"} or not self._open:
            return
        kind, target, texts = self._open.pop()
        text = " ".join("".join(texts).split())
        if kind == "a":
            self.links.setdefault(text, target)
        elif kind == "button" and (self._is_content or text == "Sign out"):
            self.buttons.append(text)
        elif kind == "selected":
            self.fields[target] = text
