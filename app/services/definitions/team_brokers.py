"""Brokers that teams have of their own: their URLs hold passwords, so they are kept encrypted (promise 7)."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.brokers.celery_broker import Broker, redis_place
from app.db.destinations import DeliveryTarget
from app.db.models import Destination
from app.domain.addresses import Network, check_addresses
from app.domain.broker_urls import check_broker_url, read_broker_url
from app.domain.definitions import DestinationKey
from app.errors import BrokerUnavailable, InvalidInput, Sealed, Unreachable
from app.sealing import Sealer


@dataclass(frozen=True, slots=True)
class OwnBrokers:
    """Opens them. allowed: networks the operator opened; authorities: a PEM file of further ones for TLS."""

    sealer: Sealer
    allowed: Sequence[Network] = ()
    authorities: Path | None = None
    internal: str | None = field(default=None, repr=False)  # Waylink's own: its database is nobody else's

    def of(self, target: DeliveryTarget) -> Broker:
        """The same, as who delivers knows a destination."""
        return self.open(target.broker_sealed or b"", key=target.key)

    def open(self, sealed: bytes, *, key: DestinationKey) -> Broker:
        """The broker whose URL is stored so; close it. Raises BrokerUnavailable where its name has no address now,
        and Sealed, InvalidInput or Unreachable where an operator has to change something.
        """
        url = self.sealer.open(sealed, purpose=broker_purpose(key))
        place = check_broker_url(url, self.allowed)
        refuse_internal(url, self.internal)
        name = "/".join(key)
        try:
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as unknown:
            raise BrokerUnavailable(name, unknown) from None
        checked = check_addresses((str(address[0]) for *_, address in found), self.allowed)
        # kombu resolves again and takes any: a name of which one address is refused is not used at all.
        if checked.refused:
            raise Unreachable("refused", f"the broker of {name}: {checked.why}")
        return Broker.of_team(name, url, authorities=self.authorities)


def refuse_internal(url: str, internal: str | None) -> None:
    """Raises InvalidInput where a broker's URL leads to the internal broker's database."""
    try:
        same = internal is not None and redis_place(url) == redis_place(internal)
    except ValueError:
        return
    if same:
        raise InvalidInput("it is the internal broker's database, whose messages are Waylink's own")


def seal_url(sealer: Sealer, url: str, *, key: DestinationKey, allowed: Sequence[Network] = ()) -> bytes:
    """What is stored of the URL of a destination's broker. Raises InvalidInput where it may not be one."""
    check_broker_url(url, allowed)
    return sealer.seal(url, purpose=broker_purpose(key))


def url_of(sealer: Sealer, one: Destination) -> str | None:
    """The URL of a destination's own broker, None where it has none. Raises Sealed."""
    if one.broker_sealed is None:
        return None
    return sealer.open(one.broker_sealed, purpose=broker_purpose((one.team, one.name)))


def place_of(sealer: Sealer, one: Destination) -> str | None:
    """Where that broker is, fit to be shown: without who logs in. Never raises for what cannot be opened."""
    try:
        url = url_of(sealer, one)
    except Sealed:
        return "unreadable"
    return None if url is None else shown(url)


def shown(url: str) -> str:
    """Where a broker's URL leads, without who logs in; whether it is allowed is not asked."""
    return str(read_broker_url(url))


def broker_purpose(key: DestinationKey) -> str:
    """What a broker's URL is sealed for."""
    return f"broker URL of {key[0]}/{key[1]}"
