"""The part of the configuration that services use, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.config.nango_environment import Environment
from app.domain.linking import DirectoryPolicy, DuplicatesPolicy, OwnerChangePolicy, TagKeys
from app.domain.refreshing.policy import RefreshPolicies, RefreshPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """The configuration for services."""

    environments: Mapping[str, Environment]
    directory: DirectoryPolicy = DirectoryPolicy.CREATE
    owner_change: OwnerChangePolicy = OwnerChangePolicy.REASSIGN
    tag_keys: TagKeys = field(default_factory=TagKeys)
    refresh: RefreshPolicies = field(default_factory=RefreshPolicies)
    duplicates: Mapping[str, DuplicatesPolicy] = field(default_factory=dict)  # by integration; `*` is all others

    def refresh_of(self, environment: str, integration: str, provider: str | None) -> RefreshPolicy | None:
        """The refresh policy of an integration's connections; None where their tokens are not refreshed."""
        known = self.environments.get(environment)
        if known is None or not known.has_api:
            return None
        return self.refresh.of(environment, integration, provider)

    def supersedes(self, integration: str) -> bool:
        """Whether an owner's newest connection to this integration supersedes the older ones."""
        chosen = self.duplicates.get(integration, self.duplicates.get("*", DuplicatesPolicy.KEEP))
        return chosen is DuplicatesPolicy.SUPERSEDE

    @property
    def supersedes_any(self) -> bool:
        """Whether any integration's policy is `supersede`."""
        return DuplicatesPolicy.SUPERSEDE in self.duplicates.values()
