"""Calls of the API that are carried out once for each idempotency key.

The claim of a key is committed before the call is carried out, and its answer recorded afterwards, each in a short
transaction. A key whose call was refused can be used again. Where the process ended in between, it is not known what
the call did, and it is not repeated.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.db import idempotent_calls as rows
from app.db.engine import Database
from app.db.idempotent_calls import BegunCall, CallKey
from app.errors import CallRepeated, KeyReused

MAX_KEY: Final = 255  # characters
MAX_ANSWER: Final = 256 * 1024  # bytes of an answer that is kept
HELD: Final = timedelta(seconds=60)  # the longest call ends before
_MOMENT: Final = "%Y-%m-%d %H:%M:%S UTC"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body of JSON. repeated: of an earlier call with the same key."""

    status: int
    body: bytes
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class IdempotentCalls:
    """Made once per process. refusals: errors of calls that did nothing."""

    database: Database
    clock: Callable[[], datetime]
    refusals: tuple[type[Exception], ...]

    def once(self, call: CallKey, fingerprint: bytes, work: Callable[[], Answer], *, keep: bool) -> Answer:
        """Carry the call out, or return the answer of the earlier one with this key.

        fingerprint: of the whole call (`fingerprint_of`). keep: False for answers with a secret, which are not stored.
        Raises what `work` raises; KeyReused for another call's key; and CallRepeated where the earlier call is under
        way, its answer was not kept, or its end is not known.
        """
        if (earlier := self._begin(call, fingerprint)) is not None:
            return _again(earlier, fingerprint, call.key, now=self.clock())
        try:
            answer = work()
        except self.refusals:
            with self.database.write() as session:
                rows.forget(session, call)
            raise
        kept = answer.body.decode() if keep and len(answer.body) <= MAX_ANSWER else None
        with self.database.write() as session:
            rows.answered(session, call, status=answer.status, answer=kept)
        return answer

    def _begin(self, call: CallKey, fingerprint: bytes) -> BegunCall | None:
        """Claim the key. The earlier call where there is one."""
        now = self.clock()
        while True:
            with self.database.write() as session:
                if rows.begin(session, call, fingerprint=fingerprint, now=now, until=now + HELD):
                    return None
                if (earlier := rows.get(session, call)) is not None:
                    return earlier


def fingerprint_of(*parts: bytes) -> bytes:
    """A digest of method, path, query and body; no other division into parts has it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _again(earlier: BegunCall, fingerprint: bytes, key: str, *, now: datetime) -> Answer:
    if earlier.fingerprint != fingerprint:
        raise KeyReused(key)
    began = earlier.began_at.strftime(_MOMENT)
    if earlier.status is None and now < earlier.held_until:
        wait = (earlier.held_until - now).total_seconds()
        raise CallRepeated(f"the call with this key that began at {began} is under way", retry_after=min(wait, 5.0))
    if earlier.status is None:
        words = f"the call with this key began at {began} and did not end: look at what it did, then use a new key"
        raise CallRepeated(words)
    if earlier.answer is None and earlier.status != 204:
        words = f"the call with this key was carried out at {began}, and its answer is not kept"
        raise CallRepeated(words, status=earlier.status)
    return Answer(earlier.status, (earlier.answer or "").encode(), repeated=True)
