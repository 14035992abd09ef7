"""The acts on many jobs and many events, each described by values."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.domain.job_actions import PAST, JobAction
from app.services.routing.replays import Routes
from app.web.api import event_actions, job_actions
from app.web.api.event_actions import EventFilter
from app.web.api.event_replays import RoutedEventFilter, replay_events
from app.web.api.job_actions import JobFilter
from app.web.console import events, jobs
from app.web.console.bulk_act_pages import BulkActPage, Given, OneOf, Setting
from app.web.console.fields import Fields, Filter
from app.web.console.jobs import FOR_DESTINATION, FOR_EVENT, FOR_ROUTE, FOR_TIME
from app.web.console.rendering import link
from app.web.console.serving import read_as
from app.web.console.tables import Column

A_DAY: Final = "1d"  # back from now: of a replay whose list had no time
JOB_FIELDS: Final = Fields(
    JobFilter,
    (
        Filter("state"),
        Filter("team", hint="Of this team."),
        Filter("destination", check=FOR_DESTINATION),
        Filter("route", check=FOR_ROUTE),
        Filter("name", hint="Of this name, such as `crm.import_contacts`."),
        Filter("fault"),
        Filter("event", check=FOR_EVENT),
        Filter("parked"),
        Filter("created_since", check=FOR_TIME),
        Filter("created_until", check=FOR_TIME),
        Filter("ended_since", check=FOR_TIME),
        Filter("ended_until", check=FOR_TIME),
    ),
)
FAILED_FIELDS: Final = Fields(
    EventFilter,
    (
        Filter("q", "Search", "Such as `type:connection.created tag.plan:pro`."),
        Filter("failure"),
        Filter("type"),
        Filter("origin"),
        Filter("environment"),
        Filter("integration"),
        Filter("connection_id"),
        Filter("since", check=FOR_TIME),
        Filter("until", check=FOR_TIME),
    ),
)
ROUTED_FIELDS: Final = Fields(
    RoutedEventFilter,
    (
        Filter("q", "Search", "Such as `type:connection.created tag.plan:pro`."),
        Filter("since", check=FOR_TIME),
        Filter("until", check=FOR_TIME),
        Filter("type"),
        Filter("origin"),
        Filter("environment"),
        Filter("integration"),
        Filter("connection_id"),
    ),
)
# Filters of the list of jobs, and their names in acts.
_OF_THE_LIST: Final = {"since": "created_since", "until": "created_until"}
_NAMES: Final = {to: name for name, to in _OF_THE_LIST.items()}
_WILL_BE: Final[Mapping[JobAction, str]] = {
    JobAction.RETRY: "will be delivered again, at once.",
    JobAction.CANCEL: "will be stopped, and never delivered.",
    JobAction.REDELIVER: "will be delivered again, with the same ids.",
}
_ENDPOINTS: Final = {
    JobAction.RETRY: job_actions.retry_jobs,
    JobAction.CANCEL: job_actions.cancel_jobs,
    JobAction.REDELIVER: job_actions.redeliver_jobs,
}


def _to_jobs(given: Given) -> str:
    return link(jobs.PATH, **{_NAMES.get(name, name): text for name, text in given.items() if name in _SHARED})


def _job_groups(found: Any) -> Sequence[Mapping[str, Any]]:
    return [
        {"of": f"{each.team}/{each.destination}", "state": each.state, "fault": each.fault, "count": each.count}
        for each in found.groups
    ]


def _job_samples(found: Any) -> list[tuple[str, str]]:
    return [
        (f"{jobs.PATH}/{job.id}", f"{job.name} ({job.problem[:80]})" if job.problem else job.name)
        for job in found.samples[:5]
    ]


def _event_samples(found: Any) -> list[tuple[str, str]]:
    return [(f"{events.PATH}/{event_id}", event_id) for event_id in found.samples[:3]]


_SHARED: Final = frozenset(
    {"state", "team", "destination", "route", "name", "fault", "event", "parked", "ended_since", "ended_until"}
    | _OF_THE_LIST.keys()
    | _NAMES.keys()
)


def _of_jobs(action: JobAction) -> BulkActPage:
    is_of_lost = action is JobAction.REDELIVER
    return BulkActPage(
        endpoint=_ENDPOINTS[action],
        path=f"{jobs.PATH}/act",
        rows_path=jobs.PATH,
        list_name="Jobs",
        title=f"{str(action).capitalize()} jobs",
        verb=str(action).capitalize(),
        noun="job",
        counted_as="job",
        fields=JOB_FIELDS,
        tell=lambda _found, _given: _WILL_BE[action],
        nothing=f"No job matches that could be {PAST[action]}.",
        samples=_job_samples,
        back=_to_jobs,
        fixed={"act": str(action)},
        renamed=_OF_THE_LIST,
        needs=("destination", "ended_since") if is_of_lost else (),
        asks="Which jobs were lost? Name the destination that lost them, and since when they ended.",
        columns=(Column("Destination", "of"), Column("State", "state", "mark"), Column("Fault", "fault"), _JOBS),
        groups=_job_groups,
        notice=f"jobs_{PAST[action]}",
        kept=("team", "destination", "route", "name"),
    )


_JOBS: Final = Column("Jobs", "count")
JOBS: Final = OneOf("act", {str(action): _of_jobs(action) for action in JobAction}, default=str(JobAction.RETRY))

FAILED_EVENTS: Final = BulkActPage(
    endpoint=event_actions.retry_events,
    path=f"{events.PATH}/retry",
    rows_path=events.PATH,
    list_name="Events",
    title="Retry failed events",
    verb="Retry",
    noun="event",
    counted_as="failed event",
    fields=FAILED_FIELDS,
    tell=lambda found, _: f"will be processed again, as if {'it' if found.count == 1 else 'they'} had just arrived.",
    nothing="No failed event matches.",
    samples=_event_samples,
    back=lambda _: link(events.PATH, state="failed"),
    left_out=("state",),
    notice="events_retried",
)


def _routes(given: Given) -> Routes:
    """Raises FormNotRead for routes that there are not."""
    return read_as(Routes, given.get("routes", Routes.NOW))


def _replayed(_found: Any, given: Given) -> str:
    which = {Routes.NOW: "in force now", Routes.THEN: "of their own time"}[_routes(given)]
    again = " Jobs that are there are delivered again, with the same ids." if "again" in given else ""
    return f"will be given to the routes {which}: afterwards each route that matches has one job of each.{again}"


REPLAYS: Final = BulkActPage(
    endpoint=replay_events,
    path=f"{events.PATH}/replay",
    rows_path=events.PATH,
    list_name="Events",
    title="Replay events",
    verb="Replay",
    noun="event",
    counted_as="event",
    fields=ROUTED_FIELDS,
    tell=_replayed,
    nothing="No event that was routed matches.",
    samples=_event_samples,
    back=lambda _: link(events.PATH),
    left_out=("state",),
    defaults={"since": A_DAY},
    settings=(
        Setting("routes", "Through the routes", {"now": "in force now", "then": "of each event's own time"}),
        Setting("again", "Jobs that are there", {"": "are left alone", "yes": "go out again, too"}),
    ),
    body=lambda given: {"routes": _routes(given), "again": "again" in given},
)
