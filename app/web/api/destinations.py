"""Endpoints for destinations and their signing secrets."""

from datetime import timedelta
from typing import Final

from msgspec import UNSET
from sqlalchemy.orm import Session

from app.config.durations import duration
from app.db.models import Destination
from app.db.read import definitions as listing
from app.db.read.definitions import DefinitionFilters, shown_destination
from app.domain.access import Scope
from app.errors import FieldFault, InvalidFields
from app.ids import SECRET, show
from app.services.definitions import destinations, signing_secrets
from app.web.api.definition_shapes import (
    DestinationChange,
    DestinationMade,
    DestinationQuery,
    DestinationRecord,
    DestinationRow,
    DisableQuery,
    EditQuery,
    NewDestination,
    RotateQuery,
    SecretMade,
    SecretRow,
    Secrets,
)
from app.web.api.definitions import editor_of, given, page_by_name, team_of
from app.web.api.endpoint import Call, Endpoint, Page, endpoint, record
from app.web.api.problems import CONFLICT, INVALID_INPUT
from app.web.api.reading import identity


@endpoint("GET /destinations", scope=Scope.VIEWER, teams=True)
def list_destinations(call: Call, query: DestinationQuery) -> Page[DestinationRow]:
    """List destinations, by team and name."""
    filters = DefinitionFilters(
        limit=query.limit + 1,
        after=query.cursor,
        team=call.team or query.team,
        kind=query.kind,
        enabled=query.enabled,
        source=query.source,
        in_force=not query.retired,
    )
    if call.team is not None and query.team not in {None, call.team}:
        return Page(data=[], next_cursor=None)
    with call.context.database.read() as session:
        return page_by_name(listing.destinations(session, filters), query.limit, DestinationRow, "team", "name")


@endpoint("POST /destinations", scope=Scope.OPERATOR, teams=True, holds_secret=True, status=201)
def add_destination(call: Call, body: NewDestination) -> DestinationMade:
    """Add a destination of a team.

    An HTTP destination gets the secret that its deliveries are signed with, shown only in this answer.
    """
    fields = given(body)
    team, name = team_of(call, fields.pop("team", UNSET)), fields.pop("name")
    context = call.context
    with context.database.write() as session:
        made = destinations.add(
            session, context.means, fields, team=team, name=name, editor=editor_of(call), now=context.clock()
        )
        health = listing.health(session, team=team, name=name)
        return record({**shown_destination(made.row), "health": health, "secret": made.secret}, DestinationMade)


@endpoint("GET /destinations/{team}/{destination}", scope=Scope.VIEWER, teams=True)
def get_destination(call: Call, team: str, destination: str) -> DestinationRecord:
    """One destination, with its health."""
    with call.context.database.read() as session:
        return _record(session, destinations.get(session, team=team, name=destination, editor=editor_of(call)))


@endpoint("PATCH /destinations/{team}/{destination}", scope=Scope.OPERATOR, teams=True, holds_secret=True)
def change_destination(
    call: Call, team: str, destination: str, query: EditQuery, body: DestinationChange
) -> DestinationRecord:
    """Change a destination. Waiting jobs follow the change."""
    with call.context.database.write() as session:
        changed = destinations.change(
            session,
            call.context.means,
            given(body),
            team=team,
            name=destination,
            version=query.version,
            editor=editor_of(call),
            now=call.context.clock(),
        )
        return _record(session, changed)


@endpoint("POST /destinations/{team}/{destination}/enable", scope=Scope.OPERATOR, teams=True)
def enable_destination(call: Call, team: str, destination: str) -> DestinationRecord:
    """Let the jobs of a destination go out again, parked ones too."""
    with call.context.database.write() as session:
        enabled = destinations.enable(
            session, call.context.alerts, team=team, name=destination, editor=editor_of(call), now=call.context.clock()
        )
        return _record(session, enabled)


