"""An event on its way from its claim to its end."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from app.db.connections import Key
from app.domain.answering import Named
from app.domain.confirming import Absent, Look, Unavailable, View
from app.domain.event import Notice
from app.domain.linking import EndUser


@dataclass(frozen=True, slots=True)
class Judged:
    """A claimed event with what its body says and what Nango answered. `attempts` is the claim's number.

    found: by comparing Nango's list with ours. scrubbed_body: what is kept of a body that was not clean.
    named: whom the application's database names; None where it is not asked (every policy but `sql`).
    size: of the body, in bytes.
    """

    event_id: UUID
    attempts: int
    duplicates: int
    key: Key | None
    seen_at: datetime
    notice: Notice
    look: Look
    found: bool = False
    scrubbed_body: bytes | None = None
    named: Named | None = None
    size: int = 0

    @property
    def observed_at(self) -> datetime:
        """When what we go by was true: Nango's answer, or the receipt where Nango was not asked."""
        return self.look.observed_at if isinstance(self.look, View | Absent) else self.seen_at

    @property
    def evidence(self) -> tuple[Mapping[str, str] | None, EndUser | None]:
        """Tags and end user, of the API where it was asked, else of the body."""
        if isinstance(self.look, View):
            return self.look.tags, self.look.end_user
        return self.notice.tags, self.notice.end_user

    def answered(self, answer: Named | Unavailable) -> "Judged":
        """With what the application's database said. Where it could not, the whole event is looked at again."""
        return replace(self, look=answer) if isinstance(answer, Unavailable) else replace(self, named=answer)
