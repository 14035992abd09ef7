"""Acknowledgements of all dead letters or failed events, after a page with their count."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from app.domain.acknowledging import AckKind
from app.errors import Conflict
from app.web.api.status import AcknowledgementWanted, acknowledge
from app.web.console import events, jobs, notices
from app.web.console.bulk_act_pages import NO_REASON
from app.web.console.fields import given_in
from app.web.console.rendering import link, see_other
from app.web.console.serving import ConsoleContext, Visit, read_as


@dataclass(frozen=True, slots=True)
class AcknowledgementPage:
    """The acknowledgement of all rows of a kind. path: of their list. state: theirs. has_destination: the page takes
    one, whose rows alone are meant. noun: of its button."""

    kind: AckKind
    path: str
    state: str
    list_name: str
    counted_as: str
    noun: str
    notice: str
    has_destination: bool = False

    async def show(self, context: ConsoleContext, visit: Visit) -> Response:
        """The rows that the acknowledgement would mean."""
        return await self._page(context, visit, given_in(visit).get("destination") if self.has_destination else None)

    async def do(self, context: ConsoleContext, visit: Visit) -> Response:
        """Acknowledge the rows of the page; where there are more by now, show it anew."""
        form = await visit.form()
        destination = form.get("destination") or None if self.has_destination else None
        reason = form.get("reason", "").strip()
        if not reason:
            return await self._page(context, visit, destination, problem=NO_REASON, status=422)
        expected = read_as(int, form.get("expected", ""))
        body = AcknowledgementWanted(kind=self.kind, destination=destination, note=reason[:500], expected=expected)
        try:
            done = await context.rows.run(partial(acknowledge.run, visit.call(context), body=body))
        except Conflict as changed:
            again = partial(self._page, context, visit, destination, reason=reason)
            return await again(problem=str(changed), status=409)
        return see_other(self._back(destination, done=notices.code(self.notice, done.count)))

    async def _page(
        self,
        context: ConsoleContext,
        visit: Visit,
        destination: str | None,
        *,
        problem: str | None = None,
        reason: str = "",
        status: int = 200,
    ) -> Response:
        body = AcknowledgementWanted(kind=self.kind, destination=destination, dry_run=True)
        found = await context.rows.run(partial(acknowledge.run, visit.call(context), body=body))
        values: dict[str, Any] = {"found": found, "destination": destination, "problem": problem, "reason": reason}
        back = self._back(destination)
        return visit.page("acknowledge.html", status=status, told=self, back=back, **values)

    def _back(self, destination: str | None, **more: str) -> str:
        return link(self.path, state=self.state, destination=destination, **more)


DEAD_LETTERS: Final = AcknowledgementPage(
    AckKind.JOBS,
    jobs.PATH,
    "discarded",
    "Jobs",
    "dead letter",
    "dead letter",
    "jobs_acknowledged",
    has_destination=True,
)
FAILED_EVENTS: Final = AcknowledgementPage(
    AckKind.EVENTS, events.PATH, "failed", "Events", "failed event", "event", "events_acknowledged"
)
