"""Hand jobs over to teams: claim, hand over, record. At least once, with the job's id as the task id (promise 10).

A turn records what came of hand-overs and claims the next ones, in one short transaction or two, and sends those on
their way. It never waits for a team: outcomes land while it goes on (`handing_over`), and the next turn takes all that
there are.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Raw
from sqlalchemy.orm import Session

from app.brokers.celery_broker import Broker
from app.db import destinations
from app.db import jobs as job_rows
from app.db.destinations import Target
from app.db.engine import Database
from app.db.errors import has_answered, is_away
from app.db.jobs import ClaimedJob, Key
from app.deadlines import BATCH, JOB_LEASE, MAX_CLAIMS
from app.domain.destination_health import Health, Tally
from app.domain.retrying import Verdict, judge
from app.domain.states import JobState
from app.errors import BrokerUnavailable
from app.ids import JOB, show
from app.outbound.sending import HttpSender
from app.services.definitions.alerts import Alerts
from app.services.definitions.signing_secrets import Keyring
from app.services.delivery.celery_transport import BrokerCarrier
from app.services.delivery.claim import Taken, take, wanted_rows
from app.services.delivery.dispatch import Handover, Landing, Outcome
from app.services.delivery.http_transport import HttpCarrier
from app.services.delivery.results import Recorded, give_up, judge_destinations, record
from app.services.delivery.slots import Lines
from app.telemetry import HANDOVER_SECONDS, JOBS, get_logger

LOOK_SECONDS: Final = 1.0  # between two looks at all destinations, for what nobody hinted at and what others changed

AT_ONCE: Final = 512  # jobs claimed in one turn

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of one call."""

    completed: int = 0
    failed: int = 0

    def __add__(self, other: "Delivered") -> "Delivered":
        return Delivered(self.completed + other.completed, self.failed + other.failed)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a transaction came to."""

    recorded: Recorded
    taken: Taken
    documents: Mapping[UUID, Raw]


def no_broker(target: Target) -> Broker:
    """Where brokers of teams' own are not configured."""
    raise BrokerUnavailable(f"{target.team}/{target.name}", RuntimeError("it has a broker of its own"))


@dataclass(frozen=True, slots=True)
class Http:
    """What endpoints are reached by: `sender` is opened in the loop it serves, `keyring` has what signs."""

    sender: Callable[[], HttpSender]
    keyring: Keyring


