"""The faults that the status has to tell, in rounds. Each is what an operator, a machine, Nango or a team does."""

import contextlib
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from kombu import Connection
from sqlalchemy.engine import make_url

from app.brokers.rabbitmq import length
from app.sealing import new_key
from bench.load import KEY, body
from tests.acceptance.status_faults import EVERY, RABBITMQ, RABBITMQ_QUEUE, Act, Fault, Installation, Watched
from tests.servers import fill, make_room
from tests.waiting import until

LAPSING: Final = "lapsing"  # an integration whose tokens live for half a minute
ENOUGH: Final = 8  # jobs that fail, of which five open a destination's breaker
RETRIES: Final = 3.0  # seconds between two tries of Nango
OLDER: Final = (
    "from importlib import metadata\n"
    "right = metadata.version\n"
    "metadata.version = lambda name: '0.0.9' if name == 'waylink' else right(name)\n"
)


def faketime() -> Path | None:
    """The library of Debian's faketime, which gives a process another clock; None where it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def a_minute_ahead() -> dict[str, str]:
    """Variables of a process whose clock is wrong. The clock that times out its waits stays right."""
    library = faketime()
    assert library is not None
    return {"LD_PRELOAD": str(library), "FAKETIME": "+60s", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


def frozen(name: str, check: str | Callable[[Installation], str], **more: Any) -> Fault:
    kind = name.partition("-")[0]
    return Fault(
        name=f"{kind}: frozen (SIGSTOP)",
        check=check,
        begin=lambda at: at.freeze(name),
        end=lambda at: at.thaw(name),
        repair="SIGCONT",
        **more,
    )


def killed(name: str, check: str | Callable[[Installation], str]) -> Fault:
    kind = name.partition("-")[0]
    return Fault(
        name=f"{kind}: killed (SIGKILL)",
        check=check,
        begin=lambda at: at.kill(name),
        end=lambda at: at.start(name),
        repair="started again",
    )


def hook(name: str, words: str, check: str, *, begin: Act, end: Act, repair: str) -> Fault:
    """An endpoint that fails for jobs of its plan."""
    path = f"/hang/{name}" if name == "hanging" else f"/200/{name}"

    def fails(at: Installation) -> None:
        begin(at)
        at.post(plan=name, count=ENOUGH)

    def taken(at: Installation) -> None:
        until(f"{name} takes a job", lambda: len(at.hooks.of(path)) > at.more[name])

    def ends(at: Installation) -> None:
        at.more[name] = len(at.hooks.of(path))
        end(at)

    return Fault(name=f"endpoint: {words}", check=check, begin=fails, end=ends, repair=repair, success=taken)


def _lock(at: Installation) -> None:
    place = at.product.place
    assert place is not None
    url = make_url(place.direct_url).set(drivername="postgresql").render_as_string(hide_password=False)
    session = at.more["lock"] = psycopg.connect(url)
    session.execute("LOCK TABLE events IN EXCLUSIVE MODE")
    threading.Thread(target=at.post, daemon=True).start()


def _database(act: str, *arguments: object) -> Act:
    def run(at: Installation) -> None:
        place = at.product.place
        assert place is not None
        getattr(place, act)(*arguments)

    return run


def _fill_database(at: Installation) -> None:
    assert at.small_disk is not None
    at.small_disk.fill()
    threading.Thread(target=at.post, daemon=True).start()


def _server(act: str) -> Act:
    def run(at: Installation) -> None:
        place = at.product.place
        assert place is not None
        getattr(place.server, act)()

    return run


def _nango(at: Installation, fault: Mapping[str, Any] | None) -> None:
    if fault is None:
        at.product.sandbox.call("DELETE", "/sandbox/faults")
    else:
        at.product.sandbox.call("POST", "/sandbox/faults", json=fault)


def _wrong_api_key(at: Installation) -> None:
    """The call by which events are confirmed is refused, so that the calls of another fault can fail otherwise."""
    _nango(at, {"operation": "list_connections", "status": 401, "code": "unknown_account"})
    at.post()


def _wrong_signing_key(at: Installation) -> None:
    """As often as Nango tries again."""
    ended = at.more["signed right"] = threading.Event()

    def refused() -> None:
        while not ended.is_set():
            at.post(key="another key")
            ended.wait(RETRIES)

    thread = at.more["signed wrong"] = threading.Thread(target=refused)
    thread.start()


def _right_signing_key(at: Installation) -> None:
    at.more.pop("signed right").set()
    at.more.pop("signed wrong").join()
    assert at.post() == [202]


def _lapse(at: Installation) -> float:
    """Nango does not answer for a token that expires meanwhile, so that nothing renews it. The moment of its expiry."""
    rules = {"provider": LAPSING, "auth_mode": "OAUTH2", "access_life": 30}
    at.product.sandbox.call("PUT", f"/sandbox/integrations/{LAPSING}", json=rules)
    content = body(str(uuid.uuid4()), tags={"end_user_id": "lapsing"}).replace(b"google-mail", LAPSING.encode())
    at.product.sandbox.register(content)
    assert at.waylink.post(content, KEY).status_code == 202

    def shown() -> dict[str, Any] | None:
        return next(iter(at.waylink.listing("connections", "--integration", LAPSING)), None)

    connection = until("it is there", shown, every=EVERY)
    at.more["lapsing"] = connection["id"]
    at.run("refreshes", "run", connection["id"])
    found = until("its expiry is known", lambda: (shown() or {}).get("expires_at"), every=EVERY)
    _nango(at, {"operation": "get_connection", "status": 503})
    left = datetime.fromisoformat(found) - datetime.now(UTC)
    return time.monotonic() + left.total_seconds()


def _renew(at: Installation) -> None:
    _nango(at, None)
    at.run("refreshes", "run", at.more["lapsing"], "--force")


def _renewed(at: Installation) -> None:
    def expires() -> bool:
        [found] = at.waylink.listing("connections", "--integration", LAPSING)
        return datetime.fromisoformat(found["expires_at"]) > datetime.now(UTC)

    until("it is renewed", expires, every=EVERY)


def _other_secret_key(at: Installation) -> None:
    at.more["key"] = at.waylink.env["WAYLINK_SECRET_KEY"]
    at.waylink.env["WAYLINK_SECRET_KEY"] = new_key()
    at.restart("web-1")
    at.product.processes["web-1"].says("web_started")


def _right_secret_key(at: Installation) -> None:
    at.waylink.env["WAYLINK_SECRET_KEY"] = at.more["key"]
    at.restart("web-1")
    at.product.processes["web-1"].says("web_started")


PROCESSES_FROZEN: Final = (
    frozen("web-2", lambda at: at.process_id("web-2")),
    frozen("events-1", "processes:events"),
    frozen("io-1", "processes:io"),
    frozen("beat", "processes:beat"),
)
PROCESSES_KILLED: Final = (
    killed("web-2", lambda at: at.process_id("web-2")),
    killed("events-1", "processes:events"),
    killed("io-1", "processes:io"),
    killed("beat", "processes:beat"),
)
ALL_WEB_FROZEN: Final = (
    Fault(
        name="web: all processes frozen (SIGSTOP)",
        check="processes:web",
        begin=lambda at: at.freeze("web-1", "web-2"),
        end=lambda at: at.thaw("web-1", "web-2"),
        repair="SIGCONT",
        api=False,
    ),
)
BROKERS: Final = (
    Fault(
        name="internal broker: stopped",
        check="internal-broker",
        begin=lambda at: at.product.broker.stop(),
        end=lambda at: at.product.broker.start(),
        repair="started again",
    ),
    Fault(
        name="team broker: stopped",
        check="team-broker",
        begin=lambda at: at.product.teams.stop(),
        end=lambda at: at.product.teams.start(),
        repair="started again",
    ),
)
BROKERS_REFUSE: Final = (
    Fault(
        name="internal broker: a replica, as after a failover",
        check="internal-broker",
        begin=lambda at: at.product.broker.command("REPLICAOF", "127.0.0.1", "1"),
        end=lambda at: at.product.broker.command("REPLICAOF", "NO", "ONE"),
        repair="a primary again",
    ),
    Fault(
        name="team broker: out of memory",
        check="team-broker",
        begin=lambda at: at.product.teams.command("CONFIG", "SET", "maxmemory", "1"),
        end=lambda at: at.product.teams.command("CONFIG", "SET", "maxmemory", "0"),
        repair="memory given",
    ),
)
DATABASE_STOPPED: Final = (
    Fault(name="PostgreSQL: stopped", check="database", begin=_server("stop"), end=_server("start"), repair="started"),
)
DATABASE_FROZEN: Final = (
    Fault(
        name="PostgreSQL: frozen (SIGSTOP)",
        check="database",
        begin=_database("freeze"),
        end=_database("thaw"),
        repair="SIGCONT",
    ),
)
DATABASE_READ_ONLY: Final = (
    Fault(
        name="PostgreSQL: read-only",
        check="database",
        begin=_database("read_only", "on"),
        end=_database("read_only", "off"),
        repair="the setting taken back",
    ),
)
DATABASE_LOCKED: Final = (
    Fault(
        name="PostgreSQL: a lock on `events`",
        check="database",
        begin=_lock,
        end=lambda at: at.more.pop("lock").close(),
        repair="the session ended",
    ),
)
DATABASE_DISK_FULL: Final = (
    Fault(
        name="PostgreSQL: the disk is full (tmpfs)",
        check="database",
        begin=_fill_database,
        end=lambda at: at.small_disk.make_room(),
        repair="room made",
    ),
)
TEAMS_AND_VERSIONS: Final = (
    hook(
        "gone",
        "answers 410",
        "destination-disabled:bench/gone",
        begin=lambda at: at.hooks.statuses.update({"/200/gone": 410}),
        end=lambda at: (at.hooks.statuses.pop("/200/gone"), at.run("destinations", "enable", "bench/gone")),
        repair="`waylink destinations enable`",
    ),
    hook(
        "broken",
        "answers 500",
        "destination-failing:bench/broken",
        begin=lambda at: at.hooks.statuses.update({"/200/broken": 500}),
        end=lambda at: at.hooks.statuses.pop("/200/broken"),
        repair="it answers 200",
    ),
    hook(
        "hanging",
        "does not answer",
        "destination-failing:bench/hanging",
        begin=lambda _: None,
        end=lambda at: at.hooks.let_go(),
        repair="it answers 200",
    ),
    Fault(
        name="version: a process of another release",
        check="versions",
        begin=lambda at: at.start("web-4", **at.patched(OLDER)),
        end=lambda at: at.stop("web-4"),
        repair="stopped",
    ),
)
# The token first: its connection has to be confirmed before the API key is refused.
SECRETS: Final = (
    Fault(
        name="token: expired, and Nango does not renew it",
        check="tokens-lapsed",
        begin=_lapse,
        end=_renew,
        repair="`waylink refreshes run ID --force`",
        success=_renewed,
    ),
    Fault(
        name="secret: another WAYLINK_SECRET_KEY",
        check="secrets",
        begin=_other_secret_key,
        end=_right_secret_key,
        repair="the right one",
    ),
    Fault(
        name="secret: Nango refuses the API key",
        check="events-held",
        begin=_wrong_api_key,
        end=lambda at: _nango(at, None),
        repair="it is taken again",
    ),
    Fault(
        name="secret: Nango signs with another key",
        check="signatures:default",
        begin=_wrong_signing_key,
        end=_right_signing_key,
        repair="it signs with a live key",
    ),
)


@contextlib.contextmanager
def _write_lock(at: Watched) -> Iterator[None]:
    with contextlib.closing(
        sqlite3.connect(at.waylink.data / "waylink.db", isolation_level=None, timeout=60)
    ) as session:
        session.execute("BEGIN IMMEDIATE")
        yield


def _taken_by_rabbitmq(at: Installation) -> None:
    with Connection(at.more[RABBITMQ].url()) as connection:
        until("RabbitMQ has taken a job", lambda: length(connection, RABBITMQ_QUEUE), every=EVERY)


RABBITMQ_AND_CLOCK: Final = (
    Fault(
        name="RabbitMQ, a team's own broker: stopped",
        check=f"destination-failing:bench/{RABBITMQ}",
        begin=lambda at: (at.more[RABBITMQ].stop(), at.post(plan=RABBITMQ, count=ENOUGH)),
        end=lambda at: at.more[RABBITMQ].start(),
        repair="started again",
        success=_taken_by_rabbitmq,
    ),
    Fault(
        name="clock: a minute ahead (faketime)",
        check=f"clock:{socket.gethostname()}",
        begin=lambda at: at.start("web-3", **a_minute_ahead()),
        end=lambda at: at.stop("web-3"),
        repair="set right",
    ),
)
_LOCKS: Final = contextlib.ExitStack()
DISK_FULL: Final = (
    Fault(
        name="SQLite: the disk is full (tmpfs)",
        check="database",
        begin=lambda at: fill(at.waylink.data),
        end=lambda at: make_room(at.waylink.data),
        repair="room made",
    ),
)
FILE_LOCKED: Final = (
    Fault(
        name="SQLite: another program holds the write lock",
        check="database",
        begin=lambda at: _LOCKS.enter_context(_write_lock(at)),
        end=lambda _: _LOCKS.close(),
        repair="that program ended",
    ),
)
ROUNDS: Final = {
    "frozen": PROCESSES_FROZEN,
    "killed": PROCESSES_KILLED,
    "all web": ALL_WEB_FROZEN,
    "brokers": BROKERS,
    "brokers refuse": BROKERS_REFUSE,
    "stopped": DATABASE_STOPPED,
    "postgres frozen": DATABASE_FROZEN,
    "read-only": DATABASE_READ_ONLY,
    "locked": DATABASE_LOCKED,
    "teams": TEAMS_AND_VERSIONS,
    "secrets": SECRETS,
}
