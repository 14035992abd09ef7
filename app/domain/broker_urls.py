"""URLs of teams' own brokers: the allowed form, and where they lead.

Only operators set one, but kombu accepts too much in it: `filesystem://` and `sqla+…` reach local files, `;` adds
servers, and parameters behind `?` name another host, a file, or a class to import.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from app.domain.addresses import FREE_PORTS, MAX_URL, Network, is_host, literal_refusal
from app.errors import InvalidInput

PORTS: Final = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A broker's URL without credentials. `database`: Redis's number, or AMQP's virtual host."""

    scheme: str
    host: str
    port: int
    database: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.database}"

    @property
    def speaks_redis(self) -> bool:
        return self.scheme in {"redis", "rediss"}


def check_broker_url(url: str, allowed: Sequence[Network] = ()) -> BrokerUrl:
    """The parsed URL. Raises InvalidInput as `read_broker_url`, and for a refused address.

    A literal address is checked here; the addresses of a name are checked whenever a process opens the broker.
    """
    parsed = read_broker_url(url)
    if (reason := literal_refusal(parsed.host, allowed)) is not None:
        raise InvalidInput(
            f"the broker's address is refused ({reason}); an operator can allow it: WAYLINK_ALLOWED_DESTINATION_RANGES"
        )
    return parsed


def read_broker_url(url: str) -> BrokerUrl:
    """The parsed URL. Raises InvalidInput, never with a part of the URL."""
    if not 0 < len(url) <= MAX_URL or not all("!" <= character <= "~" for character in url):
        raise InvalidInput("a broker's URL has visible ASCII characters only: write others percent-encoded")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in PORTS:
        raise InvalidInput(
            f"a broker's URL starts with {', '.join(f'{known}://' for known in PORTS)}; others reach files"
        )
    if any(character in rest for character in ";?#\\"):
        raise InvalidInput(
            "a broker's URL names one server and has no parameters: a password with ; ? # or \\ is percent-encoded"
        )
    try:
        # Parsed as kombu does: by the rules of http, whatever the scheme.
        parts = urlsplit(f"http://{rest}")
        port = parts.port or PORTS[scheme]
    except ValueError:
        raise InvalidInput("the broker's URL cannot be read: expected scheme://user:password@host:port/…") from None
    host = parts.hostname or ""
    if not is_host(host):
        raise InvalidInput("the broker's URL names no host (with a user, both parts need to be percent-encoded)")
    if port not in FREE_PORTS:
        raise InvalidInput(f"port {port} is refused: take one from {FREE_PORTS.start} on")
    return BrokerUrl(scheme, host, port, _database(scheme, parts.path.removeprefix("/")))


def _database(scheme: str, path: str) -> str:
    if scheme in {"amqp", "amqps"}:
        return unquote(path) or "/"
    if not (path or "0").isascii() or not (path or "0").isdigit() or len(path) > 4:
        raise InvalidInput("the path of a Redis URL is the number of a database, such as redis://redis.example:6379/1")
    return str(int(path or "0"))
