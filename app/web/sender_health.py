"""State of Nango's circuit breaker, estimated from our own answers (Nango contract: Circuit breaker)."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.domain.nango_breaker import OPENS_AT, WINDOW, Breaker, breaker_state, counts
from app.telemetry import SENDER_FAILURES, get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class SenderHealth:
    """Samples the refusal counts once a second and keeps the samples for the breaker's window.

    The window slides and is this process's own; the sum over all processes is in the table of rejections.
    """

    environments: Iterable[str]
    _samples: deque[tuple[float, Counter[tuple[str, str]]]] = field(init=False)
    _reported: dict[str, tuple[float, Breaker]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._samples = deque([(float("-inf"), Counter())])

    def update(self, totals: Counter[tuple[str, str]], now: float) -> None:
        """Evaluate the increase within the window. totals: ever growing, by environment and cause. now: a monotonic
        clock.
        """
        self._samples.append((now, totals))
        while self._samples[1][0] <= now - WINDOW.total_seconds():
            self._samples.popleft()
        recent = totals - self._samples[0][1]
        for environment in self.environments:
            causes = {
                cause: count
                for (where, cause), count in sorted(recent.items())
                if where == environment and counts(where, cause)
            }
            failures = sum(causes.values())
            SENDER_FAILURES.labels(environment).set(failures)
            self._report(environment, failures, causes, now)

    def _report(self, environment: str, failures: int, causes: dict[str, int], now: float) -> None:
        """Log at most one line per environment and window, unless the state got worse."""
        breaker = breaker_state(failures)
        since, reported = self._reported.get(environment, (float("-inf"), Breaker.CLOSED))
        quiet = now - since < WINDOW.total_seconds()
        if breaker is Breaker.CLOSED or (quiet and reported in {breaker, Breaker.OPEN_LIKELY}):
            return
        self._reported[environment] = now, breaker
        facts = {"environment": environment, "failures": failures, "opens_at": OPENS_AT, "causes": causes}
        if breaker is Breaker.NEAR:
            log.warning("nango_breaker_near", **facts)
        else:
            then = "if these were Nango's, it drops webhooks for a minute: reconcile with its list afterwards"
            log.error("nango_breaker_open_likely", **facts, then=then)
