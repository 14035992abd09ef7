"""Deliver jobs to teams: claim, send, record. At least once, with the job's id as task id or message id (promise 10).

A tick records the results of attempts and claims the next jobs, in one or two short transactions, then hands these to
the transports. It never waits for a team: attempts complete in the background, and the next tick records them.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.brokers.celery_broker import Broker
from app.db import destinations
from app.db import jobs as job_rows
from app.db.destinations import DeliveryTarget
from app.db.engine import Database
from app.db.errors import has_answered, is_away
from app.db.jobs import ClaimedJob, EventDocument, JobToSend
from app.deadlines import BATCH, JOB_LEASE, MAX_CLAIMS
from app.domain import canary
from app.domain.definitions import DestinationKey
from app.domain.delivery_answer import DeliveryAnswer
from app.domain.destination_breaker import HealthState, Tally
from app.domain.retrying import AnswerClass, classify
from app.domain.states import JobState
from app.domain.traceparent import in_form
from app.errors import BrokerUnavailable
from app.ids import JOB, made_at, show
from app.outbound.sending import HttpSender
from app.services.definitions.destination_alerts import Alerts
from app.services.definitions.signing_secrets import Keyring
from app.services.delivery.celery_transport import CeleryTransport
from app.services.delivery.claim import ClaimResult, claim_jobs, keys_to_lock
from app.services.delivery.http_transport import HttpTransport
from app.services.delivery.in_flight import AttemptResult, DeliveryAttempt, InFlight
from app.services.delivery.results import RecordedResults, give_up, record, update_health
from app.services.delivery.slots import Slots
from app.telemetry import ATTEMPT_SECONDS, JOBS, WEBHOOK_TO_JOB_SECONDS, get_logger, is_debugging

if TYPE_CHECKING:
    from app.traces.attempts import AttemptSpans

POLL_SECONDS: Final = 1.0  # between two reads of all destinations, for jobs without a hint and for changes by others

AT_ONCE: Final = 512  # jobs claimed in one tick

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivered:
    """Numbers of recorded attempts: accepted, and all others."""

    completed: int = 0
    failed: int = 0
    canaries: int = 0  # in no other number

    def __add__(self, other: "Delivered") -> "Delivered":
        return Delivered(self.completed + other.completed, self.failed + other.failed, self.canaries + other.canaries)


@dataclass(frozen=True, slots=True)
class _Tick:
    """The results and the claim of one transaction, with the documents of the claimed jobs' events."""

    recorded: RecordedResults
    claimed: ClaimResult
    documents: Mapping[UUID, EventDocument]


def no_broker(target: DeliveryTarget) -> Broker:
    """Stand-in for processes without brokers of teams. Raises BrokerUnavailable."""
    raise BrokerUnavailable(f"{target.team}/{target.name}", RuntimeError("it has a broker of its own"))


@dataclass(frozen=True, slots=True)
class Http:
    """Requirements of delivery over HTTP: a `sender`, called in the event loop that uses it, and signing keys."""

    sender: Callable[[], HttpSender]
    keyring: Keyring


