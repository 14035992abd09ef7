"""The results of errors of Nango."""

from datetime import UTC, datetime

import pytest

from app.domain.states import RefreshOutcome
from app.errors import InvalidInput, NangoForbidden, NangoRateLimited, NangoRefreshFailed, NangoUnauthorized
from app.services.refreshing.refresh_results import failed

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "outcome", "retry_after"),
    [
        (NangoRefreshFailed(status=400), RefreshOutcome.FAILED, None),
        (NangoRateLimited(retry_after=7), RefreshOutcome.RATE_LIMITED, 7),
        (NangoUnauthorized(status=401), RefreshOutcome.WAITED, None),
        (NangoForbidden(status=403), RefreshOutcome.WAITED, None),
        (InvalidInput("an id that cannot stand in a URL"), RefreshOutcome.GONE, None),
    ],
)
def test_an_error_has_its_outcome_and_only_a_refusal_is_the_connections_fault(error, outcome, retry_after):
    found = failed(error, asked_at=NOW, answered_at=NOW)
    assert (found.outcome, found.retry_after, found.error) == (outcome, retry_after, str(error))
    assert not found.is_gone  # only Nango says that a connection is gone
