"""The tables of waylink.toml that say how tokens are renewed."""

from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.config.durations import LONGEST_DURATION, duration
from app.domain.refreshing.clocks import NANGO_MARGIN
from app.domain.refreshing.hours import Hours, read_span
from app.domain.refreshing.policy import Keep, PolicyPart, RefreshPolicy, RefreshPriority

MOST_TABLES: Final = 20_000  # of one kind, in one place
_SHORTEST_FORCE: Final = timedelta(minutes=15)
_SPANS: Final = (
    "margin",
    "margin_floor",
    "force_every",
    "keep_alive_cap",
    "warn_before",
    "access_life",
    "refresh_life",
    "idle_limit",
)

_SAME: Final = (
    "enabled",
    "margin_share",
    "priority",
    "daily_calls",
    "concurrency",
    "per_minute",
    "keep",
    "rotates",
    "learnt",
)


class RefreshEntry(BaseModel):
    """`[refresh.<integration>]`: the integration's refresh policy; `[refresh."*"]` is for all others."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    enabled: bool | None = None
    margin: timedelta | None = None
    margin_floor: timedelta | None = None
    margin_share: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    force_every: timedelta | None = None
    keep_alive_share: float | None = Field(None, gt=0, lt=1, allow_inf_nan=False)
    keep_alive_cap: timedelta | None = None
    warn_before: timedelta | None = None
    windows: tuple[str, ...] | None = None
    blackouts: tuple[str, ...] | None = None
    time_zone: str | None = None
    priority: RefreshPriority | None = None
    daily_calls: int | None = Field(None, ge=1, le=10_000)
    concurrency: int | None = Field(None, ge=1, le=1_000)
    per_minute: int | None = Field(None, ge=1, le=100_000)
    keep: Keep | None = None
    access_life: timedelta | None = None
    refresh_life: timedelta | None = None
    idle_limit: timedelta | None = None
    rotates: bool | None = None
    learnt: bool | None = None

    @field_validator(*_SPANS, mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        return duration(value) if isinstance(value, str) else value

    @field_validator(*_SPANS)
    @classmethod
    def _positive(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and not timedelta(0) < value <= LONGEST_DURATION:
            raise ValueError(f"longer than 0s, and at most {LONGEST_DURATION.days}d")
        return value

    @field_validator("force_every")
    @classmethod
    def _not_too_often(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < _SHORTEST_FORCE:
            raise ValueError("at least 15m: every forced call reaches the provider")
        return value

    @field_validator("margin", "margin_floor")
    @classmethod
    def _inside_nangos(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value >= NANGO_MARGIN:
            raise ValueError("less than 15m: earlier, Nango renews nothing")
        return value

    @field_validator("windows", "blackouts")
    @classmethod
    def _spans(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in value or ():
            read_span(text)
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        if value is not None:
            zone_of(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "RefreshEntry":
        floor, cap = self.margin_floor, self.margin
        if floor is not None and floor > (cap or RefreshPolicy().margin):
            raise ValueError("margin_floor is longer than margin")
        if self.time_zone is not None and not (self.windows or self.blackouts):
            raise ValueError("time_zone goes with windows or blackouts")
        if self.hours is not None and not self.hours.are_ever_open():
            raise ValueError("windows and blackouts leave no hour of the week")
        return self

    @property
    def hours(self) -> Hours | None:
        """The hours of windows and blackouts; None where neither is given."""
        if self.windows is None and self.blackouts is None:
            return None
        windows, blackouts = (
            tuple(read_span(text) for text in texts or ()) for texts in (self.windows, self.blackouts)
        )
        return Hours(windows, blackouts, zone_of(self.time_zone or "UTC"))

    @property
    def part(self) -> PolicyPart:
        """The entry as a part of the policies."""
        values: dict[str, Any] = {name: getattr(self, name) for name in (*_SAME, *_SPANS)}
        return PolicyPart(**values, keep_alive_share=self.keep_alive_share, hours=self.hours)


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no time zone of this name, such as Europe/Berlin, is known here") from None
