"""PostgreSQL's prepared statements on the event loop, one round trip each, without psycopg's cursors.

Ingest commits some hundreds of times a second, a batch each. A cursor that adapts, prepares and waits by generators was
measured to cost more than the data it sends. Only psycopg's binding of libpq is used here.

No wait depends on one event. A loop may report a socket once and never again: over TCP, uvloop calls a reader a single
time when a connection ends by a reset. So libpq is polled every POLL_SECONDS, a message that ends the session ends the
wait, and a caller that gives up (by cancelling) leaves a closed connection.
"""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from app.db.bounded_connection import BoundedConnection

POLL_SECONDS: Final = 0.5

UUIDS, TEXTS, BYTES, TIMES, SMALL_INTEGERS = 2950, 25, 17, 1184, 21  # PostgreSQL's type numbers, for arrays
_BINARY: Final = 1
_HEAD: Final = struct.Struct("!iiIii")  # dimensions, whether there are nulls, type, length, first index
_EMPTY: Final = struct.Struct("!iiI")  # without a dimension, there is no length
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DONE: Final = {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}
_FINAL: Final = {b"FATAL", b"PANIC"}  # severities of a session's last message


class LoopConnection:
    """A connection whose answers are awaited on the event loop, one at a time. Every statement commits."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self.libpq = driver.pgconn
        self.lost: psycopg.Error | None = None
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        # A duplicate: libpq may close its own descriptor, and the number would soon be another socket's.
        self._socket = socket.socket(fileno=os.dup(self.libpq.socket))
        self._answers: list[PGresult] = []
        self._done: asyncio.Future[None] | None = None  # set while an answer is awaited
        self._poll_timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._loop.add_reader(self._socket, self._read)

    async def answer(self) -> PGresult:
        """The server's answer to the last message. Raises psycopg.Error; the connection may be `lost` then."""
        self._answers, self._done = [], self._loop.create_future()
        self._poll_timer = self._loop.call_later(POLL_SECONDS, self._poll)
        try:
            self._write()
            self._collect()  # where sending failed, libpq has read the available data
            await self._done
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._done = None
            self._poll_timer.cancel()
        for answer in self._answers:
            if answer.status not in _DONE:
                raise error_from_result(answer)
        return self._answers[-1]

    def close(self) -> None:
        """Close at once, in any state; a waiting `answer` raises."""
        self._lose(psycopg.OperationalError("the connection was closed"))

    def _lose(self, why: psycopg.Error) -> None:
        if self.lost is None:
            self.lost = why
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._driver.close()  # libpq's socket does not block: a final message that does not fit is dropped
        if self._done is not None and not self._done.done():
            self._done.set_exception(self.lost)

    def _read(self) -> None:
        if self.lost is not None:
            return
        try:
            self.libpq.consume_input()
            self._collect()
            if self.lost is None and (self._done is None or not self._done.done()):
                self.libpq.consume_input()  # the end of the connection, which may come without an event of its own
                self._collect()
        except psycopg.Error as failed:
            self._lose(failed)

    def _write(self) -> None:
        try:
            unsent = self.libpq.flush()
        except psycopg.Error as failed:
            self._lose(failed)
            return
        if unsent and not self._writing:
            self._loop.add_writer(self._socket, self._write)
        elif self._writing and not unsent:
            self._loop.remove_writer(self._socket)
        self._writing = bool(unsent)

    def _collect(self) -> None:
        """Take complete results until the awaited answer is complete."""
        while self.lost is None and self._done is not None and not self._done.done() and not self.libpq.is_busy():
            answer = self.libpq.get_result()
            if answer is None:
                self._done.set_result(None)
                return
            self._answers.append(answer)
            if answer.status not in _DONE and answer.error_field(DiagnosticField.SEVERITY_NONLOCALIZED) in _FINAL:
                self._lose(error_from_result(answer))

    def _poll(self) -> None:
        if self.lost is None:
            self._write()
            self._read()
        if self._done is not None and not self._done.done():
            self._poll_timer = self._loop.call_later(POLL_SECONDS, self._poll)


async def open_connection(arguments: Mapping[str, Any]) -> LoopConnection:
    """Connect with libpq's parameters. Raises psycopg.Error, within `connect_timeout` for each address.

    In a thread: names are resolved, certificates read and keys negotiated there, without an event loop. A cancelled
    caller gets no connection, and none is left open.
    """
    connected: Future[psycopg.Connection[Any]] = Future()

    def connect() -> None:
        try:
            driver = BoundedConnection.connect(**arguments, autocommit=True)
        except Exception as failed:  # noqa: BLE001 - raised at the caller
            with suppress(InvalidStateError):
                connected.set_exception(failed)
            return
        try:
            connected.set_result(driver)
        except InvalidStateError:  # the caller was cancelled meanwhile
            driver.close()

    threading.Thread(target=connect, name="connect", daemon=True).start()  # no pool: its threads are joined at exit
    try:
        return LoopConnection(await asyncio.wrap_future(connected))
    except asyncio.CancelledError:
        if not connected.cancel() and connected.exception() is None:
            connected.result().close()
        raise


@dataclass(slots=True)
class Statement:
    """A prepared statement of one connection, used by one task at a time."""

    connection: LoopConnection
    name: bytes
    sql: bytes
    _prepared: bool = field(default=False, init=False)

    async def run(self, *parameters: bytes) -> list[list[bytes]]:
        """Rows of the answer in PostgreSQL's binary form, which the parameters have, too. Raises psycopg.Error."""
        libpq = self.connection.libpq
        if not self._prepared:
            libpq.send_prepare(self.name, self.sql)
            await self.connection.answer()
            self._prepared = True
        libpq.send_query_prepared(self.name, parameters, [_BINARY] * len(parameters), _BINARY)
        answer = await self.connection.answer()
        return [
            [answer.get_value(row, column) or b"" for column in range(answer.nfields)] for row in range(answer.ntuples)
        ]


def array(kind: int, items: Sequence[bytes]) -> bytes:
    """An array parameter of items in binary form."""
    if not items:
        return _EMPTY.pack(0, 0, kind)
    parts = [_HEAD.pack(1, 0, kind, len(items), 1)]
    for item in items:
        parts += (len(item).to_bytes(4), item)
    return b"".join(parts)


def moment(at: datetime) -> bytes:
    """A timestamptz in binary form: microseconds since 2000."""
    return ((at - _EPOCH) // _MICROSECOND).to_bytes(8, signed=True)
