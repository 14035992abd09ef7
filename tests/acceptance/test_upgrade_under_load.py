"""An upgrade while the release before works under load: its processes go on while the schema is migrated, and are then
replaced one by one (promise 1).
"""

import itertools
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from app.db.engine import Database, connect
from app.domain.signature import HEADER, sign
from app.sealing import new_key
from bench.audit_ledger import Ledger, verdict
from bench.audit_rows import expire_leases, read_rows, unsettled
from bench.audit_sender import Webhook, webhook
from bench.checkout import unpack
from bench.load import KEY, PATH
from bench.product import QUEUE, TEAM, Product, product
from tests.acceptance.harness import REPOSITORY, Waylink
from tests.ports import free_port
from tests.waiting import PATIENCE, until

BEFORE = "8252f0d35351b74382b535cdc150c60689895242"
NAMES = ("web-1", "web-2", "events-1", "io-1", "beat")
LATER, HOOK = "team.bench.later", "hook"
ROUTES = {"import": ["connection.created"], "welcome": ["connection.linked"], "everything": ["connection.reauthorized"]}
OTHERS = {"later": "later", "hooked": HOOK}  # routes of connection.created to destinations that take nothing, yet
SOME = 40  # webhooks


def configuration(port: int) -> str:
    routes = "".join(
        f'\n[[routes]]\nname = "{name}"\nteam = "{TEAM}"\ndestination = "{destination}"\njob = "{TEAM}.{name}"\n'
        f'pattern = \'{{"type": ["connection.created"]}}\'\n'
        for name, destination in OTHERS.items()
    )
    return (
        f'\n[teams.{TEAM}.destinations.later]\nkind = "celery"\nqueue = "{LATER}"\n'
        f'\n[teams.{TEAM}.destinations.{HOOK}]\nkind = "http"\nurl = "http://127.0.0.1:{port}/"\n{routes}'
    )


@dataclass
class Sender:
    """Nango: posts until it is stopped, to each web process in turn, again after what is no acknowledgement."""

    ports: list[int]
    ledger: Ledger = field(default_factory=Ledger)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        ports = itertools.cycle(self.ports)
        with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
            for one in _webhooks():
                self.ledger.sent[one.digest] = one.sent
                while not (event := _post(client, next(ports), one)):
                    if self.stopping.wait(0.2):
                        return
                self.ledger.acknowledged.add((event, one.digest))
                if self.stopping.wait(0.02):
                    return

    def acknowledges(self, count: int) -> None:
        """Returns when that many more webhooks are acknowledged."""
        goal = len(self.ledger.acknowledged) + count
        until(f"{goal} are acknowledged", lambda: len(self.ledger.acknowledged) >= goal)


def _webhooks() -> Iterator[Webhook]:
    for number in itertools.count():
        connection_id = str(uuid.uuid4())
        yield webhook(0.0, connection_id, number, "creation")
        if number % 5 == 0:
            yield webhook(0.0, connection_id, number, "override")


def _post(client: httpx.Client, port: int, one: Webhook) -> str | None:
    headers = {"content-type": "application/json", HEADER: sign(one.body, KEY)}
    try:
        answer = client.post(f"http://127.0.0.1:{port}{PATH}", content=one.body, headers=headers)
    except httpx.TransportError:
        return None
    assert answer.status_code in {202, 503}, answer.text
    return answer.json()["event_id"] if answer.status_code == 202 else None


@contextmanager
def sending(running: Product) -> Iterator[Sender]:
    sender = Sender([*running.web_ports.values()])
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(sender.run)
        try:
            yield sender
        finally:
            sender.stopping.set()
        posting.result()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sqlite", [False, True], ids=["postgresql", "sqlite"])
def test_an_upgrade_under_load_loses_and_doubles_nothing(tmp_path: Path, sqlite: bool) -> None:
    unpack(BEFORE, tmp_path)
    theirs, ours = {"PYTHONPATH": str(tmp_path)}, {"PYTHONPATH": str(REPOSITORY)}
    variables = {"WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8", "WAYLINK_SECRET_KEY": new_key()}
    with product(NAMES, ROUTES, sqlite=sqlite, config=configuration(free_port()), **variables, **theirs) as running:
        waylink = running.waylink
        _run(waylink, "destinations", "disable", f"{TEAM}/later")
        with sending(running) as sender:
            sender.acknowledges(SOME)
            _run(waylink, "migrate", **ours)
            before = _processed(waylink)
            sender.acknowledges(SOME)
            until("the release before works on", lambda: _processed(waylink) >= before + SOME)
            waylink.env |= ours
            for name in NAMES:
                running.processes[name].send(signal.SIGTERM)
                running.processes[name].ends()
                running.start(name)
                running.ready()
                sender.acknowledges(SOME // 4)
        _run(waylink, "destinations", "enable", f"{TEAM}/later")
        with closing(connect(running.database_url)) as database:
            _settle(running, database, sender.ledger)


def _settle(running: Product, database: Database, ledger: Ledger) -> None:
    """Everything is finished; the jobs of a destination that never answered are cancelled."""
    expire_leases(database)

    def is_finished() -> bool:
        _run(running.waylink, "jobs", "cancel", "--destination", f"{TEAM}/{HOOK}", "--yes")
        return not unsettled(database)

    until("all is finished", is_finished, every=0.5)
    rows, later = read_rows(database, running.teams, QUEUE), read_rows(database, running.teams, LATER)
    events = [event for event in rows.events if not str(event.type).startswith("waylink.")]  # about the destinations
    rows = replace(rows, events=events, queue=Counter(rows.queue) + Counter(later.queue))
    hooked = {job.id: job.state for job in rows.jobs if job.route == "hooked"}
    assert set(hooked.values()) == {"cancelled"}
    findings = verdict(ledger, rows, ROUTES | {name: ["connection.created"] for name in OTHERS})
    assert not [finding for finding in findings if finding.what != "job is cancelled" or finding.id not in hooked]
    _run(running.waylink, "check", "--integrity")


def _processed(waylink: Waylink) -> int:
    [(count,)] = waylink.sql("SELECT count(*) FROM events WHERE state = 'processed'")
    return int(count)


def _run(waylink: Waylink, *arguments: str, **variables: str) -> None:
    done = waylink.run(*arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
