"""Names and values allowed for teams, destinations and routes, in waylink.toml, the API and commands alike.

The `wrong_…` functions return what is wrong, as the rest of a sentence that begins with the field's name, or None.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.domain.addresses import Network, check_url, read_url
from app.errors import InvalidInput

QUEUE_PREFIX: Final = "team."  # of all queues of teams; the others are Waylink's own

TIMEOUTS: Final = (1.0, 30.0)  # seconds per attempt over HTTP; a job's lease has to be longer
RATES: Final = (0.01, 10_000.0)  # jobs per second

DestinationKey = tuple[str, str]  # team, and the name of a destination of its own

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_JOB: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_QUEUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_RESERVED_JOBS: Final = ("waylink.", "celery.")


@dataclass(frozen=True, slots=True)
class DefinedNames:
    """Teams by name; destinations and routes by team and name."""

    teams: frozenset[str] = frozenset()
    destinations: frozenset[tuple[str, str]] = frozenset()
    routes: frozenset[tuple[str, str]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.teams or self.destinations or self.routes)

    def __sub__(self, others: "DefinedNames") -> "DefinedNames":
        return DefinedNames(
            self.teams - others.teams, self.destinations - others.destinations, self.routes - others.routes
        )

    def parts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each kind with any names, and these in order; destinations and routes as `team/name`."""
        destinations, routes = (sorted(map("/".join, keys)) for keys in (self.destinations, self.routes))
        for kind, names in (("teams", sorted(self.teams)), ("destinations", destinations), ("routes", routes)):
            if names:
                yield kind, tuple(names)


def wrong_name(name: str) -> str | None:
    """For a team, a destination, a route or an environment, which stand in URLs and queue names."""
    if _NAME.fullmatch(name):
        return None
    return "takes 1 to 63 lower-case letters, digits, `_` and `-`, beginning with a letter or digit"


def wrong_job(job: str) -> str | None:
    """For a route's job, the name of the team's Celery task."""
    if job.startswith(_RESERVED_JOBS):
        return f"names that start with {' or '.join(f'`{prefix}`' for prefix in _RESERVED_JOBS)} are reserved"
    if _JOB.fullmatch(job):
        return None
    return "takes 1 to 128 letters, digits, `_`, `.` and `-`, beginning with a letter or `_`"


def wrong_queue(queue: str, *, team: str) -> str | None:
    """For a team's queue. The prefix keeps it from Waylink's queues and those of other teams."""
    if not queue.startswith(f"{QUEUE_PREFIX}{team}."):
        return f"has to start with `{QUEUE_PREFIX}{team}.`"
    if _QUEUE.fullmatch(queue):
        return None
    return "takes at most 200 letters, digits, `_`, `.` and `-`"


def wrong_url(url: str, *, allowed: Sequence[Network] | None = None) -> str | None:
    """For an HTTP destination. `allowed`: networks that the operator opened; None leaves addresses unchecked."""
    try:
        if allowed is None:
            read_url(url)
        else:
            check_url(url, allowed)
    except InvalidInput as wrong:
        return f"cannot be used: {wrong}"
    return None


def wrong_destination(
    fields: Mapping[str, Any], *, team: str, allowed: Sequence[Network] | None = None
) -> Iterator[tuple[str, str]]:
    """Field and fault of each wrong one of `kind`, `queue`, `url`, `timeout_seconds`, `rate_per_second`."""
    kind, queue, url = fields.get("kind"), fields.get("queue"), fields.get("url")
    timeout, rate = fields.get("timeout_seconds"), fields.get("rate_per_second")
    if kind == "http":
        wrong = wrong_url(url, allowed=allowed) if url else "is missing: an HTTP destination has one"
        if wrong:
            yield "url", wrong
        if queue is not None:
            yield "queue", "is for Celery destinations only"
        if timeout is not None and not TIMEOUTS[0] <= timeout <= TIMEOUTS[1]:
            yield "timeout_seconds", f"takes {TIMEOUTS[0]:g} to {TIMEOUTS[1]:g} seconds"
    else:
        if wrong := wrong_queue(queue or "", team=team):
            yield "queue", wrong
        if url is not None:
            yield "url", "is for HTTP destinations only"
        if timeout is not None:
            yield "timeout_seconds", "is for HTTP destinations only"
    if rate is not None and not RATES[0] <= rate <= RATES[1]:
        yield "rate_per_second", f"takes {RATES[0]:g} to {RATES[1]:g} jobs per second"
