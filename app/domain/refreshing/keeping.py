"""Fresh or alive: how many connections a request budget keeps fresh, and which fall back first.

A fresh one's token is renewed before it expires. Of one that is kept alive the grant is kept from lapsing, which costs
a call a day. Planned renewals have at least HORIZON from their turn to the expiry. So where no more are due within
HORIZON than the budget carries in that time, none is late.

While one of a higher priority is kept alive only, fresh ones of lower priorities change places with it as their
renewals come near: as many fall back as return, so that the calls stay as many.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from app.domain.refreshing.policy import RefreshPriority

HORIZON: Final = timedelta(minutes=10)  # from the last turn of a window to the expiry, by the default policy
EVERY: Final = timedelta(minutes=1)  # between two balances of an account
ROOM: Final = 0.95  # share of the budget up to which connections become fresh again; above it they only change places

_BALANCES: Final = HORIZON / EVERY  # within HORIZON
_FIRST_TO_FALL: Final = (RefreshPriority.LOW, RefreshPriority.NORMAL, RefreshPriority.HIGH)


class AliveBy(StrEnum):
    """The reason why a connection is kept alive only."""

    POLICY = "policy"
    BUDGET = "budget"


class GroupKey(NamedTuple):
    """Connections of one policy."""

    environment: str
    integration: str
    provider: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """due: plans within HORIZON, overdue ones included. movable: of these, renewals of tokens, which may fall back.

    alive: connections that have fallen back for want of budget.
    """

    key: GroupKey
    priority: RefreshPriority
    due: int = 0
    movable: int = 0
    alive: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """falling, returning: how many connections of each group. due: of all. carried: by the budget within HORIZON."""

    due: int
    carried: float
    falling: Mapping[GroupKey, int] = field(default_factory=dict)
    returning: Mapping[GroupKey, int] = field(default_factory=dict)


def balance(groups: Sequence[Group], *, per_minute: float) -> Balance:
    """The changes to make now. per_minute: the calls that planned refreshes of the account may make."""
    due, carried = sum(group.due for group in groups), per_minute * (HORIZON / timedelta(minutes=1))
    if due > carried:
        sizes = [(group, group.movable) for group in groups]
        return Balance(due, carried, falling=_chosen(sizes, _FIRST_TO_FALL, int(due - carried) + 1))
    falling = _giving_way(groups)
    room = max(int((carried * ROOM - due) / _BALANCES), 0) + sum(falling.values())
    sizes = [(group, group.alive) for group in groups]
    return Balance(due, carried, falling, _chosen(sizes, _FIRST_TO_FALL[::-1], room))


def _giving_way(groups: Sequence[Group]) -> Mapping[GroupKey, int]:
    """Fresh ones that give way to those of higher priorities: of what is due within HORIZON one balance's part."""
    given: dict[GroupKey, int] = {}
    for place, priority in enumerate(_FIRST_TO_FALL):
        higher = sum(group.alive for group in groups if group.priority in _FIRST_TO_FALL[place + 1 :])
        mine = [(group, group.movable) for group in groups if group.priority is priority]
        part = math.ceil(sum(size for _, size in mine) / _BALANCES)
        given |= _chosen(mine, (priority,), min(part, higher - sum(given.values())))
    return given


def _chosen(
    sizes: Sequence[tuple[Group, int]], order: Sequence[RefreshPriority], wanted: int
) -> Mapping[GroupKey, int]:
    """So many of all, by priority; within one priority, of each group its share."""
    chosen: dict[GroupKey, int] = {}
    for priority in order if wanted > 0 else ():
        mine = [(group.key, size) for group, size in sizes if group.priority is priority and size]
        mine.sort(key=lambda one: (one[0].environment, one[0].integration, one[0].provider or ""))
        total = sum(size for _, size in mine)
        taken = before = 0
        for key, size in mine:
            before += size
            upto = min(wanted, total) * before // total  # rounded for the sum, so that no group's share is lost
            if upto > taken:
                chosen[key] = upto - taken
            taken = upto
        wanted -= taken
        if wanted <= 0:
            break
    return chosen
