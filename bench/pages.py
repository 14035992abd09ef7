"""Server time of every page of the console and every list of the API, on ten million events and a million connections.

`python -m bench.pages [--quick]` runs it alone. A web process as it is run answers over loopback, to an operator and a
token; `bench.page_cases` has what is asked. Each request is made once to warm up, then TIMES times. Server time is by
the clock, from the request to the whole answer. Beside it is the processor time that the web process and PostgreSQL
took for it, by the kernel's accounts, which other work on the machine does not make longer.
"""

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx

from app.db.engine import Database, connect
from app.db.migrate import upgrade
from app.domain.access import Rights, Role, Scope
from app.services import tokens
from app.services.operators import accounts, links
from bench.large_tables import fill
from bench.load import KEY
from bench.page_cases import API, Case, Rows, cases
from bench.processes import Failed, pid_of, python, serving
from bench.report import Figure, Report, figure, progress
from bench.scale import FilledPostgres
from tests.ports import free_port
from tests.servers import ValkeyServer

TIMES: Final = 5
GOAL: Final = 200.0  # ms
QUICK_SHARE: Final = 0.01
ANSWERED: Final = frozenset({200, 409})  # 409: the row's state does not allow the act, which its page has to find out
WITHIN: Final = 60.0  # seconds; for an answer
_TICK: Final = 1000 / os.sysconf("SC_CLK_TCK")  # ms


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds of one answer. web, database: processor time."""

    server: float
    web: float
    database: float

    @property
    def worked(self) -> float:
        return self.web + self.database


@dataclass(frozen=True, slots=True)
class Measured:
    case: Case
    status: int
    took: Took


def measure(report: Report, *, share: float) -> None:
    """Fill a server of its own, and ask for everything."""
    with ExitStack() as stack:
        postgres = FilledPostgres()
        stack.callback(postgres.close)
        postgres.start()
        url = postgres.create_database()
        with closing(connect(url)) as database:
            upgrade(database)
            fill(database, now=datetime.now(UTC), share=share)
        progress("filled")
        found = list(measured(url, pid_of(postgres)))
        report.tables.append(table(found))
        report.figures |= figures(found)
        report.failures += [
            f"{each.case.path}: answered {each.status}" for each in found if each.status not in ANSWERED
        ]


def measured(url: str, postgres: int, *, only: str = "") -> Iterator[Measured]:
    """Every case that holds `only`, on a filled database. postgres: the server's pid."""
    with ExitStack() as stack:
        database = stack.enter_context(closing(connect(url)))
        port, web = stack.enter_context(_web(url))
        operator, token = _signed_in(stack, database, port)
        for case in cases(Rows(database)):
            if only in f"{case.operation} {case.path}":
                yield _asked(token if case.path.startswith(API) else operator, case, web, postgres)


def _asked(client: httpx.Client, case: Case, web: int, postgres: int) -> Measured:
    """The median of each time, after a warm-up."""
    status, taken = client.get(case.path).status_code, []
    for _ in range(TIMES):
        before, began = (cpu(web), cpu_of_all(postgres)), time.perf_counter()
        client.get(case.path)
        server = (time.perf_counter() - began) * 1000
        taken.append(Took(server, cpu(web) - before[0], cpu_of_all(postgres) - before[1]))
    columns = ([getattr(each, name) for each in taken] for name in ("server", "web", "database"))
    found = Measured(case, status, Took(*map(statistics.median, columns)))
    if found.took.server > GOAL or status not in ANSWERED:
        progress(f"{status} {found.took.server:7.1f} ms, worked {found.took.worked:7.1f} ms  {case.path}")
    return found


def cpu(pid: int) -> float:
    """Processor time of a process, in milliseconds, exact to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e6


def cpu_of_all(pid: int) -> float:
    """That of a server's processes, and of those that have ended, which is exact to a tick."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    total = sum(map(int, ended)) * _TICK
    for child in children:
        try:
            total += cpu(int(child))
        except OSError:  # it has ended meanwhile
            continue
    return total


