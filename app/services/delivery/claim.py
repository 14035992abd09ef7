"""Claim the jobs to deliver next, in one short transaction and a fixed number of statements for all destinations.

Each destination gets as many jobs as it has free slots and its rate limit allows; jobs of blocked ones are parked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import jobs as job_rows
from app.db.jobs import ClaimedJob, QueueHead
from app.deadlines import HTTP_TIMEOUT, JOB_LEASE
from app.domain.definitions import DestinationKey
from app.domain.destination_breaker import HealthState
from app.domain.pacing import advanced, allowed
from app.domain.states import Block
from app.services.delivery.slots import DestinationSlots, Slots

PARKED_AT_ONCE: Final = 500  # jobs of one destination in one transaction


@dataclass(slots=True)
class ClaimResult:
    """The claimed jobs, and the ids of those that are probes."""

    jobs: list[ClaimedJob] = field(default_factory=list)
    probes: set[UUID] = field(default_factory=set)


def keys_to_lock(slots: Slots, *, now: datetime) -> set[DestinationKey]:
    """The destinations whose health rows `claim_jobs` needs locked: those with a rate limit or a probe due."""
    return {slot.target.key for slot in slots.all() if _is_paced(slot) or _may_probe(slot, now)}


def claim_jobs(
    session: Session, slots: Slots, health: dict[DestinationKey, HealthState], *, limit: int, now: datetime
) -> ClaimResult:
    """Claim up to `limit` jobs, besides one probe and one possibly poison job per destination.

    `health` has the locked rows' values, and is updated in place.
    """
    result = ClaimResult()
    _park(session, slots, now)
    _claim_probes(session, slots, health, result, now)
    rooms = [(destination, _paced(destination, room, health, now)) for destination, room in slots.allot(limit)]
    _claim_ready(session, rooms, health, result, now)
    _claim_possibly_poison(session, slots, result, now)
    return result


def _park(session: Session, slots: Slots, now: datetime) -> None:
    """Park the due jobs of blocked destinations: in bulk, and without an attempt."""
    for block in Block:
        blocked = [destination for destination in slots.all() if destination.blocked is block]
        for possibly_poison in (False, True):
            full = [slot for slot in blocked if (slot.held if possibly_poison else slot.ready)]
            heads = [_head(destination, PARKED_AT_ONCE, now) for destination in full]
            if not heads:
                continue
            parked = job_rows.park(session, heads, by=block, now=now, possibly_poison=possibly_poison)
            for destination in full:
                destination.parked = destination.parked or parked[destination.target.key] > 0
                more = parked[destination.target.key] == PARKED_AT_ONCE
                if possibly_poison:
                    destination.held = more
                else:
                    destination.ready = more


def _claim_probes(
    session: Session, slots: Slots, health: dict[DestinationKey, HealthState], result: ClaimResult, now: datetime
) -> None:
    """Claim one job of each failing destination whose probe is due. The next probe is due when its lease ends."""
    may = [slot for slot in slots.all() if _may_probe(slot, now) and slot.target.key in health]
    due = [destination for destination in may if health[destination.target.key].is_probe_due(now)]
    if not due:
        return
    heads = [_head(destination, 1, now) for destination in due]
    job_rows.release(session, heads, now=now)
    probes = job_rows.claim(session, heads, now=now)
    found = {job.key for job in probes}
    # Without another job due, one that is possibly poison serves as the probe.
    rest = [head for head in heads if head.key not in found]
    probes += job_rows.claim(session, rest, now=now, possibly_poison=True)
    found = {job.key for job in probes}
    result.jobs += probes
    result.probes |= {job.id for job in probes}
    for destination, head in zip(due, heads, strict=True):
        if head.key in found:
            health[head.key] = replace(health[head.key], probe_at=head.until)
            destination.target = replace(destination.target, probe_at=head.until)
        else:
            destination.parked = destination.ready = False  # no job is due; the next refresh shows new ones


def _claim_ready(
    session: Session,
    rooms: Sequence[tuple[DestinationSlots, int]],
    health: dict[DestinationKey, HealthState],
    result: ClaimResult,
    now: datetime,
) -> None:
    for destination, room in rooms:
        if not room:  # by its rate limit; the next refresh shows what is due
            destination.ready = destination.parked = False
    rooms = [(destination, room) for destination, room in rooms if room]
    parked = [_head(destination, room, now) for destination, room in rooms if destination.parked]
    released = job_rows.release(session, parked, now=now)
    jobs = job_rows.claim(session, [_head(destination, room, now) for destination, room in rooms], now=now)
    result.jobs += jobs
    counts = job_rows.count_by_destination(jobs)
    for destination, room in rooms:
        key, rate = destination.target.key, destination.target.rate_per_second
        destination.parked = destination.parked and released[key] == room
        destination.ready = counts[key] == room
        if rate and counts[key]:
            health[key] = replace(health[key], paced_to=advanced(health[key].paced_to, rate, counts[key], now=now))


def _claim_possibly_poison(session: Session, slots: Slots, result: ClaimResult, now: datetime) -> None:
    """Claim one job whose last claim brought no result, of each destination with none of these in flight."""
    held = [slot for slot in slots.all() if slot.held and not slot.possibly_poison and slot.blocked is None]
    if not held:
        return
    heads = [_head(destination, 1, now) for destination in held]
    jobs = job_rows.claim(session, heads, now=now, possibly_poison=True)
    result.jobs += jobs
    counts = job_rows.count_by_destination(jobs)
    for destination in held:
        destination.held = counts[destination.target.key] > 0


def _paced(destination: DestinationSlots, room: int, health: dict[DestinationKey, HealthState], now: datetime) -> int:
    """`room`, or less by the destination's rate limit."""
    rate = destination.target.rate_per_second
    if not rate:
        return room
    state = health.get(destination.target.key)  # no job without the locked row; the next tick locks it
    return min(room, allowed(state.paced_to, rate, now=now)) if state else 0


def _is_paced(destination: DestinationSlots) -> bool:
    waits = destination.ready or destination.parked
    return bool(destination.target.rate_per_second) and waits and destination.blocked is None


def _may_probe(destination: DestinationSlots, now: datetime) -> bool:
    due = destination.target.probe_at is not None and destination.target.probe_at <= now
    return destination.blocked is Block.BREAKER and due and (destination.ready or destination.parked)


def _head(destination: DestinationSlots, most: int, now: datetime) -> QueueHead:
    """The first `most` jobs of a destination's queue, with a lease that covers the destination's timeout."""
    lease, target = JOB_LEASE, destination.target
    if target.timeout_seconds is not None:
        lease += max(timedelta(0), timedelta(seconds=target.timeout_seconds) - HTTP_TIMEOUT)
    return QueueHead(target.team, target.name, most, now + lease)