@dataclass(slots=True)
class Deliverer:
    """Delivers jobs. One per process, used by one thread."""

    database: Database
    teams: Broker
    clock: Callable[[], datetime]
    alerts: Alerts = field(default_factory=Alerts)
    own_broker: Callable[[DeliveryTarget], Broker] = no_broker
    http: Http | None = None  # None: destinations of kind `http` are left to other processes
    spans: "AttemptSpans | None" = None  # None: traces are off
    in_flight: InFlight = field(default_factory=InFlight, init=False)
    slots: Slots = field(init=False)
    _brokers: CeleryTransport = field(init=False)
    _endpoints: HttpTransport | None = field(default=None, init=False)
    _unrecorded: list[AttemptResult] = field(default_factory=list, init=False)
    _tallies: dict[DestinationKey, Tally] = field(default_factory=dict, init=False)
    _polled_at: float = field(default=0.0, init=False)
    _keys: dict[DestinationKey, Sequence[bytes]] = field(default_factory=dict, init=False, repr=False)  # since the poll

    def __post_init__(self) -> None:
        self._brokers = CeleryTransport(self.teams, self.own_broker, self.in_flight, self.clock)
        if self.http is not None:
            self._endpoints = HttpTransport(self.http.sender, self.in_flight, self.clock)
        self.slots = Slots(self._brokers.is_busy, takes_http=self.http is not None)

    def deliver(self, ids: Collection[UUID] = (), *, limit: int = BATCH) -> Delivered:
        """Deliver due jobs and wait for their results: up to `limit`, the longest due first, then possibly poison ones.

        All destinations are polled, so `ids` may be empty.
        """
        self._polled_at = 0.0
        done = self.tick(ids, limit=limit)
        while self.in_flight.count or self.in_flight.completed:
            with self.in_flight.changed:
                self.in_flight.changed.wait_for(lambda: not self.in_flight.count)
            done += self.tick(limit=0)
        return done

    def tick(self, ids: Collection[UUID] = (), *, limit: int = AT_ONCE, claims: bool = True) -> Delivered:
        """Record the results that are there; with `claims`, claim up to `limit` jobs more and send them.

        Probes and possibly poison jobs come on top of `limit`. `ids`: hints, jobs that may be due. Raises DBAPIError;
        then the next tick records these results.
        """
        late = bool(self._unrecorded)  # the last tick failed to record them: nothing is sent until that is done
        self._take_results()
        try:
            if claims and self._unrecorded and not late and not self._decide(self._unrecorded):
                # The next jobs are claimed first, and these results are recorded while they are in flight.
                self._send(self._transact(ids, limit, claims=True, results=()))
                ids, claims = (), False
            tick = self._transact(ids, limit, claims=claims, results=self._unrecorded)
        except Exception as problem:
            if not self._unrecorded or (is_away(problem) and not has_answered(problem)):
                raise
            log.exception("outcomes_not_recorded", outcomes=len(self._unrecorded), then="each half is tried alone")
            results, self._unrecorded = self._unrecorded, []
            return self._record_in_halves(results)
        self._unrecorded = []
        self._send(tick)
        return _counted(tick.recorded)

    @property
    def has_work(self) -> bool:
        """True if a tick may find jobs to claim or to park; results are not considered."""
        return self.slots.has_work

    def send(self, claimed: Sequence[JobToSend]) -> None:
        """Send jobs that were inserted as claimed."""
        documents = {to_send.job.event_id: to_send.event for to_send in claimed}
        self._send(_Tick(RecordedResults(), ClaimResult([to_send.job for to_send in claimed]), documents))

    def direct_destinations(self) -> frozenset[DestinationKey]:
        """Destinations whose new jobs may be inserted as claimed, and sent: see `Slots.direct`."""
        return self.slots.direct()

    def close(self) -> None:
        """Close the transports: batches in flight to brokers are waited for, requests to endpoints are interrupted."""
        if self._endpoints is not None:
            self._endpoints.close()
        self._brokers.close()

    def _take_results(self) -> None:
        latencies: dict[DestinationKey, list[float]] = defaultdict(list)
        since_receipt: dict[DestinationKey, list[float]] = defaultdict(list)
        results = self.in_flight.take()
        for result in results:
            attempt, latency = result.attempt, result.answer.latency_ms
            accepted = classify(result.answer) is AnswerClass.ACCEPTED
            self.slots.completed(
                attempt.job.key, possibly_poison=attempt.possibly_poison, accepted=accepted, latency_ms=latency
            )
            if attempt.job.key != canary.KEY:
                latencies[attempt.job.key].append(latency / 1000)
                if accepted and not attempt.job.backfill:
                    took = result.started_at.timestamp() + latency / 1000 - made_at(attempt.job.event_id)
                    since_receipt[attempt.job.key].append(max(took, 0.0))
            self._unrecorded.append(result)
        for histogram, values in ((ATTEMPT_SECONDS, latencies), (WEBHOOK_TO_JOB_SECONDS, since_receipt)):
            for key, seconds in values.items():
                histogram.labels(*key).observe_many(seconds)
        if self.spans is not None:
            self.spans.ended(results)
        if is_debugging():
            for result in results:
                log.debug("job_answered", **result.attempt.ids, **_shown(result))

    def _decide(self, results: Iterable[AttemptResult]) -> bool:
        """True if the next claim depends on one of these results: a failure, or one whose lease may end soon.

        A job whose lease ended would be claimed again.
        """
        fresh_since = self.clock() - JOB_LEASE / 2
        return any(
            result.interrupted
            or result.attempt.probe
            or result.started_at < fresh_since
            or classify(result.answer) in {AnswerClass.FAILED, AnswerClass.GONE}
            for result in results
        )

    def _transact(self, ids: Collection[UUID], limit: int, *, claims: bool, results: Sequence[AttemptResult]) -> _Tick:
        """Record results and claim jobs, in one transaction."""
        polls = time.monotonic() - self._polled_at >= POLL_SECONDS
        if not (polls or claims or results):
            return _Tick(RecordedResults(), ClaimResult(), {})
        # What is accepted would be sent again, under the same ids; a failure is told of, and must not be forgotten.
        durable = any(classify(result.answer) is not AnswerClass.ACCEPTED for result in results)
        with self.database.write(durable=durable) as session:
            now = self.clock()
            hinted = job_rows.destinations_of(session, ids) if ids else set()
            if polls or not self.slots.has_all(hinted):
                self.slots.refresh(destinations.targets(session, now=now))
                self._polled_at = time.monotonic()
                self._keys.clear()
                self._brokers.close_unused()
            self.slots.hint(hinted)
            recorded = record(session, self.alerts, results, now=now)
            self.slots.disable(recorded.gone, now=now)
            tallies = _summed(self._tallies, recorded.tallies)
            tallies.pop(canary.KEY, None)  # it has no breaker
            updates = polls or any(tally.is_urgent for tally in tallies.values())
            to_lock = keys_to_lock(self.slots, now=now) if claims else set()
            before, health = self._update_health(session, tallies if updates else {}, to_lock, now)
            claimed = self._claim(session, health, limit, now) if claims else ClaimResult()
            self._read_keys(session, claimed, now)
            destinations.write_health(session, {key: state for key, state in health.items() if state != before[key]})
            documents = self._read_documents(session, claimed, now)
        self._tallies = {} if updates else tallies
        return _Tick(recorded, claimed, documents)

    def _update_health(
        self,
        session: Session,
        tallies: Mapping[DestinationKey, Tally],
        to_lock: Collection[DestinationKey],
        now: datetime,
    ) -> tuple[Mapping[DestinationKey, HealthState], dict[DestinationKey, HealthState]]:
        """Lock the health of destinations, and apply their tallies: the states before and after.

        All rows are locked by one statement, in order, so that two workers do not deadlock.
        """
        keys = tallies.keys() | set(to_lock)
        if not keys:
            return {}, {}
        before = destinations.lock_health(session, keys, now=now)
        health = update_health(session, self.alerts, before, tallies, now=now)
        for key, state in health.items():
            self.slots.update_health(key, state)
        return before, health

    def _claim(
        self, session: Session, health: dict[DestinationKey, HealthState], limit: int, now: datetime
    ) -> ClaimResult:
        claimed = claim_jobs(session, self.slots, health, limit=limit, now=now)
        crashed = [job for job in claimed.jobs if job.crashes > MAX_CLAIMS]
        if crashed:  # they may be what kills the workers
            give_up(session, self.alerts, crashed, f"claimed {MAX_CLAIMS} times without a result", now=now)
            claimed.jobs = [job for job in claimed.jobs if job.crashes <= MAX_CLAIMS]
        return claimed

    def _read_documents(self, session: Session, claimed: ClaimResult, now: datetime) -> Mapping[UUID, EventDocument]:
        """The events' documents, by event id. Jobs whose document cannot be read are given up."""
        if not claimed.jobs:
            return {}
        documents = job_rows.documents(session, {job.event_id for job in claimed.jobs})
        unreadable = [job for job in claimed.jobs if job.event_id not in documents]
        if unreadable:
            give_up(session, self.alerts, unreadable, "the document of its event cannot be read", now=now)
            claimed.jobs = [job for job in claimed.jobs if job.event_id in documents]
        return documents

    def _read_keys(self, session: Session, claimed: ClaimResult, now: datetime) -> None:
        """Read the signing keys of endpoints that are not cached. A changed secret is used from the next poll on."""
        keys = {job.key for job in claimed.jobs if self.slots.of(job.key).target.kind == "http"}
        if self.http is not None and (unknown := keys - self._keys.keys()):
            self._keys |= self.http.keyring.of(session, unknown, now=now)

    def _send(self, tick: _Tick) -> None:
        """Hand the claimed jobs to the transports."""
        attempts = []
        for job in tick.claimed.jobs:
            event, target = tick.documents[job.event_id], self.slots.of(job.key).target
            keys, probe = self._keys.get(job.key, ()), job.id in tick.claimed.probes
            # Read again, as it becomes a header: the column may have been written by other means.
            traceparent = in_form(event.traceparent) if event.traceparent else None
            if self.spans is not None:
                traceparent = self.spans.begin(job, target, traceparent)
            attempt = DeliveryAttempt(job, target, _document(job, event), keys, probe, traceparent)
            attempts.append(attempt)
            self.slots.dispatched(job.key, possibly_poison=attempt.possibly_poison)
        self.in_flight.dispatched(len(attempts))
        if is_debugging():
            for attempt in attempts:
                log.debug("job_sent", **attempt.ids, attempt=attempt.job.attempts)
        self._brokers.start([attempt for attempt in attempts if attempt.target.kind == "celery"])
        if self._endpoints is not None:
            self._endpoints.start([attempt for attempt in attempts if attempt.target.kind == "http"])
        canaries = [attempt for attempt in attempts if attempt.target.kind == canary.KIND]
        if canaries:  # accepted here: their destination is this process
            self.in_flight.complete([AttemptResult(attempt, self.clock(), DeliveryAnswer()) for attempt in canaries])

    def _record_in_halves(self, results: Sequence[AttemptResult]) -> Delivered:
        """Record results that failed together, by halves, so that only the failing ones are lost.

        The jobs of lost ones are claimed again when their lease ends.
        """
        try:
            with self.database.write() as session:
                return _counted(record(session, self.alerts, results, now=self.clock()))
        except Exception as problem:
            if is_away(problem) or len(results) == 1:
                jobs = [show(JOB, result.attempt.job.id) for result in results]
                log.error("outcomes_lost", jobs=jobs[:10], count=len(jobs), exc_info=problem)
                return Delivered()
        half = len(results) // 2
        return self._record_in_halves(results[:half]) + self._record_in_halves(results[half:])


