"""Operations that read connections and integrations."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from app.domain import tags as tag_rules
from app.domain.json_values import JsonObject
from app.domain.webhook_settings import WebhookSettings
from app.errors import (
    InvalidInput,
    NangoConnectionNotFound,
    NangoUnexpected,
    NangoUnknownEnvironment,
    NangoUnknownIntegration,
)
from app.nango import wire
from app.nango.credentials import Credentials, OAuth2Credentials
from app.nango.operation_base import NangoOperations, connection_path, of_integration, segment, text, texts
from app.nango.paging import Window, next_window
from app.nango.transport import NangoCall
from app.nango.types import ConnectionDetail, ConnectionPage, Integration, IntegrationList, ListedConnection

MAX_LIMIT: Final = 2000  # (Nango contract: List connections)
MAX_REPEATED_PAGES: Final = 20  # full pages in a row without a new row, as after a burst of new connections


class Reading(NangoOperations):
    def list_connections(
        self,
        *,
        connection_id: str | None = None,
        search: str | None = None,
        integrations: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        limit: int = 100,
        page: int = 0,
        timeout: float | None = None,
    ) -> ConnectionPage:
        """One page, newest first, without credentials. Scope environment:connections:list.

        connection_id: exact, and may name connections of several integrations (Nango contract: Connection identity).
        search: a substring of id or end user. tags: all must match exactly, values with their case
        (Nango contract: Tag filters). page: counted from 0. A row that cannot be read is among the page's `unreadable`,
        and the others are returned all the same. Raises InvalidTags for tags that no connection can have.
        """
        if not 1 <= limit <= MAX_LIMIT or page < 0:
            raise InvalidInput(f"a page has 1 to {MAX_LIMIT} connections and is counted from 0")
        query = {"limit": str(limit), "page": str(page)}
        if connection_id is not None:
            query["connectionId"] = text(connection_id, "connection_id")
        if search:
            query["search"] = text(search, "search")
        if integrations:
            query["integrationId"] = ",".join(texts(integrations, "integrations"))
        query |= {f"tags[{key}]": value for key, value in tag_rules.normalize(tags or {}).items()}
        answer = self._call(NangoCall(path="/connections", query=query, repeatable=True), timeout=timeout)
        rows, unreadable = wire.rows_of_page(answer)
        return ConnectionPage(
            connections=tuple(wire.listed(row, answer.observed_at) for row in rows),
            unreadable=tuple(unreadable),
            observed_at=answer.observed_at,
            rate_limit=answer.rate_limit,
        )

    def iterate_connections(
        self,
        *,
        search: str | None = None,
        integrations: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        limit: int = 1000,
        timeout: float | None = None,
    ) -> Iterator[ListedConnection]:
        """All connections, each once by Nango's id, requesting page after page while they are consumed.

        Connections that exist throughout are returned exactly once, though others come and go meanwhile: pages overlap,
        and where more rows were deleted than the overlap has, an earlier page is read again (`app.nango.paging`).
        Connections deleted, created or re-tagged meanwhile may be missing. With a limit under 100 pages may not
        overlap, and a deletion can hide a row. Unreadable rows are left out. Raises NangoUnexpected for a list that
        never ends.
        """
        seen: set[int] = set()
        covered, repeated = 0, 0
        while True:
            window = next_window(covered, limit=limit) if covered else Window(0, limit)
            found = self.list_connections(
                search=search,
                integrations=integrations,
                tags=tags,
                limit=window.limit,
                page=window.page,
                timeout=timeout,
            )
            rows = found.connections
            if 0 < window.start < covered and not (rows[0].id in seen if rows else found.unreadable):
                covered = max(window.start - limit, 0)  # rows were deleted: later ones may have moved before the window
                continue
            known = len(seen)
            for row in rows:
                if row.id not in seen:
                    seen.add(row.id)
                    yield row
            if found.size < window.limit:
                return
            covered = window.end
            repeated = repeated + 1 if len(seen) == known else 0
            if repeated >= MAX_REPEATED_PAGES:
                raise NangoUnexpected(detail="the list of connections repeats itself instead of ending")

    def get_connection(
        self,
        integration: str,
        connection_id: str,
        *,
        credentials: bool = True,
        force_refresh: bool = False,
        refresh_token: bool = False,
        refresh_github_app_jwt_token: bool = False,
        timeout: float | None = None,
    ) -> ConnectionDetail:
        """One connection with its credentials, refreshed where due (Nango contract: When a token is refreshed).

        force_refresh: refresh in any case; each call reaches the provider. refresh_token: include refresh tokens.
        refresh_github_app_jwt_token: renew the application's own token (`jwt_token`) of a GitHub App. credentials:
        False drops them unread, so that they cannot be passed on by mistake. The API key decides whether Nango sends
        them and refreshes: with scope …:read_credentials always; with only …:read never, and the three flags are
        forbidden. `list_connections(connection_id=…)` never refreshes.

        Raises, in addition to the common errors, NangoConnectionNotFound, NangoUnknownIntegration and those of
        refreshing: NangoRefreshFailed, NangoRefreshBackingOff, NangoRefreshExhausted.
        """
        flags = {
            "force_refresh": force_refresh,
            "refresh_token": refresh_token,
            "refresh_github_app_jwt_token": refresh_github_app_jwt_token,
        }
        wanted = [name for name, asked in flags.items() if asked]
        if wanted and not credentials:
            raise InvalidInput(f"{' and '.join(wanted)} ask for credentials: they need credentials=True")
        return self._read(integration, connection_id, wanted, credentials=credentials, timeout=timeout)

    def renew_token(
        self, integration: str, connection_id: str, *, force_refresh: bool = False, timeout: float | None = None
    ) -> ConnectionDetail:
        """Have Nango renew the token where it is due, or in any case; of the answer only the token's times are kept.

        The credentials are dropped before they are read. Raises what `get_connection` raises.
        """
        wanted = ["force_refresh"] if force_refresh else []
        return self._read(integration, connection_id, wanted, credentials=False, timeout=timeout)

    def _read(
        self,
        integration: str,
        connection_id: str,
        flags: Sequence[str],
        *,
        credentials: bool,
        timeout: float | None,
    ) -> ConnectionDetail:
        call = NangoCall(
            path=connection_path(connection_id),
            query=of_integration(integration) | dict.fromkeys(flags, "true"),
            repeatable="force_refresh" not in flags,
            not_found=NangoConnectionNotFound,
        )
        answer = self._call(call, timeout=timeout)
        found = wire.detail(wire.decode(answer, wire.WireDetail), answer, credentials=credentials)
        if (found.integration, found.connection_id) != (integration, connection_id):
            raise NangoUnexpected(status=answer.status, detail="the answer is about another connection")
        return found

    def get_token(
        self, integration: str, connection_id: str, *, force_refresh: bool = False, timeout: float | None = None
    ) -> str | Credentials:
        """The credentials that sign calls to the provider: the access token of OAUTH2, else all of them.

        Raises what `get_connection` raises.
        """
        found = self.get_connection(integration, connection_id, force_refresh=force_refresh, timeout=timeout)
        credentials = found.credentials
        return credentials.access_token if isinstance(credentials, OAuth2Credentials) else credentials

    def get_raw_token_response(
        self, integration: str, connection_id: str, *, force_refresh: bool = False, timeout: float | None = None
    ) -> JsonObject:
        """The provider's own answer as Nango keeps it, without refresh tokens; empty where the type has none.

        Raises what `get_connection` raises.
        """
        found = self.get_connection(integration, connection_id, force_refresh=force_refresh, timeout=timeout)
        return found.credentials.raw

    def get_metadata(self, integration: str, connection_id: str, *, timeout: float | None = None) -> JsonObject:
        """The metadata, empty where there is none. It is read from the connection, which may refresh its token.

        Raises what `get_connection` raises.
        """
        return self.get_connection(integration, connection_id, credentials=False, timeout=timeout).metadata or {}

    def get_webhook_settings(
        self, environment_id: str, *, signing_key: bool = False, timeout: float | None = None
    ) -> WebhookSettings:
        """The webhook URLs and switches of an environment, by its UUID, with an account's API key.

        Scope account:environments:read, for the signing key …:read_secret. Raises NangoUnknownEnvironment.
        """
        call = NangoCall(
            path=f"/environments/{segment(environment_id, 'environment_id')}",
            query={"with_secrets": "true"} if signing_key else {},
            repeatable=True,
            not_found=NangoUnknownEnvironment,
        )
        return wire.webhook_settings(wire.decode(self._call(call, timeout=timeout), wire.WireOneEnvironment).data)

    def list_integrations(self, *, timeout: float | None = None) -> IntegrationList:
        """All integrations of the environment; Nango does not page them. Scope environment:integrations:list."""
        answer = self._call(NangoCall(path="/integrations", repeatable=True), timeout=timeout)
        rows = wire.decode(answer, wire.WireIntegrations).data
        integrations = tuple(wire.integration(row, answer.observed_at) for row in rows)
        return IntegrationList(integrations=integrations, observed_at=answer.observed_at, rate_limit=answer.rate_limit)

    def get_integration(
        self, integration: str, *, webhook_url: bool = False, credentials: bool = False, timeout: float | None = None
    ) -> Integration:
        """One integration, on request with the URL for its provider's webhooks, and with the credentials of the
        application at its provider, such as client id and secret.

        Scope environment:integrations:read, for credentials …:read_credentials. Raises NangoUnknownIntegration.
        """
        wanted = [name for name, asked in (("webhook", webhook_url), ("credentials", credentials)) if asked]
        call = NangoCall(
            path=f"/integrations/{segment(integration, 'integration')}",
            query={"include": wanted} if wanted else {},
            repeatable=True,
            not_found=NangoUnknownIntegration,
        )
        answer = self._call(call, timeout=timeout)
        return wire.integration(wire.decode(answer, wire.WireOneIntegration).data, answer.observed_at)
