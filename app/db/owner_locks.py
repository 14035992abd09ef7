"""Locks of transactions that link connections to owners, and of those that remove an owner.

They are PostgreSQL's advisory locks; SQLite has one writer at a time and needs none. A transaction takes them before
it reads owners or locks rows, in the order of `begin_linking`: with rows locked, two could wait for each other.
"""

from typing import Any, Final

from sqlalchemy import Select, func, literal, select
from sqlalchemy.orm import Session

from app.db import bulk

_OWNERS: Final = literal(0x7761796C696E6B04)
_SUPERSEDING: Final = literal(0x7761796C696E6B03)
_keeping: Final = select(func.pg_advisory_xact_lock_shared(_OWNERS))
_removing: Final = select(func.pg_advisory_xact_lock(_OWNERS))
_superseding: Final = select(func.pg_advisory_xact_lock(_SUPERSEDING))


def begin_linking(session: Session, *, supersedes: bool) -> None:
    """Take the locks of a transaction that opens links. supersedes: its links may supersede each other."""
    keep_owners(session)
    if supersedes:
        lock_superseding(session)


def keep_owners(session: Session) -> None:
    """No other transaction removes a user or an organization until this one ends: what it reads of them holds."""
    _take(session, _keeping)


def lock_owners(session: Session) -> None:
    """Wait for all transactions that keep owners; later ones wait for this one, which therefore has to be short.

    None of them gives up for that reason: this one began to wait earlier, with the same `lock_timeout`.
    """
    _take(session, _removing)


def lock_superseding(session: Session) -> None:
    """Lock the choice of an owner's newest connection for this transaction.

    Without it, two transactions that each add a connection of the same owner would not see each other's.
    """
    _take(session, _superseding)


def _take(session: Session, lock: Select[Any]) -> None:
    if bulk.dialect(session) == "postgresql":
        session.execute(lock)
