"""All pages of a list that changes while it is read: a row that stays comes exactly once."""

import random
from collections.abc import Callable

import httpx
import pytest

from app.nango import NangoClient
from app.nango.paging import OVERLAP, next_window
from tests.drawing import seeds


class Table:
    """Nango's list: newest first, cut into pages; `between` changes it before each page but the first."""

    def __init__(self, rows: int, between: Callable[["Table"], None] = lambda _: None) -> None:
        self.rows = list(range(rows, 0, -1))
        self.newest = rows
        self.between = between
        self.sizes: list[int] = []

    def insert(self, count: int) -> None:
        self.rows = list(range(self.newest + count, self.newest, -1)) + self.rows
        self.newest += count

    def delete(self, *places: int) -> None:
        gone = {self.rows[place] for place in places if place < len(self.rows)}
        self.rows = [row for row in self.rows if row not in gone]

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.sizes:
            self.between(self)
        page, limit = int(request.url.params["page"]), int(request.url.params["limit"])
        self.sizes.append(limit)
        names = {"connection_id": "c", "provider_config_key": "g", "provider": "g"}
        found = self.rows[page * limit : (page + 1) * limit]
        rows = [{"id": row, **names, "created": "2026-02-02T00:00:00Z"} for row in found]
        return httpx.Response(200, json={"connections": rows})


def read(table: Table, limit: int) -> list[int]:
    client = NangoClient(base_url="https://n.example", api_key="k", transport=httpx.MockTransport(table.answer))
    with client:
        return [row.id for row in client.iterate_connections(limit=limit)]


def test_a_quiet_list_costs_hardly_more_calls_than_without_overlap() -> None:
    table = Table(100_000)
    assert read(table, 2000) == table.rows
    assert len(table.sizes) <= 53
    assert max(table.sizes) <= 2000


@pytest.mark.parametrize("deleted", [1, OVERLAP - 1, OVERLAP, OVERLAP + 1, 500, 3000])
def test_a_deletion_between_two_pages_hides_no_row(deleted: int) -> None:
    pages = []

    def delete(table: Table) -> None:
        pages.append(1)
        if len(pages) == 3:
            table.delete(*range(deleted))

    table = Table(5000, delete)
    before = set(table.rows)
    found = read(table, 1000)
    assert len(found) == len(set(found))
    assert set(table.rows) <= set(found) <= before


def test_deleting_the_whole_rest_ends_the_reading() -> None:
    table = Table(3000, lambda table: table.delete(*range(10, 3000)))
    assert set(table.rows[:10]) <= set(read(table, 100))


def test_a_burst_of_new_rows_is_no_list_without_an_end() -> None:
    bursts = [5000]
    table = Table(2000, lambda table: table.insert(bursts.pop()) if bursts else None)
    assert set(range(1, 2001)) <= set(read(table, 1000))


@seeds(*range(30))
def test_a_row_that_stays_comes_exactly_once_however_the_list_changes(seed: int) -> None:
    chance = random.Random(seed)

    def change(table: Table) -> None:
        if chance.random() < 0.6:
            table.insert(chance.choice([1, 3, 40, 150]))
        if chance.random() < 0.6 and table.rows:
            table.delete(*(chance.randrange(len(table.rows)) for _ in range(chance.choice([1, 5, 30, 120]))))

    table = Table(chance.choice([0, 99, 100, 101, 1500]), change)
    before = set(table.rows)
    found = read(table, 100)
    assert len(found) == len(set(found))
    assert before & set(table.rows) <= set(found)


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 1000, 2000])
def test_every_window_goes_on_from_what_was_read(limit: int) -> None:
    covered = limit
    while covered < 300 * limit:
        window = next_window(covered, limit=limit)
        assert 0 < window.limit <= limit
        assert window.start <= covered < window.end
        if limit >= 100:
            assert window.start <= covered - OVERLAP
        covered = window.end
