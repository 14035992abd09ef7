"""Stories of webhooks in any order, forged, doubled or lost: in the end all is as Nango has it.

Stories are made at random, with a list that lags, two workers, and workers that die at any statement.
"""

from contextlib import nullcontext, suppress
from itertools import pairwise
from random import Random

from app.db import reconciliations
from app.db.models import Connection, Event, Link, User
from app.domain.reconciling import YOUNG, RunOutcome, Trigger
from app.domain.states import ConnectionStatus, EventState
from app.services.reconciliation.reconciler import Reconciler
from app.services.reconciliation.run_requests import open_run
from tests.drawing import seeds
from tests.integration.sandbox.sandbox_server import control, register, serve
from tests.integration.world import DANA, OMAR, KilledError, auth, dying_at, failure

EVIL = {"end_user_id": "evil", "organization_id": "evil"}
TAGS = (DANA, OMAR, DANA | {"plan": "pro"}, {}, {"plan": "pro"})
NAMES = [f"c-{number}" for number in range(4)]
DEATHS = ("UPDATE events", "INSERT INTO events", "INSERT INTO links", "UPDATE connections", "INSERT INTO connections")
WEIGHTS = {"register": 3, "delete": 1, "fail": 1, "forge": 2, "arrive": 4, "process": 4, "lag": 1, "wait": 2}


class Story:
    """A story of changes at Nango, and its webhooks, true and forged ones, that have not arrived yet."""

    def __init__(self, nango, workers, seed):
        self.nango, self.workers, self.random = nango, workers, Random(seed)
        self.world = workers[0]
        self.on_their_way, self.sent, self.lagging = [], 0, 0
        self.generations = {}

    def go_on(self):
        [action] = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        getattr(self, action)()

    def there(self):
        """Nango's connections, however far its list lags: (id, tags, failing) by connection id."""
        self._set_lag(0)
        found = self.nango.get("/connections", params={"limit": 1000}).raise_for_status().json()["connections"]
        self._set_lag(self.lagging)
        return {row["connection_id"]: (row["id"], row["tags"], bool(row["errors"])) for row in found}

    def register(self):
        name, tags, there = self.random.choice(NAMES), self.random.choice(TAGS), self.there()
        self.generations.setdefault(name, set()).add(register(self.nango, name, "oauth2", tags=tags)["id"])
        self._send(auth, name, operation="override" if name in there else "creation", tags=tags)

    def delete(self):
        if there := self.there():
            name = self.random.choice(sorted(there))
            query = {"provider_config_key": "oauth2"}
            self.nango.delete(f"/connections/{name}", params=query).raise_for_status()
            self._send(auth, name, operation="deletion", tags=there[name][1])

    def fail(self):
        """Or recover."""
        if there := self.there():
            name, broken = self.random.choice(sorted(there)), self.random.random() < 0.6
            control(self.nango, name, "oauth2", exhausted=broken)
            facts = {"kind": "refresh_token_external_error"} if broken else {"tags": there[name][1]}
            self._send(failure if broken else auth, name, operation="refresh", **facts)

    def forge(self):
        name = self.random.choice([*NAMES, "nobody"])
        operation = self.random.choice(("creation", "override", "refresh", "deletion"))
        if operation == "refresh" and self.random.random() < 0.5:
            self._send(failure, name, operation=operation)
        else:
            self._send(auth, name, operation=operation, tags=self.random.choice((EVIL, DANA, OMAR, {})))

    def arrive(self):
        """In any order; some twice, some never."""
        self.random.shuffle(self.on_their_way)
        for body in self.on_their_way[: self.random.randrange(3)]:
            fate = self.random.random()
            if fate > 0.2:
                self.world.receive(body)
            if fate < 0.7:
                self.on_their_way.remove(body)

    def process(self):
        worker, dies = self.random.choice(self.workers), self.random.random() < 0.2
        with suppress(KilledError), dying_at(worker.database, self.random.choice(DEATHS)) if dies else nullcontext():
            worker.process()

    def lag(self):
        self.lagging = self.random.choice((0, 3600))
        self._set_lag(self.lagging)

    def wait(self):
        self.world.clock.move(self.random.choice((0.1, 1, 2, 5, 15, 31)))

    def end(self):
        """All arrives, the list catches up, and nothing is left to process."""
        self.lagging = 0
        self._set_lag(0)
        self.world.receive(*self.on_their_way)
        for _ in range(60):
            self.process()
            self.world.clock.move(5)
        for _ in range(60):
            self.world.process()
            self.world.clock.move(5)

    def _set_lag(self, seconds):
        self.nango.patch("/sandbox/settings", json={"replica_lag": seconds}).raise_for_status()

    def _send(self, make, name, **facts):
        """No two webhooks are the same bytes, but for those that come twice."""
        self.sent += 1
        self.on_their_way.append(make(connection_id=name, provider=f"google-{self.sent}", **facts))


def reconcile(world, **options):
    reconciler = Reconciler(world.database, world.clients, ["default"], world.clock, page_size=3)
    world.clock.move(YOUNG.total_seconds() + 5)
    with world.database.write() as session:
        run = open_run(session, "default", trigger=Trigger.DEMAND, now=world.clock(), **options)
    while run.finished_at is None:
        world.clock.now = max(world.clock.now, run.next_at)
        reconciler.work()
        world.process()
        with world.database.read() as session:
            run = reconciliations.get(session, run.id)
    assert run.outcome == RunOutcome.COMPLETED
    if run.problem is not None and not options:  # all that we knew are gone, which an operator has to confirm
        assert "not believed" in run.problem
        return reconcile(world, accept_deletions=True)
    assert run.problem is None
    return None


@seeds(100, 101, 107)
def test_all_ends_as_nango_has_it_and_nothing_forged_was_ever_believed(*, open_world, clock, monkeypatch, seed):
    monkeypatch.setattr("app.services.events.lookups.PAGE_EVERY", 0.0)  # the clock runs faster than the burst
    with serve(clock=clock) as nango:
        workers = [open_world(base_url=str(nango.base_url).rstrip("/")) for _ in range(2)]
        world = workers[0]
        world.route(new={"type": ["connection.created"]})
        story = Story(nango, workers, seed)
        for _ in range(80):
            story.go_on()
        story.end()
        assert world.all(Event, Event.state == EventState.RECEIVED) == []
        assert {event.failure for event in world.all(Event, Event.state == EventState.FAILED)} <= {"not_confirmed"}
        reconcile(world)
        check(world, story)


def check(world, story):
    there = story.there()
    living = world.all(Connection, Connection.status != ConnectionStatus.DELETED)
    known = {
        connection.connection_id: (connection.nango_id, connection.tags, connection.last_error_type is not None)
        for connection in living
    }
    assert known == there
    named = {name: tags["end_user_id"] for name, (_, tags, _) in there.items() if "end_user_id" in tags}
    assert {name: (world.owner(name) or [None])[0] for name in named} == named
    assert world.owner("nobody") is None
    users = {user.external_id for user in world.all(User)}
    assert users <= {"usr_1042", "usr_2001"}, "no user was made of a forged body"
    for connection in world.all(Connection):
        links = world.all(Link, Link.connection_ref == connection.id)
        assert sum(link.closed_at is None for link in links) <= (connection.status != ConnectionStatus.DELETED)
        for earlier, later in pairwise(links):
            assert earlier.closed_at is not None
            assert earlier.closed_at <= later.opened_at
    created = [world.event(job.event_id).connection_id for job in world.jobs("new")]
    assert all(created.count(name) <= len(numbers) for name, numbers in story.generations.items())
    assert set(created) >= there.keys()
