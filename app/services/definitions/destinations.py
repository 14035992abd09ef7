"""Changes of destinations by people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from app.brokers.places import refuse_internal
from app.db import destinations as rows
from app.db import routes as route_rows
from app.db.models import Destination
from app.db.routes import API
from app.domain.addresses import Network
from app.domain.broker_urls import check_broker_url
from app.domain.definitions import wrong_destination, wrong_name
from app.errors import (
    ConfigurationError,
    Conflict,
    FieldFault,
    InvalidFields,
    InvalidInput,
    NameTaken,
    NotFound,
    StillUsed,
)
from app.sealing import Sealer
from app.services.definitions import destination_states, signing_secrets
from app.services.definitions.destination_alerts import Alerts
from app.services.definitions.editor import Editor, require_editable, team_in_force
from app.services.definitions.signing_secrets import IssuedSecret
from app.services.definitions.team_brokers import seal_url

FIELDS: Final = ("kind", "queue", "url", "timeout_seconds", "rate_per_second")
_PLACE: Final = frozenset({"queue", "url", "broker_url"})  # the fields that say where jobs go


@dataclass(frozen=True, slots=True)
class DefinitionContext:
    """The key for secrets, and the networks that the operator opened."""

    sealer: Sealer
    allowed: Sequence[Network] = ()
    internal: str | None = field(default=None, repr=False)  # the URL of Waylink's own broker


@dataclass(frozen=True, slots=True)
class Added:
    """A new destination. `secret` (`whsec_…`), for HTTP only, is shown once and held in memory only."""

    row: Destination
    secret: str | None = field(default=None, repr=False)


def get(session: Session, *, team: str, name: str, editor: Editor) -> Destination:
    """A destination, in force or retired. Raises NotFound."""
    known = editor.may_see(team) and not wrong_name(team) and not wrong_name(name)
    destination = rows.get(session, team=team, destination=name) if known else None
    if destination is None:
        raise NotFound("destination", f"{team}/{name}")
    return destination


def add(
    session: Session,
    means: DefinitionContext,
    fields: Mapping[str, Any],
    *,
    team: str,
    name: str,
    editor: Editor,
    now: datetime,
) -> Added:
    """Add a destination, from FIELDS and `broker_url`; a removed one of that name is put in force again.

    Raises InvalidFields, NameTaken, and Conflict where secrets cannot be stored.
    """
    route_rows.lock_definitions(session)
    _check(session, means, fields, team=team, name=name, editor=editor)
    destination = rows.get(session, team=team, destination=name)
    if destination is not None and destination.retired_at is None:
        raise NameTaken("destination", f"{team}/{name}")
    if destination is None:
        destination = Destination(team=team, name=name, version=1, created_at=now)
    else:
        destination.version, destination.updated_at, destination.retired_at = destination.version + 1, now, None
        destination.disabled_at = destination.disabled_reason = None
        rows.forget_failures(session, team=team, destination=name)
    destination.source = API
    for column in FIELDS:
        setattr(destination, column, fields.get(column))
    destination.broker_sealed = _sealed(means, fields.get("broker_url"), (team, name))
    rows.save(session, destination)
    editor.record(session, "destination.added", f"{team}/{name}", {"kind": destination.kind}, now=now)
    if destination.kind != "http":
        return Added(destination)
    no_more = timedelta(0)  # secrets from before it was removed end at once
    made = rotate_secret(session, means, team=team, name=name, overlap=no_more, editor=editor, now=now)
    return Added(destination, made.value)


def change(
    session: Session,
    means: DefinitionContext,
    fields: Mapping[str, Any],
    *,
    team: str,
    name: str,
    version: int | None = None,
    editor: Editor,
    now: datetime,
) -> Destination:
    """Change some fields; the kind stays. With a new address a failing destination is probed at once.

    `version`: the one that the change was made on. Raises NotFound, ReadOnly, Stale, InvalidFields, and Conflict where
    secrets cannot be stored.
    """
    route_rows.lock_definitions(session)
    destination = _editable(session, team=team, name=name, version=version, editor=editor)
    was = {column: getattr(destination, column) for column in FIELDS}
    _check(session, means, {**was, **fields}, team=team, name=name, editor=editor)
    changed = {column for column, value in fields.items() if column in FIELDS and was[column] != value}
    if "broker_url" in fields:
        changed.add("broker_url")
        destination.broker_sealed = _sealed(means, fields["broker_url"], (team, name))
    for column in changed & set(FIELDS):
        setattr(destination, column, fields[column])
    if changed:
        destination.version, destination.updated_at = destination.version + 1, now
        rows.save(session, destination)
        if changed & _PLACE:
            rows.try_at_once(session, team=team, destination=name, now=now)
        detail = {"version": destination.version, "changed": sorted(changed)}
        editor.record(session, "destination.changed", f"{team}/{name}", detail, now=now)
    return destination


def enable(session: Session, alerts: Alerts, *, team: str, name: str, editor: Editor, now: datetime) -> Destination:
    """Release its jobs. Destinations of waylink.toml, too. Raises NotFound."""
    destination = _in_force(session, team=team, name=name, editor=editor)
    if destination_states.enable(session, alerts, team=team, destination=name, now=now):
        editor.record(session, "destination.enabled", f"{team}/{name}", {}, now=now)
    rows.reload(session, destination)
    return destination


def disable(
    session: Session, alerts: Alerts, *, team: str, name: str, reason: str | None, editor: Editor, now: datetime
) -> Destination:
    """Park its jobs until it is enabled; none is lost. Raises NotFound.

    Destinations of waylink.toml, too: the file says where jobs go, not whether that place works.
    """
    destination = _in_force(session, team=team, name=name, editor=editor)
    why = reason or f"disabled by {editor.actor}"
    if destination_states.disable(session, alerts, team=team, destination=name, reason=why, now=now):
        editor.record(session, "destination.disabled", f"{team}/{name}", {"reason": why}, now=now)
    rows.reload(session, destination)
    return destination


def rotate_secret(
    session: Session,
    means: DefinitionContext,
    *,
    team: str,
    name: str,
    overlap: timedelta,
    editor: Editor,
    now: datetime,
) -> IssuedSecret:
    """A new signing secret of an HTTP destination, of the file too.

    Raises NotFound, InvalidInput, and Conflict for Celery destinations or where secrets cannot be stored.
    """
    _in_force(session, team=team, name=name, editor=editor)
    _require_key(means)
    return signing_secrets.rotate(
        session, means.sealer, team=team, destination=name, actor=editor.actor, now=now, overlap=overlap
    )


def remove(
    session: Session, *, team: str, name: str, version: int | None = None, editor: Editor, now: datetime
) -> Destination:
    """Retire a destination that no route in force uses. Its jobs are still delivered.

    Raises NotFound, ReadOnly, Stale, StillUsed.
    """
    route_rows.lock_definitions(session)
    destination = _editable(session, team=team, name=name, version=version, editor=editor)
    feeding = route_rows.live_names(session, team=team, destination=name)
    if feeding:
        raise StillUsed("destination", f"{team}/{name}", {"routes": feeding})
    destination.retired_at = now
    rows.save(session, destination)
    editor.record(session, "destination.removed", f"{team}/{name}", {"version": destination.version}, now=now)
    return destination


def _in_force(session: Session, *, team: str, name: str, editor: Editor) -> Destination:
    destination = get(session, team=team, name=name, editor=editor)
    if destination.retired_at is not None:
        raise NotFound("destination in force", f"{team}/{name}")
    return destination


def _editable(session: Session, *, team: str, name: str, version: int | None, editor: Editor) -> Destination:
    destination = _in_force(session, team=team, name=name, editor=editor)
    require_editable("destination", f"{team}/{name}", destination, version=version)
    return destination


def _check(
    session: Session, means: DefinitionContext, fields: Mapping[str, Any], *, team: str, name: str, editor: Editor
) -> None:
    """Raise InvalidFields with every fault."""
    faults = [FieldFault("name", "invalid", wrong)] if (wrong := wrong_name(name)) else []
    if not editor.may_see(team):
        what = f"this token defines destinations of the team {editor.team} only"
        faults.append(FieldFault("team", "foreign", what))
    elif team_in_force(session, team, editor) is None:
        faults.append(FieldFault("team", "unknown", "names none that is there: add it first"))
    described = wrong_destination(fields, team=team, allowed=means.allowed)
    faults += [FieldFault(column, "invalid", wrong) for column, wrong in described]
    if "broker_url" in fields:
        faults += _broker_faults(means, fields, editor)
    if faults:
        raise InvalidFields(faults)


def _broker_faults(means: DefinitionContext, fields: Mapping[str, Any], editor: Editor) -> list[FieldFault]:
    url = fields["broker_url"]
    if editor.team is not None:
        return [FieldFault("broker_url", "operators_only", "is set by operators only: a broker can be anywhere")]
    if fields["kind"] != "celery":
        return [] if url is None else [FieldFault("broker_url", "invalid", "is for Celery destinations only")]
    try:
        if url is not None:
            check_broker_url(url, means.allowed)
            refuse_internal(url, means.internal)
    except InvalidInput as wrong:
        return [FieldFault("broker_url", "invalid", f"cannot be used: {wrong}")]
    return []


def _sealed(means: DefinitionContext, broker_url: str | None, key: tuple[str, str]) -> bytes | None:
    if broker_url is None:
        return None
    _require_key(means)
    return seal_url(means.sealer, broker_url, key=key, allowed=means.allowed)


def _require_key(means: DefinitionContext) -> None:
    try:
        means.sealer.check()
    except ConfigurationError as missing:
        raise Conflict(str(missing)) from None
