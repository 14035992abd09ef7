"""Portals of teams: the console for one team, opened by a link without an account.

`authenticate` and `allows` open their own short transactions; the others take a session.
"""

import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, teams
from app.db import team_portals as rows
from app.db.engine import Database
from app.db.models import TeamLink, TeamSession
from app.domain.access import Access, Rights, Role
from app.domain.team_portal import MAX_ORIGINS, Look, wrong_color, wrong_origin, wrong_title
from app.errors import Conflict, FieldFault, InvalidFields, NotFound
from app.ids import SESSION, TEAM_LINK, new_id, show
from app.services.operators.secrets import TEAM_LINK as LINK_SECRET
from app.services.operators.secrets import TEAM_SESSION, digest, has_form, new_secret
from app.services.operators.sessions import SEEN_NOTED_EVERY, Lives, Portal, SignedIn, Visitor, noted_browser

PATH: Final = "/console/portal"  # the link's page
LIFE: Final = timedelta(hours=1)
LONGEST: Final = timedelta(days=7)
LONGEST_SESSION: Final = timedelta(hours=12)
MAX_USES: Final = 1000
MAX_NOTE: Final = 200
MAX_LINKS: Final = 10_000  # of a team


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link as it is asked for. origin: of the pages that may embed its sessions; None for none."""

    life: timedelta = LIFE
    uses: int = 1
    origin: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class IssuedLink:
    """A new link. `secret` is in memory only."""

    row: TeamLink
    secret: str

    def __repr__(self) -> str:
        return f"IssuedLink({show(TEAM_LINK, self.row.id)}, secret hidden)"

    @property
    def path(self) -> str:
        return f"{PATH}/{self.secret}"


@dataclass(frozen=True, slots=True)
class Opening:
    """A link's portal. origin: of the pages that may embed it; None for none. is_embedded: it is for such pages."""

    team: str
    look: Look
    origin: str | None
    is_embedded: bool


def look(session: Session, team: str) -> Look:
    """The look of a team's portal. Raises NotFound."""
    _require_team(session, team)
    return rows.look(session, team)


def change_look(session: Session, team: str, look: Look, *, actor: str, now: datetime) -> Look:
    """Set name, colour and the origins that may embed the portal. Raises NotFound, InvalidFields."""
    _require_team(session, team)
    look = replace(look, origins=tuple(dict.fromkeys(look.origins)))
    faults = [
        FieldFault(field, "invalid", wrong)
        for field, value, rule in (("title", look.title, wrong_title), ("color", look.color, wrong_color))
        if value is not None and (wrong := rule(value))
    ]
    faults += [
        FieldFault(f"origins[{number}]", "invalid", wrong)
        for number, origin in enumerate(look.origins[:MAX_ORIGINS])
        if (wrong := wrong_origin(origin))
    ]
    if len(look.origins) > MAX_ORIGINS:
        faults.append(FieldFault("origins", "too_many", f"takes {MAX_ORIGINS} origins at most"))
    if faults:
        raise InvalidFields(faults)
    if look != rows.look(session, team):
        rows.put_look(session, team, look, now=now)
        detail = {"title": look.title, "color": look.color, "origins": list(look.origins)}
        audit.record(session, actor=actor, action="team.portal_changed", subject=team, now=now, detail=detail)
    return look


def issue(session: Session, team: str, wanted: NewLink, *, actor: str, now: datetime) -> IssuedLink:
    """Make a link that opens a team's portal. Raises NotFound, InvalidFields, Conflict."""
    _require_team(session, team)
    if faults := _faults(wanted, rows.look(session, team)):
        raise InvalidFields(faults)
    if rows.count_links(session, team=team) >= MAX_LINKS:
        raise Conflict(f"{team} has {MAX_LINKS} links already: revoke some, or wait until some have expired")
    secret = new_secret(LINK_SECRET)
    row = TeamLink(
        id=new_id(),
        hash=digest(secret),
        team=team,
        note=wanted.note,
        made_by=actor,
        origin=wanted.origin,
        uses_left=wanted.uses,
        created_at=now,
        expires_at=now + wanted.life,
    )
    rows.add_link(session, row)
    detail = {"link": show(TEAM_LINK, row.id), "uses": wanted.uses, "embed": wanted.origin, "note": wanted.note}
    detail["expires_at"] = row.expires_at.isoformat(timespec="seconds")
    audit.record(session, actor=actor, action="team.link_made", subject=team, now=now, detail=detail)
    return IssuedLink(row, secret)


def revoke(session: Session, team: str, link_id: UUID, *, actor: str, now: datetime) -> int:
    """End a link and its sessions, whose number is returned. Raises NotFound."""
    ended = rows.drop_link(session, team=team, link_id=link_id)
    if ended is None:
        raise NotFound("link of this team", show(TEAM_LINK, link_id))
    detail = {"link": show(TEAM_LINK, link_id), "sessions_ended": ended}
    audit.record(session, actor=actor, action="team.link_revoked", subject=team, now=now, detail=detail)
    return ended


def end_session(session: Session, team: str, session_id: UUID, *, actor: str, now: datetime) -> None:
    """End one session. Raises NotFound."""
    if not rows.drop_session(session, team=team, session_id=session_id):
        raise NotFound("session of this team's portal", show(SESSION, session_id))
    detail = {"session": show(SESSION, session_id)}
    audit.record(session, actor=actor, action="team.session_ended", subject=team, now=now, detail=detail)


