"""Checks of the way from Nango: whether webhooks are stored, refused, arrive, and are signed by which key."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.config.nango_environment import Environments, key_name
from app.db import key_uses, rejections
from app.db.models import Rejection, SigningKeyUse
from app.db.read import arrivals as arrival_rows
from app.domain import arrivals, nango_breaker
from app.domain.arrivals import Silence
from app.domain.nango_breaker import Breaker
from app.domain.status import Check, CheckKind, Level, hint_if
from app.services.status.installation import Installation
from app.services.status.wording import moment, span

HOUR: Final = timedelta(hours=1)  # of rejections
NOT_STORED: Final = frozenset({"overload", "database_away", "fault"})  # causes of valid webhooks that are not stored
NEWS: Final = timedelta(minutes=2)  # of webhooks that could not be stored
QUIET: Final = timedelta(seconds=20)  # without another one, so that one process of several that stores does not hide it
BREAKER_OPEN: Final = timedelta(seconds=60)  # how long Nango's breaker stays open (Nango contract: Circuit breaker)
BAD_SIGNATURE: Final = "bad_signature"
UNSIGNED: Final = timedelta(minutes=10)  # of webhooks that were refused for their signature
WRONG: Final = 3  # of them: one is noise of strangers
SETTLED: Final = timedelta(days=1)  # after which a new key should have signed something


@dataclass(frozen=True, slots=True)
class Webhooks:
    """rejections: of the last hour. uses: of signing keys by environment and name. silences: by environment, None
    where webhooks arrive as usual.
    """

    rejections: Sequence[Rejection]
    uses: Mapping[tuple[str, str], SigningKeyUse]
    silences: Mapping[str, Silence]
    last: Mapping[str, datetime]


def read(session: Session, *, now: datetime) -> Webhooks:
    """Read rejections and keys, whose tables are small, and spans of events where none came for a while."""
    last = arrival_rows.last(session)
    return Webhooks(
        rejections=rejections.newest(session, since=rejections.minute_of(now - HOUR)),
        uses={(use.environment, use.key): use for use in key_uses.all_uses(session)},
        silences=_silences(session, last, now=now),
        last=last,
    )


def checks(
    found: Webhooks, installation: Installation, *, stored_at: datetime | None = None, now: datetime
) -> Iterator[Check]:
    """Judge them. A key that is not listed is retired, unless the configuration has faults.

    stored_at: when an event was last stored for certain; None where that is not known.
    """
    yield _storing_check(found.rejections, stored_at, now)
    for name in installation.environments:
        yield _breaker_check(name, found.rejections, now)
        yield _signature_check(name, found.rejections, found.last.get(name), now)
        yield _arrival_check(name, found.silences.get(name), found.last.get(name))
    yield from _rejection_checks(found.rejections)
    yield from _key_checks(found.uses, installation.environments, complete=not installation.problems, now=now)


def _silences(session: Session, last: Mapping[str, datetime], *, now: datetime) -> dict[str, Silence]:
    spans = {span for at in last.values() for span in arrivals.spans_to_learn(at, now=now)}
    weeks = {
        span: [
            arrival_rows.counts(session, since=since, until=until)
            for since, until in arrivals.same_hours(span, now=now)
        ]
        for span in spans
    }
    found = {}
    for environment, at in last.items():
        earlier = {span: [week.get(environment, 0) for week in counted] for span, counted in weeks.items()}
        if (silence := arrivals.silence(at, earlier, now=now)) is not None:
            found[environment] = silence
    return found


def _storing_check(rows: Sequence[Rejection], stored_at: datetime | None, now: datetime) -> Check:
    """A hint once an event was stored after the last webhook that was not, and none was lost for a while."""
    lost = [row for row in rows if row.cause in NOT_STORED and row.last_at >= now - NEWS]
    if not lost:
        return Check(CheckKind.STORING, Level.OK, 0)
    count, last, repair = (
        sum(row.count for row in lost),
        max(row.last_at for row in lost),
        "waylink rejections --since 10m",
    )
    causes = ", ".join(sorted({row.cause for row in lost}))
    cause = f"webhooks of the last {span(NEWS)} were not stored, whatever their sender did then: {causes}"
    if stored_at is not None and stored_at > last and now - last > QUIET:
        since = f"{cause}; the last one {moment(last)}, and events are stored since {moment(stored_at)}"
        return Check(CheckKind.STORING, Level.HINT, count, since, repair)
    return Check(CheckKind.STORING, Level.RED, count, cause, repair)


def _breaker_check(name: str, rows: Sequence[Rejection], now: datetime) -> Check:
    peak = _peak([row for row in rows if row.environment == name and row.last_at >= now - BREAKER_OPEN])
    state = nango_breaker.breaker_state(peak)
    if state is Breaker.CLOSED:
        return Check(CheckKind.BREAKER, Level.OK, state, subject=name)
    cause = f"{peak} refusals within ten seconds of the last minute; Nango opens it at {nango_breaker.OPENS_AT}"
    repair = f"waylink rejections --environment {name} --since 10m"
    return Check(CheckKind.BREAKER, Level.RED, state, cause, repair, subject=name)


def _signature_check(name: str, rows: Sequence[Rejection], last: datetime | None, now: datetime) -> Check:
    """Red where webhooks are refused for their signature, and none was taken since."""
    mine = [row for row in rows if row.environment == name and row.cause == BAD_SIGNATURE]
    since = max(now - UNSIGNED, last or now - UNSIGNED)
    wrong = [row for row in mine if row.last_at > since]
    count = sum(row.count for row in wrong)
    if count < WRONG:
        return Check(CheckKind.SIGNATURES, Level.OK, count, subject=name)
    taken = f"none was taken since {moment(last)}" if last else "none was ever taken"
    cause = (
        f"webhooks are refused for their signature, the last one {moment(max(row.last_at for row in wrong))}, and "
        f"{taken}: Nango signs with another key, or strangers forge webhooks"
    )
    repair = f"waylink rejections --environment {name} --cause bad_signature"
    return Check(CheckKind.SIGNATURES, Level.RED, count, cause, repair, subject=name)


def _peak(rows: Sequence[Rejection]) -> int:
    """The most refusals within ten seconds that Nango's breaker may have counted: all causes of a minute together."""
    minutes: Counter[datetime] = Counter()
    for row in rows:
        if nango_breaker.counts(row.environment, row.cause):
            minutes[row.minute] += row.peak
    return max(minutes.values(), default=0)


