"""Synchronous client of Nango's REST API: one typed method per operation, one error per failure kind."""

import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

import httpx

from app.nango.reading import MAX_LIMIT, Reading
from app.nango.sessions import Sessions
from app.nango.transport import Gate, Transport, utc_now
from app.nango.types import RateLimit
from app.nango.writing import Writing

__all__ = ["MAX_LIMIT", "NangoClient"]


class NangoClient(Reading, Writing, Sessions):
    """Client of one Nango environment. Threads may share it; close it or use it as a context manager.

    Every method raises the NangoError of its failure kind, and InvalidInput for arguments that cannot be sent.
    Time-outs are in seconds: `connect_timeout` for a connection, `read_timeout` between two reads, since a GET may wait
    12 s for Nango's lock and then for the provider (Nango contract: Refresh lock); their sum bounds a call, retries
    included. A method's `timeout` is a shorter deadline that replaces both.

    retries: how often a call may be sent again, none by default. After a 429 any call is retried once Retry-After has
    passed, as Nango has done nothing; without an answer or after a 5xx only a read that is not a forced refresh. A wait
    that would not end before the deadline is not begun: the error is raised at once.

    proxy: the URL of a forward proxy; the environment's variables are not read.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connect_timeout: float = 5.0,
        read_timeout: float = 35.0,
        retries: int = 0,
        proxy: str | None = None,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(
            Transport(
                base_url=base_url,
                api_key=api_key,
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                retries=retries,
                proxy=proxy,
                clock=clock,
                sleep=sleep,
                http=transport,
            )
        )

    def __repr__(self) -> str:
        return f"<NangoClient {self._transport.host}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def behind(self, gate: Gate) -> Self:
        """The same client, connections included, whose calls pass the gate first. Closing one closes both."""
        guarded = object.__new__(type(self))
        Reading.__init__(guarded, self._transport, gate)
        return guarded

    def now(self) -> datetime:
        """The clock that `observed_at` is taken from."""
        return self._transport.now()

    @property
    def rate_limit(self) -> RateLimit | None:
        """The account's bucket as of the latest answer, errors included; None before the first."""
        return self._transport.rate_limit
