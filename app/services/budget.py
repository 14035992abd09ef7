"""The request budget: one bucket per Nango account for all processes, in the internal broker's Redis.

`app.domain.budget` decides; this module keeps the bucket. Every call is counted and the bucket read in one round trip,
a refused call is uncounted, and an answer is recorded only where it is new. Redis may be wiped or away at any moment:
each process then keeps a bucket of its own, in which a call counts for several, and Nango's headers hold in any case.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.brokers.tls import verified
from app.domain import budget as rules
from app.domain.budget import Bucket, Priority, ReportedLimit
from app.errors import NangoBudgetSpent
from app.nango.transport import Gate, OnAnswer
from app.nango.types import RateLimit
from app.outage_causes import of_connection
from app.telemetry import NANGO_CALLS, get_logger

PROCESSES: Final = 4  # assumed to share an account while Redis is away: web, both workers, and a command
TIMEOUT: Final = 0.5  # seconds for one round trip; a frozen broker must not delay a webhook's confirmation
AWAY: Final = 5.0  # seconds until a Redis that did not answer is tried again
KEPT_MS: Final = 24 * 3600 * 1000  # a known limit is better than the default, also after a quiet night

# `count` and `learn` of app.domain.budget, atomic for all processes; a test compares both.
# ARGV: now, default limit, calls, background calls, limit seen or '', used, ends_at, held_until.
_SCRIPT: Final = """
local kept = redis.call('HMGET', KEYS[1], 'limit', 'used', 'background', 'ends_at', 'held_until')
local now = tonumber(ARGV[1])
local limit = tonumber(kept[1] or ARGV[2])
local used, background = tonumber(kept[2] or 0), tonumber(kept[3] or 0)
local ends_at, held_until = tonumber(kept[4] or 0), tonumber(kept[5] or 0)
if ends_at <= now then used, background, ends_at = 0, 0, now + 60 end
used = math.max(used + tonumber(ARGV[3]), 0)
background = math.max(background + tonumber(ARGV[4]), 0)
if ARGV[5] ~= '' and tonumber(ARGV[7]) > now then
    limit, used, ends_at = tonumber(ARGV[5]), math.max(used, tonumber(ARGV[6])), tonumber(ARGV[7])
end
held_until = math.max(held_until, tonumber(ARGV[8]))
local function text(number) return string.format('%.6f', number) end
redis.call('HSET', KEYS[1], 'limit', limit, 'used', used, 'background', background,
    'ends_at', text(ends_at), 'held_until', text(held_until))
