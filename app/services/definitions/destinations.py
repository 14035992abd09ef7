"""Destinations as people manage them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

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
from app.services.definitions.alerts import Alerts
from app.services.definitions.editor import Editor, require_editable, team_in_force
from app.services.definitions.signing_secrets import Issued
from app.services.definitions.team_brokers import refuse_internal, seal_url

FIELDS: Final = ("kind", "queue", "url", "timeout_seconds", "rate_per_second")
_PLACE: Final = frozenset({"queue", "url", "broker_url"})  # what says where jobs go


@dataclass(frozen=True, slots=True)
class Means:
    """What it takes beside the tables: the key for what is kept secret, and the networks that the operator opened."""

    sealer: Sealer
    allowed: Sequence[Network] = ()
    internal: str | None = field(default=None, repr=False)  # the URL of Waylink's own broker


@dataclass(frozen=True, slots=True)
class Added:
    """A new destination. `secret` (`whsec_…`) is in memory only: one that takes HTTP is signed for with it."""

    row: Destination
    secret: str | None = field(default=None, repr=False)


def get(session: Session, *, team: str, name: str, editor: Editor) -> Destination:
    """In force or retired. Raises NotFound."""
    known = editor.may_see(team) and not wrong_name(team) and not wrong_name(name)
    one = rows.get(session, team=team, destination=name) if known else None
    if one is None:
        raise NotFound("destination", f"{team}/{name}")
    return one


def add(
    session: Session,
    means: Means,
    fields: Mapping[str, Any],
    *,
    team: str,
    name: str,
    editor: Editor,
    now: datetime,
) -> Added:
    """Add a destination, of FIELDS and `broker_url`; one that was removed comes back under its name.

    Raises InvalidFields, NameTaken, and Conflict where secrets cannot be kept.
    """
    route_rows.lock_definitions(session)
    _check(session, means, fields, team=team, name=name, editor=editor)
    one = rows.get(session, team=team, destination=name)
    if one is not None and one.retired_at is None:
        raise NameTaken("destination", f"{team}/{name}")
    if one is None:
        one = Destination(team=team, name=name, version=1, created_at=now)
    else:
        one.version, one.updated_at, one.retired_at = one.version + 1, now, None
        one.disabled_at = one.disabled_reason = None
        rows.forget_failures(session, team=team, destination=name)
    one.source = API
    for column in FIELDS:
        setattr(one, column, fields.get(column))
    one.broker_sealed = _sealed(means, fields.get("broker_url"), (team, name))
    rows.save(session, one)
    editor.record(session, "destination.added", f"{team}/{name}", {"kind": one.kind}, now=now)
    if one.kind != "http":
        return Added(one)
    no_more = timedelta(0)  # of the secrets of a former life
    made = rotate_secret(session, means, team=team, name=name, overlap=no_more, editor=editor, now=now)
    return Added(one, made.value)


def change(
    session: Session,
    means: Means,
    fields: Mapping[str, Any],
    *,
    team: str,
    name: str,
    version: int | None = None,
    editor: Editor,
    now: datetime,
) -> Destination:
    """Change the given fields; its kind stays. A new place is tried at once, however the old one failed.

    Raises NotFound, ReadOnly, Stale, InvalidFields, and Conflict where secrets cannot be kept.
    """
    route_rows.lock_definitions(session)
    one = _editable(session, team=team, name=name, version=version, editor=editor)
    was = {column: getattr(one, column) for column in FIELDS}
    _check(session, means, {**was, **fields}, team=team, name=name, editor=editor)
    changed = {column for column, value in fields.items() if column in FIELDS and was[column] != value}
    if "broker_url" in fields:
        changed.add("broker_url")
        one.broker_sealed = _sealed(means, fields["broker_url"], (team, name))
    for column in changed & set(FIELDS):
        setattr(one, column, fields[column])
    if changed:
        one.version, one.updated_at = one.version + 1, now
        rows.save(session, one)
        if changed & _PLACE:
            rows.try_at_once(session, team=team, destination=name, now=now)
        detail = {"version": one.version, "changed": sorted(changed)}
        editor.record(session, "destination.changed", f"{team}/{name}", detail, now=now)
    return one


def enable(session: Session, alerts: Alerts, *, team: str, name: str, editor: Editor, now: datetime) -> Destination:
    """Let its jobs go out again, parked ones too. Also of a destination that waylink.toml defines. Raises NotFound."""
    one = _in_force(session, team=team, name=name, editor=editor)
    if destination_states.enable(session, alerts, team=team, destination=name, now=now):
        editor.record(session, "destination.enabled", f"{team}/{name}", {}, now=now)
    rows.reload(session, one)
    return one


def disable(
    session: Session, alerts: Alerts, *, team: str, name: str, reason: str | None, editor: Editor, now: datetime
) -> Destination:
    """Park its jobs until it is enabled: nothing is lost. Also of one that waylink.toml defines, which only says where
    jobs go and not whether that place is well. Raises NotFound."""
    one = _in_force(session, team=team, name=name, editor=editor)
    why = reason or f"disabled by {editor.actor}"
    if destination_states.disable(session, alerts, team=team, destination=name, reason=why, now=now):
        editor.record(session, "destination.disabled", f"{team}/{name}", {"reason": why}, now=now)
    rows.reload(session, one)
    return one


def rotate_secret(
    session: Session, means: Means, *, team: str, name: str, overlap: timedelta, editor: Editor, now: datetime
) -> Issued:
    """A new signing secret of a destination that takes HTTP, of the file too.

    Raises NotFound, InvalidInput, and Conflict where it does not, or secrets cannot be kept.
    """
    _in_force(session, team=team, name=name, editor=editor)
    _require_key(means)
    return signing_secrets.rotate(
        session, means.sealer, team=team, destination=name, actor=editor.actor, now=now, overlap=overlap
    )


def remove(
    session: Session, *, team: str, name: str, version: int | None = None, editor: Editor, now: datetime
) -> Destination:
    """Retire a destination that no route in force feeds: its jobs are still handed over, and no new ones come.

    Raises NotFound, ReadOnly, Stale, StillUsed.
    """
    route_rows.lock_definitions(session)
    one = _editable(session, team=team, name=name, version=version, editor=editor)
    feeding = route_rows.live_names(session, team=team, destination=name)
    if feeding:
        raise StillUsed("destination", f"{team}/{name}", {"routes": feeding})
    one.retired_at = now
    rows.save(session, one)
    editor.record(session, "destination.removed", f"{team}/{name}", {"version": one.version}, now=now)
    return one


def _in_force(session: Session, *, team: str, name: str, editor: Editor) -> Destination:
    one = get(session, team=team, name=name, editor=editor)
    if one.retired_at is not None:
        raise NotFound("destination in force", f"{team}/{name}")
    return one


def _editable(session: Session, *, team: str, name: str, version: int | None, editor: Editor) -> Destination:
    one = _in_force(session, team=team, name=name, editor=editor)
    require_editable("destination", f"{team}/{name}", one, version=version)
    return one


def _check(session: Session, means: Means, fields: Mapping[str, Any], *, team: str, name: str, editor: Editor) -> None:
    """Raises InvalidFields with all that is wrong."""
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


def _broker_faults(means: Means, fields: Mapping[str, Any], editor: Editor) -> list[FieldFault]:
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


def _sealed(means: Means, broker_url: str | None, key: tuple[str, str]) -> bytes | None:
    if broker_url is None:
        return None
    _require_key(means)
    return seal_url(means.sealer, broker_url, key=key, allowed=means.allowed)


def _require_key(means: Means) -> None:
    try:
        means.sealer.check()
    except ConfigurationError as missing:
        raise Conflict(str(missing)) from None
