"""The known lives of an integration's tokens, beside what a provider's answer tells."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class ClockSource(StrEnum):
    PROVIDER = "provider"  # the provider's token response
    CATALOGUE = "catalogue"  # what the provider documents, in the catalogue that Waylink ships
    LEARNT = "learnt"  # ages at which grants of the integration lapsed
    POLICY = "policy"  # the refresh policy in waylink.toml
    UNKNOWN = "unknown"  # nothing is known; the reason says why


@dataclass(frozen=True, slots=True)
class Life:
    """A span, and where it is known from."""

    span: timedelta
    source: ClockSource


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLives:
    """access: of an access token. refresh: of a refresh token from its issue on. idle: of one that is not used.

    rotates: a renewal brings another refresh token, whose life begins anew.
    """

    access: Life | None = None
    refresh: Life | None = None
    idle: Life | None = None
    rotates: bool = True


NO_LIVES: Final = KnownLives()
_ALIKE: Final = timedelta(minutes=1)


def is_moved_by_renewal(lives: KnownLives, grant_at: datetime, renewed_at: datetime | None) -> bool:
    """Whether a renewal moves this deadline of a grant, as far as is known.

    A refresh token that renewals do not replace keeps its end; but its idle limit begins anew.
    """
    if lives.rotates:
        return True
    return lives.idle is not None and renewed_at is not None and abs(grant_at - renewed_at - lives.idle.span) < _ALIKE


def earliest(moments: Iterable[datetime | None]) -> datetime | None:
    """The earliest of the moments that are known."""
    return min((moment for moment in moments if moment is not None), default=None)


def latest(moments: Iterable[datetime | None]) -> datetime | None:
    """The latest of the moments that are known."""
    return max((moment for moment in moments if moment is not None), default=None)


def shown_span(span: timedelta) -> str:
    """The span in words: days where it has some, else hours or minutes."""
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if span >= unit:
            count = span / unit
            number = f"{count:.0f}" if count == int(count) else f"{count:.1f}"
            return f"{number} {name}" if number == "1" else f"{number} {name}s"
    return f"{span.total_seconds():.0f} seconds"


def shown_moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
