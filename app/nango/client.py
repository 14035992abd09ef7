"""Nango's REST API, synchronous: read operations on connections and integrations."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import httpx

from app.errors import (
    InvalidInput,
    NangoConnectionNotFound,
    NangoError,
    NangoUnavailable,
    NangoUnexpected,
    NangoUnknownIntegration,
)
from app.nango import wire
from app.nango.answers import Answer, error_for
from app.nango.types import (
    ConnectionDetail,
    ConnectionPage,
    Integration,
    IntegrationList,
    ListedConnection,
    RateLimit,
)

MAX_LIMIT: Final = 2000  # CONTRACT 3.2
MAX_BODY: Final = 64 * 1024 * 1024
MAX_REPEATED_PAGES: Final = 3
KEEP_ALIVE: Final = 4.0  # Node servers close an idle connection after 5 s; reusing it just then would lose the call


def utc_now() -> datetime:
    return datetime.now(UTC)


class NangoClient:
    """One environment of Nango; safe to share between threads; close it or use it as a context manager.

    Every method raises the NangoError of its failure kind, and InvalidInput for arguments that cannot be sent.
    Nothing is retried here: a forced refresh must not repeat by itself, and whoever calls has a budget to mind.
    Time-outs are in seconds: `connect_timeout` for a connection, `read_timeout` between two reads, since a GET may wait
    12 s for Nango's lock and then for the provider (CONTRACT 4); their sum bounds the whole answer. A method's
    `timeout` is a shorter deadline in place of both.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connect_timeout: float = 5.0,
        read_timeout: float = 35.0,
        clock: Callable[[], datetime] = utc_now,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connect_timeout, self._read_timeout = connect_timeout, read_timeout
        self._clock = clock
        self._api_key = api_key
        self._rate_limit: RateLimit | None = None
        self._http = httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}", "accept": "application/json", "user-agent": "waylink"},
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEEP_ALIVE),
            transport=transport,
            trust_env=False,
            follow_redirects=False,
        )

    def __repr__(self) -> str:
        return f"<NangoClient {self._http.base_url.host}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def now(self) -> datetime:
        """The clock that `observed_at` is taken from."""
        return self._clock()

    @property
    def rate_limit(self) -> RateLimit | None:
        """The account's bucket as of the latest answer, errors included; None before the first."""
        return self._rate_limit

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

        connection_id: exact, and may name connections of several integrations (CONTRACT 0). search: a substring of id
        or end user. tags: all must match exactly, values with their case (CONTRACT 2.4). page: counted from 0.
        """
        if not 1 <= limit <= MAX_LIMIT or page < 0:
            raise InvalidInput(f"a page has 1 to {MAX_LIMIT} connections and is counted from 0")
        query = {"limit": str(limit), "page": str(page)}
        if connection_id is not None:
            query["connectionId"] = connection_id
        if search:
            query["search"] = search
        if integrations:
            query["integrationId"] = ",".join(integrations)
        query |= {f"tags[{key}]": value for key, value in (tags or {}).items()}
        answer = self._call("/connections", query, timeout=timeout)
        rows = wire.decode(answer, wire.WirePage).connections
        connections = tuple(wire.listed(row, answer.observed_at) for row in rows)
        return ConnectionPage(connections=connections, observed_at=answer.observed_at, rate_limit=answer.rate_limit)

    def iterate_connections(
        self,
        *,
        search: str | None = None,
        integrations: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        limit: int = 1000,
        timeout: float | None = None,
    ) -> Iterator[ListedConnection]:
        """All connections, each once by Nango's id, page after page as they are taken.

        Rows inserted meanwhile shift others to the next page, where they are recognised; a row deleted meanwhile hides
        one other (CONTRACT 3.2: offset paging), so one absence from this is no proof of a deletion.
        """
        seen: set[int] = set()
        page, repeated = 0, 0
        while True:
            rows = self.list_connections(
                search=search, integrations=integrations, tags=tags, limit=limit, page=page, timeout=timeout
            ).connections
            known = len(seen)
            for row in rows:
                if row.id not in seen:
                    seen.add(row.id)
                    yield row
            if len(rows) < limit:
                return
            page += 1
            repeated = repeated + 1 if len(seen) == known else 0
            if repeated >= MAX_REPEATED_PAGES:
                raise NangoUnexpected(detail="the list of connections repeats itself instead of ending")

    def get_connection(
        self,
        integration: str,
        connection_id: str,
        *,
        force_refresh: bool = False,
        refresh_token: bool = False,
        timeout: float | None = None,
    ) -> ConnectionDetail:
        """One connection with its credentials; Nango refreshes them first where due (CONTRACT 4).

        force_refresh: refresh in any case; each call reaches the provider. refresh_token: include refresh tokens.
        Needs scope …:read_credentials; with only …:read there are no credentials, and both flags are forbidden.
        Raises, beside the common ones, NangoConnectionNotFound, NangoUnknownIntegration and the three of refreshing:
        NangoRefreshFailed, NangoRefreshBackingOff, NangoRefreshExhausted.
        """
        query = {"provider_config_key": integration}
        flags = {"force_refresh": force_refresh, "refresh_token": refresh_token}
        query |= {name: "true" for name, wanted in flags.items() if wanted}
        path = f"/connections/{_segment(connection_id)}"
        answer = self._call(path, query, timeout=timeout, not_found=NangoConnectionNotFound)
        found = wire.detail(wire.decode(answer, wire.WireDetail), answer)
        if (found.integration, found.connection_id) != (integration, connection_id):
            raise NangoUnexpected(status=answer.status, detail="the answer is about another connection")
        return found

    def list_integrations(self, *, timeout: float | None = None) -> IntegrationList:
        """All integrations of the environment; Nango does not page them. Scope environment:integrations:list."""
        answer = self._call("/integrations", {}, timeout=timeout)
        rows = wire.decode(answer, wire.WireIntegrations).data
        integrations = tuple(wire.integration(row, answer.observed_at) for row in rows)
        return IntegrationList(integrations=integrations, observed_at=answer.observed_at, rate_limit=answer.rate_limit)

    def get_integration(
        self, integration: str, *, webhook_url: bool = False, timeout: float | None = None
    ) -> Integration:
        """One integration, with the URL for its provider's webhooks where asked for.

        Scope environment:integrations:read. Raises NangoUnknownIntegration.
        """
        query = {"include": "webhook"} if webhook_url else {}
        path = f"/integrations/{_segment(integration)}"
        answer = self._call(path, query, timeout=timeout, not_found=NangoUnknownIntegration)
        return wire.integration(wire.decode(answer, wire.WireOneIntegration).data, answer.observed_at)

    def _call(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        timeout: float | None,
        method: str = "GET",
        not_found: type[NangoError] = NangoUnexpected,
    ) -> Answer:
        """The one way out: every operation sends through here and gets a success or an error."""
        answer = self._send(method, path, query, timeout=timeout)
        self._rate_limit = answer.rate_limit or self._rate_limit
        error = error_for(answer, not_found=not_found, secret=self._api_key)
        if error is not None:
            raise error
        return answer

    def _send(self, method: str, path: str, query: Mapping[str, str], *, timeout: float | None) -> Answer:
        observed_at = self._clock()
        try:
            return self._exchange(method, path, query, timeout, observed_at)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = type(error).__name__
        # Raised out here: a chained cause would carry the request, and with it the API key, into crash reports.
        raise NangoUnavailable(detail=f"no usable answer ({failure})")

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str], timeout: float | None, observed_at: datetime
    ) -> Answer:
        connect, read = self._connect_timeout, self._read_timeout
        deadline = connect + read
        if timeout is not None:
            connect, read, deadline = min(connect, timeout), min(read, timeout), timeout
        limits = httpx.Timeout(read, connect=connect, pool=connect)
        ends_at = time.monotonic() + deadline
        body = bytearray()
        with self._http.stream(method, path, params=dict(query), timeout=limits) as response:
            for chunk in response.iter_bytes():
                body += chunk
                # httpx bounds each read, not their sum: a server that sends a byte now and then would hold us for ever.
                if time.monotonic() > ends_at:
                    raise NangoUnavailable(status=response.status_code, detail="the answer took too long")
                if len(body) > MAX_BODY:
                    raise NangoUnexpected(status=response.status_code, detail="the answer is too large")
            return Answer(response.status_code, response.headers, bytes(body), observed_at)


def _segment(identity: str) -> str:
    """An id as exactly one path segment: imported ids may hold `/`, quotes, blanks and `+` (CONTRACT 0)."""
    if identity in {"", ".", ".."}:
        # Clients and proxies resolve these away, and the request would reach another operation.
        raise InvalidInput(f"{identity!r} cannot be asked for by its id")
    return quote(identity, safe="", errors="replace")
