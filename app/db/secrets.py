"""Statements on what is stored encrypted: signing secrets of HTTP destinations, and URLs of teams' own brokers."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, inspect, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.db.models import Destination, DestinationSecret
from app.domain.definitions import DestinationKey


def of_destination(session: Session, *, team: str, destination: str) -> list[DestinationSecret]:
    """All kept secrets of a destination, ended ones too, newest first."""
    named = (DestinationSecret.team == team, DestinationSecret.destination == destination)
    return list(session.scalars(select(DestinationSecret).where(*named).order_by(DestinationSecret.id.desc())))


def live(session: Session, keys: Collection[DestinationKey], *, now: datetime) -> list[DestinationSecret]:
    """The secrets in force of destinations, newest first."""
    if not keys:
        return []
    columns = tuple_(DestinationSecret.team, DestinationSecret.destination)
    found = select(DestinationSecret).where(columns.in_(sorted(keys)), _in_force(now))
    return list(session.scalars(found.order_by(DestinationSecret.id.desc())))


def standing(session: Session, keys: Collection[DestinationKey]) -> list[DestinationSecret]:
    """The secrets without an end, newest first."""
    if not keys:
        return []
    columns = tuple_(DestinationSecret.team, DestinationSecret.destination)
    found = select(DestinationSecret).where(columns.in_(sorted(keys)), DestinationSecret.expires_at.is_(None))
    return list(session.scalars(found.order_by(DestinationSecret.id.desc())))


def add(session: Session, secret: DestinationSecret) -> None:
    """Write a new secret now, within the transaction."""
    session.add(secret)
    session.flush()


def end(session: Session, ids: Collection[UUID], *, at: datetime) -> None:
    """Let secrets end at a moment, unless they end earlier."""
    ending = update(DestinationSecret).where(DestinationSecret.id.in_(list(ids)), _in_force(at))
    session.execute(ending.values(expires_at=at))


def forget_ended(session: Session, *, team: str, destination: str, before: datetime) -> None:
    """Delete a destination's secrets that ended before."""
    named = (DestinationSecret.team == team, DestinationSecret.destination == destination)
    session.execute(delete(DestinationSecret).where(*named, DestinationSecret.expires_at <= before))


def all_signing(session: Session, *, after: UUID | None, limit: int, lock: bool) -> list[DestinationSecret]:
    """A page of all secrets, in the order of ids, after the id `after`. `lock`: so that none is ended or deleted."""
    statement = select(DestinationSecret).order_by(DestinationSecret.id).limit(limit)
    if after is not None:
        statement = statement.where(DestinationSecret.id > after)
    return list(session.scalars(statement.with_for_update() if lock else statement))


def all_brokers(session: Session, *, lock: bool) -> list[Destination]:
    """Every destination with a broker of its own, by team and name."""
    own = select(Destination).where(Destination.broker_sealed.is_not(None))
    ordered = own.order_by(Destination.team, Destination.name)
    return list(session.scalars(ordered.with_for_update() if lock else ordered))


def newest_standing(session: Session, *, limit: int) -> list[DestinationSecret]:
    """The newest secrets without an end, of destinations in force."""
    mine = (Destination.team == DestinationSecret.team) & (Destination.name == DestinationSecret.destination)
    found = select(DestinationSecret).join(Destination, mine).where(Destination.retired_at.is_(None))
    standing = found.where(DestinationSecret.expires_at.is_(None))
    return list(session.scalars(standing.order_by(DestinationSecret.id.desc()).limit(limit)))


def brokers_in_force(session: Session, *, limit: int) -> list[Destination]:
    """Destinations in force with a broker of their own, by team and name."""
    own = select(Destination).where(Destination.broker_sealed.is_not(None), Destination.retired_at.is_(None))
    return list(session.scalars(own.order_by(Destination.team, Destination.name).limit(limit)))


def any_sealed(session: Session) -> bool:
    """True if anything is stored encrypted; False in a database that has no tables for it yet."""
    if not inspect(session.connection()).has_table(DestinationSecret.__tablename__):
        return False
    brokers = exists().where(Destination.broker_sealed.is_not(None))
    return bool(session.scalar(select(or_(brokers, exists().select_from(DestinationSecret)))))


def _in_force(now: datetime) -> ColumnElement[bool]:
    return or_(DestinationSecret.expires_at.is_(None), DestinationSecret.expires_at > now)
