"""Statements on attempts to sign in, which are counted by hashed keys."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db.models import SignInAttempt
from app.domain.sign_in_throttle import Failures

PRUNED_AT_ONCE = 20


def locked(session: Session, keys: Collection[bytes], *, now: datetime) -> dict[bytes, Failures]:
    """The failures of these keys, locked until the transaction ends: in sorted order, so that none waits in a circle.

    Missing rows are added, or two attempts side by side would both be the first.
    """
    kind = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    rows = [{"key": key, "failures": 0, "last_at": now, "next_at": now} for key in sorted(keys)]
    session.execute(kind.insert(SignInAttempt).values(rows).on_conflict_do_nothing())
    wanted = select(SignInAttempt).where(SignInAttempt.key.in_(keys)).order_by(SignInAttempt.key).with_for_update()
    return {row.key: Failures(row.failures, row.last_at, row.next_at) for row in session.scalars(wanted)}


def put(session: Session, key: bytes, failures: Failures) -> None:
    session.merge(SignInAttempt(key=key, failures=failures.count, last_at=failures.last_at, next_at=failures.next_at))


def is_known(session: Session, key: bytes, *, since: datetime) -> bool:
    """Whether this key was noted since then."""
    noted = (SignInAttempt.key == key) & (SignInAttempt.last_at >= since)
    return session.scalar(select(SignInAttempt.key).where(noted)) is not None


def drop(session: Session, key: bytes) -> None:
    session.execute(delete(SignInAttempt).where(SignInAttempt.key == key))


def prune(session: Session, *, failed_before: datetime, known_before: datetime) -> None:
    """Delete some rows of that age. Locked ones are left."""
    old = ((SignInAttempt.failures > 0) & (SignInAttempt.last_at < failed_before)) | (
        SignInAttempt.last_at < known_before
    )
    oldest = select(SignInAttempt.key).where(old).order_by(SignInAttempt.last_at).limit(PRUNED_AT_ONCE)
    keys = list(session.scalars(oldest.with_for_update(skip_locked=True)))
    if keys:
        session.execute(delete(SignInAttempt).where(SignInAttempt.key.in_(keys)))
