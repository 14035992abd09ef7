"""Host names of the API and the console: a page of another site must not reach them under its own name."""

from collections.abc import Iterable
from typing import Final

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - not used as a Host name


def allowed_hosts(listed: Iterable[str], *, listening_on: str) -> frozenset[str]:
    """Loopback names, the listening address, and the operator's list. `*` allows any."""
    address = f"[{listening_on}]" if ":" in listening_on else listening_on
    own = frozenset() if listening_on in _ANY_ADDRESS else frozenset({address.lower()})
    return LOOPBACK | own | frozenset(host_of(name) for name in listed)


def host_of(header: str) -> str:
    """The name in a Host header, lower-case and without its port."""
    name = header.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].rstrip(".")
