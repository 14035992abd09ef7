"""The configuration as far as checks look at it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from app.config.nango_environment import Environments
from app.domain.definitions import DefinedNames
from app.domain.notifying import Channel
from app.errors import Problem
from app.sealing import Sealer
from app.services.policy import Policy


@dataclass(frozen=True, slots=True)
class DefinitionFile:
    """The names that waylink.toml defines. path: None where there is no file."""

    names: DefinedNames
    path: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The configuration as far as checks look at it.

    problems: its faults. brokers: URLs of kombu by `internal` and `team`, empty where they are not usable. file: None
    where it cannot be read. keep_events, keep_refreshes: None keeps them for ever.
    """

    problems: Sequence[Problem] = ()
    policy: Policy
    brokers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sealer: Sealer | None = field(default=None, repr=False)
    file: DefinitionFile | None = None
    public_url: str | None = None
    canary_every: timedelta = timedelta(0)
    reconcile_every: timedelta = timedelta(0)
    keep_events: timedelta | None = None
    keep_refreshes: timedelta | None = None
    channels: Sequence[Channel] = ()  # of notifications
    nango_requests_per_minute: int

    @property
    def environments(self) -> Environments:
        return self.policy.environments

    @property
    def asks_nango(self) -> bool:
        """Whether any environment has an API key."""
        return any(environment.has_api for environment in self.environments.values())
