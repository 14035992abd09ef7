"""Destinations as people manage them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db import routes as rows
from app.db.models import Destination
from app.db.routes import API
from app.domain.definitions import wrong_name, wrong_queue
from app.errors import FieldFault, InvalidFields, NameTaken, NotFound, StillUsed
from app.services import destination_states
from app.services.alerting import Alerts
from app.services.defining.editor import Editor, require_editable, team_in_force

FIELDS: Final = ("kind", "queue")


def get(session: Session, *, team: str, name: str, editor: Editor) -> Destination:
    """In force or retired. Raises NotFound."""
    known = editor.may_see(team) and not wrong_name(team) and not wrong_name(name)
    one = session.get(Destination, (team, name)) if known else None
    if one is None:
        raise NotFound("destination", f"{team}/{name}")
    return one


def add(
    session: Session, fields: Mapping[str, Any], *, team: str, name: str, editor: Editor, now: datetime
) -> Destination:
    """Add a destination; one that was removed comes back under its name. Raises InvalidFields, NameTaken."""
    rows.lock_definitions(session)
    _check(session, fields, team=team, name=name, editor=editor)
    one = session.get(Destination, (team, name))
    if one is not None and one.retired_at is None:
        raise NameTaken("destination", f"{team}/{name}")
    if one is None:
        one = Destination(team=team, name=name, version=1, created_at=now)
        session.add(one)
    else:
        one.version, one.updated_at, one.retired_at, one.disabled_at, one.disabled_reason = (
            one.version + 1, now, None, None, None,
        )  # fmt: skip
    one.source = API
    for field in FIELDS:
        setattr(one, field, fields.get(field))
    session.flush()
    editor.record(session, "destination.added", f"{team}/{name}", {"kind": one.kind}, now=now)
    return one


def change(
    session: Session,
    fields: Mapping[str, Any],
    *,
    team: str,
    name: str,
    version: int | None = None,
    editor: Editor,
    now: datetime,
) -> Destination:
    """Change the given fields; its kind stays. Raises NotFound, ReadOnly, Stale, InvalidFields."""
    rows.lock_definitions(session)
    one = _editable(session, team=team, name=name, version=version, editor=editor)
    was = {field: getattr(one, field) for field in FIELDS}
    _check(session, {**was, **fields}, team=team, name=name, editor=editor)
    changed = sorted(field for field, value in fields.items() if was[field] != value)
    if changed:
        for field in changed:
            setattr(one, field, fields[field])
        one.version, one.updated_at = one.version + 1, now
        session.flush()
        detail = {"version": one.version, "changed": changed}
        editor.record(session, "destination.changed", f"{team}/{name}", detail, now=now)
    return one


def enable(session: Session, *, team: str, name: str, editor: Editor, now: datetime) -> Destination:
    """Let its jobs go out again, parked ones too. Also of a destination that waylink.toml defines. Raises NotFound."""
    one = _in_force(session, team=team, name=name, editor=editor)
    if destination_states.enable(session, team=team, destination=name):
        editor.record(session, "destination.enabled", f"{team}/{name}", {}, now=now)
    session.refresh(one)
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
    session.refresh(one)
    return one


def remove(
    session: Session, *, team: str, name: str, version: int | None = None, editor: Editor, now: datetime
) -> Destination:
    """Retire a destination that no route in force feeds: its jobs are still handed over, and no new ones come.

    Raises NotFound, ReadOnly, Stale, StillUsed.
    """
    rows.lock_definitions(session)
    one = _editable(session, team=team, name=name, version=version, editor=editor)
    feeding = rows.live_names(session, team=team, destination=name)
    if feeding:
        raise StillUsed("destination", f"{team}/{name}", {"routes": feeding})
    one.retired_at = now
    session.flush()
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


def _check(session: Session, fields: Mapping[str, Any], *, team: str, name: str, editor: Editor) -> None:
    """Raises InvalidFields with all that is wrong."""
    faults = [FieldFault("name", "invalid", wrong)] if (wrong := wrong_name(name)) else []
    if not editor.may_see(team):
        what = f"this token defines destinations of the team {editor.team} only"
        faults.append(FieldFault("team", "foreign", what))
    elif team_in_force(session, team, editor) is None:
        faults.append(FieldFault("team", "unknown", "names none that is there: add it first"))
    if wrong := wrong_queue(fields.get("queue") or "", team=team):
        faults.append(FieldFault("queue", "invalid", wrong))
    if faults:
        raise InvalidFields(faults)
