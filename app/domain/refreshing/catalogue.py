"""The catalogue of providers: what they document about the lives of their tokens, each line with source and date.

The data is in providers.toml beside this module. A policy in waylink.toml goes before it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final

from app.domain.refreshing.clocks import NANGO_MARGIN
from app.domain.refreshing.lives import NO_LIVES, ClockSource, KnownLives, Life

FILE: Final = "providers.toml"
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPANS: Final = ("access_life", "refresh_life", "idle_limit", "nango_margin")
_OTHERS: Final = ("names", "source", "read", "rotates", "renews", "reuse", "note")


class Renewal(StrEnum):
    DUE = "due"  # by a plain GET within Nango's margin before the expiry
    FORCED = "forced"  # by a forced GET only
    INTROSPECTED = "introspected"  # by a plain GET, when the provider says that the token has expired
    NEVER = "never"  # by nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLine:
    """The documented facts of these providers' tokens; None where the source does not say it.

    names: Nango's. access_life: of an access token. refresh_life: of a refresh token, from its issue on. idle_limit: of
    a refresh token that is not used. rotates: each use of a refresh token brings another one. reuse: what is known of
    using one twice. nango_margin: before the expiry. read: when the source was read.
    """

    names: tuple[str, ...]
    access_life: timedelta | None = None
    refresh_life: timedelta | None = None
    idle_limit: timedelta | None = None
    rotates: bool | None = None
    reuse: str | None = None
    renews: Renewal = Renewal.DUE
    nango_margin: timedelta = NANGO_MARGIN
    note: str | None = None
    source: str
    read: date

    @property
    def lives(self) -> KnownLives:
        return KnownLives(
            access=_life(self.access_life),
            refresh=_life(self.refresh_life),
            idle=_life(self.idle_limit),
            rotates=self.rotates is not False,
        )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The lines in the file's order."""

    lines: tuple[ProviderLine, ...] = ()
    _by_name: Mapping[str, ProviderLine] = field(default_factory=dict, repr=False)

    def of(self, provider: str | None) -> ProviderLine | None:
        """The line of a provider; None where nothing is known of it."""
        return self._by_name.get(provider or "")

    def lives_of(self, provider: str | None) -> KnownLives:
        """The lives of a provider's tokens, as far as they are documented."""
        line = self.of(provider)
        return NO_LIVES if line is None else line.lives


def read_catalogue(text: str) -> Catalogue:
    """The catalogue in the form of providers.toml. Raises ValueError that names the line's providers and the fault."""
    lines = tuple(_line(entry) for entry in tomllib.loads(text).get("provider", []))
    by_name: dict[str, ProviderLine] = {}
    for line in lines:
        for name in line.names:
            if by_name.setdefault(name, line) is not line:
                raise ValueError(f"{name}: stands in two lines")
    return Catalogue(lines, by_name)


def _line(entry: Mapping[str, Any]) -> ProviderLine:
    names = tuple(entry.get("names", ()))
    where = ", ".join(names) or "a line without names"
    if wrong := sorted(set(entry) - {*_SPANS, *_OTHERS}):
        raise ValueError(f"{where}: unknown member {wrong[0]}")
    source, read = entry.get("source"), entry.get("read")
    if not names or not isinstance(source, str) or not source.startswith("https://") or not isinstance(read, date):
        raise ValueError(f"{where}: needs names, the URL of its source, and the day when that was read")
    try:
        spans = {name: _span(entry[name]) for name in _SPANS if name in entry}
        return ProviderLine(
            names=names,
            access_life=spans.get("access_life"),
            refresh_life=spans.get("refresh_life"),
            idle_limit=spans.get("idle_limit"),
            rotates=entry.get("rotates"),
            reuse=entry.get("reuse"),
            renews=Renewal(entry.get("renews", Renewal.DUE)),
            nango_margin=spans.get("nango_margin", NANGO_MARGIN),
            note=entry.get("note"),
            source=source,
            read=read,
        )
    except (ValueError, KeyError) as problem:
        raise ValueError(f"{where}: {problem}") from None


def _life(span: timedelta | None) -> Life | None:
    return None if span is None else Life(span, ClockSource.CATALOGUE)


def _span(text: str) -> timedelta:
    return timedelta(**{_UNITS[text[-1:]]: int(text[:-1])})
