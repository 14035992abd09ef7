"""Which jobs a process takes next: of each destination as many as it has room for, and none of one that is blocked.

All within one short transaction, a few statements whatever the number of destinations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import jobs as job_rows
from app.db.jobs import ClaimedJob, Head, Key
from app.deadlines import HTTP_TIMEOUT, JOB_LEASE
from app.domain.destination_health import Health
from app.domain.pacing import advanced, allowed
from app.domain.states import Block
from app.services.delivery.slots import Line, Lines

PARKED_AT_ONCE: Final = 500  # of one destination in one transaction


@dataclass(slots=True)
class Taken:
    """What was claimed, and which of it are probes."""

    jobs: list[ClaimedJob] = field(default_factory=list)
    probes: set[UUID] = field(default_factory=set)


def wanted_rows(lines: Lines, *, now: datetime) -> set[Key]:
    """The destinations whose health decides what is taken next, so that their rows have to be locked."""
    return {line.target.key for line in lines.all() if _is_paced(line) or _may_probe(line, now)}


def take(session: Session, lines: Lines, health: dict[Key, Health], *, limit: int, now: datetime) -> Taken:
    """Claim up to `limit` jobs, and beside them suspects and probes, one of each destination.

    `health` has the locked rows, and takes up what changes.
    """
    taken = Taken()
    _park(session, lines, now)
    _take_probes(session, lines, health, taken, now)
    rooms = [(line, _paced(line, room, health, now)) for line, room in lines.rooms(limit)]
    _take_ready(session, rooms, health, taken, now)
    _take_suspects(session, lines, taken, now)
    return taken


def _park(session: Session, lines: Lines, now: datetime) -> None:
    """Set aside what waits for destinations that are blocked: in bulk, and without an attempt."""
    for block in Block:
        blocked = [line for line in lines.all() if line.blocked is block]
        for suspects in (False, True):
            full = [line for line in blocked if (line.held if suspects else line.ready)]
            heads = [_head(line, PARKED_AT_ONCE, now) for line in full]
            if not heads:
                continue
            parked = job_rows.park(session, heads, by=block, now=now, suspects=suspects)
            for line in full:
                line.parked = line.parked or parked[line.target.key] > 0
                more = parked[line.target.key] == PARKED_AT_ONCE
                line.ready, line.held = (line.ready, more) if suspects else (more, line.held)


def _take_probes(session: Session, lines: Lines, health: dict[Key, Health], taken: Taken, now: datetime) -> None:
    """One job of each failing destination whose time has come. Whoever takes it has until the end of its lease."""
    may = [line for line in lines.all() if _may_probe(line, now) and line.target.key in health]
    due = [line for line in may if health[line.target.key].probes_now(now)]
    if not due:
        return
    heads = [_head(line, 1, now) for line in due]
    job_rows.release(session, heads, now=now)
    probes = job_rows.claim(session, heads, now=now)
    found = {job.key for job in probes}
    # Where nothing else waits, a job whose worker was killed will do.
    probes += job_rows.claim(session, [head for head in heads if head.key not in found], now=now, suspects=True)
    found = {job.key for job in probes}
    taken.jobs += probes
    taken.probes |= {job.id for job in probes}
    for line, head in zip(due, heads, strict=True):
        if head.key in found:
            health[head.key] = replace(health[head.key], probe_at=head.until)
            line.target = replace(line.target, probe_at=head.until)
        else:
            line.parked = line.ready = False  # nothing waits; the next look tells of what comes


def _take_ready(
    session: Session, rooms: Sequence[tuple[Line, int]], health: dict[Key, Health], taken: Taken, now: datetime
) -> None:
    for line, room in rooms:
        if not room:  # by its rate; the next look tells what waits
            line.ready = line.parked = False
    rooms = [(line, room) for line, room in rooms if room]
    released = job_rows.release(session, [_head(line, room, now) for line, room in rooms if line.parked], now=now)
    jobs = job_rows.claim(session, [_head(line, room, now) for line, room in rooms], now=now)
    taken.jobs += jobs
    counts = job_rows.by_line(jobs)
    for line, room in rooms:
        key, rate = line.target.key, line.target.rate_per_second
        line.parked = line.parked and released[key] == room
        line.ready = counts[key] == room
        if rate and counts[key]:
            health[key] = replace(health[key], paced_to=advanced(health[key].paced_to, rate, counts[key], now=now))


def _take_suspects(session: Session, lines: Lines, taken: Taken, now: datetime) -> None:
    held = [line for line in lines.all() if line.held and not line.suspect and line.blocked is None]
    if not held:
        return
    suspects = job_rows.claim(session, [_head(line, 1, now) for line in held], now=now, suspects=True)
    taken.jobs += suspects
    found = job_rows.by_line(suspects)
    for line in held:
        line.held = found[line.target.key] > 0


def _paced(line: Line, room: int, health: dict[Key, Health], now: datetime) -> int:
    rate = line.target.rate_per_second
    if not rate:
        return room
    known = health.get(line.target.key)  # without its row nobody may go on; the next turn has it
    return min(room, allowed(known.paced_to, rate, now=now)) if known else 0


def _is_paced(line: Line) -> bool:
    return bool(line.target.rate_per_second) and (line.ready or line.parked) and line.blocked is None


def _may_probe(line: Line, now: datetime) -> bool:
    due = line.target.probe_at is not None and line.target.probe_at <= now
    return line.blocked is Block.BREAKER and due and (line.ready or line.parked)


def _head(line: Line, most: int, now: datetime) -> Head:
    """A lease covers the time-out of the destination."""
    lease = JOB_LEASE
    if line.target.timeout_seconds is not None:
        lease += max(timedelta(0), timedelta(seconds=line.target.timeout_seconds) - HTTP_TIMEOUT)
    return Head(line.target.team, line.target.name, most, now + lease)
