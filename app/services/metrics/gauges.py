"""Gauges of the installation, read from database and broker when `/metrics` is asked for."""

from dataclasses import dataclass
from typing import Final

DESTINATION: Final = ("team", "destination")
INTEGRATION: Final = ("environment", "integration")


@dataclass(frozen=True, slots=True)
class StateGauge:
    """A gauge, with the words of its HELP line."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


DATABASE_UP: Final = StateGauge(
    "waylink_database_up", "1 where the database answered; 0: only this process's own gauges are shown."
)
BACKLOG: Final = StateGauge("waylink_backlog", "Events, jobs or refreshes that wait, up to 10001.", ("queue",))
OLDEST_DUE: Final = StateGauge(
    "waylink_oldest_due_seconds", "For how long the first event, job or refresh has been due; 0: none is.", ("queue",)
)
BROKER_MESSAGES: Final = StateGauge("waylink_broker_messages", "Messages in the internal broker's queues.", ("queue",))
JOBS_UNFINISHED: Final = StateGauge(
    "waylink_jobs_unfinished", "Jobs that are neither completed nor given up, by state, up to 10001.", ("state",)
)
DESTINATION_JOBS: Final = StateGauge(
    "waylink_destination_jobs", "Unfinished jobs of a destination, up to 2001, by whether they wait or are parked.",
    (*DESTINATION, "state"),
)  # fmt: skip
DESTINATION_OLDEST_DUE: Final = StateGauge(
    "waylink_destination_oldest_due_seconds", "For how long a destination's first job has been due; 0: none is.",
    DESTINATION,
)  # fmt: skip
DESTINATION_STATE: Final = StateGauge(
    "waylink_destination_state", "1 for the state that a destination is in.", (*DESTINATION, "state")
)
NEEDING_RECONNECT: Final = StateGauge(
    "waylink_connections_needing_reconnect", "Connections whose end user has to reconnect, up to 10001."
)
REFRESH_PLANNED: Final = StateGauge(
    "waylink_refresh_planned_timestamp_seconds",
    "Planned moment of the most overdue refresh, unix seconds, by integration; none where nothing is overdue.",
    INTEGRATION,
)
REFRESHES_OVERDUE: Final = StateGauge("waylink_refreshes_overdue", "Overdue refreshes.", INTEGRATION)
TOKENS_LAPSED: Final = StateGauge(
    "waylink_tokens_lapsed", "Active connections whose token has expired and is not being renewed.", INTEGRATION
)
REFRESH_RESULTS: Final = StateGauge(
    "waylink_refresh_results",
    "Connections that were renewed or began to fail within the last ten to twenty minutes, by integration.",
    (*INTEGRATION, "result"),
)
REFRESHES_PAUSED: Final = StateGauge(
    "waylink_refreshes_paused", "1 for each integration whose refreshes are paused.", INTEGRATION
)
REFRESH_TICK: Final = StateGauge(
    "waylink_refresh_tick_timestamp_seconds", "When an io worker last looked for due refreshes, unix seconds."
)
RECONCILED_AT: Final = StateGauge(
    "waylink_reconcile_completed_timestamp_seconds",
    "End of the last completed comparison with Nango's list, unix seconds.",
    ("environment",),
)
KEY_USED_AT: Final = StateGauge(
    "waylink_webhook_key_used_timestamp_seconds",
    "When a signing key last signed a webhook, unix seconds; none where it never did.",
    ("environment", "key"),
)
PROCESSES: Final = StateGauge(
    "waylink_processes", "Processes by kind and state; silent ones that another has replaced are left out.",
    ("kind", "state"),
)  # fmt: skip
HEARTBEAT_AGE: Final = StateGauge(
    "waylink_heartbeat_age_seconds", "Since a main loop of the kind last answered: the one that did so last.", ("kind",)
)
CANARY_AGE: Final = StateGauge(
    "waylink_canary_age_seconds", "Since a canary passed a stage of the way of webhooks and jobs.", ("stage",)
)
WORK_AGE: Final = StateGauge("waylink_work_age_seconds", "Since any process last did work of a kind.", ("work",))
BUDGET_USED: Final = StateGauge(
    "waylink_nango_budget_used", "Calls to Nango in this minute by all callers, as far as known, by account.",
    ("account",),
)  # fmt: skip
BUDGET_LIMIT: Final = StateGauge("waylink_nango_budget_limit", "Calls per minute that Nango allows.", ("account",))

GAUGES: Final = tuple(sorted((one for one in vars().values() if isinstance(one, StateGauge)), key=lambda one: one.name))
