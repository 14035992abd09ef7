"""Notifications of checks: what a channel is told, and when.

A check is told once it has not been well for a while, and again once it has been well for as long. A shorter change
counts as none, so that a check that goes to and fro is told once.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.status import Check, CheckKind, Level

MOST_CHANGES: Final = 100  # in one message; others follow in the next one
ATTEMPTS: Final = 8  # of one message, after which another one tells what is so by then
WAITS: Final = (10, 30, 60, 120, 300, 600, 900)  # seconds after the first, second, … failure of a channel in a row
GONE_WAIT: Final = timedelta(hours=1)  # after 410
RED_AFTER: Final = 2  # failures in a row after which the status is red; the first may be a passing one
_RANK: Final = {Level.OK: 0, Level.HINT: 1, Level.RED: 2}


class ChannelKind(StrEnum):
    """The way to a channel."""

    WEBHOOK = "webhook"  # a signed POST, by Standard Webhooks
    SLACK = "slack"  # JSON with a text, to a URL that is a secret
    EMAIL = "email"  # by SMTP


class MailSecurity(StrEnum):
    """TLS of a connection to a mail server."""

    STARTTLS = "starttls"  # begun in plain text, then TLS or nothing
    TLS = "tls"  # from the first byte on
    NONE = "none"


class ChangeState(StrEnum):
    """The state of a check in a message."""

    RED = "red"
    HINT = "hint"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Rules:
    """The choice of a channel. after: how long a check has to be red, or well again, before it is told.

    checks: ids, kinds, or beginnings of ids with `*` at their end.
    """

    after: timedelta = timedelta(minutes=1)
    levels: frozenset[Level] = frozenset({Level.RED})
    checks: tuple[str, ...] = ("*",)

    def wants(self, check: Check, *, channel: str) -> bool:
        """Whether a channel of this name is told of the check as it is. A channel cannot tell that itself fails."""
        if check.kind is CheckKind.NOTIFICATIONS and check.subject == channel:
            return False
        return check.level in self.levels and any(_fits(check, pattern) for pattern in self.checks)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that messages are posted to. key: signs them; None where the URL itself is the secret."""

    url: str = field(repr=False)
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """A mail server, a sender and recipients."""

    host: str
    port: int
    security: MailSecurity
    sender: str
    recipients: tuple[str, ...]
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A configured channel. place: None where its configuration has a fault, which `fault` tells."""

    name: str
    kind: ChannelKind
    rules: Rules
    place: Endpoint | Mailbox | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A check that is not well, or was not a moment ago, as one channel knows it.

    since: when it was first seen so. well_since: since when it is well; None while it is not. told: the level that the
    channel was told; None for none. value, cause, repair: as they were seen last while it was not well.
    """

    id: str
    name: str
    level: Level
    since: datetime
    well_since: datetime | None = None
    told: Level | None = None
    value: str = ""
    cause: str = ""
    repair: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of one check, as a message tells it. until: when it was well again; None while it is not."""

    id: str
    name: str
    state: ChangeState
    since: datetime
    until: datetime | None
    value: str
    cause: str
    repair: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """kept: rows as they are now. gone: ids of those that are over. changes: what is to be told."""

    kept: Sequence[Watched]
    gone: Sequence[str]
    changes: Sequence[Change]


def judge(
    known: Mapping[str, Watched],
    checks: Iterable[Check],
    rules: Rules,
    *,
    channel: str,
    now: datetime,
    telling: Collection[str] = frozenset(),
) -> Judgement:
    """Compare what a channel knows with the checks as they are.

    telling: ids in a message that is under way: the channel counts as told.
    """
    seen = {check.id: check for check in checks if rules.wants(check, channel=channel)}
    kept = [_seen(known.get(id_), check, now) for id_, check in seen.items()]
    gone: list[str] = []
    changes = [_change(row) for row in kept if _is_to_be_told(row, rules, now)]
    for row in (row for id_, row in known.items() if id_ not in seen):
        well_since = row.well_since or now
        is_over = now - well_since >= rules.after
        if is_over and row.told is None and row.id not in telling:
            gone.append(row.id)
            continue
        kept.append(replace(row, well_since=well_since))
        if is_over and row.told is not None:
            changes.append(_change(kept[-1]))
    return Judgement(kept, gone, changes[:MOST_CHANGES])


def wait_after(failures: int, *, gone: bool) -> timedelta:
    """The wait after this many failures in a row, from 1 on. gone: the channel wants no more messages."""
    return GONE_WAIT if gone else timedelta(seconds=WAITS[min(max(failures, 1), len(WAITS)) - 1])


def unknown_patterns(patterns: Iterable[str]) -> Iterator[str]:
    """Patterns that fit no check of any kind."""
    for pattern in patterns:
        beginning = pattern.removesuffix("*").partition(":")[0]
        is_open = pattern.endswith("*") and ":" not in pattern
        if not any(str(kind).startswith(beginning) if is_open else kind == beginning for kind in CheckKind):
            yield pattern


def _fits(check: Check, pattern: str) -> bool:
    if pattern.endswith("*"):
        return check.id.startswith(pattern[:-1])
    return pattern in {check.id, check.kind}


def _seen(row: Watched | None, check: Check, now: datetime) -> Watched:
    before = Watched(id=check.id, name=check.name, level=check.level, since=now) if row is None else row
    is_worse = _RANK[check.level] > _RANK[before.level]
    return replace(
        before,
        level=check.level if is_worse or before.told is None else before.level,
        since=now if is_worse else before.since,
        well_since=None,
        value=str(check.value),
        cause=check.cause,
        repair=check.repair,
    )


def _is_to_be_told(row: Watched, rules: Rules, now: datetime) -> bool:
    told = Level.OK if row.told is None else row.told
    return _RANK[row.level] > _RANK[told] and now - row.since >= rules.after


def _change(row: Watched) -> Change:
    state = ChangeState.RECOVERED if row.well_since is not None else ChangeState(str(row.level))
    return Change(
        id=row.id,
        name=row.name,
        state=state,
        since=row.since,
        until=row.well_since,
        value=row.value,
        cause=row.cause,
        repair="" if row.well_since is not None else row.repair,
    )
