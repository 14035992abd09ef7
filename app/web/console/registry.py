"""All pages of the console, by method and path."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from app.domain.job_actions import JobAction
from app.web.console import (
    account,
    connection_acts,
    connections,
    event_actions,
    events,
    job_actions,
    jobs,
    overview,
    queues,
    reference,
    rejections,
    sign_in,
    single_sign_on,
)
from app.web.console.act_pages import pages_of
from app.web.console.serving import PageFunction

PAGES: Final[Mapping[str, PageFunction]] = {
    "GET /": account.to_console,
    "GET /console": overview.overview,
    "GET /console/account": account.show_account,
    "POST /console/account/password": account.change_password,
    "POST /console/account/sessions": account.end_other_sessions,
    "GET /console/api": reference.show_calls,
    "GET /console/api/{group}": reference.show_group,
    "GET /console/events": events.show_events,
    "GET /console/events/{event_id}": events.show_event,
    "POST /console/events/{event_id}/acknowledge": events.acknowledge_event,
    "GET /console/events/{event_id}/replay": event_actions.preview_replay,
    "POST /console/events/{event_id}/replay": event_actions.replay_event,
    "POST /console/events/{event_id}/retry": event_actions.retry_event,
    "GET /console/jobs": jobs.show_jobs,
    "GET /console/jobs/acknowledge": job_actions.preview_acknowledgement,
    "POST /console/jobs/acknowledge": job_actions.acknowledge_jobs,
    "GET /console/jobs/act": job_actions.preview_jobs,
    "POST /console/jobs/act": job_actions.act_on_jobs,
    "GET /console/jobs/{job_id}": jobs.show_job,
    "POST /console/jobs/{job_id}/acknowledge": jobs.acknowledge_job,
    "POST /console/jobs/{job_id}/cancel": partial(jobs.act_on_job, action=JobAction.CANCEL),
    "POST /console/jobs/{job_id}/redeliver": partial(jobs.act_on_job, action=JobAction.REDELIVER),
    "POST /console/jobs/{job_id}/retry": partial(jobs.act_on_job, action=JobAction.RETRY),
    "GET /console/connections": connections.show_connections,
    "GET /console/connections/{con_id}": connections.show_connection,
    **pages_of(connection_acts.ACTS),
    "GET /console/queues": queues.show_queues,
    "GET /console/rejections": rejections.show_rejections,
    "GET /console/sign-in": sign_in.show_sign_in,
    "POST /console/sign-in": sign_in.sign_in,
    "GET /console/sign-in/oidc": single_sign_on.leave,
    "GET /console/sign-in/oidc/callback": single_sign_on.come_back,
    "POST /console/sign-out": sign_in.sign_out,
    "GET /console/welcome/{secret}": sign_in.show_welcome,
    "POST /console/welcome/{secret}": sign_in.welcome,
}
