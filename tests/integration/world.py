"""One Waylink without its processes: a database, the services on it, a clock that only tests move, Nango over HTTP."""

import asyncio
import json
import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

import httpx
from pydantic import SecretStr
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import inspect, select, text
from sqlalchemy.orm.attributes import set_committed_value

from app.brokers.celery_broker import Broker
from app.config.nango_environment import Environment, SigningKeys
from app.db import documents
from app.db.ingest import NO_PROCESS, NewDelivery
from app.db.models import Connection, Event, Job, Link, Organization, Refresh, User
from app.db.routes import RouteDefinition
from app.deadlines import EVENT_LEASE
from app.domain.signature import fingerprint
from app.domain.states import EventState
from app.ids import new_id
from app.sandbox.webhooks import auth_body, serialize
from app.services.definitions import config_sync
from app.services.definitions.config_plan import DestinationDefinition, OrphanPolicy
from app.services.delivery.deliverer import Deliverer
from app.services.events import intake
from app.services.events.intake import writer_for
from app.services.events.processor import Processor
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.refreshing.planned import refresher_of
from tests.integration.sandbox.sandbox_server import API_KEY, SIGNING_KEY
from tests.waiting import PATIENCE, until

WINDOW = timedelta(seconds=150)
DANA = {"end_user_id": "usr_1042", "organization_id": "org_77"}
OMAR = {"end_user_id": "usr_2001", "organization_id": "org_88"}
TOKEN = re.compile(r"sandbox-[a-z-]+-[0-9a-f]{64}")


class KilledError(BaseException):
    """Stands for the death of the process: no code catches it."""


class Clock:
    def __init__(self):
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self):
        return self.now

    def move(self, seconds):
        self.now += timedelta(seconds=seconds)


