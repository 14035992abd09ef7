"""The figures that the console charts: what each counts, in which unit, and the lists that have its rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from app.domain.figures import FigureName
from app.web.console.charts import Look

_STORED: Final = {"stored": "stored", "duplicate": "again"}
_RENEWED: Final = frozenset({"renewed", "first_seen", "unchanged", "no_expiry"})
_WAITED: Final = frozenset({"rate_limited", "provider_down", "paused", "nango_down", "waited", "superseded"})


@dataclass(frozen=True, slots=True)
class RowsLink:
    """A link to the list of what is counted. label: of the rows.

    between: the names of its filters for the beginning and the end of the time. counts: the series whose values
    together are the number of these rows; none where the figure is no number of rows. column: the member of a row that
    has a count of its own; None: each row counts once.
    """

    label: str
    path: str
    query: Mapping[str, str]
    between: tuple[str, str] | None = None
    counts: tuple[str, ...] = ()
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """The declaration of a chart. names: of the series, by their key. key: of a label's series.

    label: of the figure, that makes the series of a stack; None: two lines, for half and for 99 %. by_destination:
    whether the figure is told apart by team and destination, which its list of rows then is, too.
    """

    id: str
    title: str
    noun: str
    name: FigureName
    label: str | None
    names: Mapping[str, tuple[str, Look]]
    key: Callable[[str], str]
    links: tuple[RowsLink, ...]
    in_seconds: bool = False
    stacked: bool = False
    by_destination: bool = False


_EVENTS: Final = "/console/events"
_JOBS: Final = "/console/jobs"
_PROCESSED: Final = ("processed_since", "processed_until")
_ENDED: Final = ("ended_since", "ended_until")
_FINISHED: Final = ("finished_since", "finished_until")
_ANSWERS: Final = Kind(
    "webhooks", "Webhooks", "webhooks", FigureName.WEBHOOKS, "answer",
    {"stored": ("stored", Look.WELL), "again": ("stored before", Look.OTHER), "ill": ("not stored", Look.ILL)},
    lambda answer: _STORED.get(answer, "ill"),
    (
        RowsLink("Stored", _EVENTS, {"origin": "webhook"}, ("since", "until"), ("stored",)),
        RowsLink("Rejections", "/console/rejections", {}, ("since", "until"), ("ill",), "count"),
    ),
    stacked=True,
)  # fmt: skip
_BACKLOG: Final = Kind(
    "backlog", "Backlog", "rows that wait, the latest", FigureName.BACKLOG, "queue",
    {"events": ("events", Look.WELL), "jobs": ("jobs", Look.OTHER)}, lambda queue: queue,
    (
        RowsLink("Waiting events", _EVENTS, {"state": "received"}, counts=("events",)),
        RowsLink("Waiting jobs", _JOBS, {"parked": "false"}, counts=("jobs",)),
    ),
)  # fmt: skip
_OLDEST: Final = Kind(
    "oldest", "Age of the oldest that is due", "the latest", FigureName.OLDEST_DUE_SECONDS, "queue",
    {"events": ("events", Look.WELL), "jobs": ("jobs", Look.OTHER)}, lambda queue: queue,
    (
        RowsLink("Waiting events", _EVENTS, {"state": "received"}),
        RowsLink("Queues and processes", "/console/queues", {}),
    ),
    in_seconds=True,
)  # fmt: skip
_TO_JOB: Final = Kind(
    "to-job", "From webhook to job", "for 99 %, the latest", FigureName.WEBHOOK_TO_JOB_SECONDS, None,
    {"p50": ("half of them within", Look.WELL), "p99": ("99 % within", Look.OTHER)}, lambda key: key,
    (RowsLink("Completed jobs", _JOBS, {"state": "completed"}, _ENDED),), in_seconds=True, by_destination=True,
)  # fmt: skip
_FAILED: Final = Kind(
    "events", "Events", "events", FigureName.EVENTS, "state",
    {"well": ("processed", Look.WELL), "ill": ("failed", Look.ILL)},
    lambda state: "ill" if state == "failed" else "well",
    (
        RowsLink("Processed", _EVENTS, {"state": "processed"}, _PROCESSED, ("well",)),
        RowsLink("Failed", _EVENTS, {"state": "failed"}, _PROCESSED, ("ill",)),
    ),
    stacked=True,
)  # fmt: skip
_DISCARDED: Final = Kind(
    "discarded", "Dead letters", "jobs given up", FigureName.JOBS_DISCARDED, "fault",
    {"team": ("the team's fault", Look.ILL), "ours": ("Waylink's fault", Look.OTHER)},
    lambda fault: "ours" if fault == "ours" else "team",
    (
        RowsLink("The team's fault", _JOBS, {"state": "discarded", "fault": "team"}, _ENDED, ("team",)),
        RowsLink("Waylink's fault", _JOBS, {"state": "discarded", "fault": "ours"}, _ENDED, ("ours",)),
    ),
    stacked=True, by_destination=True,
)  # fmt: skip
_REFRESHES: Final = Kind(
    "refreshes", "Refreshes", "renewals", FigureName.REFRESHES, "outcome",
    {"well": ("done", Look.WELL), "ill": ("failed", Look.ILL), "other": ("put off", Look.OTHER)},
    lambda outcome: "well" if outcome in _RENEWED else "other" if outcome in _WAITED else "ill",
    (
        RowsLink("Finished", "/console/refreshes", {"state": "finished"}, _FINISHED, ("well", "ill")),
        RowsLink("Planned", "/console/refreshes", {"state": "open"}),
    ),
    stacked=True,
)  # fmt: skip
_JOBS_TAKEN: Final = Kind(
    "jobs", "Attempts to deliver", "attempts", FigureName.JOBS, "outcome",
    {"well": ("completed", Look.WELL), "other": ("to be tried again", Look.OTHER), "ill": ("given up", Look.ILL)},
    lambda outcome: {"completed": "well", "discarded": "ill"}.get(outcome, "other"),
    (
        RowsLink("Completed", _JOBS, {"state": "completed"}, _ENDED, ("well",)),
        RowsLink("Given up", _JOBS, {"state": "discarded"}, _ENDED, ("ill",)),
    ),
    stacked=True, by_destination=True,
)  # fmt: skip
OVERVIEW: Final = (_ANSWERS, _BACKLOG, _OLDEST, _TO_JOB, _FAILED, _DISCARDED, _REFRESHES)
KINDS: Final[Mapping[str, Kind]] = {kind.id: kind for kind in (*OVERVIEW, _JOBS_TAKEN)}
