"""Every endpoint of the API."""

from typing import Final

from app.web.api import reconciliations, records
from app.web.api.endpoint import Endpoint

ENDPOINTS: Final[tuple[Endpoint, ...]] = (*records.ENDPOINTS, *reconciliations.ENDPOINTS)
