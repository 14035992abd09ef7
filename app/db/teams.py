"""Statements on teams."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Team


def get(session: Session, name: str) -> Team | None:
    """The team, in force or retired; None for one that never was."""
    return session.get(Team, name)


def get_all(session: Session) -> dict[str, Team]:
    """Every team by name, retired ones too."""
    return {team.name: team for team in session.scalars(select(Team))}


def save(session: Session, *teams: Team) -> None:
    """Write new and changed teams now, within the transaction."""
    session.add_all(teams)
    session.flush()
