"""Sign-in with a name and a password, throttled in the database for all processes.

`sign_in` and `verified` open their own short transactions; none is open while a password is hashed.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from app.db import operators as rows
from app.db import sign_in_attempts as attempts
from app.db.engine import Database
from app.domain import sign_in_throttle as throttle
from app.domain.passwords import LONGEST
from app.errors import TooManyAttempts
from app.services.operators import hashing, sessions
from app.services.operators.sessions import Lives, Visitor

MAX_NAME: Final = 100


def sign_in(
    database: Database,
    *,
    name: str,
    password: str,
    visitor: Visitor,
    lives: Lives,
    now: datetime,
    former: str | None = None,
) -> str | None:
    """The secret of a new session; None where name or password is wrong. Raises TooManyAttempts.

    former: the secret of the session that the browser had, which ends.
    """
    stored = verified(database, name=name, password=password, address=visitor.address, now=now)
    if stored is None:
        return None
    renewed = hashing.hashed(password) if hashing.is_outdated(stored) else None
    with database.write() as session:
        row = rows.by_name(session, normal(name))
        if row is None or row.disabled_at is not None or row.password_hash != stored:
            return None  # changed while it was checked
        if renewed is not None:
            rows.change(session, row, password_hash=renewed)
        return sessions.begin(session, row, method="password", visitor=visitor, lives=lives, now=now, former=former)


def verified(database: Database, *, name: str, password: str, address: str, now: datetime) -> str | None:
    """The stored hash of an enabled operator whose password this is, or None. Raises TooManyAttempts.

    Unknown and disabled names, and accounts without a password, take as long as wrong passwords.
    """
    name = normal(name)
    counted = _count(database, name=name, address=address, now=now)
    with database.read() as session:
        row = rows.by_name(session, name)
        stored = row.password_hash if row is not None and row.disabled_at is None else None
    if not hashing.fits(password, stored) or len(password) > LONGEST:
        return None
    _forgive(database, counted, name=name, address=address, now=now)
    return stored


def normal(name: str) -> str:
    """A name as accounts have it: people type capitals and blanks around it."""
    return name[: MAX_NAME + 1].strip().lower()


def _count(database: Database, *, name: str, address: str, now: datetime) -> Sequence[bytes]:
    """Count an attempt as failed, before it is made. Returns the keys that it counts for. Raises TooManyAttempts."""
    known = _key("known", name, address)
    with database.write() as session:
        if attempts.is_known(session, known, since=now - throttle.KNOWN_FOR):
            delays = {_key("both", name, address): throttle.NAME}
        else:
            delays = {_key("address", address): throttle.ADDRESS, _key("name", name): throttle.NAME}
        found = attempts.locked(session, delays, now=now)
        longest = max(throttle.wait(found.get(key), now) for key in delays)
        if longest > timedelta(0):
            raise TooManyAttempts(longest)
        for key, of_key in delays.items():
            attempts.put(session, key, throttle.after_attempt(found.get(key), of_key, now))
        attempts.prune(session, failed_before=now - throttle.FORGOTTEN_AFTER, known_before=now - throttle.KNOWN_FOR)
    return list(delays)


def _forgive(database: Database, counted: Sequence[bytes], *, name: str, address: str, now: datetime) -> None:
    """Forget the name's failures and this attempt of the address, and remember that the operator comes from there."""
    by_address, known = _key("address", address), _key("known", name, address)
    with database.write() as session:
        found = attempts.locked(session, {*counted, known}, now=now)
        for key in counted:
            if key != by_address:
                attempts.drop(session, key)
        if by_address in counted:
            before = found[by_address]
            # The others stay counted: an operator's own account is no way to try those of others without delays.
            attempts.put(session, by_address, throttle.Failures(max(before.count - 1, 0), before.last_at, now))
        attempts.put(session, known, throttle.Failures(0, now, now))


def _key(kind: str, *parts: str) -> bytes:
    return hashlib.sha256("\0".join((kind, *parts)).encode("utf-8", "surrogatepass")).digest()