redis.call('PEXPIRE', KEYS[1], KEPT_MS)
return {limit, used, background, text(ends_at), text(held_until)}
""".replace("KEPT_MS", str(KEPT_MS))

log = get_logger(__name__)


class Budget:
    """Buckets of all accounts; made once per process, shared by threads.

    default_limit: requests per minute of an account, until an answer of Nango has its limit. clock: unix seconds.
    """

    def __init__(self, broker_url: str, *, default_limit: int, clock: Callable[[], float] = time.time) -> None:
        self._client = _connect(broker_url)
        self._script = self._client.register_script(_SCRIPT) if self._client else None
        self._default_limit, self._clock = default_limit, clock
        self._own: dict[str, Bucket] = {}
        self._lock = threading.Lock()
        self._away_until = float("-inf")

    def gate(self, account: str, priority: Priority) -> Gate:
        """The gate for calls of this account and priority."""
        return partial(self._enter, account, priority)

    def bucket(self, account: str) -> Bucket | None:
        """The account's shared bucket as it is now; None where Redis does not answer. Changes nothing."""
        try:
            kept = self._client.hgetall(_key(account)) if self._client else None
        except (redis.RedisError, OSError):
            return None
        if not isinstance(kept, dict):
            return None
        facts = {str(name): float(value) for name, value in kept.items()}
        bucket = Bucket(
            limit=int(facts.get("limit", self._default_limit)),
            used=int(facts.get("used", 0)),
            background=int(facts.get("background", 0)),
            ends_at=facts.get("ends_at", 0.0),
            held_until=facts.get("held_until", 0.0),
        )
        return rules.count(bucket, 0, background=False, now=self._clock())

    def limit_of(self, account: str) -> int:
        """The account's requests per minute, as far as they are known."""
        bucket = self.bucket(account)
        return self._default_limit if bucket is None else bucket.limit

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _enter(self, account: str, priority: Priority) -> OnAnswer:
        background = rules.is_background(priority)
        bucket = self._touch(account, 1, ReportedLimit(), background=background)
        seconds = rules.wait(bucket, priority, now=self._clock())
        if seconds is not None:
            self._touch(account, -1, ReportedLimit(), background=background)
            NANGO_CALLS.labels(account, priority, "held").inc()
            raise NangoBudgetSpent(retry_after=seconds)
        return partial(self._learn, account, priority, bucket)

    def _learn(
        self,
        account: str,
        priority: Priority,
        counted: Bucket,
        rate_limit: RateLimit | None,
        retry_after: float | None,
    ) -> None:
        NANGO_CALLS.labels(account, priority, "sent" if retry_after is None else "refused").inc()
        seen = ReportedLimit(retry_after=retry_after)
        if rate_limit is not None:
            # Nango's clock may be ahead of ours, but no window ends later than that.
            ends_at = min(rate_limit.reset_at.timestamp(), self._clock() + rules.WINDOW)
            used = rate_limit.limit - rate_limit.remaining
            seen = ReportedLimit(limit=rate_limit.limit, used=used, ends_at=ends_at, retry_after=retry_after)
        if retry_after is not None:
            log.warning("nango_rate_limited", account=account, priority=priority, retry_after=retry_after)
        if rules.is_new(counted, seen):
            self._touch(account, 0, seen, background=False)

    def _touch(self, account: str, calls: int, seen: ReportedLimit, *, background: bool) -> Bucket:
        now = self._clock()
        if self._script is not None and time.monotonic() >= self._away_until:
            try:
                return self._shared(self._script, account, calls, seen, background=background, now=now)
            except (redis.RedisError, OSError, ValueError) as away:
                if self._away_until == float("-inf"):
                    then = "each process counts for itself; Nango's headers hold"
                    log.warning("budget_not_shared", problem=of_connection(away), then=then)
                self._away_until = time.monotonic() + AWAY
        with self._lock:
            kept = self._own.get(account, Bucket(limit=self._default_limit))
            counted = rules.count(kept, calls * PROCESSES, background=background, now=now)
            self._own[account] = rules.learn(counted, seen, now=now)
            return self._own[account]

    def _shared(
        self, script: Callable[..., Any], account: str, calls: int, seen: ReportedLimit, *, background: bool, now: float
    ) -> Bucket:
        held = 0.0 if seen.retry_after is None else now + max(seen.retry_after, rules.FLOORED)
        learnt = ("", 0, 0) if seen.limit is None else (seen.limit, seen.used, seen.ends_at + rules.FLOORED)
        sent = (now, self._default_limit, calls, calls if background else 0, *learnt, held)
        limit, used, in_background, ends_at, held_until = script(keys=[_key(account)], args=sent)
        bucket = Bucket(
            limit=int(limit),
            used=int(used),
            background=int(in_background),
            ends_at=float(ends_at),
            held_until=float(held_until),
        )
        self._own[account] = bucket  # the start for this process alone, should Redis go away
        if self._away_until != float("-inf"):
            self._away_until = float("-inf")
            log.info("budget_shared_again")
        return bucket


def _key(account: str) -> str:
    return f"waylink:budget:{account}"


def _connect(broker_url: str) -> "redis.Redis | None":
    """A client for the broker's kombu URL; None for a URL that only kombu supports."""
    url = verified(broker_url)
    if broker_url.startswith("redis+socket://"):
        parts = urlsplit(broker_url)
        database = parse_qs(parts.query).get("virtual_host", ["0"])[-1].removeprefix("/")
        url = f"unix://{quote(unquote(parts.netloc + parts.path))}?db={database}"
    once = Retry(NoBackoff(), 0)
    try:
        return redis.Redis.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=once, decode_responses=True
        )
    except (ValueError, TypeError, redis.RedisError) as unusable:
        log.warning("budget_not_shared", problem=of_connection(unusable), then="each process counts for itself")
        return None