@contextmanager
def _web(url: str) -> Iterator[tuple[int, int]]:
    """Port and pid of a web process."""
    with closing(ValkeyServer()) as valkey, tempfile.TemporaryDirectory() as folder:
        valkey.start()
        port = free_port()
        variables = {
            "WAYLINK_DATABASE_URL": url,
            "WAYLINK_DATA_DIR": folder,
            "WAYLINK_BROKER_URL": valkey.url(0),
            "WAYLINK_TEAM_BROKER_URL": valkey.url(1),
            "WAYLINK_NANGO_SIGNING_KEYS": KEY,
            "WAYLINK_CANARY_EVERY": "0",
            "WAYLINK_PORT": str(port),
        }
        with serving(python("app.cli", "web"), variables, port, Path(folder)) as process:
            yield port, process.pid


def _signed_in(stack: ExitStack, database: Database, port: int) -> tuple[httpx.Client, httpx.Client]:
    """A browser of an operator, and a client with a token."""
    now, name = datetime.now(UTC), f"bench-{os.getpid()}"
    with database.write() as session:
        row = accounts.add(session, name, Rights(Role.OPERATOR, None, False), actor="cli:bench", now=now)
        path = f"{links.PATH}/{links.issue(session, row, actor='cli:bench', now=now)}"
        issued = tokens.issue(
            session, name, scopes=[Scope.OPERATOR], team=None, lifetime=timedelta(days=1), actor="cli:bench", now=now
        )

    def client(**headers: str) -> httpx.Client:
        """Each request has a connection of its own, since web ends those that lasted for a while."""
        alone = httpx.Limits(max_keepalive_connections=0)
        address = f"http://127.0.0.1:{port}"
        return stack.enter_context(
            httpx.Client(base_url=address, headers=headers, timeout=WITHIN, trust_env=False, limits=alone)
        )

    browser = client(**{"sec-fetch-site": "same-origin"})
    password = "correct horse battery staple"
    if browser.post(path, data={"password": password, "repeated": password}).status_code != 303:
        raise Failed("the operator could not sign in")
    return browser, client(authorization=f"Bearer {issued.secret}")


def slowest(found: Sequence[Measured]) -> dict[str, Measured]:
    """The slowest way to ask for each page and list."""
    worst: dict[str, Measured] = {}
    for each in found:
        known = worst.setdefault(each.case.operation, each)
        if each.took.server > known.took.server:
            worst[each.case.operation] = each
    return worst


def figures(found: Sequence[Measured]) -> dict[str, Figure]:
    """The slowest of all pages, and of all lists, and how many answers took longer than the goal."""
    worst = list(slowest(found).values())
    named: dict[str, Figure] = {}
    for what, mine in (("pages", _are(worst, api=False)), ("endpoints", _are(worst, api=True))):
        named[f"{what}, number"] = figure(len(mine), what)
        named[f"{what}, server time of the slowest"] = figure(
            max(each.took.server for each in mine), "ms", at_most=GOAL
        )
        named[f"{what}, processor time of the slowest"] = figure(max(each.took.worked for each in mine), "ms")
    late = sum(each.took.server > GOAL for each in found)
    return named | {"answers over 200 ms": figure(late, f"of {len(found)}", at_most=0)}


def _are(found: Sequence[Measured], *, api: bool) -> list[Measured]:
    return [each for each in found if each.case.path.startswith(API) is api]


def table(found: Sequence[Measured]) -> str:
    """The slowest answer of each page and list as Markdown, the slowest first."""
    lines = ["| page or list | asked for | server ms | web ms | PostgreSQL ms |", "|---|---|---|---|---|"]
    for each in sorted(slowest(found).values(), key=lambda one: -one.took.server):
        took = each.took
        how = f"`{each.case.how}`" if re.search("[=:]", each.case.how) else each.case.how
        asked = f"| `{each.case.operation}` | {how} |"
        lines.append(f"{asked} {took.server:.0f} | {took.web:.0f} | {took.database:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.pages", description="Measure pages and lists on large tables.")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows")
    report = Report()
    measure(report, share=QUICK_SHARE if parser.parse_args().quick else 1.0)
    report.print()


if __name__ == "__main__":
    main()
