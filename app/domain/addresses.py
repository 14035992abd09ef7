"""Which addresses Waylink may connect to for a team: never one that only our own network can reach.

What is judged is the address a name resolved to, never the name: whoever owns a name can let it point anywhere, and
`127.1`, `0x7f.1` or `2130706433` are whatever the resolver makes of them. Networks are those of the IANA registries of
special-purpose addresses, and the metadata services of clouds, which hand out credentials to whoever asks.
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
FREE_PORTS: Final = range(1024, 65536)  # below are the system's own services: mail, SSH, SMB

# Asked in this order; the first network that holds an address says why it is refused.
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
_GLOBAL_IPV6: Final = IPv6Network("2000::/3")  # all that IANA has given out for use between networks
_METADATA: Final = "metadata"
_CARRIES_IPV4: Final = {"IPv4-mapped": 0, "IPv4-compatible": 0, "NAT64": 0, "6to4": 80}  # bits behind the IPv4 address


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why nobody is connected to an address for a team, in a word or two; None where it is fine.

    `allowed`: networks the operator opened. They go before, but for two things. A metadata service has to be named as
    an address of its own, since who opens 169.254.0.0/16 hardly means that one. And an IPv6 address that stands for an
    IPv4 one, as NAT64 and others write it, is allowed no more than that one is.
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
    """CIDR blocks and addresses, separated by commas or blanks. Raises ValueError that names the wrong one."""
    networks = []
    for part in text.replace(",", " ").split():
        try:
            networks.append(ip_network(part))
        except ValueError as wrong:
            raise ValueError(f"{part!r} is not a network such as 10.1.0.0/16: {wrong}") from None
    return tuple(networks)


@dataclass(frozen=True, slots=True)
class AddressCheck:
    """What a name resolved to: where one may connect, in the resolver's order, and what is refused and why."""

    allowed: tuple[Address, ...]
    refused: tuple[tuple[Address, str], ...]

    @property
    def why(self) -> str:
        """Why there is nowhere to connect to. No address: what an internal name resolves to is not a team's to know."""
        reasons = dict.fromkeys(reason for _, reason in self.refused)
        return f"its address is refused ({', '.join(reasons)})" if reasons else "the name has no address"


def check_addresses(addresses: Iterable[str], allowed: Sequence[Network] = ()) -> AddressCheck:
    """Judge every address a name has. One that is refused leaves the others: DNS64 adds such a one to every name."""
    found = [(address, refusal(address, allowed)) for address in dict.fromkeys(map(ip_address, addresses))]
    return AddressCheck(
        tuple(address for address, reason in found if reason is None),
        tuple((address, reason) for address, reason in found if reason is not None),
    )


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """Where a URL leads: `host` as it is resolved and named in TLS, without brackets. `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As in the Host header: the port is left out where the scheme implies it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTP_PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(url: str, allowed: Sequence[Network] = ()) -> HttpUrl:
    """Where an HTTP destination is. Raises InvalidInput as `read_url` does, and for a refused address.

    A literal address is judged here already; a name is judged whenever it is connected to.
    """
    place = read_url(url)
    if (reason := literal_refusal(place.host, allowed)) is not None:
        raise InvalidInput(
            f"the address is refused ({reason}); an operator can allow it: WAYLINK_ALLOWED_DESTINATION_RANGES"
        )
    return place


def read_url(url: str) -> HttpUrl:
    """Where the URL of an HTTP destination leads. Raises InvalidInput with what is wrong, never a part of the URL."""
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
    place = HttpUrl(
        scheme=parts.scheme,
        host=host,
        port=HTTP_PORTS[parts.scheme] if port is None else port,
        target=f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}",
    )
    if place.port not in HTTP_PORTS.values() and place.port not in FREE_PORTS:
        raise InvalidInput(f"port {place.port} is refused: take 80, 443 or one from {FREE_PORTS.start} on")
    return place


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
    """Whether it is written as a name or an address is, the latter without brackets and zone."""
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
    """Why a host that is written as an address is refused; None for names, which are judged when they are resolved."""
    return refusal(ip_address(host), allowed) if _is_address(host) else None
