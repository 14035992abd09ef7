"""Why a server could not be used, in one line for people.

Of a driver's errors only what is told by rule is shown: their texts may quote a URL with its password. PostgreSQL's own
sentences name the user and the database, and no password.

Classes of drivers go by their names, so that no command loads a driver to tell of another one.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from typing import Final

LONGEST: Final = 300  # characters
_OTHER_NAME: Final = {62, 64}  # OpenSSL's codes for a certificate of another host name or address

# By weight: of several errors in one chain the first rule holds.
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
_BY_TEXT: Final = {
    "Connection closed by server.": "the connection was closed",
    "DB index is out of range": "it has no database of that number",
}


def of_database(failed: BaseException) -> str:
    """The first line of what the driver says, which has no statement and no values."""
    original = getattr(failed, "orig", None) or failed
    return str(original).strip().partition("\n")[0][:LONGEST] or of_connection(original)


def of_connection(failed: BaseException) -> str:
    """What kept a connection from being used, whatever wraps it; the name of a class where no rule knows it."""
    chain = [*_chain(failed)]
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {one.verify_message.rstrip('.')}"
    for one in chain:
        if isinstance(one, ssl.SSLError):
            reason = getattr(one, "reason", None) or "its cause is not told"
            return f"TLS failed: {reason.replace('_', ' ').lower()}"
    for name, words in _BY_CLASS.items():
        for one in chain:
            if name in {each.__name__ for each in type(one).__mro__}:
                return f"{words}: {one.strerror}" if isinstance(one, socket.gaierror) and one.strerror else words
    for one in chain:
        if words := _BY_TEXT.get(str(one), ""):
            return words
        if isinstance(one, OSError) and one.errno:
            return os.strerror(one.errno).lower()
    return type(failed).__name__


def of_broker(name: str, failed: BaseException) -> str:
    """The same of a broker, with the setting that may help; `internal` and `team` are Waylink's own."""
    unknown = [
        one
        for one in _chain(failed)
        if isinstance(one, ssl.SSLCertVerificationError) and one.verify_code not in _OTHER_NAME
    ]
    setting = "WAYLINK_BROKER_CA_FILE" if name in {"internal", "team"} else "WAYLINK_DESTINATION_CA_FILE"
    return of_connection(failed) + (f" ({setting} names authorities of your own)" if unknown else "")


def _chain(failed: BaseException) -> Iterator[BaseException]:
    """An error and those that it came of."""
    seen: set[int] = set()
    one: BaseException | None = failed
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
