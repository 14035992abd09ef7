"""Nango's circuit breaker, estimated by the receiver of its webhooks (Nango contract: Circuit breaker).

More than five failed attempts to one URL within ten seconds open it, and Nango drops every delivery for a minute. Each
attempt that is not answered 2xx counts, 4xx included; three of them are one webhook with its retries.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final

WINDOW: Final = timedelta(seconds=10)
OPENS_AT: Final = 6  # failures within the window
NEAR_AT: Final = 3


class Breaker(StrEnum):
    """Estimated state. Nango does not report it, and not every refused request comes from Nango."""

    CLOSED = "closed"
    NEAR = "near"
    OPEN_LIKELY = "open_likely"


def breaker_state(failures: int) -> Breaker:
    """The breaker's likely state after that many failures within the window."""
    if failures >= OPENS_AT:
        return Breaker.OPEN_LIKELY
    return Breaker.NEAR if failures >= NEAR_AT else Breaker.CLOSED


def counts(environment: str, cause: str) -> bool:
    """Whether a refusal may have been an attempt of Nango at an existing URL.

    environment: empty for an unknown one, whose URL never succeeds. Nango only sends POST.
    """
    return bool(environment) and cause != "method"
