"""Shape of `waylink.toml`: environments, teams, destinations, routes and policies."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from app.config.durations import duration
from app.config.notify_entries import NotifyEntry
from app.config.refresh_entries import MOST_TABLES, RefreshEntry
from app.domain.access import GroupRights, Rights, Role
from app.domain.definitions import DefinedNames, wrong_destination, wrong_job, wrong_name
from app.domain.linking import DuplicatesPolicy, TagKeys
from app.domain.patterns import KEPT, compile_pattern
from app.domain.payload_policy import PayloadPolicy
from app.domain.query_validation import check_select, parameters
from app.errors import InvalidPattern


def _refusing(wrong: Callable[[str], str | None]) -> Callable[[str], str]:
    def check(value: str) -> str:
        if reason := wrong(value):
            raise ValueError(reason)
        return value

    return check


Name = Annotated[str, AfterValidator(_refusing(wrong_name))]
JobName = Annotated[str, AfterValidator(_refusing(wrong_job))]
MAX_QUERY_TIME: Final = timedelta(seconds=3)
UUID_PATTERN: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class EnvironmentEntry(_Strict):
    """`[environments.<name>]`. Secrets are named by variable or file, never written in the file."""

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(:\d+)?(/\S*)?$")] = "https://api.nango.dev"
    account: str | None = None
    api_key_env: str | None = None
    api_key_file: Path | None = None
    signing_keys_env: str | None = None
    signing_keys_file: Path | None = None
    payloads: PayloadPolicy = PayloadPolicy.FULL
    account_key_env: str | None = None
    account_key_file: Path | None = None
    nango_id: Annotated[str, StringConstraints(pattern=UUID_PATTERN)] | None = None
    both_urls: bool = False
    refresh: dict[str, RefreshEntry] = Field(default_factory=dict, max_length=MOST_TABLES)
    refresh_providers: dict[str, RefreshEntry] = Field(default_factory=dict, max_length=MOST_TABLES)

    @model_validator(mode="after")
    def _one_source_each(self) -> "EnvironmentEntry":
        for name in ("api_key", "signing_keys", "account_key"):
            if getattr(self, f"{name}_env") is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"has both {name}_env and {name}_file: keep one")
        has_key = self.account_key_env is not None or self.account_key_file is not None
        if has_key != (self.nango_id is not None):
            raise ValueError("account_key_env or account_key_file goes with nango_id, the environment's UUID at Nango")
        return self


class DestinationEntry(_Strict):
    """`[teams.<team>.destinations.<name>]`. Secrets are named by variable or file, never written in the file."""

    kind: Literal["celery", "http"]
    queue: str | None = None
    url: str | None = None
    timeout: timedelta | None = None
    rate_per_second: float | None = None
    broker_url_env: str | None = None
    broker_url_file: Path | None = None
    secret_env: str | None = None
    secret_file: Path | None = None

    @field_validator("timeout", mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        return duration(value) if isinstance(value, str) else value

    @property
    def columns(self) -> dict[str, Any]:
        """The entry as database columns."""
        seconds = None if self.timeout is None else self.timeout.total_seconds()
        described = {"kind": self.kind, "queue": self.queue, "url": self.url}
        return described | {"timeout_seconds": seconds, "rate_per_second": self.rate_per_second}

    def faults(self, team: str) -> Iterator[tuple[str, str]]:
        """Wrong keys, each with its fault."""
        for field, wrong in wrong_destination(self.columns, team=team):
            yield field.removesuffix("_seconds"), wrong
        foreign = ("secret_env", "secret_file") if self.kind == "celery" else ("broker_url_env", "broker_url_file")
        for key in foreign:
            if getattr(self, key) is not None:
                yield key, f"is not for destinations of the kind {self.kind}"
        for name in ("broker_url", "secret"):
            if getattr(self, f"{name}_env") is not None and getattr(self, f"{name}_file") is not None:
                yield f"{name}_env", f"is there beside {name}_file: keep one"


class TeamEntry(_Strict):
    """`[teams.<team>]`."""

    destinations: dict[Name, DestinationEntry] = Field(default_factory=dict)


class RouteEntry(_Strict):
    """`[[routes]]`. `pattern` is an EventBridge event pattern, as a JSON string or a table."""

    name: Name
    team: Name
    destination: Name
    job: JobName
    pattern: str | dict[str, Any]
    enabled: bool = True

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(compile_pattern(value, KEPT).source)
        except InvalidPattern as refused:
            raise ValueError(str(refused)) from None


class SqlDirectoryEntry(_Strict):
    """`[directory.sql]`: the application's own database, and the SELECTs that find a tag's user and organization."""

    url_env: str | None = None
    url_file: Path | None = None
    user_query: str | None = None
    organization_query: str | None = None
    timeout: timedelta = timedelta(seconds=2)
    pool_size: Annotated[int, Field(ge=1, le=10)] = 2

    @field_validator("timeout", mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        return duration(value) if isinstance(value, str) else value

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= MAX_QUERY_TIME:
            raise ValueError("from 1s to 3s: events wait meanwhile")
        return value

    @field_validator("user_query", "organization_query")
    @classmethod
    def _is_select(cls, value: str | None) -> str | None:
        if value is not None and (wrong := check_select(value)):
            raise ValueError(wrong)
        if value is not None and not parameters(value):
            raise ValueError("takes no tag: it would name the same for everybody; write for example :end_user_id")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "SqlDirectoryEntry":
        if (self.url_env is None) == (self.url_file is None):
            raise ValueError("needs url_env or url_file, and not both")
        if self.user_query is None and self.organization_query is None:
            raise ValueError("needs user_query, organization_query or both")
        return self


class DirectoryEntry(_Strict):
    """`[directory]`: the tags that name the owner."""

    user_id_tag: str = TagKeys().user_id
    user_email_tag: str = TagKeys().user_email
    user_name_tag: str = TagKeys().user_name
    organization_id_tag: str = TagKeys().organization_id
    organization_name_tag: str = TagKeys().organization_name
    sql: SqlDirectoryEntry | None = None

    @property
    def tag_keys(self) -> TagKeys:
        """The tags' keys in lower case, as Nango stores them (Nango contract: Tag rules)."""
        return TagKeys(
            user_id=self.user_id_tag.lower(),
            user_email=self.user_email_tag.lower(),
            user_name=self.user_name_tag.lower(),
            organization_id=self.organization_id_tag.lower(),
            organization_name=self.organization_name_tag.lower(),
        )


