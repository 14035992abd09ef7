"""How a hand-over over HTTP can fail without an answer."""

from enum import StrEnum


class Failure(StrEnum):
    """Why there is no answer, not even a bad one."""

    REFUSED = "refused"  # we do not connect there: the address or the URL is not allowed
    UNRESOLVED = "unresolved"  # the name has no address
    UNREACHABLE = "unreachable"  # nobody takes connections there
    TLS = "tls"  # no trusted connection: the certificate is not the name's, or not signed by anybody we trust
    TIMED_OUT = "timed_out"
    BROKEN = "broken"  # the connection ended before an answer
    INVALID = "invalid"  # what came is no HTTP answer, or its head has no end
