"""The answer to a delivery attempt, whatever the transport."""

from typing import NamedTuple


class DeliveryAnswer(NamedTuple):
    """A broker accepts by an answer without `error`, an HTTP endpoint by a `status` of 2xx."""

    status: int | None = None  # HTTP
    error: str | None = None  # why there is no answer; never holds a credential
    ours: bool = False  # `error` is Waylink's fault or its configuration's: a refused address, an unreadable secret
    latency_ms: float = 0.0
    retry_after: str | None = None  # HTTP: the header, unparsed
    excerpt: str | None = None  # HTTP: the beginning of the body, at most 1 KiB
