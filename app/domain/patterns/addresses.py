"""Internet addresses in the texts of events, by EventBridge's rules."""

import re
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from app.errors import InvalidPattern

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_ADDRESS: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3}|[0-9a-fA-F]*+:[0-9a-fA-F:]*+")
_LONGEST_IPV4: Final = 15
_LONGEST: Final = 39  # eight groups of four digits; checked before the text is parsed


def address(text: str) -> Address | None:
    """The address as Java reads it: leading zeros are decimal, and an IPv4-mapped IPv6 address is the IPv4 address."""
    if len(text) > _LONGEST or not _ADDRESS.fullmatch(text):
        return None
    try:
        if ":" in text:
            found = IPv6Address(text)
            return found.ipv4_mapped or found
        if len(text) > _LONGEST_IPV4:
            return None
        return IPv4Address(".".join(str(int(part)) for part in text.split(".")))
    except AddressValueError:
        return None


def network(text: str, path: str) -> Network:
    """The block of a `cidr`. Raises InvalidPattern."""
    start, slash, bits = text.partition("/")
    if not slash or not bits.isascii() or not bits.isdigit() or not _ADDRESS.fullmatch(start[: _LONGEST + 1]):
        raise InvalidPattern(path=path, reason=f"{text[:80]!r} is not a block such as 10.0.0.0/24")
    found = address(start)
    if found is None:
        raise InvalidPattern(path=path, reason=f"{start[:80]!r} is not an address")
    family, longest = (IPv6Network, 127) if isinstance(found, IPv6Address) else (IPv4Network, 31)
    if len(bits) > 3 or int(bits) > longest:
        reason = f"the mask of {text[:80]!r} is longer than {longest} bits; name one address as a plain string"
        raise InvalidPattern(path=path, reason=reason)
    return family(f"{found}/{int(bits)}", strict=False)


def is_within(text: str, networks: Sequence[Network]) -> bool:
    """Whether a text is an address in one of these blocks. It is parsed once for all of them."""
    found = address(text)
    return found is not None and any(found in block for block in networks)
