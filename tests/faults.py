"""Faults of a database in production, one at a time: each begins, and ends, while Waylink runs."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from sqlalchemy.engine import make_url

from tests.proxy import Proxy
from tests.servers import PostgresServer


@dataclass(frozen=True)
class Place:
    """A database, its server, and the proxy through which the tested process reaches it."""

    server: PostgresServer
    proxy: Proxy
    direct_url: str

    @property
    def url(self) -> str:
        """Through the proxy."""
        return make_url(self.direct_url).set(port=self.proxy.port).render_as_string(hide_password=False)

    @property
    def name(self) -> str:
        return str(make_url(self.direct_url).database)

    def end_sessions(self) -> None:
        """`pg_terminate_backend` for all sessions of the database."""
        self.server.administer(
            f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{self.name}'"
        )

    def read_only(self, state: str) -> None:
        """As an operator or a fail-over does it: sessions that are there notice with their next transaction."""
        self.server.administer(f"ALTER SYSTEM SET default_transaction_read_only = {state}")
        self.server.administer("SELECT pg_reload_conf()")
        while self._sees() != state:
            time.sleep(0.02)

    def _sees(self) -> str:
        with self._session() as session:
            [state] = session.execute("SHOW default_transaction_read_only").fetchone() or ("",)
        return str(state)

    def _session(self) -> psycopg.Connection:
        url = make_url(self.direct_url).set(drivername="postgresql")
        return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)

    def _pids(self) -> list[int]:
        process = self.server._process
        assert process is not None
        return _family(process.pid)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """`kill -9` of all its processes: one that is left would go on committing for a while."""
        self._signal(signal.SIGKILL)
        self.server.kill()

    def freeze(self) -> None:
        """Every process of the server stands still, and keeps its connections."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def sleeping(self) -> bool:
        """Whether a session is in a `pg_sleep`."""
        with self._session() as session:
            asking = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = %s"
            [count] = session.execute(asking, ["PgSleep"]).fetchone() or (0,)
        return bool(count)


Act = Callable[[Place], object]


@dataclass(frozen=True)
class Fault:
    """`lasts`: nothing can be stored until it ends; otherwise it is over as soon as it has begun."""

    name: str
    begin: Act
    end: Act = lambda _: None
    lasts: bool = True


def _refuse(place: Place) -> None:
    place.proxy.refuse()
    place.proxy.reset()


FAULTS: Final[Sequence[Fault]] = (
    Fault("restart", lambda place: place.server.stop(), lambda place: place.server.start()),
    Fault("kill -9", Place.kill, lambda place: place.server.start()),
    Fault("terminated sessions", Place.end_sessions, lasts=False),
    Fault("black hole", lambda place: place.proxy.stop_passing(), lambda place: place.proxy.resume()),
    Fault("forgotten connections", lambda place: place.proxy.abandon(), lasts=False),
    Fault("reset", lambda place: place.proxy.reset(), lasts=False),
    Fault("refused", _refuse, lambda place: place.proxy.resume()),
    Fault("read-only", lambda place: place.read_only("on"), lambda place: place.read_only("off")),
    Fault("frozen", Place.freeze, Place.thaw),
)


def _family(pid: int) -> list[int]:
    """A process and those below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # it ended between being listed and being asked, as backends do
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]
