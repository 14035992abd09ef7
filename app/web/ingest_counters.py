"""Records of the web process besides events: refusals, uses of signing keys, completeness of answers.

The request path only adds to counters that never decrease. Once a second the event loop logs and measures the increase,
and a separate thread writes it to the database. A failed write stays in the counters and goes with the next one, so a
database that is away costs neither rows nor memory; meanwhile a refusal's minute is that of the last one before the
write. A commit whose answer was lost is counted twice.
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

from app.config.nango_environment import Environments, key_name
from app.db import key_uses, rejections, repeats
from app.db.engine import Database
from app.db.key_uses import KeyUse
from app.db.rejections import RefusalCount
from app.outage_causes import of_database
from app.telemetry import WEBHOOK_KEYS, escape_control, get_logger
from app.web.fatal_tasks import end_process_on_failure
from app.web.group_commit import GroupCommit
from app.web.sender_health import SenderHealth
from app.web.written_responses import AnswerReport

EVERY_SECONDS: Final = 1.0
STOP_SECONDS: Final = 3.0  # for the last write
LIVE_EVERY: Final = timedelta(hours=1)  # between two records of an unused live key
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
    """Counts the endpoint's refusals and key uses for logs, metrics and tables.

    Not printable: its counters have plain keys.
    """

    database: Database
    environments: Environments
    clock: Callable[[], datetime]
    store: GroupCommit | None = None  # the source of answer reports
    # By environment and cause; both come from configuration and code, so requests cannot make these large.
    _refused: _Counts = field(default_factory=Counter, init=False)
    _last: dict[tuple[str, str], _Last] = field(default_factory=dict, init=False)
    _signed: _Counts = field(default_factory=Counter, init=False)  # by environment and plain key
    # The counters as each reader has last seen them.
    _logged: _Counts = field(default_factory=Counter, init=False)
    _measured: _Counts = field(default_factory=Counter, init=False)
    _written: tuple[_Counts, _Counts] = field(init=False)
    _answer_report: AnswerReport | None = field(default=None, init=False)  # the newest
    _recorded: AnswerReport | None = field(default=None, init=False)  # the last one written
    _live_since: dict[tuple[str, str], datetime] = field(default_factory=dict, init=False)
    _away: bool = field(default=False, init=False)
    _health: SenderHealth = field(init=False)
    _reporter: asyncio.Task[None] | None = field(default=None, init=False)
    _writer: threading.Thread = field(init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        self._written = Counter(), Counter()
        self._health = SenderHealth(tuple(self.environments))
        # Not a pool's thread: the interpreter waits for those at its end, however long the database hangs.
        self._writer = threading.Thread(target=self._write_loop, name="record", daemon=True)

    def signed_with(self, environment: str, key: str) -> None:
        """Count a webhook that was verified with this key."""
        self._signed[environment, key] += 1

    def refused(self, named: str, cause: str, *, status: int, peer: str, detail: str = "") -> None:
        """Count a refused request. named: the environment's name as in the URL. detail: about this request."""
        known = named in self.environments
        key = (named if known else "", cause)
        self._last[key] = _Last(status, self.clock(), clean(peer), clean(detail if known else named))
        self._refused[key] += 1

    def start(self) -> None:
        self._reporter = end_process_on_failure(asyncio.create_task(self._report_loop(), name="report"))
        self._writer.start()

    async def stop(self) -> None:
        """Report and write the rest within STOP_SECONDS; counts that the database does not take are in the
        log alone.
        """
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
        """Log one line for each environment and cause refused since the last call, with its count."""
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
        self._health.update(refused, time.monotonic())

    def _write_loop(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            self.write()
        self.write()

    def write(self) -> None:
        """Add the increase since the last successful write to the tables, and record the live keys."""
        try:
            self._write_increase(self._refused.copy(), self._signed.copy(), self._answer_report, self.clock())
        except Exception as failed:  # noqa: BLE001 - no error of a driver may end this thread
            if not self._away:
                why = of_database(failed) if isinstance(failed, DBAPIError) else type(failed).__name__
                log.warning("record_not_written", problem=why, then="it goes with the next try")
            self._away = True
        else:
            self._away = False

    def _write_increase(self, refused: _Counts, signed: _Counts, answers: AnswerReport | None, now: datetime) -> None:
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
        self._live_since.update({(use.environment, use.key): now for use in uses})

    def _row(self, key: tuple[str, str], count: int) -> RefusalCount:
        last = self._last[key]
        return RefusalCount(*key, last.status, count, last.at, last.peer, last.detail)

    def _uses(self, signed: _Counts, now: datetime) -> list[KeyUse]:
        """Keys used since the last write, and live keys whose hourly record is due."""
        used = {(environment, key_name(key)): count for (environment, key), count in signed.items()}
        for name, environment in self.environments.items():
            for key in environment.signing_keys.live():
                public = name, key_name(key)
                recorded = self._live_since.get(public)
                if recorded is None or now - recorded >= LIVE_EVERY:
                    used.setdefault(public, 0)
        return [KeyUse(environment, key, count) for (environment, key), count in used.items()]


def clean(text: str) -> str:
    """Text from outside for a row or log line: clipped, control characters escaped, lone surrogates replaced."""
    plain = escape_control(text[:CLIP].encode("utf-8", "replace").decode())
    return plain.replace("\n", "\\n").replace("\t", "\\t")[:CLIP]
