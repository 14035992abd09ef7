"""The sandbox's rules of grants: when one lapses, what uses and renewals move, and what an old refresh token does."""

from datetime import UTC, datetime, timedelta

import pytest

from app.sandbox.grants import Lapse, Renewing, Reuse, TokenRules, begun, deadline, is_due, lapse, present, renewed

T0 = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = 86_400.0


@pytest.mark.parametrize(
    ("rules", "renewed_after", "lapses_after", "why"),
    [
        (TokenRules(idle_limit=30 * DAYS), 20, 50, Lapse.IDLE_LIMIT),
        (TokenRules(refresh_life=30 * DAYS), 20, 50, Lapse.REFRESH_LIFE),
        (TokenRules(refresh_life=30 * DAYS, rotates=False), 20, 30, Lapse.REFRESH_LIFE),
        (TokenRules(idle_limit=30 * DAYS, rotates=False), 20, 50, Lapse.IDLE_LIMIT),
        (TokenRules(grant_life=30 * DAYS, idle_limit=25 * DAYS), 20, 30, Lapse.GRANT_LIFE),
        (TokenRules(), 20, None, None),
    ],
)
def test_a_renewal_moves_the_deadlines_that_it_moves_at_the_provider(rules, renewed_after, lapses_after, why):
    grant = renewed(rules, begun(T0), now=T0 + renewed_after * DAY)
    at = None if lapses_after is None else T0 + lapses_after * DAY
    assert deadline(rules, grant) == at
    if at is not None:
        assert lapse(rules, grant, now=at - timedelta(seconds=1)) is None
        assert lapse(rules, grant, now=at) is why


@pytest.mark.parametrize(
    ("reuse", "refused", "lives"),
    [(Reuse.ALLOWED, None, True), (Reuse.REFUSED, "reused", True), (Reuse.REVOKES, "reused", False)],
)
def test_an_old_refresh_token_does_what_the_rules_say(reuse, refused, lives):
    rules = TokenRules(reuse=reuse)
    grant = renewed(rules, begun(T0, token="first"), now=T0, token="second")
    after, why = present(rules, grant, token="first", now=T0)
    assert why == refused
    assert (present(rules, after, token="second", now=T0)[1] is None) == lives


def test_a_token_is_due_within_the_margin_and_never_without_an_expiry_or_where_force_alone_renews():
    soon = T0 + timedelta(seconds=899)
    assert is_due(TokenRules(), soon, now=T0)
    assert not is_due(TokenRules(), T0 + timedelta(seconds=900), now=T0)
    assert not is_due(TokenRules(margin=60), soon, now=T0)
    assert not is_due(TokenRules(), None, now=T0)
    assert not is_due(TokenRules(renews=Renewing.FORCED), T0, now=T0)
