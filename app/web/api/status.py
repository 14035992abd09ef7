"""Endpoints for the status, and to acknowledge what is red in it."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from app.domain.access import Scope
from app.domain.acknowledging import AckKind, AckScope
from app.domain.status import Level, count, in_order
from app.errors import InvalidInput
from app.services.status import acknowledging
from app.services.status.acknowledging import LONGEST_NOTE
from app.services.status.installation import Installation
from app.services.status.report import report
from app.services.status.shapes import shown
from app.web.api.endpoint import Call, Endpoint, endpoint, record
from app.web.api.problems import INVALID_INPUT, NOT_FOUND

Text = Annotated[str, Meta(min_length=1, max_length=255)]


class StatusCheck(Struct, frozen=True, kw_only=True):
    """One check. `level`: `ok`, `hint` or `red`. `repair`: a command that repairs it or shows it."""

    id: str
    name: str
    level: Literal["ok", "hint", "red"]
    value: str | int
    cause: str
    repair: str | None


class StatusReport(Struct, frozen=True, kw_only=True):
    """All checks, those that need a person first, then hints."""

    at: str
    needs_a_person: bool
    red: int
    hints: int
    data: list[StatusCheck]


class AcknowledgementWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a kind, those of a `destination`, or one `id`. Without an id it is tried with `dry_run` first; the call
    that follows repeats its count in `expected`.
    """

    kind: Annotated[AckKind, Meta(description="`jobs`: dead letters; `events`: failed events.")]
    destination: Annotated[Text, Meta(description="`TEAM/NAME`; of jobs only.")] | None = None
    id: Annotated[Text, Meta(description="A `job_…` or `evt_…` id.")] | None = None
    note: Annotated[str, Meta(max_length=LONGEST_NOTE)] | None = None
    dry_run: Annotated[bool, Meta(description="Count, and change nothing.")] = False
    expected: Annotated[int, Meta(ge=0, description="The `count` of the dry run: more by now is a 409.")] | None = None


class Acknowledged(Struct, frozen=True, kw_only=True):
    """`count` rows were not acknowledged before; `capped`: there are more than were counted. `until`: the end of the
    newest; what ends later is new. Without any it is null, and nothing is written.
    """

    kind: str
    subject: str | None
    dry_run: bool
    count: int
    capped: bool
    until: str | None


class AcknowledgementRow(Struct, frozen=True, kw_only=True):
    """An acknowledgement in force. `subject`: null for all, a destination, or an id."""

    kind: str
    subject: str | None
    until: str
    at: str
    actor: str
    note: str | None


class AcknowledgementsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=10_000, description="Rows at most.")] = 50


class Acknowledgements(Struct, frozen=True, kw_only=True):
    data: list[AcknowledgementRow]


@endpoint("GET /status", scope=Scope.VIEWER)
def get_status(call: Call) -> StatusReport:
    """Show what needs a person, with its cause and the command that repairs it."""
    now = call.context.clock()
    database = call.context.status_database or call.context.database
    found = in_order(report(database, _installation(call), now=now))
    red = count(found, Level.RED)
    return StatusReport(
        at=now.isoformat(),
        needs_a_person=red > 0,
        red=red,
        hints=count(found, Level.HINT),
        data=[record(shown(check), StatusCheck) for check in found],
    )


@endpoint("GET /status/acknowledgements", scope=Scope.VIEWER)
def list_acknowledgements(call: Call, query: AcknowledgementsQuery) -> Acknowledgements:
    """List the acknowledgements in force, newest first."""
    with call.context.database.read() as session:
        rows = acknowledging.listed(session, limit=query.limit)
    return Acknowledgements(data=[record(row, AcknowledgementRow) for row in rows])


@endpoint("POST /status/acknowledgements", scope=Scope.OPERATOR, problems=(INVALID_INPUT, NOT_FOUND))
def acknowledge(call: Call, body: AcknowledgementWanted) -> Acknowledged:
    """Acknowledge dead letters or failed events, so that what is red in the status is new.

    They stay as they are, and can be retried.
    """
    scope = _scope(body)
    with call.context.database.read() as session:
        found = acknowledging.preview(session, scope, now=call.context.clock())
    if not body.dry_run:
        if body.expected is None and body.id is None:
            raise InvalidInput("without an `id` it needs `expected`: the `count` of the same call with `dry_run`")
        acknowledging.acknowledge(
            call.context.database,
            found,
            note=body.note,
            actor=call.actor,
            now=call.context.clock(),
            expected=body.expected,
        )
    return Acknowledged(
        kind=scope.kind,
        subject=scope.subject or None,
        dry_run=body.dry_run,
        count=found.count,
        capped=found.capped,
        until=found.until.isoformat() if found.until else None,
    )


def _scope(body: AcknowledgementWanted) -> AckScope:
    if body.id is not None and body.destination is not None:
        raise InvalidInput("give an `id` or a `destination`, not both")
    if body.id is not None:
        return acknowledging.scope_of_id(body.id, body.kind)
    if body.destination is None:
        return AckScope(body.kind)
    if body.kind is not AckKind.JOBS:
        raise InvalidInput("`destination` goes with the kind `jobs`: events have none")
    return acknowledging.scope_of_destination(body.destination)


def _installation(call: Call) -> Installation:
    if call.context.installation is None:
        raise RuntimeError("this process has no installation to report on")
    return call.context.installation()


ENDPOINTS: Final[tuple[Endpoint, ...]] = (get_status, list_acknowledgements, acknowledge)
