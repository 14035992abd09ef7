"""Shapes of the API and rows of listings: neither has a member that the other lacks."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from msgspec.structs import fields

from app import errors
from app.db import audit, rejections
from app.db.models import Audit, Connection, Event, Job, Refresh, Rejection
from app.db.read import connection_listing, refresh_listing, shown_rows
from app.web.api import problems, refreshes, shapes
from app.web.api.problems import ProblemKind, refusal_for

NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)
ID = UUID(int=1)
EVENT = Event(id=ID, received_at=NOW)
CONNECTION = Connection(id=ID)


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (audit.shown(Audit(id=ID, at=NOW)), shapes.AuditEntry),
        (shown_rows.shown_event(EVENT), shapes.EventRow),
        (connection_listing._connection(CONNECTION, None, None, None, None), shapes.ConnectionRow),
        (shown_rows.shown_job(Job(id=ID, event_id=ID, created_at=NOW)), shapes.JobRow),
        (rejections.shown(Rejection(minute=NOW, last_at=NOW)), shapes.RejectionRow),
        (
            refresh_listing._shown((Refresh(id=ID, refresh_at=NOW, next_at=NOW), CONNECTION, None, None), NOW),
            refreshes.RefreshRow,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_rows_and_shapes_have_the_same_members(row, shape):
    assert set(row) == {field.name for field in fields(shape)}


def test_every_error_a_caller_can_cause_has_a_problem():
    ours = (errors.ConfigurationError, errors.BrokerUnavailable, errors.DatabaseUnavailable)
    ours += (errors.Unreachable, errors.Sealed)  # of deliveries: no call makes one, nor opens a secret
    ours += (errors.SignInRefused, errors.NotAllowed, errors.TooManyAttempts, errors.ProviderUnavailable)  # of pages
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.WaylinkError):
            if issubclass(kind, ours) or kind in {errors.WaylinkError, errors.NangoError}:
                continue
            assert any(issubclass(kind, base) for base, _ in problems._KINDS), kind
    assert refusal_for(errors.BrokerUnavailable("internal", ValueError())) is None


def test_the_words_of_problems_are_unique():
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, ProblemKind)]
    assert len({kind.word for kind in kinds}) == len(kinds) > 20