def _shown(result: AttemptResult) -> dict[str, Any]:
    """The answer of an attempt, for a log line."""
    outcome = "interrupted" if result.interrupted else str(classify(result.answer))
    return {"attempt": result.attempt.job.attempts, "outcome": outcome, "status": result.answer.status}


def _summed(
    first: Mapping[DestinationKey, Tally], second: Mapping[DestinationKey, Tally]
) -> dict[DestinationKey, Tally]:
    return {key: first.get(key, Tally()) + second.get(key, Tally()) for key in first.keys() | second.keys()}


def _counted(recorded: RecordedResults) -> Delivered:
    """Add what was recorded to the metrics."""
    canaries = recorded.states.pop((*canary.KEY, JobState.COMPLETED), 0)
    for (team, destination, state), count in recorded.states.items():
        JOBS.labels(team, destination, state).inc(count)
    completed = recorded.states_in(JobState.COMPLETED)
    return Delivered(completed, recorded.states.total() - completed, canaries)


def _document(job: ClaimedJob, event: EventDocument) -> dict[str, Any]:
    """A job's body, as teams receive it. `backfill` is present only if true."""
    history = {"backfill": True} if job.backfill else {}
    return history | {
        "id": show(JOB, job.id),
        "name": job.name,
        "attempt": job.attempts,
        "created_at": job.created_at.isoformat(),
        "route": {"name": job.route, "version": job.route_version},
        "event": event.document,
    }
