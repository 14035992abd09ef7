"""Pages and lists on many rows: as many statements as on few, and none reads a large table as a whole."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Engine, event

from app.clock import utc_now
from app.db.engine import Database, connect
from app.db.migrate import upgrade
from bench.large_tables import fill
from bench.page_cases import API, Case, Rows, cases
from tests.integration.console.pages import open_console
from tests.integration.database.test_status_plans import LARGE, SMALL

FEW, MANY = 0.000_01, 0.000_3  # shares: 10 connections, fewer than a page has; 300, and 3,000 events
MORE = 6  # statements of a page that some rows have and others do not, such as those of a link that is there
MOST = 80  # statements of any page
COUNTED = SMALL | {"ix_jobs_discarded"}  # indexes that stay small, and may be counted as a whole
COUNTING = "/console/connections/act?"  # the page before an act counts all that match, exactly
WORKING = ("api", "console")  # threads of calls; the others work for themselves


@dataclass
class Asked:
    """Statements of one request, with their parameters."""

    case: Case
    status: int
    statements: list[tuple[str, object]] = field(default_factory=list)


@contextmanager
def noted() -> Iterator[list[tuple[str, object]]]:
    """The statements that threads of calls send meanwhile."""
    found: list[tuple[str, object]] = []

    def note(_connection, _cursor, sql, parameters, _context, _many):
        if threading.current_thread().name.startswith(WORKING):
            found.append((sql, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@dataclass
class Filled:
    database: Database
    asked: list[Asked]

    def counts(self) -> dict[str, int]:
        """The most statements of each page and list, as it is."""
        counts: dict[str, int] = {}
        for each in (each for each in self.asked if "?" not in each.case.path):
            counts[each.case.operation] = max(counts.get(each.case.operation, 0), len(each.statements))
        return counts


@contextmanager
def filled(postgres, valkey, folder, share, *, filtered=True) -> Iterator[Filled]:
    """A database, and what each case asks of it; filtered: those with a query, too."""
    postgres.start()
    valkey.start()
    url = postgres.create_database()
    with closing(connect(url)) as database:
        upgrade(database)
        fill(database, now=utc_now(), share=share)
        with open_console(database_url=url, broker_url=valkey.url(0), folder=folder) as console:
            asked = []
            for case in cases(Rows(database)):
                if "?" in case.path and not filtered:
                    continue
                with noted() as found:
                    if case.path.startswith(API):
                        answer = console.api.get(case.path.removeprefix(API))
                    else:
                        answer = console.browsers["operator"].get(case.path)
                asked.append(Asked(case, answer.status_code, list(found)))
            yield Filled(database, asked)


@pytest.fixture(scope="module")
def few(postgres, valkey, tmp_path_factory):
    with filled(postgres, valkey, tmp_path_factory.mktemp("few"), FEW, filtered=False) as found:
        yield found


@pytest.fixture(scope="module")
def many(postgres, valkey, tmp_path_factory):
    with filled(postgres, valkey, tmp_path_factory.mktemp("many"), MANY) as found:
        yield found


def test_every_case_of_the_benchmark_is_answered(many):
    assert [(each.status, each.case.path) for each in many.asked if each.status not in {200, 409}] == []
    assert len(many.asked) > 700


def test_a_page_of_many_rows_takes_as_many_statements_as_one_of_few(few, many):
    before, after = few.counts(), many.counts()
    more = {page: (before[page], count) for page, count in after.items() if count > min(before[page] + MORE, MOST)}
    assert more == {}


def whole_reads(plan, *, bounded=False):
    """Nodes of a plan that read a large table from its beginning to its end."""
    bounded = bounded or plan["Node Type"] == "Limit"
    is_read = plan.get("Relation Name") in LARGE and "Index Cond" not in plan and "Recheck Cond" not in plan
    if is_read and (plan["Node Type"] == "Seq Scan" or not (bounded or plan.get("Index Name") in COUNTED)):
        yield plan
    for inner in plan.get("Plans", ()):
        yield from whole_reads(inner, bounded=bounded)


def test_no_page_reads_a_large_table_as_a_whole(many):
    found = {}
    with many.database.engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")  # the tables are small
        for each in (each for each in many.asked if not each.case.path.startswith(COUNTING)):
            for sql, parameters in each.statements:
                if sql not in found and sql.startswith(("SELECT", "WITH")):
                    [root] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters).scalar_one()
                    found[sql] = (
                        each.case.path,
                        [(node["Node Type"], node.get("Index Name")) for node in whole_reads(root["Plan"])],
                    )
    assert {path: (sql, read) for sql, (path, read) in found.items() if read} == {}
    assert len(found) > 150