class GroupEntry(_Strict):
    """`[[operators.groups]]`: the rights of a group of the identity provider's."""

    group: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    role: Role
    team: Name | None = None
    credentials: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "GroupEntry":
        if wrong := self.rights_of_group.rights.fault:
            raise ValueError(wrong)
        return self

    @property
    def rights_of_group(self) -> GroupRights:
        return GroupRights(self.group, Rights(self.role, self.team, self.credentials))


class OperatorsEntry(_Strict):
    """`[operators]`."""

    groups: tuple[GroupEntry, ...] = ()


class ConfigFile(_Strict):
    """The whole of `waylink.toml`."""

    environments: dict[Name, EnvironmentEntry] = Field(default_factory=dict)
    teams: dict[Name, TeamEntry] = Field(default_factory=dict)
    routes: tuple[RouteEntry, ...] = ()
    directory: DirectoryEntry = Field(default_factory=DirectoryEntry)
    refresh: dict[str, RefreshEntry] = Field(default_factory=dict, max_length=MOST_TABLES)
    refresh_providers: dict[str, RefreshEntry] = Field(default_factory=dict, max_length=MOST_TABLES)
    duplicates: dict[str, DuplicatesPolicy] = Field(default_factory=dict)
    operators: OperatorsEntry = Field(default_factory=OperatorsEntry)
    notify: NotifyEntry = Field(default_factory=NotifyEntry)

    @property
    def names(self) -> DefinedNames:
        """Names of the file's teams, destinations and routes."""
        destinations = ((team, name) for team, owner in self.teams.items() for name in owner.destinations)
        return DefinedNames(
            frozenset(self.teams), frozenset(destinations), frozenset((route.team, route.name) for route in self.routes)
        )

    @model_validator(mode="after")
    def _consistent(self) -> "ConfigFile":
        faults = [
            f"teams.{team}.destinations.{name}.{key}: {wrong}"
            for team, owner in self.teams.items()
            for name, entry in owner.destinations.items()
            for key, wrong in entry.faults(team)
        ]
        seen: set[tuple[str, str]] = set()
        for route in self.routes:
            where = f"routes.{route.team}/{route.name}"
            if (route.team, route.name) in seen:
                faults.append(f"{where}: is defined twice")
            seen.add((route.team, route.name))
            team = self.teams.get(route.team)
            if team is None:
                faults.append(f"{where}: there is no team {route.team!r}")
            elif route.destination not in team.destinations:
                faults.append(f"{where}: team {route.team!r} has no destination {route.destination!r}")
        if faults:
            raise ValueError("; ".join(faults))
        return self
