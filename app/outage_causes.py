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

LONGEST: Final = 300  # characters
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
_BY_TEXT: Final = {
    "Connection closed by server.": "the connection was closed",
    "DB index is out of range": "it has no database of that number",
}


def of_database(failed: BaseException) -> str:
    """The first line of the driver's message, which has no statement and no values."""
    original = getattr(failed, "orig", None) or failed
    return str(original).strip().partition("\n")[0][:LONGEST] or of_connection(original)


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
        if words := _BY_TEXT.get(str(error), ""):
            return words
        if isinstance(error, OSError) and error.errno:
            return os.strerror(error.errno).lower()
    return type(failed).__name__


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
