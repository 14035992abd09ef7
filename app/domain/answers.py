"""What came of handing a job over, whoever carried it, as a value that policies judge (promise 10)."""

from dataclasses import dataclass
from enum import StrEnum


class Failure(StrEnum):
    """Why there is no answer, not even a bad one."""

    REFUSED = "refused"  # we do not connect there: the address or the URL is not allowed
    UNRESOLVED = "unresolved"  # the name has no address
    UNREACHABLE = "unreachable"  # nobody takes connections there
    TLS = "tls"  # no trusted connection: the certificate is not the name's, or not signed by anybody we trust
    TIMED_OUT = "timed_out"
    BROKEN = "broken"  # the connection ended before an answer
    INVALID = "invalid"  # what came is no HTTP answer, or its head has no end


@dataclass(frozen=True, slots=True)
class Answer:
    """One try. Either it was answered, over HTTP with a `status`, or there are `failure` and `error`, in words.

    latency_ms: from the start, connecting included, to the answer's head or the failure. retry_after: seconds from
    now, as the answer asks for, not bounded. excerpt: how the answer's body begins, fit to be shown and stored.
    """

    status: int | None
    latency_ms: float
    failure: Failure | None = None
    error: str | None = None
    retry_after: float | None = None
    excerpt: str = ""
