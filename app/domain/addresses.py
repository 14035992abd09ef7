"""Addresses that Waylink may connect to for a team: none that only its own network can reach.

Checked is the address that a name resolved to, never the name: its owner can change it at any time, and resolvers read
`127.1`, `0x7f.1` or `2130706433` as addresses. The refused networks are those of the IANA registries of special-purpose
addresses, and the metadata services of clouds, which give credentials to any caller.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from app.errors import InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL: Final = 2048
HTTP_PORTS: Final = {"http": 80, "https": 443}
FREE_PORTS: Final = range(1024, 65536)  # system services such as mail, SSH and SMB are below

# In order: the first network that contains an address gives the reason.
_REFUSED: Final = tuple(
    (ip_network(network), reason)
    for reason, networks in (
        # AWS and most others, AWS over IPv6, Alibaba, Azure's wire server, Oracle's former one.
        ("metadata", "169.254.169.254/32 169.254.170.2/32 169.254.170.23/32 fd00:ec2::/32 100.100.100.200/32"),
        ("metadata", "168.63.129.16/32 192.0.0.192/32 fd20:ce::254/128"),
        ("unspecified", "0.0.0.0/8 ::/128"),
        ("loopback", "127.0.0.0/8 ::1/128"),
        ("private", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"),
        ("link-local", "169.254.0.0/16 fe80::/10"),
        ("carrier-grade NAT", "100.64.0.0/10"),
        ("unique-local", "fc00::/7"),
        ("site-local", "fec0::/10"),
        ("multicast", "224.0.0.0/4 ff00::/8"),
        ("broadcast", "255.255.255.255/32"),
        ("IPv4-mapped", "::ffff:0:0/96 ::ffff:0:0:0/96"),
        ("IPv4-compatible", "::/96"),
        ("NAT64", "64:ff9b::/96 64:ff9b:1::/48"),
        ("6to4", "2002::/16"),
        ("Teredo", "2001::/32"),
        ("documentation", "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20"),
        (
            "reserved",
            "192.0.0.0/24 192.88.99.0/24 198.18.0.0/15 240.0.0.0/4 100::/64 100:0:0:1::/64 2001::/23 5f00::/16",
        ),
    )
    for network in networks.split()
)
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_GLOBAL_IPV6: Final = IPv6Network("2000::/3")  # all that IANA has allocated for global use
_METADATA: Final = "metadata"
_CARRIES_IPV4: Final = {
    "IPv4-mapped": 0,
    "IPv4-compatible": 0,
    "NAT64": 0,
    "6to4": 80,
}  # number of bits below the IPv4 address


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """The reason why an address is refused, in a word or two; None if it is allowed.

    `allowed`: networks that the operator opened, with two exceptions. A metadata service has to be named as a single
    address, as 169.254.0.0/16 is hardly meant to contain it. And an IPv6 address that stands for an IPv4 address (NAT64
    and others) is allowed only if that is.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        address = IPv6Address(int(address))
    reason = _reason(address)
    if reason is None or not _opened(address, allowed, alone=reason == _METADATA):
        return reason
    if reason in _CARRIES_IPV4:
        inside = IPv4Address(int(address) >> _CARRIES_IPV4[reason] & 0xFFFF_FFFF)
        return refusal(inside, allowed)
    return None


def _reason(address: Address) -> str | None:
    for network, reason in _REFUSED:
        if address in network:
            return reason
    if isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6:
        return "reserved"
    return None


def _opened(address: Address, allowed: Sequence[Network], *, alone: bool) -> bool:
    return any(address in network and (not alone or network.num_addresses == 1) for network in allowed)


def read_networks(text: str) -> tuple[Network, ...]:
    """CIDR blocks and addresses, separated by commas or blanks. Raises ValueError with the wrong one."""
    networks = []
    for part in text.replace(",", " ").split():
        try:
            networks.append(ip_network(part))
        except ValueError as wrong:
            raise ValueError(f"{part!r} is not a network such as 10.1.0.0/16: {wrong}") from None
    return tuple(networks)


@dataclass(frozen=True, slots=True)
class AddressCheck:
    """The addresses of a name, in the resolver's order: allowed ones, and refused ones with the reason."""

    allowed: tuple[Address, ...]
    refused: tuple[tuple[Address, str], ...]

    @property
    def why(self) -> str:
        """The reason why no address is left, without the addresses: internal ones are not shown to teams."""
        reasons = dict.fromkeys(reason for _, reason in self.refused)
        return f"its address is refused ({', '.join(reasons)})" if reasons else "the name has no address"


def check_addresses(addresses: Iterable[str], allowed: Sequence[Network] = ()) -> AddressCheck:
    """Check every address of a name. A refused one does not exclude the others, as DNS64 adds one to every name."""
    found = [(address, refusal(address, allowed)) for address in dict.fromkeys(map(ip_address, addresses))]
    return AddressCheck(
        tuple(address for address, reason in found if reason is None),
        tuple((address, reason) for address, reason in found if reason is not None),
    )


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A parsed URL. `host`: as resolved and as verified by TLS, without brackets. `target`: path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The Host header: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTP_PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(url: str, allowed: Sequence[Network] = ()) -> HttpUrl:
    """The parsed URL of an HTTP destination. Raises InvalidInput as `read_url`, and for a refused address.

    A literal address is checked here; the addresses of a name are checked for each connection.
    """
    parsed = read_url(url)
    if (reason := literal_refusal(parsed.host, allowed)) is not None:
        raise InvalidInput(
            f"the address is refused ({reason}); an operator can allow it: WAYLINK_ALLOWED_DESTINATION_RANGES"
        )
    return parsed


def read_url(url: str) -> HttpUrl:
    """The parsed URL of an HTTP destination. Raises InvalidInput, never with a part of the URL."""
    if not 0 < len(url) <= MAX_URL:
        raise InvalidInput(f"a URL has 1 to {MAX_URL} characters")
    if not all("!" <= character <= "~" for character in url) or "\\" in url:
        raise InvalidInput("a URL has visible ASCII characters only: write others percent-encoded, a name as xn--…")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("the URL cannot be read: expected https://host/path") from None
    _check_parts(url, parts)
    host = (parts.hostname or "").removesuffix(".")
    parsed = HttpUrl(
        scheme=parts.scheme,
        host=host,
        port=HTTP_PORTS[parts.scheme] if port is None else port,
        target=f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}",
    )
    if parsed.port not in HTTP_PORTS.values() and parsed.port not in FREE_PORTS:
        raise InvalidInput(f"port {parsed.port} is refused: take 80, 443 or one from {FREE_PORTS.start} on")
    return parsed


def _check_parts(url: str, parts: SplitResult) -> None:
    if parts.scheme not in HTTP_PORTS:
        raise InvalidInput("a URL starts with https:// or http://")
    if "@" in parts.netloc:
        raise InvalidInput("a URL holds no user or password: the signature says who sends")
    if "#" in url:
        raise InvalidInput("a URL's fragment (#) is never sent: leave it out")
    if not is_host((parts.hostname or "").removesuffix(".")):
        raise InvalidInput("the URL names no host: expected https://host/path")


def is_host(text: str) -> bool:
    """True if it is written as a name or as an address, the latter without brackets and zone."""
    if ":" in text:
        return "%" not in text and _is_address(text)
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def literal_refusal(host: str, allowed: Sequence[Network] = ()) -> str | None:
    """The reason why a host written as an address is refused; None for names, which are checked when resolved."""
    return refusal(ip_address(host), allowed) if _is_address(host) else None
