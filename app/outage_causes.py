"""Reasons why a server could not be used, as one line of text.

Of drivers' errors only known parts are shown: their texts may quote a URL with its password. PostgreSQL's own messages
name the user and the database, and no password.

Drivers' classes are matched by name, so that no command loads a driver for another one's error.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from typing import Final

UNREACHABLE: Final = "unreachable"
NOT_STORING: Final = "not storing"
DISK_FULL: Final = "disk full"
LOCKED: Final = "locked"
READ_ONLY: Final = "read-only"
CONNECTION_REFUSED: Final = "connection refused"
LOGIN_REFUSED: Final = "login refused"
TOO_MANY_CONNECTIONS: Final = "too many connections"
NOT_MIGRATED: Final = "not migrated"
DISK_FAULT: Final = "disk fault"

LONGEST: Final = 300  # characters
_NOT_SERVING: Final = {"08", "57"}  # classes of SQLSTATE
_OTHER_NAME: Final = {62, 64}  # OpenSSL's codes for a certificate of another host name or address

# In order of priority, for several errors in one chain
_BY_CLASS: Final = {
    "AuthenticationError": "the user or the password is refused",
    "AuthenticationWrongNumberOfArgsError": "the user or the password is refused",
    "AccessRefused": "the user or the password is refused",
    "NoPermissionError": "the user lacks a permission",
    "NotAllowed": "there is no such virtual host, or the user lacks a permission for it",
    "BusyLoadingError": "it is still loading its data",
    "ReadOnlyError": "it takes no writes: it is a replica",
    "OutOfMemoryError": "it is out of memory",
    "gaierror": "its name does not resolve",
    "UnicodeError": "its name cannot be one of a host",
    "InvalidURL": "its URL cannot be used",
    "ProxyError": "the proxy does not let the connection through",
    "ConnectionRefusedError": "the connection is refused",
    "TimeoutError": "no answer in time",
    "TimeoutException": "no answer in time",
    "LimitExceeded": "no connection was free in time",
    "ConnectionResetError": "the connection was closed",
    "BrokenPipeError": "the connection was closed",
    "EOFError": "the connection was closed",
    "RemoteProtocolError": "the connection was closed, or what came is no HTTP answer",
    "ReadError": "the connection was closed",
    "DecodingError": "the answer cannot be decoded",
}
# Names of a database's troubles: PostgreSQL's by SQLSTATE, SQLite's by its primary result codes
_BY_SQLSTATE: Final = {
    "53100": DISK_FULL,
    "53300": TOO_MANY_CONNECTIONS,
    "25006": READ_ONLY,
    "55P03": LOCKED,
    "28000": LOGIN_REFUSED,
    "28P01": LOGIN_REFUSED,
    "42P01": NOT_MIGRATED,
    "42703": NOT_MIGRATED,
    "58030": DISK_FAULT,
}
_BY_SQLITE_CODE: Final = {5: LOCKED, 6: LOCKED, 8: READ_ONLY, 10: DISK_FAULT, 11: DISK_FAULT, 13: DISK_FULL}
# libpq gives no SQLSTATE for a connection that was not made
_BY_PART: Final = {
    "password authentication failed": LOGIN_REFUSED,
    "no pg_hba.conf entry": LOGIN_REFUSED,
    "role ": LOGIN_REFUSED,
    "too many clients": TOO_MANY_CONNECTIONS,
    "too many connections": TOO_MANY_CONNECTIONS,
    "remaining connection slots": TOO_MANY_CONNECTIONS,
    "Connection refused": CONNECTION_REFUSED,
    "No such file or directory": CONNECTION_REFUSED,
    "no such table": NOT_MIGRATED,
    "no such column": NOT_MIGRATED,
}
_BY_TEXT: Final = {
    "Connection closed by server.": "the connection was closed",
    "DB index is out of range": "it has no database of that number",
}
_BY_CODE: Final = {  # the first word of an answer of Redis
    "MISCONF": "it cannot write to its disk",
    "NOREPLICAS": "too few of its replicas answer",
}


def of_database(failed: BaseException) -> str:
    """The first line of the driver's message, which has no statement and no values."""
    original = getattr(failed, "orig", None) or failed
    return str(original).strip().partition("\n")[0][:LONGEST] or of_connection(original)


def trouble_of_database(failed: BaseException) -> str:
    """The name of what keeps a database from storing; UNREACHABLE or NOT_STORING where it is none of those known."""
    for error in _chain(failed):
        original = getattr(error, "orig", None) or error
        state = getattr(original, "sqlstate", None)
        if state is not None:
            return _BY_SQLSTATE.get(state, UNREACHABLE if state[:2] in _NOT_SERVING else NOT_STORING)
        code = getattr(original, "sqlite_errorcode", None)
        if code is not None and (name := _BY_SQLITE_CODE.get(code & 0xFF)):
            return name
        if type(original).__module__.partition(".")[0] in {"psycopg", "sqlite3"}:
            text = str(original)
            default = UNREACHABLE if code is None else NOT_STORING
            return next((name for part, name in _BY_PART.items() if part in text), default)
    return UNREACHABLE


def of_connection(failed: BaseException) -> str:
    """The reason why a connection failed, by all errors in the chain; the class's name where no rule matches."""
    chain = [*_chain(failed)]
    for error in chain:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
    for error in chain:
        if isinstance(error, ssl.SSLError):
            reason = getattr(error, "reason", None) or "its cause is not told"
            return f"TLS failed: {reason.replace('_', ' ').lower()}"
    for name, words in _BY_CLASS.items():
        for error in chain:
            if name in {base.__name__ for base in type(error).__mro__}:
                return f"{words}: {error.strerror}" if isinstance(error, socket.gaierror) and error.strerror else words
    for error in chain:
        if words := _BY_TEXT.get(str(error), "") or _BY_CODE.get(str(error).partition(" ")[0], ""):
            return words
        if isinstance(error, OSError) and error.errno:
            return os.strerror(error.errno).lower()
    return type(failed).__name__


def is_refusal(failed: BaseException) -> bool:
    """Whether a server of Redis has answered, and not done what it was asked for."""
    return any("ResponseError" in {base.__name__ for base in type(error).__mro__} for error in _chain(failed))


def of_broker(name: str, failed: BaseException) -> str:
    """The reason for a broker, with the setting that may help. name: `internal` and `team` are Waylink's own
    brokers.
    """
    unknown = [
        error
        for error in _chain(failed)
        if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code not in _OTHER_NAME
    ]
    setting = "WAYLINK_BROKER_CA_FILE" if name in {"internal", "team"} else "WAYLINK_DESTINATION_CA_FILE"
    return of_connection(failed) + (f" ({setting} names authorities of your own)" if unknown else "")


def _chain(failed: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    seen: set[int] = set()
    error: BaseException | None = failed
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
