"""The checks of Waylink's status: what needs a person, with its cause and the command that repairs or shows it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Level(StrEnum):
    """The result of a check."""

    OK = "ok"
    HINT = "hint"  # worth a look, and nothing that has to be repaired
    RED = "red"  # needs a person


class CheckKind(StrEnum):
    """The kind of a check: the first part of its id. docs/operations.md has a row for each."""

    CONFIGURATION = "configuration"
    LEFT_FILE = "waylink.toml"
    ENVIRONMENT = "environment"
    PROCESSES = "processes"
    PROCESS = "process"
    PROGRESS = "progress"
    CANARY = "canary"
    VERSIONS = "versions"
    SCHEMA = "schema"
    CLOCK = "clock"
    DATABASE = "database"
    INTERNAL_BROKER = "internal-broker"
    TEAM_BROKER = "team-broker"
    QUEUE = "queue"
    BUDGET = "budget"
    SECRETS = "secrets"
    STORING = "storing"
    BREAKER = "breaker"
    SIGNATURES = "signatures"
    REJECTIONS = "rejections"
    WEBHOOKS_MISSING = "webhooks-missing"
    KEY = "key"
    RETIRED_KEY = "retired-key"
    EVENTS_WAITING = "events-waiting"
    EVENTS_WORKER = "events-worker"
    EVENTS_HELD = "events-held"
    EVENTS_FAILED = "events-failed"
    JOBS_AVAILABLE = "jobs-available"
    JOBS_RUNNING = "jobs-running"
    JOBS_RETRYABLE = "jobs-retryable"
    JOBS_PARKED = "jobs-parked"
    JOBS_DISCARDED = "jobs-discarded"
    DESTINATIONS = "destinations"
    DESTINATION_FAILING = "destination-failing"
    DESTINATION_DISABLED = "destination-disabled"
    NEEDING_RECONNECT = "connections-needing-reconnect"
    GRANTS_ENDING = "grants-ending"
    REFRESHES_OVERDUE = "refreshes-overdue"
    REFRESHES_TOO_LATE = "refreshes-too-late"
    TOKENS_LAPSED = "tokens-lapsed"
    INTEGRATIONS_PAUSED = "integrations-paused"
    KEPT_ALIVE = "connections-kept-alive-only"
    REFRESH_SCHEDULER = "refresh-scheduler"
    RECONCILE = "reconcile"
    RETENTION = "retention"
    ACTS = "acts-without-an-end"
    BULK_RUNS = "bulk-runs"
    NOTIFICATIONS = "notifications"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    subject: what of its kind it is about, such as a destination; empty where there is one of the kind. cause: a
    sentence; empty where there is nothing to say. repair: a command that repairs it or shows it.
    """

    kind: CheckKind
    level: Level
    value: str | int
    cause: str = ""
    repair: str = ""
    subject: str = ""

    @property
    def id(self) -> str:
        """The stable name, such as `destination-failing:crm/jobs`."""
        return f"{self.kind}:{self.subject}" if self.subject else str(self.kind)

    @property
    def name(self) -> str:
        """The id in words, such as `destination failing crm/jobs`."""
        words = str(self.kind).replace("-", " ")
        return f"{words} {self.subject}" if self.subject else words


_ORDER: Final = {Level.RED: 0, Level.HINT: 1, Level.OK: 2}


def in_order(checks: Iterable[Check]) -> list[Check]:
    """Sort them: what needs a person, then hints; otherwise as they were."""
    return sorted(checks, key=lambda check: _ORDER[check.level])


def count(checks: Sequence[Check], level: Level) -> int:
    return sum(check.level is level for check in checks)


def headline(checks: Sequence[Check]) -> str:
    """The first line of a report."""
    red = count(checks, Level.RED)
    if not red:
        return "nothing needs a person"
    return "1 thing needs a person" if red == 1 else f"{red} things need a person"


def red_if(is_red: object) -> Level:
    return Level.RED if is_red else Level.OK


def hint_if(is_hint: object) -> Level:
    return Level.HINT if is_hint else Level.OK
