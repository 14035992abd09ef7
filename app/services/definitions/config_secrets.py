"""Destinations' secrets in waylink.toml, by variable or file: brokers' URLs and signing secrets."""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy.orm import Session

from app.config.secret_sources import ConfiguredSecrets
from app.db import destinations as destination_rows
from app.db import secrets as rows
from app.db.models import Destination
from app.domain.definitions import DestinationKey
from app.domain.standard_webhooks import read_secret
from app.errors import Sealed
from app.sealing import Sealer
from app.services.definitions import signing_secrets
from app.services.definitions.signing_secrets import signing_purpose
from app.services.definitions.team_brokers import broker_purpose, shown, url_of

UNREADABLE: Final = SecretStr("")  # a value that no key opens: it differs from every configured one


def held(
    session: Session, sealer: Sealer, destinations: Mapping[DestinationKey, Destination]
) -> dict[DestinationKey, ConfiguredSecrets]:
    """The recorded secrets of destinations: the broker's URL, or the newest signing secret."""
    newest: dict[DestinationKey, SecretStr] = {}
    for row in rows.standing(session, [key for key, destination in destinations.items() if destination.kind == "http"]):
        key = (row.team, row.destination)
        newest.setdefault(key, _opened(sealer, row.sealed, signing_purpose(key)))
    return {
        key: ConfiguredSecrets(_broker(sealer, destination), newest.get(key))
        for key, destination in destinations.items()
    }


def same(recorded: ConfiguredSecrets, wanted: ConfiguredSecrets, *, kind: str) -> bool:
    """True if applying `wanted` changes nothing."""
    if kind != "http":
        return _value(recorded.broker_url) == _value(wanted.broker_url)
    if wanted.signing is None or recorded.signing is None:
        return recorded.signing is not None
    if recorded.signing is UNREADABLE:
        return False
    return hmac.compare_digest(_key(recorded.signing), _key(wanted.signing))


def record(
    session: Session,
    sealer: Sealer,
    destination: Destination,
    *,
    before: ConfiguredSecrets,
    wanted: ConfiguredSecrets,
    actor: str,
    now: datetime,
) -> None:
    """Record a destination's configured secrets. An HTTP destination without any gets a new signing secret."""
    if same(before, wanted, kind=destination.kind):
        return
    if destination.kind != "http":
        url = wanted.broker_url
        sealed = (
            sealer.seal(url.get_secret_value(), purpose=broker_purpose((destination.team, destination.name)))
            if url
            else None
        )
        destination.broker_sealed = sealed
        destination_rows.save(session, destination)
        return
    value = wanted.signing.get_secret_value() if wanted.signing else None
    signing_secrets.rotate(
        session, sealer, team=destination.team, destination=destination.name, actor=actor, now=now, value=value
    )


def described(
    before: ConfiguredSecrets, wanted: ConfiguredSecrets, *, kind: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The change in words, before and after, without the secrets."""
    if kind != "http":
        return {"broker": _place(before.broker_url)}, {"broker": _place(wanted.broker_url)}
    if same(before, wanted, kind=kind):
        return {}, {}
    was = "none" if before.signing is None else "another"
    return {"signing_secret": was}, {"signing_secret": "made" if wanted.signing is None else "the given one"}


def _place(url: SecretStr | None) -> str:
    if url is None:
        return "the team broker"
    return "unreadable" if url is UNREADABLE else shown(url.get_secret_value())


def _broker(sealer: Sealer, destination: Destination) -> SecretStr | None:
    try:
        url = url_of(sealer, destination)
    except Sealed:
        return UNREADABLE
    return None if url is None else SecretStr(url)


def _opened(sealer: Sealer, sealed: bytes, purpose: str) -> SecretStr:
    try:
        return SecretStr(sealer.open(sealed, purpose=purpose))
    except Sealed:
        return UNREADABLE


def _key(secret: SecretStr) -> bytes:
    return read_secret(secret.get_secret_value())


def _value(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
