"""The rights that each endpoint of the API and each page needs. What is not in it is not served.

An entry is the scope; `teams` marks what tokens and operators of one team reach as well, for what is that team's alone.
Tests hold the entries of the API against its endpoints, and call each as every kind of caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.domain.access import Scope


@dataclass(frozen=True, slots=True)
class Needs:
    """The scope that a caller needs; None: open to all."""

    scope: Scope | None
    teams: bool = False


_OPEN: Final = Needs(None)
_READ: Final = Needs(Scope.VIEWER)
_READ_OWN: Final = Needs(Scope.VIEWER, teams=True)
_CHANGE: Final = Needs(Scope.OPERATOR)
_CHANGE_OWN: Final = Needs(Scope.OPERATOR, teams=True)
_CREDENTIALS: Final = Needs(Scope.CREDENTIALS)

PAGES: Final[Mapping[str, Needs]] = {
    "GET /": _OPEN,  # leads to the console
    "GET /console": _READ_OWN,
    "GET /console/account": _READ_OWN,
    "GET /console/api": _READ_OWN,
    "GET /console/api/{group}": _READ_OWN,
    "POST /console/account/password": _READ_OWN,
    "POST /console/account/sessions": _READ_OWN,
    "GET /console/events": _READ_OWN,
    "GET /console/events/{event_id}": _READ_OWN,
    "POST /console/events/{event_id}/acknowledge": _CHANGE,
    "GET /console/events/{event_id}/replay": _CHANGE,
    "POST /console/events/{event_id}/replay": _CHANGE,
    "POST /console/events/{event_id}/retry": _CHANGE,
    "GET /console/jobs": _READ_OWN,
    "GET /console/jobs/acknowledge": _CHANGE,
    "POST /console/jobs/acknowledge": _CHANGE,
    "GET /console/jobs/act": _CHANGE_OWN,
    "POST /console/jobs/act": _CHANGE_OWN,
    "GET /console/jobs/{job_id}": _READ_OWN,
    "POST /console/jobs/{job_id}/acknowledge": _CHANGE,
    "POST /console/jobs/{job_id}/cancel": _CHANGE_OWN,
    "POST /console/jobs/{job_id}/redeliver": _CHANGE_OWN,
    "POST /console/jobs/{job_id}/retry": _CHANGE_OWN,
    "GET /console/connections": _READ,
    "GET /console/connections/{con_id}": _READ,
    "GET /console/connections/{con_id}/delete": _CHANGE,
    "POST /console/connections/{con_id}/delete": _CHANGE,
    "GET /console/connections/{con_id}/metadata": _CHANGE,
    "POST /console/connections/{con_id}/metadata": _CHANGE,
    "GET /console/connections/{con_id}/reconnect": _CHANGE,
    "POST /console/connections/{con_id}/reconnect": _CHANGE,
    "GET /console/connections/{con_id}/refresh": _CHANGE,
    "POST /console/connections/{con_id}/refresh": _CHANGE,
    "GET /console/connections/{con_id}/relink": _CHANGE,
    "POST /console/connections/{con_id}/relink": _CHANGE,
    "GET /console/connections/{con_id}/tags": _CHANGE,
    "POST /console/connections/{con_id}/tags": _CHANGE,
    "GET /console/connections/{con_id}/tags/add": _CHANGE,
    "POST /console/connections/{con_id}/tags/add": _CHANGE,
    "GET /console/connections/{con_id}/tags/remove": _CHANGE,
    "POST /console/connections/{con_id}/tags/remove": _CHANGE,
    "GET /console/connections/{con_id}/tags/restore": _CHANGE,
    "POST /console/connections/{con_id}/tags/restore": _CHANGE,
    "GET /console/connections/{con_id}/unlink": _CHANGE,
    "POST /console/connections/{con_id}/unlink": _CHANGE,
    "GET /console/queues": _READ_OWN,
    "GET /console/rejections": _READ,
    "POST /console/sign-out": _OPEN,  # ends the session of the browser, if there is one
    "GET /console/sign-in": _OPEN,
    "POST /console/sign-in": _OPEN,
    "GET /console/sign-in/oidc": _OPEN,
    "GET /console/sign-in/oidc/callback": _OPEN,
    "GET /console/welcome/{secret}": _OPEN,  # the secret is the right
    "POST /console/welcome/{secret}": _OPEN,
}

OTHERS: Final[Mapping[str, Needs]] = {
    "GET /healthz": _OPEN,
    "GET /readyz": _OPEN,
    "GET /metrics": _READ,  # or WAYLINK_OPEN_METRICS and a request from this machine
    "GET /static": _OPEN,
    "GET /api/v1/openapi.json": _READ_OWN,
}

API: Final[Mapping[str, Needs]] = {
    "GET /audit": _CHANGE,
    "POST /connect-sessions": _CHANGE,
    "GET /connections": _READ,
    "POST /connections/import": _CHANGE,
    "DELETE /connections/{con_id}": _CHANGE,
    "GET /connections/{con_id}": _READ,
    "GET /connections/{con_id}/credentials": _CREDENTIALS,
    "GET /connections/{con_id}/explain": _READ,
    "GET /connections/{con_id}/metadata": _READ,
    "PATCH /connections/{con_id}/metadata": _CHANGE,
    "PUT /connections/{con_id}/metadata": _CHANGE,
    "POST /connections/{con_id}/reconnect-sessions": _CHANGE,
    "POST /connections/{con_id}/refresh": _CHANGE,
    "GET /connections/{con_id}/renewal": _READ,
    "POST /connections/{con_id}/relink": _CHANGE,
    "POST /connections/{con_id}/restore-tags": _CHANGE,
    "PUT /connections/{con_id}/tags": _CHANGE,
    "DELETE /connections/{con_id}/tags/{key:path}": _CHANGE,
    "PUT /connections/{con_id}/tags/{key:path}": _CHANGE,
    "POST /connections/{con_id}/unlink": _CHANGE,
    "GET /destinations": _READ_OWN,
    "POST /destinations": _CHANGE_OWN,
    "DELETE /destinations/{team}/{destination}": _CHANGE_OWN,
    "GET /destinations/{team}/{destination}": _READ_OWN,
    "PATCH /destinations/{team}/{destination}": _CHANGE_OWN,
    "POST /destinations/{team}/{destination}/disable": _CHANGE_OWN,
    "POST /destinations/{team}/{destination}/enable": _CHANGE_OWN,
    "POST /destinations/{team}/{destination}/rotate-secret": _CHANGE_OWN,
    "GET /destinations/{team}/{destination}/secrets": _READ_OWN,
    "DELETE /destinations/{team}/{destination}/secrets/{secret_id}": _CHANGE_OWN,
    "GET /events": _READ_OWN,
    "POST /events/retry": _CHANGE,
    "GET /events/{event_id}": _READ_OWN,
    "GET /events/{event_id}/explain": _READ_OWN,
    "POST /events/{event_id}/replay": _CHANGE,
    "POST /events/{event_id}/retry": _CHANGE,
    "GET /figures": _READ,
    "GET /integrations": _READ,
    "GET /jobs": _READ_OWN,
    "POST /jobs/cancel": _CHANGE_OWN,
    "POST /jobs/redeliver": _CHANGE_OWN,
    "POST /jobs/retry": _CHANGE_OWN,
    "GET /jobs/summary": _READ_OWN,
    "GET /jobs/{job_id}": _READ_OWN,
    "POST /jobs/{job_id}/cancel": _CHANGE_OWN,
    "POST /jobs/{job_id}/redeliver": _CHANGE_OWN,
    "POST /jobs/{job_id}/retry": _CHANGE_OWN,
    "GET /operators": _CHANGE,
    "POST /operators": _CHANGE,
    "DELETE /operators/{name}": _CHANGE,
    "GET /operators/{name}": _CHANGE,
    "PATCH /operators/{name}": _CHANGE,
    "POST /operators/{name}/link": _CHANGE,
    "DELETE /operators/{name}/sessions": _CHANGE,
    "GET /operators/{name}/sessions": _CHANGE,
    "GET /organizations": _READ,
    "POST /organizations": _CHANGE,
    "POST /organizations/import": _CHANGE,
    "DELETE /organizations/{organization_id}": _CHANGE,
    "GET /organizations/{organization_id}": _READ,
    "PATCH /organizations/{organization_id}": _CHANGE,
    "GET /processes": _READ,
    "GET /providers": _READ,
    "GET /queues": _READ_OWN,
    "GET /reconciliations": _READ,
    "POST /reconciliations": _CHANGE,
    "GET /reconciliations/{rec_id}": _READ,
    "GET /refreshes": _READ,
    "GET /refreshes/forecast": _READ,
    "GET /refreshes/learnt": _READ,
    "GET /refreshes/pauses": _READ,
    "POST /refreshes/pauses": _CHANGE,
    "DELETE /refreshes/pauses/{environment}/{integration:path}": _CHANGE,
    "POST /refreshes/simulate": _CHANGE,
    "POST /refreshes/sweeps": _CHANGE,
    "GET /refreshes/{ref_id}": _READ,
    "POST /refreshes/{ref_id}/run": _CHANGE,
    "GET /rejections": _READ,
    "GET /repairs": _READ,
    "GET /routes": _READ_OWN,
    "POST /routes": _CHANGE_OWN,
    "POST /routes/test": _READ_OWN,
    "DELETE /routes/{team}/{route}": _CHANGE_OWN,
    "GET /routes/{team}/{route}": _READ_OWN,
    "PATCH /routes/{team}/{route}": _CHANGE_OWN,
    "POST /routes/{team}/{route}/backfill": _CHANGE,
    "POST /routes/{team}/{route}/disable": _CHANGE_OWN,
    "POST /routes/{team}/{route}/enable": _CHANGE_OWN,
    "GET /routes/{team}/{route}/versions": _READ_OWN,
    "GET /settings": _READ,
    "GET /status": _READ,
    "GET /status/acknowledgements": _READ,
    "POST /status/acknowledgements": _CHANGE,
    "GET /teams": _READ_OWN,
    "POST /teams": _CHANGE,
    "DELETE /teams/{team}": _CHANGE,
    "GET /teams/{team}": _READ_OWN,
    "GET /users": _READ,
    "POST /users": _CHANGE,
    "POST /users/import": _CHANGE,
    "DELETE /users/{user_id}": _CHANGE,
    "GET /users/{user_id}": _READ,
    "PATCH /users/{user_id}": _CHANGE,
}
