"""A prepared statement of PostgreSQL's from the event loop, in one round trip, past psycopg's cursors.

Ingest commits some hundreds of times a second, with a batch each. A cursor that adapts, prepares and waits by
generators was measured to cost more than what it sends. What is left of psycopg here is its binding of libpq.
"""

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

UUIDS, TEXTS, BYTES, TIMES, COUNTS = 2950, 25, 17, 1184, 23  # PostgreSQL's numbers of the types, for arrays of them
_BINARY: Final = 1
_HEAD: Final = struct.Struct("!iiIii")  # dimensions, whether there are nulls, type, length, first index
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(slots=True)
class Statement:
    """One statement of a connection that commits each. Made anew with the connection, used by one task at a time."""

    connection: psycopg.AsyncConnection
    name: bytes
    sql: bytes
    _prepared: bool = field(default=False, init=False)

    async def run(self, *parameters: bytes) -> list[list[bytes]]:
        """The rows of its answer, all in PostgreSQL's binary form, as the parameters are. Raises psycopg.Error."""
        libpq = self.connection.pgconn
        if not self._prepared:
            libpq.send_prepare(self.name, self.sql)
            await _answer(libpq)
            self._prepared = True
        libpq.send_query_prepared(self.name, parameters, [_BINARY] * len(parameters), _BINARY)
        answer = await _answer(libpq)
        return [
            [answer.get_value(row, column) or b"" for column in range(answer.nfields)] for row in range(answer.ntuples)
        ]


async def _answer(libpq: PGconn) -> PGresult:
    """What the server says to what was sent last."""
    loop, socket = asyncio.get_running_loop(), libpq.socket
    done: asyncio.Future[None] = loop.create_future()
    answers: list[PGresult] = []

    def read() -> None:
        try:
            libpq.consume_input()
            while not libpq.is_busy():
                answer = libpq.get_result()
                if answer is None:
                    done.set_result(None)
                    loop.remove_reader(socket)
                    return
                answers.append(answer)
        except psycopg.Error as failed:
            done.set_exception(failed)
            loop.remove_reader(socket)

    def write() -> None:
        if done.done() or not libpq.flush():
            loop.remove_writer(socket)

    loop.add_reader(socket, read)
    try:
        if libpq.flush():
            loop.add_writer(socket, write)
        await done
    finally:
        loop.remove_reader(socket)
        loop.remove_writer(socket)
    for answer in answers:
        if answer.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
            raise error_from_result(answer)
    return answers[-1]


def array(kind: int, items: Sequence[bytes]) -> bytes:
    """An array parameter of items that are in binary form already."""
    parts = [_HEAD.pack(1 if items else 0, 0, kind, len(items), 1)]
    for item in items:
        parts += (len(item).to_bytes(4), item)
    return b"".join(parts)


def moment(at: datetime) -> bytes:
    """A timestamptz in binary form: microseconds since 2000."""
    return ((at - _EPOCH) // _MICROSECOND).to_bytes(8, signed=True)
