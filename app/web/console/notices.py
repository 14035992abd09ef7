"""Notices of pages after an act. A form's answer leads to a page by a code in its query, never by a text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.wording import counted

PARAMETER: Final = "done"
_CODE: Final = re.compile(r"([a-z_]{1,60})(?:\.(\d{1,7}))?")


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence. With a noun, `{}` in it becomes the count with the noun."""

    text: str
    noun: str | None = None


NOTICES: Final[Mapping[str, Notice]] = {
    "bulk_run_cancelled": Notice("The run is cancelled. What it has changed stays so."),
    "bulk_run_paused": Notice("The run is paused."),
    "bulk_run_resumed": Notice("The run goes on where it was."),
    "event_acknowledged": Notice("The failed event is acknowledged, and no longer red in the status."),
    "event_replayed": Notice("{} due.", "job"),
    "event_retried": Notice("The event is processed again, as if it had just arrived."),
    "events_acknowledged": Notice("{} acknowledged.", "failed event"),
    "events_retried": Notice("{} retried.", "event"),
    "job_acknowledged": Notice("The dead letter is acknowledged, and no longer red in the status."),
    "job_cancelled": Notice("The job is cancelled."),
    "job_redelivered": Notice("The job is delivered again, with the same id."),
    "job_retried": Notice("The job is delivered again, and its schedule begins anew."),
    "job_unchanged": Notice("There was nothing to do: the job is as it was wanted."),
    "jobs_acknowledged": Notice("{} acknowledged.", "dead letter"),
    "jobs_cancelled": Notice("{} cancelled.", "job"),
    "jobs_redelivered": Notice("{} redelivered.", "job"),
    "jobs_retried": Notice("{} retried.", "job"),
    "connection_deleted": Notice("The connection is deleted at Nango; its record follows within seconds."),
    "connection_refreshed": Notice("Nango has renewed the credentials, where they can be."),
    "connection_relinked": Notice("The owner was decided anew; the explanation below says what holds."),
    "connection_unlinked": Notice("The link is closed."),
    "destination_changed": Notice("The destination is changed."),
    "destination_removed": Notice("The destination is removed."),
    "integration_paused": Notice("The integration's refreshes are paused."),
    "integration_resumed": Notice("The integration's refreshes are resumed; {} of held plans follow.", "renewal"),
    "links_superseded": Notice("{} closed; the newest connection of each owner has the link.", "link"),
    "metadata_set": Notice("The metadata is replaced at Nango."),
    "operator_added": Notice("The operator is added. A link lets them set a password."),
    "operator_changed": Notice("The operator is changed."),
    "operator_removed": Notice("The operator is removed."),
    "operator_signed_out": Notice("{} ended.", "session"),
    "owner_added": Notice("It is added, and {} linked to it.", "connection"),
    "owner_changed": Notice("The change is saved."),
    "owner_removed": Notice("It is removed, and {} closed.", "link"),
    "refresh_run": Notice("Nango was asked; the page says what came of it."),
    "route_added": Notice("The route is in force."),
    "route_changed": Notice("The route is changed."),
    "route_removed": Notice("The route is removed."),
    "run_asked": Notice("A comparison is asked for; a worker begins it within seconds."),
    "tags_set": Notice("The tags are set at Nango; record and link follow within seconds."),
    "destination_added": Notice("The destination is there; a route feeds it."),
    "view_changed": Notice("The view is changed."),
    "view_removed": Notice("The view is removed."),
    "view_saved": Notice("The view is saved."),
    "token_revoked": Notice("The token has ended."),
    "link_revoked": Notice("The link is revoked, and {} ended.", "session"),
    "portal_changed": Notice("The portal is changed."),
    "session_ended": Notice("The session is ended."),
    "team_added": Notice("The team is added."),
    "team_removed": Notice("The team is removed."),
}


def code(name: str, count: int | None = None) -> str:
    """The value of the parameter. Raises KeyError for a notice that there is not."""
    notice = NOTICES[name]
    return name if notice.noun is None or count is None else f"{name}.{count}"


def text_of(value: str | None) -> str | None:
    """The sentence for a value of the parameter; None for one that is no code."""
    found = _CODE.fullmatch(value or "")
    notice = NOTICES.get(found[1]) if found else None
    if found is None or notice is None or (notice.noun is None) is not (found[2] is None):
        return None
    return notice.text if notice.noun is None else notice.text.format(counted(int(found[2]), notice.noun))
