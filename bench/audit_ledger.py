"""The audit's judgement, without I/O: what was sent and acknowledged, against what the database and the team hold."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

LINKED = "connection.linked"


@dataclass(frozen=True, slots=True)
class Sent:
    """The connection of one webhook, and the event type expected of it."""

    connection_id: str
    type: str


@dataclass(slots=True)
class Ledger:
    """The sender's own books. A digest is the SHA-256 of a body, in hex; an event id is shown, as in the 202."""

    sent: dict[str, Sent] = field(default_factory=dict)
    acknowledged: set[tuple[str, str]] = field(default_factory=set)  # (event id, digest)


@dataclass(frozen=True, slots=True)
class EventRow:
    id: str
    state: str
    type: str | None
    connection_id: str | None
    digest: str | None  # None: an event of Waylink's own, which has no body


@dataclass(frozen=True, slots=True)
class JobRow:
    id: str
    event_id: str
    route: str
    state: str
    attempts: int = 1  # claims; another one means that a worker did not bring the first to its end


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows and messages at the end, when no event or job is unfinished."""

    events: Sequence[EventRow]
    open_links: Sequence[str]  # the connection id of each open link
    jobs: Sequence[JobRow]
    queue: Mapping[str, int]  # how often each job's id came out of the team's queue


@dataclass(frozen=True, slots=True)
class Finding:
    """A missing row (`lost`), one row too many (`doubled`), a process that no longer works (`stuck`), or a row that
    names one that is not there (`broken`).
    """

    kind: Literal["lost", "doubled", "stuck", "broken"]
    what: str
    id: str


def verdict(ledger: Ledger, rows: Rows, routes: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Everything that is wrong; nothing is right.

    routes: the event types that each route matches. The whole run has to lie within one duplicate window.
    """
    if not ledger.acknowledged:
        return [Finding("lost", "nothing was acknowledged", "")]
    judged = (
        _acknowledged(ledger, rows),
        _events(ledger, rows),
        _links(ledger, rows),
        _jobs(rows, routes),
        _delivered(rows),
    )
    return [finding for findings in judged for finding in findings]


def redeliveries(rows: Rows) -> int:
    """The number of jobs delivered again under the same id, which delivery at least once allows."""
    return sum(rows.queue.values()) - len(rows.queue)


def _acknowledged(ledger: Ledger, rows: Rows) -> Iterator[Finding]:
    stored = {event.id: event.digest for event in rows.events}
    for event_id, digest in sorted(ledger.acknowledged):
        if event_id not in stored:
            yield Finding("lost", "acknowledged, but no such event", event_id)
        elif stored[event_id] != digest:
            yield Finding("lost", "acknowledged with the id of another event", event_id)


def _events(ledger: Ledger, rows: Rows) -> Iterator[Finding]:
    seen: set[str] = set()
    for event in rows.events:
        if event.state != "processed":
            yield Finding("lost", f"event is {event.state}", event.id)
        if event.digest is None:
            continue
        sent = ledger.sent.get(event.digest)
        if sent is None:
            yield Finding("doubled", "event that was not sent", event.id)
        elif event.state == "processed" and (event.type, event.connection_id) != (sent.type, sent.connection_id):
            yield Finding("lost", f"event was taken for {event.type}", event.id)
        if event.digest in seen:
            yield Finding("doubled", "second event for the same bytes", event.id)
        seen.add(event.digest)


def _links(ledger: Ledger, rows: Rows) -> Iterator[Finding]:
    stored = {event.digest for event in rows.events}
    wanted = {sent.connection_id for digest, sent in ledger.sent.items() if digest in stored}
    told = [event.connection_id or "" for event in rows.events if event.type == LINKED]
    yield from _once_each(Counter(rows.open_links), wanted, "open link of the connection")
    yield from _once_each(Counter(told), wanted, f"{LINKED} of the connection")


def _jobs(rows: Rows, routes: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    wanted = {
        f"{event.id} {route}"
        for event in rows.events
        for route, types in routes.items()
        if event.state == "processed" and event.type in types
    }
    yield from _once_each(Counter(f"{job.event_id} {job.route}" for job in rows.jobs), wanted, "job of event and route")
    for job in rows.jobs:
        if job.state != "completed":
            yield Finding("lost", f"job is {job.state}", job.id)


def _delivered(rows: Rows) -> Iterator[Finding]:
    completed = {job.id for job in rows.jobs if job.state == "completed"}
    for job_id in sorted(completed - rows.queue.keys()):
        yield Finding("lost", "completed job that the team never got", job_id)
    for job_id in sorted(rows.queue.keys() - {job.id for job in rows.jobs}):
        yield Finding("doubled", "job in the team's queue that is in no table", job_id)


def _once_each(found: Counter[str], wanted: set[str], what: str) -> Iterator[Finding]:
    for identity in sorted(wanted - found.keys()):
        yield Finding("lost", f"no {what}", identity)
    for identity, times in sorted(found.items()):
        if identity not in wanted:
            yield Finding("doubled", f"{what} that nothing asked for", identity)
        elif times > 1:
            yield Finding("doubled", f"{times} times: {what}", identity)
