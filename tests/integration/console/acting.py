"""Acts of the console, each done by its form as a browser without scripts does it, and looked up in the database."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx
from sqlalchemy import select

from app.clock import utc_now
from app.db.models import Audit
from app.ids import CONNECTION, EVENT, JOB, new_id, parse, show
from app.runtime.wiring import policy_of
from app.services.events.processor import Processor
from app.services.nango_clients import NangoClients
from app.web.access_table import PAGES
from tests.integration.console.forms import forms_of
from tests.integration.console.pages import FORM, Console, Page
from tests.integration.operators import visitors
from tests.integration.sandbox.sandbox_server import SIGNING_KEY, fetch, register
from tests.integration.status.rows import a_job, add, an_event
from tests.integration.world import auth

_TYPED: Final = {
    operation: re.compile(re.sub(r"{\w+:path}", ".+", re.sub(r"{\w+}", "[^/]+", operation))) for operation in PAGES
}
ACTS: Final[dict[str, Callable[["Acting"], None]]] = {}


def does(operation: str) -> Callable[[Callable[["Acting"], None]], Callable[["Acting"], None]]:
    """Enter the function as the one that does this operation of the access table."""

    def enter(function: Callable[["Acting"], None]) -> Callable[["Acting"], None]:
        assert operation not in ACTS, operation
        ACTS[operation] = function
        return function

    return enter


def operation_of(path: str) -> str:
    """The operation of the access table that a form with this path posts to."""
    fitting = [operation for operation, pattern in _TYPED.items() if pattern.fullmatch(f"POST {path}")]
    return min(fitting, key=lambda operation: operation.count("{"))


@dataclass
class Acting:
    """An operator at a console, who makes the rows that an act needs, acts, and looks into the database.

    done: the operations that were carried out; looked: those after which the database was read.
    """

    console: Console
    nango: httpx.Client
    done: list[str] = field(default_factory=list)
    looked: set[str] = field(default_factory=set)

    # Acting

    def act(
        self, page: str, to: str = "", /, *, status: int = 303, browser: httpx.Client | None = None, **typed
    ) -> Page:
        """Open a page, fill in its form that posts to `to`, or else to the page itself, and submit it."""
        browser = browser or self.console.browsers["operator"]
        shown = browser.get(page)
        assert shown.status_code == 200, shown.text
        path = to or page.partition("?")[0]
        forms = [form for form in forms_of(shown.text, page) if form.action == path]
        fitting = [form for form in forms if typed.keys() <= {*form.values, *form.boxes, *form.choices}]
        assert fitting, f"{page} has no form for {path} with {sorted(typed)}: {forms}"
        answer = browser.post(path, data=fitting[0].filled(typed), headers=FORM)
        assert answer.status_code == status, answer.text
        if status == 303:
            told = browser.get(answer.headers["location"])
            assert told.status_code == 200, told.text
        self.done.append(operation_of(path))
        return Page(answer)

    # Looking

    def rows(self, *columns: Any, **where: Any) -> list[Any]:
        """Of all rows with these values, the columns; for one column its value."""
        self.looked |= set(self.done)
        table = columns[0].class_
        asked = select(*columns).filter_by(**where).order_by(*table.__table__.primary_key)
        with self.console.database.read() as session:
            return [row[0] if len(columns) == 1 else tuple(row) for row in session.execute(asked)]

    def one(self, *columns: Any, **where: Any) -> Any:
        found = self.rows(*columns, **where)
        assert len(found) == 1, found
        return found[0]

    def audited(self, action: str, subject: str, actor: str = "operator:operator") -> dict[str, Any]:
        """The detail of the one audit entry of an action on a subject."""
        by, detail = self.one(Audit.actor, Audit.detail, action=action, subject=subject)
        assert by == actor
        return dict(detail)

    # Making rows

    def failed_event(self, **changes: Any) -> str:
        facts = {"state": "failed", "failure": "error", "problem": "it broke", "processed_at": utc_now()}
        event = an_event(utc_now(), **facts | changes)
        add(self.console.database, event)
        return show(EVENT, event.id)

    def routed_event(self, **changes: Any) -> str:
        document = {"type": "connection.created"}
        facts = {"state": "processed", "type": "connection.created", "route_set": 1, "document": document}
        event = an_event(utc_now(), processed_at=utc_now(), **facts | changes)
        add(self.console.database, event)
        return show(EVENT, event.id)

    def job(self, state: str, **changes: Any) -> str:
        is_over = state in {"discarded", "completed", "cancelled"}
        facts = {"state": state, "finished_at": utc_now() if is_over else None, "attempts": 1}
        facts |= {"fault": "team", "problem": "answered 500"} if state == "discarded" else {}
        job = a_job(utc_now(), parse(EVENT, self.routed_event()), **facts | changes)
        add(self.console.database, job)
        return show(JOB, job.id)

    def connection(self, **tags: str) -> tuple[str, str]:
        """A connection that Nango has and that its webhook brought here: our id, and Nango's."""
        of_nango = str(UUID(bytes=new_id().bytes))
        register(self.nango, of_nango, "oauth2", tags=tags)
        body = auth(connection_id=of_nango, tags=tags)
        assert self.console.api.web.post(body, key=SIGNING_KEY).status_code == 202
        self.work()
        [row] = self.console.api.json(f"/connections?connection_id={of_nango}")["data"]
        return row["id"], of_nango

    def at_nango(self, connection: str, member: str) -> Any:
        return fetch(self.nango, connection, "oauth2").json()[member]

    def work(self) -> None:
        """Process the stored events, as a worker does."""
        settings = self.console.api.web.settings
        clients = NangoClients(settings.environments)
        Processor(self.console.database, policy_of(settings), clients, utc_now).process()
        clients.close()

    def make(self, path: str, **body: Any) -> dict[str, Any]:
        """A row made by REST."""
        answer = self.console.api("POST", path, json=body)
        assert answer.status_code in {200, 201}, answer.text
        return dict(answer.json())

    def destination(self, **changes: Any) -> str:
        """The name of a new destination of the team crm: a queue, or what the changes say."""
        name = self.name()
        body = {"team": "crm", "name": name, "kind": "celery", "queue": f"team.crm.{name}"} | changes
        self.make("/destinations", **{key: value for key, value in body.items() if value is not None})
        return name

    def route(self) -> str:
        name, pattern = self.name(), {"type": ["grant.expiring"]}
        self.make("/routes", team="crm", name=name, destination="jobs", job="crm.do", pattern=pattern)
        return name

    @contextmanager
    def person(self) -> Iterator[tuple[str, httpx.Client]]:
        """Another operator, signed in at a browser."""
        name = self.name()
        with visitors.browser(self.console.api.web) as browser:
            assert visitors.welcome(browser, visitors.add(self.console.database, name)).status_code == 303
            yield name, browser

    @staticmethod
    def name() -> str:
        """A name that no other act has."""
        return f"n{new_id().hex[-12:]}"

    @staticmethod
    def id_of(shown: str) -> UUID:
        """The id in the database of one that is shown."""
        return UUID(shown.partition("_")[2])

    @staticmethod
    def connection_ref(con: str) -> UUID:
        return parse(CONNECTION, con)
