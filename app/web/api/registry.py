"""All endpoints of the API."""

from typing import Final

from app.web.api import (
    connection_edits,
    connection_imports,
    connections,
    definitions,
    destinations,
    dry_runs,
    event_actions,
    figures,
    integrations,
    job_actions,
    operators,
    people,
    processes,
    queues,
    reconciliations,
    records,
    refresh_actions,
    refresh_forecasts,
    refreshes,
    repairs,
    settings,
    status,
)
from app.web.api.endpoint import Endpoint

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *connections.ENDPOINTS,
    *connection_edits.ENDPOINTS,
    *connection_imports.ENDPOINTS,
    *refresh_forecasts.ENDPOINTS,
    *records.ENDPOINTS,
    *refreshes.ENDPOINTS,
    *refresh_actions.ENDPOINTS,
    *repairs.ENDPOINTS,
    *status.ENDPOINTS,
    *figures.ENDPOINTS,
    *job_actions.ENDPOINTS,
    *event_actions.ENDPOINTS,
    *queues.ENDPOINTS,
    *processes.ENDPOINTS,
    *integrations.ENDPOINTS,
    *reconciliations.ENDPOINTS,
    *people.ENDPOINTS,
    *definitions.ENDPOINTS,
    *destinations.ENDPOINTS,
    *operators.ENDPOINTS,
    *dry_runs.ENDPOINTS,
    *settings.ENDPOINTS,
)
