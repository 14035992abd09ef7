"""Limits of an integration: how many of its refreshes run at once, and how many begin within a minute.

They bound planned refreshes in all processes together. Those beyond get turns one after another, so that however many
are due none is looked at again before it may begin.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.domain.refreshing.policy import RefreshPolicy

BURST: Final = timedelta(seconds=10)  # a claim may begin at once what the rate allows within it
ASSUMED: Final = timedelta(seconds=1)  # duration of a call, by which those beyond `concurrency` get their turns


@dataclass(frozen=True, slots=True)
class Turns:
    """next_at: when the rate allows another refresh. held_until: the last turn given to one that was held."""

    next_at: datetime
    held_until: datetime


@dataclass(frozen=True, slots=True)
class Admission:
    """count: how many of the wanted ones begin now, the first ones. held_until: the turns of the others, in order."""

    count: int
    held_until: tuple[datetime, ...]
    turns: Turns


def is_limited(policy: RefreshPolicy) -> bool:
    return policy.concurrency is not None or policy.per_minute is not None


def admit(policy: RefreshPolicy, turns: Turns | None, *, running: int, wanted: int, now: datetime) -> Admission:
    """Admit some of the wanted refreshes. turns: None where none were limited before. running: those in flight."""
    next_at = max(turns.next_at, now) if turns else now
    count, pace = wanted, timedelta(0)
    if policy.concurrency is not None:
        count, pace = min(count, max(policy.concurrency - running, 0)), ASSUMED / policy.concurrency
    if policy.per_minute is not None:
        every = timedelta(minutes=1) / policy.per_minute
        room = now + BURST - next_at
        count = min(count, room // every + 1 if room >= timedelta(0) else 0)
        next_at += count * every
        pace = max(pace, every)
    last = max(turns.held_until if turns else now, next_at - BURST - pace, now)
    held = tuple(last + place * pace for place in range(1, wanted - count + 1))
    return Admission(count, held, Turns(next_at, held[-1] if held else last))