@dataclass(slots=True)
class Deliverer:
    """What a worker needs to deliver jobs; made once per process, and used by one thread."""

    database: Database
    teams: Broker
    clock: Callable[[], datetime]
    alerts: Alerts = field(default_factory=Alerts)
    own_broker: Callable[[Target], Broker] = no_broker
    http: Http | None = None  # None: there are no endpoints
    landing: Landing = field(default_factory=Landing, init=False)
    lines: Lines = field(init=False)
    _brokers: BrokerCarrier = field(init=False)
    _endpoints: HttpCarrier | None = field(default=None, init=False)
    _unrecorded: list[Outcome] = field(default_factory=list, init=False)
    _tallies: dict[Key, Tally] = field(default_factory=dict, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _keys: dict[Key, Sequence[bytes]] = field(default_factory=dict, init=False, repr=False)  # as of the last look

    def __post_init__(self) -> None:
        self._brokers = BrokerCarrier(self.teams, self.own_broker, self.landing, self.clock)
        if self.http is not None:
            self._endpoints = HttpCarrier(self.http.sender, self.landing, self.clock)
        self.lines = Lines(self._brokers.is_busy, takes_http=self.http is not None)

    def deliver(self, ids: Collection[UUID] = (), *, limit: int = BATCH) -> Delivered:
        """One round to its end: up to `limit` due jobs, those first that have waited longest; then suspects, one after
        the other. It looks at all destinations, so `ids` need not be told.
        """
        self._looked_at = 0.0
        done = self.turn(ids, limit=limit)
        while self.landing.under_way or len(self.landing):
            with self.landing.changed:
                self.landing.changed.wait_for(lambda: not self.landing.under_way)
            done += self.turn(limit=0)
        return done

    def turn(self, ids: Collection[UUID] = (), *, limit: int = AT_ONCE, claims: bool = True) -> Delivered:
        """Record what has landed; with `claims`, take up to `limit` more, suspects and probes beside, and send them.

        `ids` are jobs that somebody says are due. Raises DBAPIError: then what has landed is recorded by the next turn.
        """
        late = bool(self._unrecorded)  # the last turn could not record them: until that is done, nothing more leaves
        self._take_landed()
        try:
            if claims and self._unrecorded and not late and not self._decide(self._unrecorded):
                # The next ones leave first, and are on their way while these are recorded.
                self._send_off(self._transact(ids, limit, claims=True, outcomes=()))
                ids, claims = (), False
            turn = self._transact(ids, limit, claims=claims, outcomes=self._unrecorded)
        except Exception as problem:
            if not self._unrecorded or (is_away(problem) and not has_answered(problem)):
                raise
            log.exception("outcomes_not_recorded", outcomes=len(self._unrecorded), then="each half is tried alone")
            outcomes, self._unrecorded = self._unrecorded, []
            return self._record_in_halves(outcomes)
        self._unrecorded = []
        self._send_off(turn)
        return _counted(turn.recorded)

    @property
    def has_work(self) -> bool:
        """Whether a turn would find something, beside what has landed."""
        return self.lines.want_turn

    def close(self) -> None:
        """Waits for batches on their way to brokers; what endpoints did not answer yet lands as interrupted."""
        if self._endpoints is not None:
            self._endpoints.close()
        self._brokers.close()

    def _take_landed(self) -> None:
        for one in self.landing.take():
            accepted = judge(one.answer) is Verdict.ACCEPTED
            key, latency = one.handover.job.key, one.answer.latency_ms
            self.lines.landed(key, suspect=one.handover.suspect, accepted=accepted, latency_ms=latency)
            HANDOVER_SECONDS.labels(*key).observe(latency / 1000)
            self._unrecorded.append(one)

    def _decide(self, outcomes: Iterable[Outcome]) -> bool:
        """Whether what may leave next depends on any of these: on those, too, whose lease may soon be over, since their
        jobs would be claimed again.
        """
        fresh_since = self.clock() - JOB_LEASE / 2
        return any(
            one.interrupted
            or one.handover.probe
            or one.started_at < fresh_since
            or judge(one.answer) in {Verdict.FAILED, Verdict.GONE}
            for one in outcomes
        )

    def _transact(self, ids: Collection[UUID], limit: int, *, claims: bool, outcomes: Sequence[Outcome]) -> _Turn:
        looks = time.monotonic() - self._looked_at >= LOOK_SECONDS
        with self.database.write() as session:
            now = self.clock()
            hinted = job_rows.lines_of(session, ids) if ids else set()
            if looks or not self.lines.knows(hinted):
                self.lines.look(destinations.targets(session, now=now))
                self._looked_at = time.monotonic()
                self._keys.clear()
                self._brokers.close_unused()
            self.lines.hint(hinted)
            recorded = record(session, self.alerts, outcomes, now=now)
            self.lines.disabled(recorded.gone, now=now)
            tallies = _summed(self._tallies, recorded.tallies)
            judges = looks or any(one.is_news for one in tallies.values())
            wanted = wanted_rows(self.lines, now=now) if claims else set()
            before, health = self._judge(session, tallies if judges else {}, wanted, now)
            taken = self._take(session, health, limit, now) if claims else Taken()
            self._read_keys(session, taken, now)
            changed = {key: one for key, one in health.items() if one != before[key]}
            destinations.write_health(session, changed)
            documents = self._read_documents(session, taken, now)
        self._tallies = {} if judges else tallies
        return _Turn(recorded, taken, documents)

    def _judge(
        self, session: Session, tallies: Mapping[Key, Tally], wanted: Collection[Key], now: datetime
    ) -> tuple[Mapping[Key, Health], dict[Key, Health]]:
        """The health, before and now, of those judged and of those that are wanted for the claim. Their rows are locked
        together, in order, so that two workers do not wait for each other.
        """
        keys = tallies.keys() | set(wanted)
        if not keys:
            return {}, {}
        before = destinations.lock_health(session, keys, now=now)
        health = judge_destinations(session, self.alerts, before, tallies, now=now)
        for key, one in health.items():
            self.lines.judged(key, one)
        return before, health

    def _take(self, session: Session, health: dict[Key, Health], limit: int, now: datetime) -> Taken:
        taken = take(session, self.lines, health, limit=limit, now=now)
        crashed = [job for job in taken.jobs if job.crashes > MAX_CLAIMS]
        if crashed:  # they may be what kills the workers
            give_up(session, self.alerts, crashed, f"claimed {MAX_CLAIMS} times without a result", now=now)
            taken.jobs = [job for job in taken.jobs if job.crashes <= MAX_CLAIMS]
        return taken

    def _read_documents(self, session: Session, taken: Taken, now: datetime) -> Mapping[UUID, Raw]:
        """What the jobs tell their teams. Those of an event whose document cannot be read are given up."""
        if not taken.jobs:
            return {}
        documents = job_rows.documents(session, {job.event_id for job in taken.jobs})
        unreadable = [job for job in taken.jobs if job.event_id not in documents]
        if unreadable:
            give_up(session, self.alerts, unreadable, "the document of its event cannot be read", now=now)
            taken.jobs = [job for job in taken.jobs if job.event_id in documents]
        return documents

    def _read_keys(self, session: Session, taken: Taken, now: datetime) -> None:
        """What signs the jobs that go to endpoints; a secret that was changed signs from the next look on."""
        keys = {job.key for job in taken.jobs if self.lines.of(job.key).is_http}
        if self.http is not None and (unknown := keys - self._keys.keys()):
            self._keys |= self.http.keyring.of(session, unknown, now=now)

    def _send_off(self, turn: _Turn) -> None:
        handovers = []
        for job in turn.taken.jobs:
            document, target = _document(job, turn.documents[job.event_id]), self.lines.of(job.key).target
            keys, probe = self._keys.get(job.key, ()), job.id in turn.taken.probes
            handovers.append(Handover(job, target, document, keys, probe))
            self.lines.left(job.key, suspect=job.crashes > 1)
        self.landing.left(len(handovers))
        self._brokers.start([one for one in handovers if one.target.kind != "http"])
        if self._endpoints is not None:
            self._endpoints.start([one for one in handovers if one.target.kind == "http"])

    def _record_in_halves(self, outcomes: Sequence[Outcome]) -> Delivered:
        """A poison outcome is lost alone: its job is claimed again when its lease has ended."""
        try:
            with self.database.write() as session:
                return _counted(record(session, self.alerts, outcomes, now=self.clock()))
        except Exception as problem:
            if is_away(problem) or len(outcomes) == 1:
                jobs = [show(JOB, one.handover.job.id) for one in outcomes]
                log.error("outcomes_lost", jobs=jobs[:10], count=len(jobs), exc_info=problem)
                return Delivered()
        half = len(outcomes) // 2
        return self._record_in_halves(outcomes[:half]) + self._record_in_halves(outcomes[half:])


def _summed(one: Mapping[Key, Tally], other: Mapping[Key, Tally]) -> dict[Key, Tally]:
    return {key: one.get(key, Tally()) + other.get(key, Tally()) for key in one.keys() | other.keys()}


def _counted(recorded: Recorded) -> Delivered:
    for (team, destination, state), count in recorded.states.items():
        JOBS.labels(team, destination, state).inc(count)
    completed = recorded.states_in(JobState.COMPLETED)
    return Delivered(completed, recorded.states.total() - completed)


def _document(job: ClaimedJob, event: Raw) -> dict[str, Any]:
    """A job as teams receive it. One from history says so; others do not have that member."""
    history = {"backfill": True} if job.backfill else {}
    return history | {
        "id": show(JOB, job.id),
        "name": job.name,
        "attempt": job.attempts,
        "created_at": job.created_at.isoformat(),
        "route": {"name": job.route, "version": job.route_version},
        "event": event,
    }
