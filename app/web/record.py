"""What web notes beside the events: refusals, which keys sign, which answers were whole. Told and written aside.

The request path only adds to counters that never go down. Once a second the event loop logs and measures what was
added, and a thread of its own writes it to the database. What could not be written is still in the counters and goes
with the next try, so a database that is away costs neither rows nor memory; meanwhile the minute of a refusal is that
of the last one before the write. A commit whose answer was lost is counted twice.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.exc import DBAPIError

from app.causes import of_database
from app.config.environment import Environments, key_name
from app.db import key_uses, rejections, repeats
from app.db.engine import Database
from app.db.key_uses import KeyUse
from app.db.rejections import RefusalCount
from app.telemetry import WEBHOOK_KEYS, escape_control, get_logger
from app.web.answer_log import AnswerReport
from app.web.group_commit import GroupCommit
from app.web.sender_health import SenderHealth
from app.web.watching import watched

EVERY_SECONDS: Final = 1.0
STOP_SECONDS: Final = 3.0  # for the last write
LIVE_EVERY: Final = timedelta(hours=1)  # between two notes that a key which nobody uses is live
CLIP: Final = 100  # characters of text from outside

_Counts = Counter[tuple[str, str]]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Last:
    """The newest refusal of an environment for a cause."""

    status: int
    at: datetime
    peer: str
    detail: str


@dataclass(slots=True, repr=False)
class IngestRecord:
    """Takes notes from the endpoint, for logs, metrics and tables. Not printable: plain keys are in its counters."""

    database: Database
    environments: Environments
    clock: Callable[[], datetime]
    store: GroupCommit | None = None  # what reports on answers
    # By environment and cause; both come from configuration and code, so these stay small whoever sends what.
    _refused: _Counts = field(default_factory=Counter, init=False)
    _last: dict[tuple[str, str], _Last] = field(default_factory=dict, init=False)
    _signed: _Counts = field(default_factory=Counter, init=False)  # by environment and plain key
    # How far each reader of the counters got.
    _logged: _Counts = field(default_factory=Counter, init=False)
    _measured: _Counts = field(default_factory=Counter, init=False)
    _written: tuple[_Counts, _Counts] = field(init=False)
    _answer_report: AnswerReport | None = field(default=None, init=False)  # the newest, and the one written last
    _recorded: AnswerReport | None = field(default=None, init=False)
    _live_since: dict[tuple[str, str], datetime] = field(default_factory=dict, init=False)
    _away: bool = field(default=False, init=False)
    _health: SenderHealth = field(init=False)
    _reporter: asyncio.Task[None] | None = field(default=None, init=False)
    _writer: threading.Thread = field(init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        self._written = Counter(), Counter()
        self._health = SenderHealth(tuple(self.environments))
        # Not of a pool: the interpreter would wait for a pool's thread at its end, however long the database hangs.
        self._writer = threading.Thread(target=self._write_loop, name="record", daemon=True)

    def signed_with(self, environment: str, key: str) -> None:
        """A webhook was verified with this key."""
        self._signed[environment, key] += 1

    def refused(self, asked: str, cause: str, *, status: int, peer: str, detail: str = "") -> None:
        """A request was refused. `asked`: the environment's name as in the URL; `detail`: a word on this one."""
        known = asked in self.environments
        key = (asked if known else "", cause)
        self._last[key] = _Last(status, self.clock(), clean(peer), clean(detail if known else asked))
        self._refused[key] += 1

    def start(self) -> None:
        self._reporter = watched(asyncio.create_task(self._report_loop(), name="report"))
        self._writer.start()

    async def stop(self) -> None:
        """Tell and write the rest, within a bound: what a database does not take by then is in the log alone."""
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.wait([self._reporter])
        self.report()
        self._stopping.set()
        await asyncio.to_thread(self._writer.join, STOP_SECONDS)

    async def _report_loop(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self.report()

    def report(self) -> None:
        """A log line for each environment and cause that was refused since the last look, however often it was."""
        refused, signed = self._refused.copy(), self._signed.copy()
        for (environment, cause), count in (refused - self._logged).items():
            last = self._last[environment, cause]
            log.warning(
                "webhook_refused",
                environment=environment,
                cause=cause,
                status=last.status,
                count=count,
                peer=last.peer,
                detail=last.detail,
            )
        for (environment, key), count in (signed - self._measured).items():
            WEBHOOK_KEYS.labels(environment, key_name(key)).inc(count)
        self._logged, self._measured = refused, signed
        if self.store is not None:
            self._answer_report = self.store.answer_report() or self._answer_report
        self._health.look(refused, time.monotonic())

    def _write_loop(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            self.write()
        self.write()

    def write(self) -> None:
        """Add to the tables what came since the last write that succeeded, and name the keys that are live."""
        try:
            self._write_news(self._refused.copy(), self._signed.copy(), self._answer_report, self.clock())
        except Exception as failed:  # noqa: BLE001 - this thread has to outlive whatever a driver comes up with
            if not self._away:
                why = of_database(failed) if isinstance(failed, DBAPIError) else type(failed).__name__
                log.warning("record_not_written", problem=why, then="it goes with the next try")
            self._away = True
        else:
            self._away = False

    def _write_news(self, refused: _Counts, signed: _Counts, answers: AnswerReport | None, now: datetime) -> None:
        rows = [self._row(key, count) for key, count in (refused - self._written[0]).items()]
        uses = self._uses(signed - self._written[1], now)
        new = answers if answers is not self._recorded else None
        if rows or uses or new:
            with self.database.write() as session:
                rejections.add(session, rows)
                key_uses.add(session, uses, now=now)
                if new is not None:
                    repeats.record_answers(session, new.process, settled_before=new.settled_before, lost=new.lost)
        self._written = refused, signed
        if new is not None and self.store is not None:
            self.store.answers.recorded(new)
            self._recorded = new
        self._live_since.update({(one.environment, one.key): now for one in uses})

    def _row(self, key: tuple[str, str], count: int) -> RefusalCount:
        last = self._last[key]
        return RefusalCount(*key, last.status, count, last.at, last.peer, last.detail)

    def _uses(self, signed: _Counts, now: datetime) -> list[KeyUse]:
        """The keys that signed since the last write, and those of whose life it is time to tell."""
        used = {(environment, key_name(key)): count for (environment, key), count in signed.items()}
        for name, environment in self.environments.items():
            for key in environment.signing_keys.live():
                one = name, key_name(key)
                told = self._live_since.get(one)
                if told is None or now - told >= LIVE_EVERY:
                    used.setdefault(one, 0)
        return [KeyUse(environment, key, count) for (environment, key), count in used.items()]


def clean(text: str) -> str:
    """Text from outside as it may stand in a row or line: clipped, control characters escaped, no lone surrogates."""
    plain = escape_control(text[:CLIP].encode("utf-8", "replace").decode())
    return plain.replace("\n", "\\n").replace("\t", "\\t")[:CLIP]