@endpoint("POST /destinations/{team}/{destination}/disable", scope=Scope.OPERATOR, teams=True)
def disable_destination(call: Call, team: str, destination: str, query: DisableQuery) -> DestinationRecord:
    """Park the jobs of a destination until it is enabled. None is lost, and no attempt is used up."""
    with call.context.database.write() as session:
        disabled = destinations.disable(
            session,
            call.context.alerts,
            team=team,
            name=destination,
            reason=query.reason,
            editor=editor_of(call),
            now=call.context.clock(),
        )
        return _record(session, disabled)


@endpoint("DELETE /destinations/{team}/{destination}", scope=Scope.OPERATOR, teams=True)
def remove_destination(call: Call, team: str, destination: str, query: EditQuery) -> DestinationRecord:
    """Retire a destination that no route in force feeds. Existing jobs are still delivered."""
    with call.context.database.write() as session:
        gone = destinations.remove(
            session,
            team=team,
            name=destination,
            version=query.version,
            editor=editor_of(call),
            now=call.context.clock(),
        )
        return _record(session, gone)


@endpoint(
    "POST /destinations/{team}/{destination}/rotate-secret",
    scope=Scope.OPERATOR,
    teams=True,
    holds_secret=True,
    problems=(INVALID_INPUT,),
)
def rotate_destination_secret(call: Call, team: str, destination: str, query: RotateQuery) -> SecretMade:
    """Make a new signing secret, shown only in this answer. Earlier ones also sign until the overlap ends."""
    context, overlap = call.context, _overlap(query.overlap)
    with context.database.write() as session:
        destinations.get(session, team=team, name=destination, editor=editor_of(call))
        made = destinations.rotate_secret(
            session,
            context.means,
            team=team,
            name=destination,
            overlap=overlap,
            editor=editor_of(call),
            now=context.clock(),
        )
    return SecretMade(
        id=show(SECRET, made.id),
        secret=made.value,
        replaced=[show(SECRET, secret_id) for secret_id in made.replaced],
        overlap_ends_at=made.overlap_ends_at.isoformat() if made.overlap_ends_at else None,
    )


@endpoint("GET /destinations/{team}/{destination}/secrets", scope=Scope.VIEWER, teams=True, problems=(CONFLICT,))
def list_destination_secrets(call: Call, team: str, destination: str) -> Secrets:
    """List the signing secrets of a destination by id and time, never their values."""
    with call.context.database.write() as session:  # locks the destination against a rotation meanwhile
        destinations.get(session, team=team, name=destination, editor=editor_of(call))
        found = signing_secrets.listed(session, team=team, destination=destination)
    return Secrets(
        data=[
            SecretRow(
                id=show(SECRET, secret.id),
                created_at=secret.created_at.isoformat(),
                expires_at=secret.expires_at.isoformat() if secret.expires_at else None,
            )
            for secret in found
        ]
    )


@endpoint("DELETE /destinations/{team}/{destination}/secrets/{secret_id}", scope=Scope.OPERATOR, teams=True)
def expire_destination_secret(call: Call, team: str, destination: str, secret_id: str) -> None:
    """End a signing secret at once, such as one that leaked. For the only one this is a conflict: rotate it without
    overlap.
    """
    wanted = show(SECRET, identity(SECRET, secret_id))
    with call.context.database.write() as session:
        destinations.get(session, team=team, name=destination, editor=editor_of(call))
        signing_secrets.expire(
            session, wanted, team=team, destination=destination, actor=call.actor, now=call.context.clock()
        )


def _record(session: Session, destination: Destination) -> DestinationRecord:
    health = listing.health(session, team=destination.team, name=destination.name)
    return record({**shown_destination(destination), "health": health}, DestinationRecord)


def _overlap(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as wrong:
        raise InvalidFields([FieldFault("overlap", "duration", str(wrong))]) from None


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    list_destinations,
    add_destination,
    get_destination,
    change_destination,
    enable_destination,
    disable_destination,
    remove_destination,
    rotate_destination_secret,
    list_destination_secrets,
    expire_destination_secret,
)
