"""Statements on portals of teams: their look, the links that open them, and the sessions of these.

Only the SHA-256 of a link's or session's secret is stored.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from app.db.models import Team, TeamLink, TeamPortal, TeamSession
from app.domain.team_portal import Look
from app.ids import SESSION, TEAM_LINK, show

PRUNED_AT_ONCE = 100
Live = tuple[TeamSession, TeamLink, TeamPortal | None]


def look(session: Session, team: str) -> Look:
    """The look of a team's portal; that of Waylink where none was set."""
    return look_of(session.get(TeamPortal, team))


def look_of(row: TeamPortal | None) -> Look:
    return Look() if row is None else Look(row.title, row.color, tuple(row.origins))


def put_look(session: Session, team: str, look: Look, *, now: datetime) -> None:
    row = session.get(TeamPortal, team)
    if row is None:
        row = TeamPortal(team=team)
        session.add(row)
    row.title, row.color, row.origins, row.changed_at = look.title, look.color, list(look.origins), now
    session.flush()


def add_link(session: Session, row: TeamLink) -> None:
    session.add(row)
    session.flush()


def count_links(session: Session, *, team: str) -> int:
    """The number of a team's links that are kept."""
    return session.scalar(select(func.count()).select_from(TeamLink).where(TeamLink.team == team)) or 0


def links(session: Session, *, team: str, limit: int, before: UUID | None = None) -> list[tuple[TeamLink, int]]:
    """A team's links, newest first, each with the number of its sessions. before: the id that they continue after."""
    number = select(func.count()).where(TeamSession.link_id == TeamLink.id).correlate(TeamLink).scalar_subquery()
    statement = select(TeamLink, number).where(TeamLink.team == team).order_by(TeamLink.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(TeamLink.id < before)
    return [(row, count or 0) for row, count in session.execute(statement)]


def of_secret(session: Session, digest: bytes, *, now: datetime) -> TeamLink | None:
    """The link of this hash, of a team in force, that has a use left and has not expired."""
    usable = (TeamLink.hash == digest) & (TeamLink.expires_at > now) & (TeamLink.uses_left > 0)
    in_force = usable & Team.retired_at.is_(None)
    return session.scalar(select(TeamLink).join(Team, Team.name == TeamLink.team).where(in_force))


def of_hash(session: Session, digest: bytes) -> TeamLink | None:
    """The link of this hash, whether it is usable or not."""
    return session.scalar(select(TeamLink).where(TeamLink.hash == digest))


def take_use(session: Session, link_id: UUID) -> bool:
    """Spend one use. False where another transaction has spent the last one."""
    one_left = (TeamLink.id == link_id) & (TeamLink.uses_left > 0)
    taken = update(TeamLink).where(one_left).values(uses_left=TeamLink.uses_left - 1).returning(TeamLink.id)
    return session.scalar(taken) is not None


def drop_link(session: Session, *, team: str, link_id: UUID) -> int | None:
    """Delete a team's link with its sessions. Returns their number; None where there is no such link."""
    ended = len(session.scalars(delete(TeamSession).where(_of(team, link_id)).returning(TeamSession.id)).all())
    mine = (TeamLink.id == link_id) & (TeamLink.team == team)
    return ended if session.scalar(delete(TeamLink).where(mine).returning(TeamLink.id)) is not None else None


def drop_of_teams(session: Session, teams: Collection[str]) -> None:
    """Delete all links and sessions of teams that are removed, and the looks of their portals."""
    if teams:
        for table in (TeamLink, TeamPortal):
            session.execute(delete(table).where(table.team.in_(teams)))


def add_session(session: Session, row: TeamSession) -> None:
    session.add(row)


def live(session: Session, digest: bytes) -> Live | None:
    """The session of this hash with its link and the portal's look, of a team in force. The caller checks its times."""
    statement = (
        select(TeamSession, TeamLink, TeamPortal)
        .join(TeamLink, TeamLink.id == TeamSession.link_id)
        .join(Team, Team.name == TeamLink.team)
        .outerjoin(TeamPortal, TeamPortal.team == TeamLink.team)
        .where(TeamSession.hash == digest, Team.retired_at.is_(None))
    )
    found = session.execute(statement).one_or_none()
    return None if found is None else (found[0], found[1], found[2])


def sessions(session: Session, *, team: str, limit: int, before: UUID | None = None) -> list[TeamSession]:
    """Sessions that a team's links began, newest first. before: the id that they continue after."""
    statement = select(TeamSession).join(TeamLink, TeamLink.id == TeamSession.link_id).where(TeamLink.team == team)
    if before is not None:
        statement = statement.where(TeamSession.id < before)
    return list(session.scalars(statement.order_by(TeamSession.id.desc()).limit(limit)))


def note_seen(session: Session, session_id: UUID, *, now: datetime) -> None:
    session.execute(update(TeamSession).where(TeamSession.id == session_id).values(seen_at=now))


def end(session: Session, digest: bytes) -> TeamLink | None:
    """Delete the session of this hash. Returns its link; None where there is none."""
    link_id = session.scalar(delete(TeamSession).where(TeamSession.hash == digest).returning(TeamSession.link_id))
    return None if link_id is None else session.get(TeamLink, link_id)


def drop_session(session: Session, *, team: str, session_id: UUID) -> bool:
    """Delete a session of a team's links. False where there is none."""
    mine = (TeamSession.id == session_id) & TeamSession.link_id.in_(select(TeamLink.id).where(TeamLink.team == team))
    return session.scalar(delete(TeamSession).where(mine).returning(TeamSession.id)) is not None


def prune(session: Session, *, now: datetime, seen_before: datetime) -> None:
    """Delete some sessions that have ended by their time, and links that open nothing any more and have none."""
    over = (TeamSession.expires_at <= now) | (TeamSession.seen_at <= seen_before)
    ended = session.scalars(
        select(TeamSession.id).where(over).limit(PRUNED_AT_ONCE).with_for_update(skip_locked=True)
    ).all()
    if ended:
        session.execute(delete(TeamSession).where(TeamSession.id.in_(ended)))
    opened = exists().where(TeamSession.link_id == TeamLink.id)
    spent = session.scalars(
        select(TeamLink.id)
        .where((TeamLink.expires_at <= now) | (TeamLink.uses_left == 0), ~opened)
        .order_by(TeamLink.expires_at)
        .limit(PRUNED_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    if spent:
        session.execute(delete(TeamLink).where(TeamLink.id.in_(spent)))


def shown_link(row: TeamLink, sessions: int) -> dict[str, Any]:
    """A link in its public form, without its secret."""
    return {
        "id": show(TEAM_LINK, row.id),
        "team": row.team,
        "note": row.note,
        "made_by": row.made_by,
        "embed": row.origin,
        "uses_left": row.uses_left,
        "sessions": sessions,
        "created_at": row.created_at.isoformat(timespec="seconds"),
        "expires_at": row.expires_at.isoformat(timespec="seconds"),
    }


def shown_session(row: TeamSession) -> dict[str, Any]:
    """A session in its public form."""
    return {
        "id": show(SESSION, row.id),
        "link": show(TEAM_LINK, row.link_id),
        "address": row.address,
        "browser": row.browser,
        "created_at": row.created_at.isoformat(timespec="seconds"),
        "seen_at": row.seen_at.isoformat(timespec="minutes"),
        "expires_at": row.expires_at.isoformat(timespec="seconds"),
    }


def _of(team: str, link_id: UUID) -> Any:
    return TeamSession.link_id.in_(select(TeamLink.id).where(TeamLink.id == link_id, TeamLink.team == team))
