"""Brokers of teams' own. Their URLs hold passwords, so they are stored encrypted (promise 7)."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.brokers.celery_broker import Broker
from app.brokers.places import refuse_internal
from app.db.destinations import DeliveryTarget
from app.db.models import Destination
from app.domain.addresses import Network, check_addresses
from app.domain.broker_urls import check_broker_url, read_broker_url
from app.domain.definitions import DestinationKey
from app.errors import BrokerUnavailable, Sealed, Unreachable
from app.sealing import Sealer


@dataclass(frozen=True, slots=True)
class OwnBrokers:
    """Opens teams' own brokers. `allowed`: networks that the operator opened; `authorities`: a PEM file for TLS."""

    sealer: Sealer
    allowed: Sequence[Network] = ()
    authorities: Path | None = None
    internal: str | None = field(default=None, repr=False)  # Waylink's own broker, refused for teams

    def of(self, target: DeliveryTarget) -> Broker:
        """The broker of a delivery's target. Raises as `open` does."""
        return self.open(target.broker_sealed or b"", key=target.key)

    def open(self, sealed: bytes, *, key: DestinationKey) -> Broker:
        """The broker of a sealed URL, to be closed by the caller.

        Raises BrokerUnavailable where its name has no address now, and Sealed, InvalidInput or Unreachable for what an
        operator has to change.
        """
        url = self.sealer.open(sealed, purpose=broker_purpose(key))
        parsed = check_broker_url(url, self.allowed)
        refuse_internal(url, self.internal)
        name = "/".join(key)
        try:
            found = socket.getaddrinfo(parsed.host, parsed.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as unknown:
            raise BrokerUnavailable(name, unknown) from None
        checked = check_addresses((str(address[0]) for *_, address in found), self.allowed)
        # kombu resolves again and takes any address: a name with one refused address is not used at all.
        if checked.refused:
            raise Unreachable("refused", f"the broker of {name}: {checked.why}")
        return Broker.of_team(name, url, authorities=self.authorities)


def seal_url(sealer: Sealer, url: str, *, key: DestinationKey, allowed: Sequence[Network] = ()) -> bytes:
    """The encrypted URL of a broker. Raises InvalidInput if it is not allowed."""
    check_broker_url(url, allowed)
    return sealer.seal(url, purpose=broker_purpose(key))


def url_of(sealer: Sealer, destination: Destination) -> str | None:
    """The URL of a destination's own broker; None without one. Raises Sealed."""
    if destination.broker_sealed is None:
        return None
    return sealer.open(destination.broker_sealed, purpose=broker_purpose((destination.team, destination.name)))


def place_of(sealer: Sealer, destination: Destination) -> str | None:
    """The address of that broker, without credentials; "unreadable" if it cannot be decrypted."""
    try:
        url = url_of(sealer, destination)
    except Sealed:
        return "unreadable"
    return None if url is None else shown(url)


def shown(url: str) -> str:
    """A broker's URL without its credentials, allowed or not."""
    return str(read_broker_url(url))


def broker_purpose(key: DestinationKey) -> str:
    """The purpose that a broker's URL is sealed for."""
    return f"broker URL of {key[0]}/{key[1]}"
