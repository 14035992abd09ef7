"""Context of the sandbox's handlers: one sandbox, and one call to it."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.sandbox.checks import Checks
from app.sandbox.config import SandboxConfig
from app.sandbox.entities import (
    SandboxConnection,
    SandboxEndUser,
    SandboxIntegration,
    SandboxSession,
    SandboxWebhookSettings,
    SavedState,
)
from app.sandbox.faults import Faults
from app.sandbox.limits import SandboxRateLimit
from app.sandbox.state import Store
from app.sandbox.webhooks import AuthWebhook, WebhookSender, auth_body
from app.sandbox.wire import RefusedError, answer, page


@dataclass(slots=True, kw_only=True)
class Sandbox:
    """One Nango environment. Token life, recovery events and webhook settings start from the config and may change."""

    config: SandboxConfig
    store: Store
    courier: WebhookSender
    faults: Faults
    limit: SandboxRateLimit
    token_lifetime: float
    recovery_events: bool
    webhooks: SandboxWebhookSettings
    others: dict[str, "Sandbox"] = field(default_factory=dict)  # the account's other environments, by name

    def add_environment(self, name: str) -> None:
        """Another environment of the account: empty, without a webhook URL, and not kept in the state file."""
        if name and name not in self.others:
            config = replace(self.config, environment=name, webhook_url=None, state_file=None)
            courier = copy(self.courier)  # the same sender, with a signing key of the environment's own
            courier.signing_key = str(uuid.uuid4())
            store = Store(SavedState(), replica_lag=0)
            webhooks = SandboxWebhookSettings(primary_url=None, switches=dict(self.webhooks.switches))
            self.others[name] = replace(self, config=config, store=store, courier=courier, webhooks=webhooks, others={})

    def integration(self, unique_key: str, *, status: int = 400) -> SandboxIntegration:
        """Raises RefusedError with Nango's `unknown_provider_config`."""
        found = self.store.integrations.get(unique_key)
        if found is None:
            # The auth flows' 404 has no message (recorded).
            raise RefusedError(status, "unknown_provider_config", "Provider does not exists" if status == 400 else None)
        return found

    def event(
        self,
        connection: SandboxConnection,
        operation: str,
        *,
        error: Mapping[str, str] | None = None,
        end_user: SandboxEndUser | None = None,
    ) -> AuthWebhook:
        """An auth webhook about an existing connection, with its tags."""
        body = auth_body(
            environment=self.config.environment,
            connection_id=connection.connection_id,
            integration=connection.integration,
            provider=connection.provider,
            auth_mode=connection.auth_mode,
            operation=operation,
            tags=connection.tags,
            end_user=end_user_member(end_user) if end_user else None,
            error=error,
        )
        return AuthWebhook(urls=self.webhooks.urls(operation, connection.webhook_url_override), body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxCall:
    """One request with its body and query. `session`: of a connect session's call; `scopes`: of an API key's."""

    sandbox: Sandbox
    request: Request
    body: object
    query: Mapping[str, Any]
    now: datetime
    session: SandboxSession | None = None
    scopes: tuple[str, ...] = ()

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    def answer(self, content: object, *, status: int = 200, events: Sequence[AuthWebhook] = ()) -> Response:
        return answer(self.sandbox.courier, content, status=status, events=events)

    def page(self, html: str, *, status: int = 200, events: Sequence[AuthWebhook] = ()) -> Response:
        return page(self.sandbox.courier, html, status=status, events=events)

    def refuse_query(self) -> None:
        """Raises RefusedError for a query where none is allowed."""
        Checks(self.query, code="invalid_query_params").done()

    def live_session(self) -> SandboxSession:
        if self.session is None:
            raise RuntimeError("this route is not guarded by a connect session")
        return self.session


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request: a connect session, or an API key with these scopes, of this environment's sandbox."""

    sandbox: "Sandbox"
    session: SandboxSession | None = None
    scopes: tuple[str, ...] = ()


Handler = Callable[[SandboxCall], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


def end_user_member(end_user: SandboxEndUser) -> dict[str, Any]:
    """The `endUser` member of a webhook: the e-mail may be null; an unknown organization is left out.

    (Nango contract: Auth webhook)
    """
    member: dict[str, Any] = {"endUserId": end_user.id, "endUserEmail": end_user.email, "tags": end_user.tags or {}}
    if end_user.organization:
        member["organizationId"] = end_user.organization.id
    return member


def utc_now() -> datetime:
    """The time in milliseconds, the precision of Nango's timestamps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
