"""Causes of a delivery over HTTP without an answer."""

from enum import StrEnum


class Failure(StrEnum):
    """The cause of a missing answer."""

    REFUSED = "refused"  # not connected: the address or the URL is not allowed
    UNRESOLVED = "unresolved"  # the name has no address
    UNREACHABLE = "unreachable"  # no TCP connection
    TLS = "tls"  # the handshake failed, or the certificate is not the name's or not trusted
    TIMED_OUT = "timed_out"
    BROKEN = "broken"  # the connection ended before an answer
    INVALID = "invalid"  # the answer is not HTTP, or its head has no end
