"""HTTP transport to Nango: one deadline per call, retries where they are safe, one error per failure kind."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import httpx
import msgspec

from app.errors import NangoError, NangoRateLimited, NangoUnavailable, NangoUnexpected
from app.nango.response_errors import NangoAnswer, error_for
from app.nango.types import RateLimit
from app.outage_causes import of_connection

MAX_BODY: Final = 64 * 1024 * 1024
KEEP_ALIVE: Final = 4.0  # Node servers close an idle connection after 5 s; a call sent at that moment would be lost
FIRST_WAIT: Final = 0.5  # seconds before the first retry of a read without an answer; doubled for each further one
SHORTEST_WAIT: Final = 1.0  # Retry-After is floored and may be 0 (Nango contract: Rate limit)


# Called with an answer's rate limit, and with the seconds of its Retry-After where it was a 429.
OnAnswer = Callable[[RateLimit | None, float | None], None]
# Called before each call, such as by a budget that many processes share. Raises NangoRateLimited to hold the call back;
# its result is called with the answer, if there is one.
Gate = Callable[[], OnAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class NangoCall:
    """One request. `repeatable`: a read, which may be sent again when its result is unknown.

    not_found: the error for code `not_found`. phrases: errors by parts of a message, where Nango has no code of its
    own.
    """

    path: str
    method: str = "GET"
    query: Mapping[str, str | list[str]] = field(default_factory=dict, repr=False)
    body: Mapping[str, object] | None = field(default=None, repr=False)
    repeatable: bool = False
    not_found: type[NangoError] = NangoUnexpected
    phrases: Mapping[str, type[NangoError]] = field(default_factory=dict)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Transport:
    """Pooled connections to one Nango; threads may share it.

    Time-outs are in seconds: `connect_timeout` for a connection, `read_timeout` between two reads; their sum bounds a
    call with all its retries. retries: how often a call may be sent again, see `NangoClient`.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connect_timeout: float,
        read_timeout: float,
        retries: int,
        proxy: str | None,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
        http: httpx.BaseTransport | None,
    ) -> None:
        self._connect_timeout, self._read_timeout, self._retries = connect_timeout, read_timeout, retries
        self._clock, self._sleep = clock, sleep
        self._api_key = api_key
        self.rate_limit: RateLimit | None = None
        self._http = httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}", "accept": "application/json", "user-agent": "waylink"},
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEEP_ALIVE),
            transport=http,
            proxy=proxy,
            trust_env=False,
            follow_redirects=False,
        )

    def __repr__(self) -> str:
        return f"<Transport {self.host}>"

    @property
    def host(self) -> str:
        return self._http.base_url.host

    def close(self) -> None:
        self._http.close()

    def now(self) -> datetime:
        return self._clock()

    def call(self, call: NangoCall, *, timeout: float | None, gate: Gate | None) -> NangoAnswer:
        """Send a request, with retries, until there is a success or an error. All operations use this method."""
        ends_at = time.monotonic() + (self._connect_timeout + self._read_timeout if timeout is None else timeout)
        failure: NangoError
        for attempt in itertools.count():
            try:
                return self._once(call, ends_at, gate)
            except NangoRateLimited as limited:  # Nango has done nothing, so any call may be sent again
                failure, wait = limited, max(limited.retry_after, SHORTEST_WAIT)
            except NangoUnavailable as unavailable:
                if not call.repeatable:
                    raise
                failure, wait = unavailable, FIRST_WAIT * 2**attempt
            if attempt >= self._retries or time.monotonic() + wait >= ends_at:
                raise failure
            self._sleep(wait)
        raise AssertionError("not reached")

    def _once(self, call: NangoCall, ends_at: float, gate: Gate | None) -> NangoAnswer:
        on_answer = gate() if gate is not None else None
        answer = self._send(call, ends_at)
        self.rate_limit = answer.rate_limit or self.rate_limit
        error = error_for(answer, not_found=call.not_found, phrases=call.phrases, secret=self._api_key)
        if on_answer is not None:
            on_answer(answer.rate_limit, error.retry_after if isinstance(error, NangoRateLimited) else None)
        if error is not None:
            raise error
        return answer

    def _send(self, call: NangoCall, ends_at: float) -> NangoAnswer:
        observed_at = self._clock()
        try:
            return self._exchange(call, ends_at, observed_at)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = of_connection(error)
        # Raised outside the handler: a chained cause would carry the request, and its API key, into crash reports.
        raise NangoUnavailable(detail=failure)

    def _exchange(self, call: NangoCall, ends_at: float, observed_at: datetime) -> NangoAnswer:
        left = max(ends_at - time.monotonic(), 0.001)
        connect, read = min(self._connect_timeout, left), min(self._read_timeout, left)
        content = None if call.body is None else msgspec.json.encode(call.body)
        headers = {} if content is None else {"content-type": "application/json"}
        body = bytearray()
        with self._http.stream(
            call.method,
            call.path,
            params=dict(call.query),
            content=content,
            headers=headers,
            timeout=httpx.Timeout(read, connect=connect, pool=connect),
        ) as response:
            for chunk in response.iter_bytes():
                body += chunk
                # httpx bounds each read, not their sum: a server that sends single bytes would hold the call for ever.
                if time.monotonic() > ends_at:
                    raise NangoUnavailable(status=response.status_code, detail="the answer took too long")
                if len(body) > MAX_BODY:
                    raise NangoUnexpected(status=response.status_code, detail="the answer is too large")
            return NangoAnswer(response.status_code, response.headers, bytes(body), observed_at)