def _arrival_check(name: str, silence: Silence | None, last: datetime | None) -> Check:
    if silence is None:
        told = f"the last one came {moment(last)}" if last else "none has come yet"
        return Check(CheckKind.WEBHOOKS_MISSING, Level.OK, "no", told, subject=name)
    since = moment(last) if last else "a while"
    cause = (
        f"none came since {since}; at this hour of earlier weeks at least {silence.usual} came within "
        f"{span(silence.span)}: look at the webhook URL and settings at Nango"
    )
    return Check(CheckKind.WEBHOOKS_MISSING, Level.HINT, "perhaps", cause, "waylink check", subject=name)


def _rejection_checks(rows: Sequence[Rejection]) -> Iterator[Check]:
    counts: Counter[str] = Counter()
    where: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.cause] += row.count
        where[row.cause][row.environment or "(unknown)"] += row.count
    yield Check(CheckKind.REJECTIONS, Level.OK, counts.total(), "in the last hour")
    for cause, count in sorted(counts.items()):
        named = ", ".join(f"{name} {number}" for name, number in where[cause].items())
        repair = f"waylink rejections --cause {cause}"
        yield Check(CheckKind.REJECTIONS, Level.OK, count, named, repair, subject=cause)


def _key_checks(
    uses: Mapping[tuple[str, str], SigningKeyUse], environments: Environments, *, complete: bool, now: datetime
) -> Iterator[Check]:
    left = dict(uses)
    for name, environment in environments.items():
        names = [key_name(key) for key in environment.signing_keys.live()]
        mine = {key: left.pop((name, key), None) for key in names}
        for position, key in enumerate(names, start=1):
            instead = _used_instead(mine[key], [use for use in mine.values() if use is not None], now)
            cause = _usage(mine[key]) if instead is None else _unused(mine[key], instead)
            repair = "waylink check" if instead else ""
            yield Check(CheckKind.KEY, hint_if(instead), key, cause, repair, subject=f"{name}/{position}")
    for use in left.values() if complete else ():
        cause = f"no longer live; {_usage(use)}"
        yield Check(CheckKind.RETIRED_KEY, Level.OK, use.key, cause, subject=f"{use.environment}/{use.key}")


def _used_instead(use: SigningKeyUse | None, keys: Sequence[SigningKeyUse], now: datetime) -> SigningKeyUse | None:
    """The key that still signs, where a newer one has been live for SETTLED and has signed nothing."""
    if use is None or use.last_at is not None or now - use.first_at < SETTLED:
        return None
    others = [key for key in keys if key.last_at is not None and key.last_at >= use.first_at + SETTLED]
    older = [key for key in others if key.first_at < use.first_at]
    return max(older, key=lambda key: key.last_at or key.first_at, default=None)


def _unused(use: SigningKeyUse | None, instead: SigningKeyUse) -> str:
    since = moment(use.first_at) if use else ""
    return (
        f"live since {since}, and no webhook was signed with it: all are signed with {instead.key}. "
        "Finish the rotation at Nango, or take the new key out"
    )


def _usage(use: SigningKeyUse | None) -> str:
    if use is None:
        return "no web process has run with it yet"
    if use.last_at is None:
        return f"never used since {moment(use.first_at)}"
    return f"last used {moment(use.last_at)}, {use.count} webhooks since {moment(use.first_at)}"