def opening(session: Session, secret: str, *, now: datetime) -> Opening | None:
    """The portal that a link opens; None where it is spent, has expired or never was."""
    row = _usable(session, secret, now=now)
    if row is None:
        return None
    look = rows.look(session, row.team)
    return Opening(row.team, look, allowed_origin(row, look), is_embedded=row.origin is not None)


def begin(session: Session, secret: str, *, visitor: Visitor, lives: Lives, now: datetime) -> str | None:
    """Spend a use of a link. Returns the secret of a new session; None where the link opens nothing any more."""
    rows.prune(session, now=now, seen_before=now - lives.idle)  # first: a spent link without a session is pruned
    link = _usable(session, secret, now=now)
    if link is None or not rows.take_use(session, link.id):
        return None
    made = new_secret(TEAM_SESSION)
    row = TeamSession(
        id=new_id(),
        hash=digest(made),
        link_id=link.id,
        address=visitor.address,
        browser=noted_browser(visitor),
        created_at=now,
        seen_at=now,
        expires_at=now + min(LONGEST_SESSION, lives.longest),
    )
    rows.add_session(session, row)
    detail = {"link": show(TEAM_LINK, link.id), "session": show(SESSION, row.id), "address": visitor.address}
    audit.record(session, actor=actor_of(link), action="team.portal_opened", subject=link.team, now=now, detail=detail)
    return made


def authenticate(
    database: Database, secret: str, *, lives: Lives, now: datetime, is_use: bool = True
) -> SignedIn | None:
    """The live session of this secret, with the rights of its team; None where there is none.

    is_use: note that it was used, which keeps it from ending for being idle.
    """
    if not has_form(secret, TEAM_SESSION):
        return None
    wanted = digest(secret)
    with database.read() as session:
        found = rows.live(session, wanted)
    if found is None:
        return None
    row, link, portal = found
    if row.expires_at <= now or now - row.seen_at >= lives.idle or not hmac.compare_digest(row.hash, wanted):
        return None
    if is_use and now - row.seen_at >= SEEN_NOTED_EVERY:
        with database.write(durable=False) as session:
            rows.note_seen(session, row.id, now=now)
    look = rows.look_of(portal)
    rights = Rights(Role.TEAM, link.team)
    opened = Portal(link.team, look, allowed_origin(link, look), row.expires_at, is_embedded=link.origin is not None)
    return SignedIn(
        session_id=row.id,
        operator_id=None,
        name=look.title or link.team,
        local=True,
        access=Access(actor_of(link), rights.scopes, link.team),
        portal=opened,
    )


def allows(database: Database, team: str, origin: str) -> bool:
    """Whether pages of an origin may embed a team's portal."""
    with database.read() as session:
        return origin in rows.look(session, team).origins


def spent_origin(session: Session, secret: str) -> str | None:
    """The origin whose pages may embed what a link opened, which may be spent or expired; None for none."""
    link = rows.of_hash(session, digest(secret)) if has_form(secret, LINK_SECRET) else None
    return allowed_origin(link, rows.look(session, link.team)) if link is not None else None


def end(session: Session, secret: str, *, now: datetime) -> None:
    """End the session of this secret, as its visitor asks, if there is one."""
    link = rows.end(session, digest(secret)) if has_form(secret, TEAM_SESSION) else None
    if link is not None:
        detail = {"link": show(TEAM_LINK, link.id)}
        action = "team.portal_left"
        audit.record(session, actor=actor_of(link), action=action, subject=link.team, now=now, detail=detail)


def allowed_origin(link: TeamLink, look: Look) -> str | None:
    """The origin that may embed the sessions of a link: its own, while the team's portal allows that."""
    return link.origin if link.origin in look.origins else None


def actor_of(link: TeamLink) -> str:
    """The name in the audit of those who came by a link."""
    return f"portal:{show(TEAM_LINK, link.id)}"


def _usable(session: Session, secret: str, *, now: datetime) -> TeamLink | None:
    return rows.of_secret(session, digest(secret), now=now) if has_form(secret, LINK_SECRET) else None


def _faults(wanted: NewLink, look: Look) -> list[FieldFault]:
    faults = []
    if not timedelta(minutes=1) <= wanted.life <= LONGEST:
        faults.append(FieldFault("expires_in", "range", f"is a minute at least and {LONGEST.days} days at most"))
    if not 1 <= wanted.uses <= MAX_USES:
        faults.append(FieldFault("uses", "range", f"is 1 to {MAX_USES}"))
    if wanted.note is not None and not (0 < len(wanted.note.strip()) <= MAX_NOTE and wanted.note.isprintable()):
        faults.append(FieldFault("note", "invalid", f"has 1 to {MAX_NOTE} printable characters"))
    if wanted.origin is not None and wanted.origin not in look.origins:
        told = "is none of the origins that the team's portal allows: `waylink teams portal` adds one"
        faults.append(FieldFault("embed", "not_allowed", told))
    return faults


def _require_team(session: Session, name: str) -> None:
    team = teams.get(session, name)
    if team is None or team.retired_at is not None:
        raise NotFound("team", name)
