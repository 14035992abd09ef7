"""The answer to a GET that may renew a token, without credentials."""

from datetime import datetime

from app.domain.confirming import Snapshot
from app.domain.refreshing.token_times import NO_TIMES, TokenTimes
from app.domain.states import RefreshOutcome
from app.domain.values import value


@value
class Answer:
    """An answer of Nango, or the reason why there is none.

    asked_at, answered_at: when the GET was sent and answered; None where none was. retry_after: seconds, of a rate
    limit. snapshot: the connection as the answer showed it. is_gone: Nango has no such connection. only_looked: of the
    plain GET before a forced one, which was not sent. put_off_until: no GET was sent, and none is to be before.
    """

    outcome: RefreshOutcome
    times: TokenTimes = NO_TIMES
    error: str | None = None
    error_type: str = ""
    asked_at: datetime | None = None
    answered_at: datetime | None = None
    retry_after: float | None = None
    snapshot: Snapshot | None = None
    has_credentials: bool = False
    is_gone: bool = False
    only_looked: bool = False
    put_off_until: datetime | None = None

    @property
    def expires_at(self) -> datetime | None:
        return self.times.expires_at

    def token_lives(self, now: datetime) -> bool | None:
        """Whether the returned credentials have not expired; None where there were none, as for some API keys."""
        if not self.has_credentials:
            return None
        return self.expires_at is None or self.expires_at > now
