"""Nango's rate limit: one bucket per account, a fixed window of 60 seconds (Nango contract: Rate limit)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

WINDOW: Final = timedelta(seconds=60)


@dataclass(slots=True, kw_only=True)
class SandboxRateLimit:
    per_minute: int
    _used: int = 0
    _until: datetime | None = None

    def take(self, now: datetime) -> tuple[bool, dict[str, str]]:
        """Count one call. Returns whether it may pass, and the headers of every authenticated reply."""
        if self._until is None or now >= self._until:
            self._used, self._until = 0, now + WINDOW
        self._used += 1
        headers = {
            "X-RateLimit-Limit": str(self.per_minute),
            "X-RateLimit-Remaining": str(max(self.per_minute - self._used, 0)),
            "X-RateLimit-Reset": str(int(self._until.timestamp())),
        }
        if self._used > self.per_minute:
            # Rounded down, so it may be 0.
            return False, headers | {"Retry-After": str(int((self._until - now).total_seconds()))}
        return True, headers
