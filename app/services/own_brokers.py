"""Brokers that teams have of their own: their URLs hold passwords, so they are kept encrypted (promise 7)."""

from collections.abc import Sequence

from app.db.models import Destination
from app.db.secrets import Key
from app.domain.addresses import Network
from app.domain.broker_urls import check_broker_url, read_broker_url
from app.errors import Sealed
from app.sealing import Sealer


def seal_url(sealer: Sealer, url: str, *, key: Key, allowed: Sequence[Network] = ()) -> bytes:
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


def broker_purpose(key: Key) -> str:
    """What a broker's URL is sealed for."""
    return f"broker URL of {key[0]}/{key[1]}"
