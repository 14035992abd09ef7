"""Configuration of a sandbox."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_ENVIRONMENT_ID: Final = "00000000-0000-4000-8000-000000000001"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """All durations are seconds. `api_key` and `signing_key` are UUIDv4 texts, as Nango's are.

    (Nango contract: Requests and errors; Signatures)

    `recovery_events` and `deletion_events` are sent by newer Nango releases
    (Nango contract: When auth webhooks are sent); off, the sandbox acts as an older one. `account_key` gives access to
    /environments/{`environment_id`}; without it there is none.
    """

    api_key: str
    signing_key: str
    webhook_url: str | None = None
    environment: str = "dev"
    account_key: str | None = None
    environment_id: str = DEFAULT_ENVIRONMENT_ID
    public_url: str = "http://127.0.0.1:3003"
    token_lifetime: float = 3600.0
    replica_lag: float = 0.0
    rate_limit_per_minute: int = 100_000
    retry_waits: tuple[float, ...] = (3.0, 6.0)
    delivery_timeout: float = 20.0
    recovery_events: bool = True
    deletion_events: bool = True
    state_file: Path | None = None
