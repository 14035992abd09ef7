"""Shapes of teams, destinations and routes. Rows are the same as in the commands' lists."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from app.web.api.endpoint import PageQuery

Source = Annotated[Literal["file", "api"] | None, Meta(description="Defined in waylink.toml (`file`) or here (`api`).")]
OfTeam = Annotated[str | None, Meta(description="Of this team; a team's token sees its own only.")]
Pattern = Annotated[
    dict[str, Any] | str,
    Meta(description="An event pattern: an object, or JSON text, of which a mistake is told with line and column."),
]


class TeamRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`source`: `file` for what waylink.toml defines, which is read-only here; else `api`."""

    name: str
    source: str
    created_at: str
    retired_at: str | None


class NewTeam(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class RouteRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version of a route: in force from the route set `since_set` up to `until_set`, null for the one that is."""

    team: str
    name: str
    version: int
    destination: str
    job: str
    pattern: dict[str, Any]
    enabled: bool
    source: str
    since_set: int
    until_set: int | None
    created_at: str


class NewRoute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`team` may be left out with a team's token. `name` is the team's own. `job`: the team's Celery task."""

    name: str
    destination: str
    job: str
    pattern: Pattern
    team: str | UnsetType = UNSET
    enabled: bool = True


class RouteChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields that are left out stay as they are. A route's team and name never change."""

    destination: str | UnsetType = UNSET
    job: str | UnsetType = UNSET
    pattern: Pattern | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Versions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All versions of a route, newest first."""

    data: list[RouteRow]


class DestinationRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The place where a team takes its jobs. `own_broker`: it is on the team's own broker, whose URL is a secret.
    `disabled_at`: its jobs are parked. `retired_at`: it was removed, and only earlier jobs still go there.
    """

    team: str
    name: str
    kind: str
    queue: str | None
    own_broker: bool
    url: str | None
    timeout_seconds: float | None
    rate_per_second: float | None
    source: str
    version: int
    created_at: str
    updated_at: str | None
    disabled_at: str | None
    disabled_reason: str | None
    retired_at: str | None


class Health(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`failing_since`: its jobs are parked, and one of them is tried at `probe_at`."""

    failing_since: str | None
    probe_at: str | None
    last_succeeded_at: str | None
    last_failed_at: str | None
    last_error: str | None


class DestinationRecord(DestinationRow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A destination with its health, which is null before the first attempt."""

    health: Health | None


class DestinationMade(DestinationRecord, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`secret`: the signing secret of an HTTP destination, shown only in this answer."""

    secret: str | None


class DestinationChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields that are left out stay as they are; null sets the default. `queue` and `broker_url` are for Celery, `url`
    and `timeout_seconds` for HTTP. `broker_url`, the team's own broker, is set by operators only.
    """

    queue: str | UnsetType = UNSET
    broker_url: str | UnsetType | None = UNSET
    url: str | UnsetType = UNSET
    timeout_seconds: float | UnsetType | None = UNSET
    rate_per_second: float | UnsetType | None = UNSET


class NewDestination(DestinationChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`team` may be left out with a team's token. A Celery destination has a `queue`, one that takes HTTP a `url`."""

    name: str
    kind: Literal["celery", "http"]
    team: str | UnsetType = UNSET


class RotateQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    overlap: Annotated[str, Meta(description="How long those before still sign, such as `24h`; `0s`: no longer.")] = (
        "24h"
    )


class SecretMade(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new signing secret, shown only in this answer. The `replaced` ones also sign until `overlap_ends_at`."""

    id: str
    secret: str
    replaced: list[str]
    overlap_ends_at: str | None


class SecretRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signing secret, by its id. `expires_at` is null for the one without an end."""

    id: str
    created_at: str
    expires_at: str | None


class Secrets(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signing secrets of a destination, newest first, including recently expired ones."""

    data: list[SecretRow]


class TeamQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: Source = None


class RouteQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    team: OfTeam = None
    destination: Annotated[str | None, Meta(description="Into this destination.")] = None
    enabled: Annotated[bool | None, Meta(description="Those that make jobs (true) or do not (false).")] = None
    source: Source = None


class DestinationQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    team: OfTeam = None
    kind: Annotated[Literal["celery", "http"] | None, Meta(description="Of this kind.")] = None
    enabled: Annotated[bool | None, Meta(description="Those whose jobs go out (true) or are parked (false).")] = None
    source: Source = None
    retired: Annotated[bool, Meta(description="Those that were removed, instead of those in force.")] = False


class EditQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: (
        Annotated[int, Meta(ge=1, description="The version this is about: a conflict where another is there by now.")]
        | None
    ) = None


class DisableQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=200, description="Why, for later readers.")] | None = None
