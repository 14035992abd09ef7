"""Lives of grants as they are learnt from the ages at which grants died, and the policy that they propose.

A grant may die at any age, as when its end user revokes it. A limit of the provider shows as many deaths at one age
that hardly any grant outlives.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

MINIMUM: Final = 5  # deaths at one age
WIDTH: Final = 1.15  # of an age: the oldest of them is at most so many times the youngest
SHARE: Final = 0.5  # of the integration's deaths, which are at that age
OUTLIVED: Final = 0.1  # living grants that are older, as a share of those deaths

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_UNITS: Final = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "m"))


class AgeSince(StrEnum):
    AUTHORIZATION = "authorization"
    RENEWAL = "renewal"


KEYS: Final = {AgeSince.AUTHORIZATION: "refresh_life", AgeSince.RENEWAL: "idle_limit"}  # of waylink.toml

SINCE: Final = {AgeSince.AUTHORIZATION: "the authorization", AgeSince.RENEWAL: "the last renewal"}


@dataclass(frozen=True, slots=True)
class GrantAges:
    """Ages of a grant at its death; of a living one, ages that it has outlived. None: not known."""

    since_authorization: timedelta | None
    since_renewal: timedelta | None

    def of(self, since: AgeSince) -> timedelta | None:
        return self.since_authorization if since is AgeSince.AUTHORIZATION else self.since_renewal


@dataclass(frozen=True, slots=True)
class CommonAge:
    """Deaths of like age: `deaths` of them, from `youngest` to `oldest`. outlived: living grants that are older."""

    since: AgeSince
    deaths: int
    youngest: timedelta
    oldest: timedelta
    outlived: int


@dataclass(frozen=True, slots=True)
class LearntLife:
    """The life that the deaths of an integration's grants show. why_not: why nothing is proposed, else None."""

    environment: str
    integration: str
    deaths: int
    age: CommonAge | None
    why_not: str | None

    @property
    def key(self) -> str | None:
        """The key of the policy that is proposed."""
        return KEYS[self.age.since] if self.age is not None and self.why_not is None else None

    @property
    def span(self) -> str | None:
        """Its value, in the form of waylink.toml: the youngest age, rounded down."""
        return written(self.age.youngest) if self.age is not None and self.why_not is None else None


def learn(
    environment: str, integration: str, dead: Sequence[GrantAges], living: Sequence[GrantAges], *, weight: float = 1.0
) -> LearntLife:
    """The life that these grants show. living: ages outlived by grants, each of which stands for `weight` of them."""
    found = [age for since in AgeSince if (age := _common(since, dead, living, weight)) is not None]
    if len(dead) < MINIMUM or not found:
        few = f"{len(dead)} died; at least {MINIMUM} are needed, whose age is known"
        return LearntLife(environment, integration, len(dead), None, few)
    # Of two ages the one that is not outlived, then the one with more deaths. Where they are alike, that since the last
    # renewal: keeping such a grant alive shows whether it was right.
    best = max(found, key=lambda age: (not _is_outlived(age), age.deaths, age.since is AgeSince.RENEWAL))
    why_not: str | None = None
    if best.deaths < max(MINIMUM, SHARE * len(dead)):
        why_not = f"at most {best.deaths} of {len(dead)} died at a common age"
    elif _is_outlived(best):
        why_not = f"{best.outlived} live on at a greater age"
    return LearntLife(environment, integration, len(dead), best, why_not)


def policy_text(learnt: Iterable[LearntLife], *, by_environment: bool) -> str:
    """Tables for waylink.toml. Empty where nothing is proposed."""
    tables = []
    for one in learnt:
        if one.age is None or one.key is None:
            continue
        place = f"environments.{_key(one.environment)}." if by_environment else ""
        oldest, since = written(one.age.oldest), SINCE[one.age.since]
        lines = [
            f"[{place}refresh.{_key(one.integration)}]",
            f"# {one.age.deaths} of {one.deaths} grants died {one.span} to {oldest} after {since}",
            f'{one.key} = "{one.span}"',
            *(["rotates = false"] if one.age.since is AgeSince.AUTHORIZATION else []),
            "learnt = true",
        ]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def written(span: timedelta) -> str:
    """The span in the form of waylink.toml, rounded down to its largest unit of which it has at least two."""
    for size, unit in _UNITS:
        if span >= 2 * size:
            return f"{span // size}{unit}"
    return f"{int(span.total_seconds())}s"


def _common(since: AgeSince, dead: Sequence[GrantAges], living: Sequence[GrantAges], weight: float) -> CommonAge | None:
    """The age at which most of them died; of several, the greatest."""
    ages = sorted(age for one in dead if (age := one.of(since)) is not None and age > timedelta(0))
    best: tuple[int, timedelta, timedelta] | None = None
    begins = 0
    for place, oldest in enumerate(ages):
        while ages[begins] * WIDTH < oldest:
            begins += 1
        if best is None or place - begins + 1 >= best[0]:
            best = (place - begins + 1, ages[begins], oldest)
    if best is None:
        return None
    deaths, youngest, oldest = best
    # A grant that is renewed again and again after as long a time has outlived that age, even if by nothing.
    least = oldest if since is AgeSince.AUTHORIZATION else youngest
    outlived = sum((age := one.of(since)) is not None and age >= least for one in living)
    return CommonAge(since, deaths, youngest, oldest, round(outlived * weight))


def _is_outlived(age: CommonAge) -> bool:
    return age.outlived > OUTLIVED * age.deaths


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
