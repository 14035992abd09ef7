"""Settings of Nango environments and of calls to Nango."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final

from pydantic import Field, PrivateAttr, SecretStr, field_validator

from app.config.forward_proxy import DIRECT, SCHEMES
from app.config.nango_environment import Environment
from app.config.settings_groups import HintSettings, PolicySettings, read_duration
from app.config.waylink_toml import UUID_PATTERN
from app.domain.budget import DEFAULT_LIMIT
from app.errors import Problem
from app.text_input import misfit, misfit_in_url

DEFAULT_BASE_URL: Final = "https://api.nango.dev"
SHORTEST_PERIOD: Final = timedelta(minutes=5)  # between two reconciliations


class NangoSettings(HintSettings, PolicySettings):
    """Hint and policy settings, with the Nango environments."""

    nango_api_key: SecretStr | None = Field(
        None,
        description="API key of the environment `default`. Without it nothing is confirmed or refreshed.",
        examples=["the key from Nango's environment settings"],
    )
    nango_signing_keys: SecretStr | None = Field(
        None,
        description="Live webhook signing keys of the environment `default`, comma separated, newest first.",
        examples=["new-key,old-key"],
    )
    nango_base_url: str = Field(
        DEFAULT_BASE_URL,
        pattern=r"^https?://[^\s/]+(:\d+)?(/\S*)?$",
        description="Nango's API origin for the environment `default`.",
        examples=[DEFAULT_BASE_URL],
    )
    nango_account_key: SecretStr | None = Field(
        None,
        description="Account API key of Nango, by which `waylink check` looks at the webhook settings of the "
        "environment `default`; scopes account:environments:read and :read_secret.",
        examples=["an account API key"],
    )
    nango_environment_id: str | None = Field(
        None,
        pattern=UUID_PATTERN,
        description="UUID that the environment `default` has at Nango, for WAYLINK_NANGO_ACCOUNT_KEY.",
        examples=["00000000-0000-4000-8000-000000000001"],
    )
    nango_proxy: SecretStr | None = Field(
        None,
        description="Forward proxy (`http://` or `https://`) for calls to Nango; `none` for none. Unset: what "
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY of the environment say. Teams' endpoints and brokers are "
        "never reached through one.",
        examples=["http://proxy.internal:3128"],
    )
    nango_both_urls: bool = Field(
        False,
        description="Both webhook URLs of Nango's environment settings lead here, for the environment `default`: "
        "identical bytes are one event, whatever their type.",
        examples=["true"],
    )
    nango_requests_per_minute: int = Field(
        DEFAULT_LIMIT,
        ge=1,
        le=10_000_000,
        description="The rate limit of a Nango account, until one of Nango's answers has told it.",
        examples=["2000"],
    )
    reconcile_every: timedelta = Field(
        timedelta(hours=1),
        description="How often Nango's list of connections is compared with ours, such as `15m`; `0` turns it off. "
        "2,000 connections cost a call.",
        examples=["15m"],
    )

    # Private attributes, so that no variable can set them.
    _environments: Mapping[str, Environment] = PrivateAttr(default_factory=dict)
    _unusable: Mapping[str, Sequence[Problem]] = PrivateAttr(default_factory=dict)

    @field_validator("nango_proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value()
        if wrong := misfit_in_url(text):
            raise ValueError(wrong)
        if text != DIRECT and not text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
            raise ValueError("has to start with http:// or https://, or be `none`")
        return value

    @field_validator("nango_api_key", "nango_account_key")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (wrong := misfit(value.get_secret_value())):
            raise ValueError(wrong)
        return value

    @field_validator("reconcile_every", mode="before")
    @classmethod
    def _period(cls, value: object) -> object:
        return read_duration(value)

    @field_validator("reconcile_every")
    @classmethod
    def _not_too_often(cls, value: timedelta) -> timedelta:
        if value and value < SHORTEST_PERIOD:
            raise ValueError("at least 5m, or 0: connections younger than five minutes are left to their webhook")
        return value

    @property
    def environments(self) -> Mapping[str, Environment]:
        """Usable Nango environments by name."""
        return self._environments

    def environment_problems(self, names: Collection[str] | None = None) -> list[Problem]:
        """Problems of the unusable environments, or only of those with these names."""
        unusable = [found for name, found in self._unusable.items() if names is None or name in names]
        return [problem for found in unusable for problem in found]

    def complete_with_environments(
        self, environments: Mapping[str, Environment], unusable: Mapping[str, Sequence[Problem]]
    ) -> None:
        """Add the environments; called once, by the loader."""
        self._environments, self._unusable = environments, unusable