class World:
    """`base_url` None is an environment with signing keys only."""

    def __init__(self, database, clock, *, base_url=None, teams_url=None, budget=None, **policy):
        key = SecretStr(API_KEY) if base_url else None
        signing_keys = SigningKeys((SecretStr(SIGNING_KEY),))
        environment = Environment("default", base_url or "http://127.0.0.1:1", "acme", signing_keys, api_key=key)
        self.database, self.clock = database, clock
        self.policy = Policy({"default": environment}, **policy)
        self.clients = NangoClients(self.policy.environments, budget)
        self.processor = Processor(database, self.policy, self.clients, clock)
        self.refresher = refresher_of(database, self.policy, self.clients, clock, self.processor.routes)
        self.broker = Broker.at("teams", teams_url) if teams_url else None
        self.deliverer = Deliverer(database, self.broker, clock) if self.broker else None

    def close(self):
        self.clients.close()
        if self.broker:
            self.broker.close()

    # Doing

    def receive(self, *bodies, environment="default", by=NO_PROCESS):
        """Store the bodies as one group commit of a web process does; the receipts, in order."""
        return self.deliver(*(self.delivery(body, environment=environment, by=by) for body in bodies))

    def delivery(self, body, *, environment="default", by=NO_PROCESS):
        """A delivery as it is before it is stored."""
        return NewDelivery(new_id(), environment, fingerprint(environment, body), body, self.clock(), by)

    def deliver(self, *deliveries):
        return asyncio.run(self._store(deliveries))

    async def _store(self, new):
        """Store them however slow the machine is: the bounds of a web process have tests of their own."""
        writer = writer_for(self.database, WINDOW, self.clock)
        try:
            with patch.multiple(intake, STUCK_SECONDS=PATIENCE, STUCK_FILE_SECONDS=PATIENCE):
                return await writer.store(new)
        finally:
            await writer.close()

    def process(self, *_receipts):
        """Process what is due, as a worker does at a hint of these receipts."""
        return self.processor.process()

    def handle(self, body):
        """Receive and process one body; its event id."""
        [receipt] = self.receive(body)
        self.process(receipt)
        return receipt.event_id

    def outlive_lease(self):
        """Let a claim's lease run out, as after the death of its worker."""
        self.clock.now += EVENT_LEASE

    def wait_out(self, body):
        """The same, with the clock moved for as long as the event waits for something."""
        event_id = self.handle(body)
        self.wait_for(event_id)
        return event_id

    def wait_for(self, event_id):
        """Process until that event is finished, with the clock moved for as long as it waits."""
        while (event := self.event(event_id)).state == EventState.RECEIVED:
            self.clock.now = max(self.clock.now, event.next_at)
            self.process()

    def route(self, **patterns):
        """Make these the routes of team crm: a name and a pattern each, the job called `crm.<name>`."""
        routes = [RouteDefinition(name, "crm", "jobs", f"crm.{name}", pattern) for name, pattern in patterns.items()]
        destinations = {("crm", "jobs"): DestinationDefinition("celery", "team.crm.jobs")}
        with self.database.write() as session:
            return config_sync.apply_file(
                session, destinations=destinations, routes=routes, orphans=OrphanPolicy.REMOVE, now=self.clock()
            )

    def add(self, *rows):
        with self.database.write() as session:
            session.add_all(rows)

    # Reading

    def all(self, model, *conditions):
        """The rows of these conditions, events with their documents, wherever those are stored."""
        with self.database.read() as session:
            found = list(session.scalars(select(model).where(*conditions).order_by(model.id)))
            for event in found if model is Event else ():
                set_committed_value(event, "document", documents.of(session, event))
            return found

    def event(self, event_id):
        [found] = self.all(Event, Event.id == event_id)
        return found

    def events(self, kind):
        return self.all(Event, Event.type == kind)

    def connection(self, connection_id):
        """None when there is none."""
        found = self.all(Connection, Connection.connection_id == connection_id)
        assert len(found) <= 1
        return found[0] if found else None

    def links(self, connection_id):
        return self.all(Link, Link.connection_ref == self.connection(connection_id).id)

    def owner(self, connection_id):
        """External ids of the open link's user and organization, or None."""
        connection = self.connection(connection_id)
        if connection is None:
            return None
        links = self.all(Link, Link.connection_ref == connection.id, Link.closed_at.is_(None))
        if not links:
            return None
        [link] = links
        users = {user.id: user.external_id for user in self.all(User)}
        organizations = {organization.id: organization.external_id for organization in self.all(Organization)}
        return users.get(link.user_id), organizations.get(link.organization_id)

    def jobs(self, route=None):
        return [job for job in self.all(Job) if route in {None, job.route}]

    def plans(self, connection_id):
        """All refreshes of the connection, oldest first."""
        return self.all(Refresh, Refresh.connection_ref == self.connection(connection_id).id)

    def open_plan(self, connection_id):
        """None when there is none."""
        found = [plan for plan in self.plans(connection_id) if plan.finished_at is None]
        assert len(found) <= 1
        return found[0] if found else None


def auth(operation="creation", *, connection_id="c-1", tags=None, mode="OAUTH2", provider="google-mail", **members):
    """The bytes of an auth webhook, as Nango serializes them."""
    facts = {"environment": "prod", "integration": "oauth2", "provider": provider, "auth_mode": mode}
    return serialize(auth_body(connection_id=connection_id, operation=operation, tags=tags, **{**facts, **members}))


def failure(operation="creation", *, kind="unknown", description="it broke", **members):
    return auth(operation, error={"type": kind, "description": description}, **members)


def sync(connection_id="c-1", **members):
    body = {"from": "nango", "type": "sync", "connectionId": connection_id, "providerConfigKey": "oauth2"}
    return serialize({**body, "success": True, "model": "Mail", **members})


class Gate:
    """A proxy in front of the sandbox: the requests, and what a test does while a call is in flight.

    `before` runs when a request arrives, `after` when the sandbox has answered and we have not; each once.
    """

    def __init__(self, upstream):
        self.upstream = upstream
        self.requests = []
        self.before = self.after = None
        self.status = None  # answer this instead of asking the sandbox
        self.edit = None  # edits an answer's parsed body, in every answer from then on
        self.problem = None
        self.url = ""

    def pass_on(self, path, authorization):
        self.requests.append(path)
        self._run("before")
        if self.status is not None:
            return self.status, b'{"error":{"code":"server_error"}}'
        headers = {"authorization": authorization}
        answer = httpx.get(f"{self.upstream}{path}", headers=headers, timeout=PATIENCE, trust_env=False)
        self._run("after")
        content = answer.content if self.edit is None else json.dumps(self.edit(answer.json())).encode()
        return answer.status_code, content

    def _run(self, name):
        action = getattr(self, name)
        setattr(self, name, None)
        if action is not None:
            try:
                action()
            except BaseException as problem:  # noqa: BLE001 - shown by the test, not lost in a thread
                self.problem = problem


