"""Changes of routes by people. Each is a new version, so that earlier decisions stay explainable.

A change's pattern is compiled before its transaction, from a route that is read in a transaction of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.db import destinations as destination_rows
from app.db import routes as rows
from app.db.engine import Database
from app.db.models import RouteVersion
from app.db.routes import API, RouteDefinition
from app.domain.definitions import wrong_job, wrong_name
from app.domain.patterns import ASKED, KEPT, Limits, compile_pattern
from app.errors import FieldFault, InvalidFields, InvalidPattern, NameTaken, NotFound
from app.services.definitions.editor import Editor, require_editable, team_in_force


@dataclass(frozen=True, slots=True)
class Draft:
    """The fields of a route, with the compiled `pattern`: made before the transaction that stores them.

    `source`: the pattern in its stored form. `fault`: what is wrong with it.
    """

    fields: Mapping[str, Any]
    pattern: str | Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None
    fault: FieldFault | None = None


def drafted(fields: Mapping[str, Any]) -> Draft:
    """The draft of a new route; `fields["pattern"]` is JSON text or parsed."""
    return _drafted(fields, fields["pattern"], ASKED)


def drafted_change(database: Database, fields: Mapping[str, Any], *, team: str, name: str) -> Draft:
    """The draft of a change. An unchanged pattern is not held to limits that were introduced after it."""
    if "pattern" in fields:
        return drafted(fields)
    with database.read() as session:
        live = None if wrong_name(team) or wrong_name(name) else rows.live_route(session, team=team, name=name)
    return Draft(fields) if live is None else _drafted(fields, live.pattern, KEPT)


def get(session: Session, *, team: str, name: str, editor: Editor) -> RouteVersion:
    """The newest version of a route, in force or not. Raises NotFound."""
    return history(session, team=team, name=name, editor=editor)[0]


def history(session: Session, *, team: str, name: str, editor: Editor) -> list[RouteVersion]:
    """All versions, newest first. Raises NotFound, for routes of other teams too."""
    found = rows.versions(session, team=team, name=name) if _may_be(team, name, editor) else []
    if not found:
        raise NotFound("route", f"{team}/{name}")
    return found


def add(session: Session, draft: Draft, *, editor: Editor, now: datetime) -> RouteVersion:
    """Put a route in force, from the members of RouteDefinition.

    Version numbers go on where a removed route of that name ended. Raises InvalidFields, NameTaken.
    """
    rows.lock_definitions(session)
    route = _checked(session, draft.fields, draft, editor)
    if rows.live_route(session, team=route.team, name=route.name) is not None:
        raise NameTaken("route", "/".join(route.key))
    return _begin(session, route, "added", {}, editor=editor, now=now)


def change(
    session: Session,
    draft: Draft,
    *,
    team: str,
    name: str,
    version: int | None = None,
    editor: Editor,
    now: datetime,
) -> RouteVersion:
    """Change some fields of a route; team and name stay. Without a difference there is no new version.

    `version`: the one that the change was made on, so that no concurrent change is lost. Raises NotFound, ReadOnly,
    Stale, InvalidFields.
    """
    rows.lock_definitions(session)
    live = _editable(session, team=team, name=name, version=version, editor=editor)
    fields, was = draft.fields, _members(rows.asked(live))
    if "pattern" not in fields and draft.pattern != live.pattern:
        draft = _drafted(fields, live.pattern, KEPT)  # rare: the route changed since it was read
    # A route that is no longer valid can still be disabled.
    off = fields.keys() == {"enabled"} and not fields["enabled"]
    after = RouteDefinition(**{**was, **fields}) if off else _checked(session, {**was, **fields}, draft, editor)
    will = _members(after)
    changed = sorted(field for field in will if was[field] != will[field])
    if not changed:
        return live
    done = "changed" if changed != ["enabled"] else "enabled" if after.enabled else "disabled"
    return _begin(session, after, done, {"changed": changed}, editor=editor, now=now, instead_of=live)


def remove(
    session: Session, *, team: str, name: str, version: int | None = None, editor: Editor, now: datetime
) -> RouteVersion:
    """End a route; its versions stay. Raises NotFound, ReadOnly, Stale."""
    rows.lock_definitions(session)
    live = _editable(session, team=team, name=name, version=version, editor=editor)
    live.until_set = rows.bump(session)
    rows.save(session, live)
    editor.record(session, "route.removed", f"{team}/{name}", {"version": live.version}, now=now)
    return live


def _may_be(team: str, name: str, editor: Editor) -> bool:
    """True if the names are valid and visible to the editor; the database does not accept every string."""
    return editor.may_see(team) and not wrong_name(team) and not wrong_name(name)


def _editable(session: Session, *, team: str, name: str, version: int | None, editor: Editor) -> RouteVersion:
    live = rows.live_route(session, team=team, name=name) if _may_be(team, name, editor) else None
    if live is None:
        raise NotFound("route", f"{team}/{name}")
    require_editable("route", f"{team}/{name}", live, version=version)
    return live


def _begin(
    session: Session,
    route: RouteDefinition,
    done: str,
    detail: Mapping[str, Any],
    *,
    editor: Editor,
    now: datetime,
    instead_of: RouteVersion | None = None,
) -> RouteVersion:
    """Store a new version in a new route set, in place of `instead_of`."""
    since_set = rows.bump(session)
    if instead_of is not None:
        instead_of.until_set = since_set
        rows.save(session, instead_of)
    number = rows.highest_version(session, team=route.team, name=route.name) + 1
    made = rows.version_of(route, number=number, source=API, since_set=since_set, now=now)
    rows.save(session, made)
    editor.record(session, f"route.{done}", "/".join(route.key), {"version": number, **detail}, now=now)
    return made


def _members(route: RouteDefinition) -> dict[str, Any]:
    """The fields, not copied: `asdict` would copy the whole pattern."""
    return {member.name: getattr(route, member.name) for member in dataclass_fields(route)}


def _drafted(fields: Mapping[str, Any], pattern: str | Mapping[str, Any], limits: Limits) -> Draft:
    try:
        return Draft(fields, pattern, compile_pattern(pattern, limits).source)
    except InvalidPattern as refused:
        place = f"pattern.{refused.path}" if refused.path else "pattern"
        return Draft(fields, pattern, fault=FieldFault(place, "invalid_pattern", refused.reason))


def _checked(session: Session, fields: Mapping[str, Any], draft: Draft, editor: Editor) -> RouteDefinition:
    """The route with its pattern in its stored form. Raises InvalidFields with every fault."""
    wrong = (("name", wrong_name(fields["name"])), ("job", wrong_job(fields["job"])))
    faults = [FieldFault(field, "invalid", reason) for field, reason in wrong if reason]
    faults += [draft.fault] if draft.fault else []
    team, destination = fields["team"], fields["destination"]
    if not editor.may_see(team):
        faults.append(FieldFault("team", "foreign", f"this token defines routes of the team {editor.team} only"))
    elif team_in_force(session, team, editor) is None:
        faults.append(FieldFault("team", "unknown", "names none that is there: add it first"))
    elif wrong_name(destination) or not destination_rows.get_in_force(session, team=team, destination=destination):
        faults.append(FieldFault("destination", "unknown", f"names none of the team {team}: add it first"))
    if faults:
        raise InvalidFields(faults)
    return RouteDefinition(**{**fields, "pattern": dict(draft.source or {})})
