"""The refresh tables of waylink.toml by themselves: read, written down, and made into policies."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.config.provider_catalogue import shipped_catalogue
from app.config.refresh_entries import MOST_TABLES, RefreshEntry
from app.config.waylink_toml import ConfigFile
from app.domain.refreshing.policy import RefreshPolicies, Scope

_Entries = dict[str, RefreshEntry]


class EnvironmentTables(BaseModel):
    """`[environments.<name>.refresh.<integration>]` and the like."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    refresh: _Entries = Field(default_factory=dict, max_length=MOST_TABLES)
    refresh_providers: _Entries = Field(default_factory=dict, max_length=MOST_TABLES)


class RefreshTables(EnvironmentTables):
    """The tables for all environments, and those of single ones."""

    environments: dict[str, EnvironmentTables] = Field(default_factory=dict, max_length=MOST_TABLES)


def tables_of(file: ConfigFile) -> RefreshTables:
    """The refresh tables of the file."""
    own = {
        name: EnvironmentTables(refresh=entry.refresh, refresh_providers=entry.refresh_providers)
        for name, entry in file.environments.items()
        if entry.refresh or entry.refresh_providers
    }
    return RefreshTables(refresh=file.refresh, refresh_providers=file.refresh_providers, environments=own)


def policies_of(tables: RefreshTables) -> RefreshPolicies:
    """The policies of these tables, with the catalogue."""
    by_environment: dict[str, EnvironmentTables] = {"": tables, **tables.environments}
    parts = {
        (environment, scope, name): entry.part
        for environment, own in by_environment.items()
        for scope, named in ((Scope.INTEGRATION, own.refresh), (Scope.PROVIDER, own.refresh_providers))
        for name, entry in named.items()
    }
    return RefreshPolicies(parts, shipped_catalogue())


def written(tables: RefreshTables) -> dict[str, Any]:
    """The tables as JSON, in the form of waylink.toml, such that `RefreshTables` reads them again."""
    return {
        **_written(tables),
        "environments": {name: _written(own) for name, own in tables.environments.items()},
    }


def _written(tables: EnvironmentTables) -> dict[str, Any]:
    return {
        kind: {name: _entry(entry) for name, entry in entries.items()}
        for kind, entries in (("refresh", tables.refresh), ("refresh_providers", tables.refresh_providers))
    }


def _entry(entry: RefreshEntry) -> dict[str, Any]:
    values: Mapping[str, Any] = entry.model_dump(exclude_none=True)
    return {
        name: f"{int(value.total_seconds())}s"
        if isinstance(value, timedelta)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in values.items()
    }