@contextmanager
def gate(upstream):
    door = Gate(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, content = door.pass_on(self.path, self.headers["authorization"])
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        door.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield door
        finally:
            server.shutdown()
            thread.join(5)
    if door.problem is not None:
        raise door.problem


@contextmanager
def dying_at(database, statement, containing=""):
    """Raise KilledError at an SQL statement that begins so and has parameters that contain the text."""

    def strike(_connection, _cursor, sql, parameters, _context, _executemany):
        if sql.startswith(statement) and containing in repr(parameters):
            raise KilledError

    sqlalchemy_event.listen(database.engine, "before_cursor_execute", strike)
    try:
        yield
    finally:
        sqlalchemy_event.remove(database.engine, "before_cursor_execute", strike)


@contextmanager
def refusing(database, table, column, value, *, writing="INSERT", away=False):
    """The database itself refuses to write that value: as wrong, or as if it were going away."""
    if database.is_sqlite:
        action = "SELECT json('{')" if away else "SELECT RAISE(ABORT, 'refused on purpose')"
        made = [
            f"CREATE TRIGGER refuse BEFORE {writing} ON {table} WHEN NEW.{column} = '{value}' BEGIN {action}; END",
        ]
        ended = ["DROP TRIGGER refuse"]
    else:
        code = "57P01" if away else "P0001"
        made = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION 'refused on purpose' USING ERRCODE = '{code}'; END $$",
            f"CREATE TRIGGER refuse BEFORE {writing} ON {table} FOR EACH ROW WHEN (NEW.{column} = '{value}') "
            "EXECUTE FUNCTION refuse()",
        ]
        ended = [f"DROP TRIGGER refuse ON {table}", "DROP FUNCTION refuse()"]
    _execute(database, made)
    try:
        yield
    finally:
        _execute(database, ended)


def _execute(database, statements):
    with database.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def rewrite_as_before(database):
    """Give each job a row of `decisions`, and its first attempt a row of `attempts`, as the release before does."""
    _execute(
        database,
        [
            "INSERT INTO decisions (event_id, team, route, route_version, conditions, created_at) "
            "SELECT event_id, team, route, matched_version, "
            f"{'conditions' if database.is_sqlite else 'CAST(conditions AS jsonb)'}, created_at "
            "FROM jobs WHERE matched_version IS NOT NULL",
            "INSERT INTO attempts (job_id, number, started_at, latency_ms, outcome) "
            "SELECT id, 1, started_at, latency_ms, 'completed' FROM jobs WHERE started_at IS NOT NULL",
            "UPDATE jobs SET matched_version = NULL, conditions = NULL, started_at = NULL, latency_ms = NULL",
        ],
    )


def in_threads(*calls):
    """Run all at the same moment; their results in order. The first error is raised."""
    barrier = threading.Barrier(len(calls))
    results, errors = [None] * len(calls), []

    def run(index, call):
        barrier.wait(PATIENCE)
        try:
            results[index] = call()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if errors:
        raise errors[0]
    return results


def wait_for_a_lock(world):
    """Until another transaction waits for one, on PostgreSQL."""

    def waits():
        with world.database.read() as session:
            return session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    until("a session waits for a lock", waits)


def dump(database):
    """Every value of every table, as one text."""
    with database.engine.connect() as connection:
        names = inspect(connection).get_table_names()
        rows = [tuple(row) for name in names for row in connection.execute(text(f'SELECT * FROM "{name}"'))]
    return "\n".join(_readable(value) for row in rows for value in row)


def _readable(value):
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return value if isinstance(value, str) else json.dumps(value, default=str)
