"""Whether Nango's circuit breaker is about to open because of what we answer (Nango contract: Circuit breaker)."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.domain.breaker import OPENS_AT, WINDOW, Breaker, counts, judge
from app.telemetry import SENDER_FAILURES, get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class SenderHealth:
    """Looks at the counts of refusals once a second and keeps those looks for the breaker's window.

    The window is this process's own and slides; what several processes sum up to is in the table of rejections.
    """

    environments: Iterable[str]
    _looks: deque[tuple[float, Counter[tuple[str, str]]]] = field(init=False)
    _said: dict[str, tuple[float, Breaker]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._looks = deque([(float("-inf"), Counter())])

    def look(self, totals: Counter[tuple[str, str]], now: float) -> None:
        """Compare with ten seconds ago. `totals`: ever growing, by environment and cause; `now`: any steady clock."""
        self._looks.append((now, totals))
        while self._looks[1][0] <= now - WINDOW.total_seconds():
            self._looks.popleft()
        recent = totals - self._looks[0][1]
        for environment in self.environments:
            causes = {
                cause: count
                for (where, cause), count in sorted(recent.items())
                if where == environment and counts(where, cause)
            }
            failures = sum(causes.values())
            SENDER_FAILURES.labels(environment).set(failures)
            self._say(environment, failures, causes, now)

    def _say(self, environment: str, failures: int, causes: dict[str, int], now: float) -> None:
        """At most one line per environment and window, unless it got worse."""
        breaker = judge(failures)
        since, said = self._said.get(environment, (float("-inf"), Breaker.CLOSED))
        quiet = now - since < WINDOW.total_seconds()
        if breaker is Breaker.CLOSED or (quiet and said in {breaker, Breaker.OPEN_LIKELY}):
            return
        self._said[environment] = now, breaker
        facts = {"environment": environment, "failures": failures, "opens_at": OPENS_AT, "causes": causes}
        if breaker is Breaker.NEAR:
            log.warning("nango_breaker_near", **facts)
        else:
            then = "if these were Nango's, it drops webhooks for a minute: reconcile with its list afterwards"
            log.error("nango_breaker_open_likely", **facts, then=then)
